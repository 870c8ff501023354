"""The kernel of a convolution in narrow groups: packed inputs, tiles of sums, epilogues.

A unit packs the inputs of a band of results, for a share of the blocks of groups, into scratch
memory, with borders of zeros:

    panel[block][place][input]          place: of the input map, as far as the band reads

and computes tiles of some results along the innermost spatial axis. In: a layer of grouped.py and
how it is cut. Called by compiler.py.
"""

from __future__ import annotations

import math
from functools import cached_property

from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute
from sol.ir.expr import local_value as local
from sol.ir.loop import For, If, Let, Set, Stmt, Store, Var, lanes_pick
from sol.kernels.grouped import Along, Grouped, GroupedPacking
from sol.kernels.operands import ACCUMULATED
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of, size_expr
from sol.plan.inline import Inliner
from sol.plan.records import Plan

_LONG_SUM = 640  # products that are added up in one go, as in micro.py


def lower_grouped(
    plan: Plan, grouped: Grouped, widths: tuple[int, ...]
) -> tuple[Lowered, tuple[str, str, GroupedPacking]]:
    """The kernel of a layer, and the weight to pack for it (buffer, value, packing)."""
    layer = grouped.layer
    weight = layer.spine.root.inputs[1]
    packing = GroupedPacking(layer.together, layer.outputs, layer.lanes, layer.shared)
    buffer = f"{weight}/{packing.signature}"
    return _Lowering(plan, grouped, widths).lowered(buffer), (buffer, weight, packing)


