"""The kernel of a stage (plan/stages.py): lines of a pointwise convolution into scratch memory,
then a band of the window operator's results from there.

A unit of work is (image, share of channels, band). Lines of the hidden value that lie outside of
the map have their place in scratch memory and are neither computed nor read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sol.core.device import CpuDevice
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute
from sol.ir.loop import For, Stmt
from sol.kernels.gemm import (
    Contraction,
    Shape,
    column_blocks,
    row_pitch,
    signature,
    volume,
    weights_name,
)
from sol.kernels.operands import describe
from sol.kernels.tiles import Tile, best_tile
from sol.lower.cluster import Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Cluster, Plan
from sol.plan.stages import Stage


@dataclass
class _Hidden(Memory):
    """Memory in which one value is lines in scratch memory.

    first: the line and the channel that its array begins with; strides: of channel, line and place.
    """

    hidden: str = ""
    first: tuple[Expr, Expr] = (const(0), const(0))
    strides: tuple[int, ...] = ()

    def flat(self, x: Expr) -> Expr:
        if x.value != self.hidden:
            return super().flat(x)
        return load("@lines", x.dtype, self._position(x.args))

    def target(self, name: str, index: Sequence[Expr], value: Expr) -> Output:
        if name != self.hidden:
            return super().target(name, index, value)
        return Output("lines", self._position(index), value)

    def _position(self, index: Sequence[Expr]) -> Expr:
        line, channel = self.first
        inside = (index[1] - channel, index[2] - line, *index[3:])
        total = const(0)
        for i, stride in zip(inside, self.strides):
            total = total + i * stride
        return total


def lower_stage(
    plan: Plan, stage: Stage, root: str, device: CpuDevice, widths: tuple[int, ...]
) -> Contraction:
    """The kernel of a stage."""
    lanes = device.vector_lanes(4)
    product = describe(plan, Cluster("contraction", (stage.hidden,), root), lanes)
    line, *places = product.rows
    product = replace(product, rows=tuple(places))
    width, depth, share = volume(product.rows), volume(product.k), stage.share
    sink = plan.graph[stage.sink]
    axes = axes_for(sink)
    bands = extent_of(axes[2])
    assert isinstance(bands, int)
    band, part = axis("band", bands // stage.band), axis("share", product.columns // share)
    first = band * (stage.band * stage.step) + stage.low
    strides = _strides(plan, stage, width)
    memory = _Hidden(plan, hidden=stage.hidden, first=(first, part * share), strides=strides)
    builder = NestBuilder(memory.access(), widths)
    assert row_pitch(memory, product) is not None, "pixels of a stage's convolution lie in place"

    vectors = -(-share // lanes)
    p, v = best_tile(width, vectors, device, vectors if share < product.columns else 0)
    tile = Tile(p, v, lanes, width, vectors)
    shape = Shape(product, tile, width, depth, 1, depth, const(0), part * vectors)
    source = weights_name(memory, product)
    code = column_blocks(memory, builder, shape, const(width), const(0), source, True)
    height = extent_of(line)
    assert isinstance(height, int)
    begin = apply("max", const(0), first)
    end = apply("min", const(height), first + stage.lines)
    body: list[Stmt] = [For(line, begin, end, code)]
    body.extend(_results(plan, stage, memory, builder, band, part))

    packing = replace(product.packing, vectors=v) if product.packing else None
    assert packing is not None
    weight = f"{product.weight}/{signature(packing)}"
    arrays = [
        ("lines", F32, stage.lines * width * share),
        ("tile", F32, tile.rows * tile.vectors * lanes),
    ]
    lowered = lowered_units(memory, [*product.outer, part, band], arrays, tuple(body), weight)
    return Contraction(lowered, (weight, product.weight, packing), tile, "in place")


def _strides(plan: Plan, stage: Stage, width: int) -> tuple[int, ...]:
    """Of channel, line, and the places of a line, in the memory order of the hidden value."""
    shape, order = plan.graph[stage.hidden].shape, plan.orders[stage.hidden]
    found = {1: 1, 2: width * stage.share}
    step = stage.share
    for k in reversed(order):
        if k > 2:
            found[k] = step
            extent = shape[k]
            assert isinstance(extent, int)
            step *= extent
    return tuple(found[k] for k in range(1, len(shape)))


def _results(
    plan: Plan,
    stage: Stage,
    memory: Memory,
    builder: NestBuilder,
    band: Expr,
    part: Expr,
) -> tuple[Stmt, ...]:
    """The loop nest of a band of the sink."""
    sink = plan.graph[stage.sink]
    axes = axes_for(sink)
    inner = axis("line", stage.band), axis("channel", stage.share)
    moved = {axes[2]: band * stage.band + inner[0], axes[1]: part * stage.share + inner[1]}
    index = tuple(substitute(a, moved) for a in axes)
    value = Inliner(plan.graph, plan.stored).meaning(stage.sink, index)
    loops = []
    for k in plan.orders[stage.sink]:
        if k == 2:
            loops.append(inner[0])
        elif k == 1:
            loops.append(inner[1])
        elif k > 2 and axes[k].op == "axis":
            loops.append(axes[k])
    return nest(builder, tuple(loops), (memory.target(stage.sink, index, value),))