class _Lowering:
    """The kernel of one layer: names and axes that its parts share."""

    def __init__(self, plan: Plan, grouped: Grouped, widths: tuple[int, ...]) -> None:
        self.plan = plan
        self.layer, self.tile = layer, tile = grouped.layer, grouped.tile
        self.memory = Memory(plan)
        self.builder = NestBuilder(self.memory.access(), widths)
        self.inline = Inliner(plan.graph, plan.stored)
        self.share = axis("share", -(-layer.blocks // tile.share))
        self.block = axis("block", tile.share)
        self.bands = [
            axis(f"band{k}", -(-s.results // b))
            for k, (s, b) in enumerate(zip(layer.spatial, tile.band))
        ]
        self.firsts = [b * size for b, size in zip(self.bands, tile.band)]
        self.present = [
            apply("min", const(size), const(s.results) - first)
            for size, s, first in zip(tile.band, layer.spatial, self.firsts)
        ]
        self.first_block = self.share * tile.share
        left = const(layer.blocks) - self.first_block
        self.blocks = apply("min", const(tile.share), left)
        extents = [s.reach(b) for s, b in zip(layer.spatial, tile.band)]
        self.pitches = [layer.lanes * math.prod(extents[k + 1 :]) for k in range(len(extents))]
        self.slab = layer.lanes * math.prod(extents)

    def lowered(self, weights: str) -> Lowered:
        """The whole kernel."""
        source = self.memory.buffers.read("@weights", F32)
        lanes = self.layer.lanes
        arrays = [
            ("panel", F32, self.tile.share * self.slab),
            ("tile", F32, self.tile.results * lanes),
        ]
        body = (*self._packed(), *self._results(source))
        return lowered_units(self.memory, self._outer(), arrays, body, weights)

    def _outer(self) -> list[Expr]:
        """Images (and other axes that are neither channel nor place), bands, shares."""
        found = self.layer.spine
        return [*found.outer(self.plan.orders[found.end.name]), *self.bands, self.share]

    # ---- inputs

    def _packed(self) -> tuple[Stmt, ...]:
        """The inputs of the band: for each place those of all blocks of the share."""
        spatial = self.layer.spatial
        places = [axis(f"place{k}", s.reach(b)) for k, (s, b) in enumerate(self._banded())]
        valid = const(True)
        at = []
        for s, first, place in zip(spatial, self.firsts, places):
            position = first * s.stride + place - s.padding
            valid = valid & (position >= 0) & (position < s.size)
            at.append(position)
        offset = const(0)
        for place, pitch in zip(places, self.pitches):
            offset = offset + place * pitch
        inside, border = (self._copied(at, offset, there) for there in (True, False))
        code: tuple[Stmt, ...] = (If(valid, inside, border),) if valid.op != "const" else inside
        for place, s, present in reversed(list(zip(places, spatial, self.present))):
            end = (present - 1) * s.stride + ((s.taps - 1) * s.dilation + 1)
            code = (For(place, const(0), end, code),)
        return code

    def _banded(self) -> list[tuple[Along, int]]:
        return list(zip(self.layer.spatial, self.tile.band))

    def _copied(self, at: list[Expr], offset: Expr, there: bool) -> tuple[Stmt, ...]:
        """One place of all blocks: its inputs, or zeros outside of the map."""
        layer, per = self.layer, self.layer.together * self.layer.inputs
        last = (layer.groups - (layer.blocks - 1) * layer.together) * layer.inputs

        def copy(inputs: int) -> tuple[Stmt, ...]:
            c = axis("c", inputs)
            channel = (self.first_block + self.block) * per + c
            index = (layer.spine.index[0], channel, *at)
            value = self.inline.element(layer.spine.root.inputs[0], index) if there else const(0.0)
            target = offset + self.block * self.slab + c
            return nest(self.builder, (c,), (Output("panel", target, value),))

        return (For(self.block, const(0), self.blocks, self._by_block(copy(per), copy(last))),)

    def _by_block(self, whole: tuple[Stmt, ...], last: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        """What is done for a block of all its groups, and for the last one, which may lack some."""
        layer = self.layer
        if layer.groups % layer.together == 0:
            return whole
        here = self.first_block + self.block < layer.blocks - 1
        return (If(here, whole, last),) if here.op != "const" else last

    # ---- results

    def _results(self, source: str) -> tuple[Stmt, ...]:
        """Tiles along the innermost axis, in each block, for each place of the outer axes."""
        outer = [axis(f"row{k}", b) for k, b in enumerate(self.tile.band[:-1])]
        per, total = self.tile.results, self.layer.spatial[-1].results
        present, rest = self.present[-1], total % per
        step = axis("step", -(-self.tile.band[-1] // per))
        code: list[Stmt] = []
        if total >= per:
            body = self._tile(source, outer, step * per, per)
            code.append(For(step, const(0), present // per, body))
        if rest:
            here = present % per > 0
            body = self._tile(source, outer, present // per * per, rest)
            code.extend((If(here, body),) if here.op != "const" else body)
        body = tuple(code)
        for row, there in reversed(list(zip(outer, self.present))):
            body = (For(row, const(0), there, body),)
        return (For(self.block, const(0), self.blocks, body),)

    def _tile(self, source: str, rows: list[Expr], first: Expr, results: int) -> tuple[Stmt, ...]:
        """Sums of `results` neighbouring places of a block, and their epilogue."""
        lane, taps = axis("lane", self.layer.lanes), self._outer_taps()
        split = self.layer.depth > _LONG_SUM and bool(taps)
        inner = taps[1:] if split else taps
        names = [f"acc_{p}" for p in range(results)]
        body: list[Stmt] = [Var(n, const(0.0), self.layer.lanes) for n in names]
        steps = self._steps(source, lane, rows, first, names)
        for tap in reversed(inner):
            steps = (For(tap, const(0), size_expr(extent_of(tap)), steps),)
        body.extend(steps)
        targets = [lane + p * self.layer.lanes for p in range(results)]
        sums = [local(n, F32, True) for n in names]
        if split:  # the rounding error of a sum grows with its length
            resumed = (Set(n, s + load("@tile", F32, t)) for n, s, t in zip(names, sums, targets))
            body.append(If(taps[0] > 0, tuple(resumed)))
        body.extend(Store("tile", t, s) for t, s in zip(targets, sums))
        code: tuple[Stmt, ...] = tuple(body)
        if split:
            code = (For(taps[0], const(0), size_expr(extent_of(taps[0])), code),)
        code = (For(lane, const(0), const(self.layer.lanes), code, self.layer.lanes),)
        return (*code, *self._epilogue(rows, first, results))

    def _outer_taps(self) -> list[Expr]:
        """Axes of taps that are loops: all but an unrolled innermost one, none of one tap."""
        return [t for t in self._taps if t.op == "axis"]

    @cached_property
    def _taps(self) -> list[Expr]:
        """A loop axis for the taps of each spatial axis, 0 where there is none."""
        last = len(self.layer.spatial) - 1
        return [
            const(0)
            if s.taps == 1 or (k == last and self.layer.shared)
            else axis(f"tap{k}", s.taps)
            for k, s in enumerate(self.layer.spatial)
        ]

    def _steps(
        self, source: str, lane: Expr, rows: list[Expr], first: Expr, names: list[str]
    ) -> tuple[Stmt, ...]:
        """Multiply-adds of one position of the outer taps: for each input of a group the vectors
        of weights, then place by place its permuted input, for all results that it belongs to."""
        layer, inner = self.layer, self.layer.spatial[-1]
        unrolled = inner.taps if layer.shared else 1
        weights = self._weights(lane, unrolled)
        base = self._base(rows, first) + lane
        meets: dict[int, list[tuple[int, int]]] = {}
        for p in range(len(names)):
            for tap in range(unrolled):
                meets.setdefault(p * inner.stride + tap * inner.dilation, []).append((p, tap))
        stmts: list[Stmt] = []
        for i in range(layer.inputs):
            for tap in range(unrolled):
                index = weights + (i * unrolled + tap) * layer.lanes
                stmts.append(Let(f"w_{i}_{tap}", load(f"@{source}", F32, index)))
            for q in sorted(meets):
                inputs = load("@panel", F32, base + q * layer.lanes)
                stmts.append(Let(f"x_{i}_{q}", lanes_pick(inputs, self._picked(i))))
                picked = local(f"x_{i}_{q}", F32, True)
                for p, tap in meets[q]:
                    product = picked * local(f"w_{i}_{tap}", F32, True)
                    stmts.append(Set(names[p], local(names[p], F32, True) + product))
        return tuple(stmts)

    def _picked(self, i: int) -> tuple[int, ...]:
        """For each lane the number of input i of its group in the vector of inputs."""
        layer = self.layer
        groups = [min(lane // layer.outputs, layer.together - 1) for lane in range(layer.lanes)]
        return tuple(g * layer.inputs + i for g in groups)

    def _weights(self, lane: Expr, unrolled: int) -> Expr:
        """Index of the first weight of this position of the outer taps."""
        layer = self.layer
        position = const(0)
        for tap, s in zip(self._taps, layer.spatial):
            if tap.op == "axis":
                position = position * s.taps + tap
        block = self.first_block + self.block
        size = layer.inputs * unrolled * layer.lanes
        return block * (layer.depth * layer.lanes) + position * size + lane

    def _base(self, rows: list[Expr], first: Expr) -> Expr:
        """Index of the first input of a tile at this position of the outer taps."""
        total = self.block * self.slab
        starts = [*rows, first]
        for start, tap, s, pitch in zip(starts, self._taps, self.layer.spatial, self.pitches):
            total = total + start * (s.stride * pitch) + tap * (s.dilation * pitch)
        return total

    def _epilogue(self, rows: list[Expr], first: Expr, results: int) -> tuple[Stmt, ...]:
        """The cluster's element-wise operators on a tile, and the store of the result."""
        layer, columns = self.layer, self.layer.together * self.layer.outputs
        last = (layer.groups - (layer.blocks - 1) * layer.together) * layer.outputs
        whole = self._finished(rows, first, results, columns)
        return self._by_block(whole, self._finished(rows, first, results, last))

    def _finished(
        self, rows: list[Expr], first: Expr, results: int, columns: int
    ) -> tuple[Stmt, ...]:
        found, per = self.layer.spine, self.layer.together * self.layer.outputs
        p, j = axis("erow", results), axis("ecol", columns)
        along = p if results > 1 else const(0)
        starts = [*rows, first + along]
        mapping = {
            place: band + start
            for place, band, start in zip(found.index[2:], self.firsts, starts)
            if place.op == "axis"
        }
        if found.channel.op == "axis":
            mapping[found.channel] = (self.first_block + self.block) * per + j
        finished = load("@tile", F32, along * self.layer.lanes + j)
        value = substitute(substitute(found.value, mapping), {ACCUMULATED: finished})
        index = tuple(substitute(i, mapping) for i in found.axes)
        output = self.memory.target(found.end.name, index, value)
        return nest(self.builder, (p, j) if results > 1 else (j,), (output,))
