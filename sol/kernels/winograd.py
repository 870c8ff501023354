"""Convolutions with fewer multiplications: Winograd's algorithm, one block of tiles at a time.

The map of results is cut into tiles of m_y x m_x. A unit takes a block of tiles and a share of the
output channels through three phases, all in the scratch memory of one thread:

    V[x][tile][c] = B^T d B        the inputs of each tile, transformed; x = 0 … n_y n_x - 1
    M[x][tile][k] = V[x] U[x]      one matrix product for each x, by the micro-kernel
    y             = A^T M A        the results of each tile, then the epilogue of the cluster

The windows of a pooling behind it are computed of the tiles (winograd_windows.py). U, the
transformed weights, are packed once (transform.py has the matrices). So a tile costs n_y n_x
multiplications for each pair of channels instead of m_y m_x r_y r_x. Called by kernels/choice.py,
which decides where that pays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute, where
from sol.ir.expr import local_value as local
from sol.ir.loop import Fetch, For, If, Let, Stmt, Store, when
from sol.kernels.blocks import Blocking, Slabs, even_blocks
from sol.kernels.operands import ACCUMULATED, foreseen, oriented_channel
from sol.kernels.pack import Recipe, columns_in_blocks
from sol.kernels.transform import Emitter, over_axes
from sol.kernels.winograd_layer import Layer
from sol.kernels.winograd_sum import Order, Taps
from sol.kernels.winograd_windows import Windows
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder
from sol.lower.ranges import lane_pieces
from sol.lower.units import decode
from sol.lower.vector import lane_cost
from sol.plan.inline import Inliner
from sol.plan.pooled import Pooled
from sol.plan.records import Plan

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class WinogradPacking:
    """U = G g G^T for each pair of channels: [group][x][column block][c][vectors * lanes].

    axes: of the window; where the sum has several parts, c counts them outside of the channels.
    share: vectors of columns after which blocks begin anew.
    """

    axes: tuple[Taps, ...]
    groups: int
    vectors: int
    lanes: int
    share: int

    def apply(self, weight: Array) -> Array:
        """The packed weight, float32, of one of shape (O, I/groups, taps…)."""
        dense = weight.astype(np.float64)
        rank, order = len(self.axes), Order(self.axes)
        for k, a in enumerate(self.axes):  # (…, taps, …) to (…, places in the tile, parts, …)
            lines = np.moveaxis(dense, 2 + 2 * k, -1)
            length = a.transform.r * a.parts if a.transform.n > 1 else a.window
            lines = np.pad(lines, [(0, 0)] * (lines.ndim - 1) + [(0, length - a.window)])
            lines = a.transform.filter() @ lines.reshape(*lines.shape[:-1], -1, a.parts)
            dense = np.moveaxis(lines, (-2, -1), (2 + 2 * k, 3 + 2 * k))
        places, parts = range(2, 2 + 2 * rank, 2), range(3, 3 + 2 * rank, 2)
        tiles = dense.astype(np.float32).transpose(*places, *parts, 1, 0)  # (x…, parts…, I, O)
        chosen = np.array(order.products()), np.array(order.parts())
        index = (*chosen[0].T[:, :, None], *chosen[1].T[:, None, :])
        tiles = tiles[index]  # (x, parts, I, O)
        outputs = weight.shape[0] // self.groups
        tiles = tiles.reshape(len(tiles), -1, self.groups, outputs)
        matrices = tiles.transpose(2, 0, 1, 3).reshape(-1, *tiles.shape[1::2])
        width, share = self.vectors * self.lanes, self.share * self.lanes
        blocks = (m[:, n : n + share] for m in matrices for n in range(0, m.shape[1], share))
        return np.concatenate([columns_in_blocks(b, width, self.lanes) for b in blocks])

    def recipe(self, weight: Array) -> Recipe:
        """The same as loops."""
        outputs, channels = weight.shape[0] // self.groups, weight.shape[1]
        of_output, of_channel, *of_window = (s // weight.itemsize for s in weight.strides)
        order = Order(self.axes)
        products = np.ravel_multi_index(
            tuple(np.array(order.products()).T), [a.transform.n for a in self.axes]
        )
        steps, transforms = [], []
        for parts in order.parts():
            found, transform = np.zeros(1, np.int64), np.ones((1, 1))
            for a, part, step in zip(self.axes, parts, of_window):
                taps = [a.tap(part, k) for k in range(a.transform.r)]
                present = np.array([float(t is not None) for t in taps])
                # an absent tap counts nothing; read is the first one instead
                places = np.array([part if t is None else t for t in taps]) * step
                found = np.add.outer(found, places).ravel()
                transform = np.kron(transform, a.transform.filter() * present)
            steps.append(found)
            transforms.append(transform[products])
        return Recipe(
            self.groups,
            outputs,
            channels,
            outputs * of_output,
            of_output,
            of_channel,
            np.array(steps),
            np.arange(len(steps)) * channels,
            1,
            np.array(transforms),
            self.vectors * self.lanes,
            self.lanes,
            self.share * self.lanes,
        )

    def size(self, shape: tuple[int, ...]) -> int:
        """Elements of the packed weight for a weight of this shape."""
        columns = -(-shape[0] // self.groups // self.lanes) * self.lanes
        products = math.prod(a.transform.n for a in self.axes)
        parts = math.prod(a.parts for a in self.axes)
        return self.groups * products * parts * shape[1] * columns

    @property
    def signature(self) -> str:
        """Equal for equal packings."""
        blocks = f"{self.vectors}x{self.lanes}"
        anew = f"of{self.share}" if self.share % self.vectors else ""
        return f"winograd{Order(self.axes).signature}x{blocks}{anew}g{self.groups}"


def lower_winograd(
    plan: Plan,
    layer: Layer,
    blocking: Blocking,
    widths: tuple[int, ...],
    pooled: Pooled | None = None,
) -> tuple[Lowered, tuple[str, str, WinogradPacking]]:
    """The kernel of a layer, and the weight to pack for it (buffer, value, packing).

    pooled: windows over its results that the same kernel computes.
    """
    lowering = _Lowering(plan, layer, blocking, widths, pooled)
    weight = layer.spine.root.inputs[1]
    axes = tuple(Taps(s.transform, s.window, s.stride) for s in layer.spatial)
    shape = (blocking.vectors, blocking.lanes, blocking.share)
    packing = WinogradPacking(axes, layer.groups, *shape)
    buffer = f"{weight}/{packing.signature}"
    return lowering.lowered(buffer), (buffer, weight, packing)


class _Lowering:
    """The kernel of one layer: names and axes that its parts share."""

    def __init__(
        self,
        plan: Plan,
        layer: Layer,
        blocking: Blocking,
        widths: tuple[int, ...],
        pooled: Pooled | None,
    ) -> None:
        self.pooled = pooled
        self.plan, self.layer, self.blocking = plan, layer, blocking
        self.memory = Memory(plan)
        self.builder = NestBuilder(self.memory.access(), widths)
        self.widths = widths
        self.inline = Inliner(plan.graph, plan.stored)
        self.group = axis("group", layer.groups) if layer.groups > 1 else None
        vectors = -(-layer.columns // blocking.lanes)
        self.share = axis("share", -(-vectors // blocking.share))
        blocks = even_blocks(layer.tiles, blocking.tiles)
        self.block = axis("block", len(blocks))
        self.first = self.block * layer.tiles // len(blocks)
        self.present = (self.block + 1) * layer.tiles // len(blocks) - self.first
        source = self.memory.buffers.read("@weights", F32)
        self.slabs = Slabs(
            blocking, layer.runs, frozenset(blocks), layer.columns, layer.depth, source,
            self.share, self.present,
        )  # fmt: skip

    def lowered(self, weights: str) -> Lowered:
        """The whole kernel."""
        products, slabs = self.layer.products, self.slabs
        arrays = [("v", F32, products * slabs.v_slab), ("m", F32, products * slabs.m_slab)]
        body = (*self._inputs(), *slabs.products(self._weights), *self._outputs())
        return lowered_units(self.memory, self._outer(), arrays, body, weights)

    def _weights(self, x: Expr, vector: Expr, width: int) -> Expr:
        """Where U[x] has a block of columns."""
        lanes, depth = self.blocking.lanes, self.layer.depth
        every = -(-self.layer.columns // lanes) * lanes
        base = x * (depth * every) + vector * (lanes * depth)
        if self.group is not None:
            base = base + self.group * (self.layer.products * depth * every)
        return base

    def _outer(self) -> list[Expr]:
        """Images (and other axes that are neither channel nor place), group, share, block."""
        found = self.layer.spine
        rest = found.outer(self.plan.orders[found.end.name])
        return [*rest, *([self.group] if self.group is not None else []), self.share, self.block]

    def _place(self, tile: Expr) -> list[Expr]:
        """The first result of a tile along each axis."""
        counters = [axis(f"tile{k}", s.tiles) for k, s in enumerate(self.layer.spatial)]
        found = decode(self.first + tile, counters)
        return [s.first(found[c]) for c, s in zip(counters, self.layer.spatial)]

    # ---- inputs

    def _inputs(self) -> tuple[Stmt, ...]:
        """V for all tiles of the block; tiles within the map have code without borders."""
        tile = axis("tile", self.blocking.tiles)
        places = self._place(tile)
        firsts = [local(f"first{k}", p.dtype) for k, p in enumerate(places)]
        lets = [Let(f"first{k}", p) for k, p in enumerate(places)]
        order = self.layer.order
        counters = [axis(f"part{k}", self.layer.spatial[k].parts) for k in order.loops]
        base = const(0)
        for counter, k in zip(counters, order.loops):
            base = base * self.layer.spatial[k].parts + counter
        body = self._input_part(
            firsts,
            order.taps(counters, const(0)),
            tile * self.slabs.v_pitch + base * self.layer.inputs,
        )
        for counter, k in reversed(list(zip(counters, order.loops))):
            body = (For(counter, const(0), const(self.layer.spatial[k].parts), body),)
        return (For(tile, const(0), self.present, (*lets, *body)),)

    def _input_part(self, firsts: list[Expr], parts: list[Expr], base: Expr) -> tuple[Stmt, ...]:
        """One tile, for a part of the sum; base: where its channels begin in V."""
        spatial = self.layer.spatial
        begins = [s.begin(p, part) for s, p, part in zip(spatial, firsts, parts)]
        starts = [local(f"start{k}", p.dtype) for k, p in enumerate(begins)]
        lets = [Let(f"start{k}", p) for k, p in enumerate(begins)]
        inside = const(True)
        flags = []
        for k, along in enumerate(spatial):
            last = along.size - 1 - (along.transform.n - 1) * along.step
            inside = inside & (starts[k] >= 0) & (starts[k] <= last)
            for i in range(along.transform.n):
                place = starts[k] + i * along.step
                flags.append(Let(f"valid{k}_{i}", (place >= 0) & (place < along.size)))
        plain = self._input_tile(starts, base, border=False)
        border = (*flags, *self._input_tile(starts, base, border=True))
        return (*lets, If(inside, plain, border))

    def _input_tile(self, starts: list[Expr], base: Expr, border: bool) -> tuple[Stmt, ...]:
        channel = axis("channel", self.layer.inputs)
        values = [self._input(channel, starts, x, border) for x in self._positions("n")]
        possible = lane_cost(values, channel, self.builder.access) is not None
        coming = self._coming(channel, starts)
        code: list[Stmt] = []
        for begin, end, width in lane_pieces(self.layer.inputs, self.widths if possible else (1,)):
            emit = Emitter("d", channel)
            emit.stmts.extend(coming if width > 1 else ())
            loaded = [emit.let(self.builder.final(v)) for v in values]
            transformed = dict(zip(self._positions("n"), self._transformed(emit, loaded, "n")))
            for x, position in enumerate(self.layer.places):
                place = base + channel + x * self.slabs.v_slab
                emit.stmts.append(Store("v", place, transformed[position]))
            code.append(For(channel, begin, end, tuple(emit.stmts), width))
        return tuple(code)

    def _coming(self, channel: Expr, starts: list[Expr]) -> tuple[Stmt, ...]:
        """Fetches the inputs that the next tile has and this one has not."""
        last = self.layer.spatial[-1]
        new = last.transform.n - last.ahead if last.residues == 1 else 0
        moved = [*starts[:-1], starts[-1] + last.ahead * last.stride]
        read = (
            self._input(channel, moved, x, border=False)
            for x in self._positions("n")
            if x[-1] >= new
        )
        return self._fetched(read, starts[-1])

    def _fetched(self, values: Iterable[Expr], start: Expr) -> tuple[Stmt, ...]:
        """Fetches what values read at a place: short pieces of many lines of a map, which the
        processor does not foresee."""
        loads = (p for v in values for p in foreseen(self.builder.final(v), start))
        places = dict.fromkeys((p.value, p.args[0]) for p in loads)
        return tuple(Fetch(buffer, index) for buffer, index in places)

    def _positions(self, sizes: str) -> list[tuple[int, ...]]:
        """All positions in a tile, row by row."""
        extents = [getattr(s.transform, sizes) for s in self.layer.spatial]
        return [tuple(int(i) for i in x) for x in np.ndindex(*extents)]

    def _input(self, channel: Expr, starts: list[Expr], x: tuple[int, ...], border: bool) -> Expr:
        root = self.layer.spine.root
        if self.group is not None:
            channel = channel + self.group * self.layer.inputs
        spatial = self.layer.spatial
        places = [s + i * along.step for s, i, along in zip(starts, x, spatial)]
        index = (self.layer.spine.index[0], channel, *places)
        value = self.inline.element(root.inputs[0], index)
        if not border:
            return value
        valid = const(True)
        for k, i in enumerate(x):
            valid = valid & local(f"valid{k}_{i}", (const(0) < const(1)).dtype)
        return where(valid, value, const(0.0))

    def _transformed(self, emit: Emitter, values: list[Expr], sizes: str) -> list[Expr]:
        """B^T d B (from n x n values), or A^T m A (sizes "m": n x n values to m x m)."""
        transforms = [s.transform for s in self.layer.spatial]
        change = emit.inputs if sizes == "n" else emit.outputs
        return over_axes(values, [t.n for t in transforms], transforms, change)

    # ---- outputs

    @cached_property
    def _channel(self) -> dict[Expr, Expr]:
        """The channel of the result in terms of `column`."""
        column = axis("column", self.layer.columns)
        return oriented_channel(self.layer.spine.channel, self.group, column, self.layer.columns)

    @cached_property
    def _windows(self) -> Windows | None:
        if self.pooled is None:
            return None
        return Windows(self.plan, self.pooled, self.layer, self._channel)

    @cached_property
    def _value(self) -> tuple[Expr, tuple[Expr, ...]]:
        """Element and index of the result, over `column`, `place0` …, and the outer axes."""
        found, mapping = self.layer.spine, self._channel
        return (
            substitute(found.value, mapping),
            tuple(substitute(i, mapping) for i in found.axes),
        )

    def _outputs(self) -> tuple[Stmt, ...]:
        """Results of all tiles of the block, for the channels of the share."""
        b, columns = self.blocking, self.layer.columns
        tile = axis("tile_out", b.tiles)
        firsts = self._place(tile)
        starts = [local(f"place{k}", p.dtype) for k, p in enumerate(firsts)]
        lets = [Let(f"place{k}", p) for k, p in enumerate(firsts)]
        column = axis("column", columns)
        begin = self.share * (b.share * b.lanes)
        end = begin + b.share * b.lanes
        code: list[Stmt] = []
        body, coming = self._output_tile(tile, starts, column), self._coming_results(starts)
        for first, last, width in lane_pieces(columns, self._output_widths(column, starts)):
            low, high = apply("max", begin, first), apply("min", end, last)
            code.append(For(column, low, high, (*coming, *body) if width > 1 else body, width))
        return (For(tile, const(0), self.present, (*lets, *code)),)

    def _output_widths(self, column: Expr, starts: list[Expr]) -> tuple[int, ...]:
        """Widths of vectors along the channels; (1,) where the epilogue has no vector form."""
        zero = (0,) * len(starts)
        values = [self._finished(starts, zero, load("@m", F32, column))]
        if self._windows is not None:
            values.append(self._windows.element(starts, zero, lambda x: values[0]))
        return self.widths if lane_cost(values, column, self.builder.access) is not None else (1,)

    def _moved(self, starts: list[Expr], x: tuple[int, ...]) -> tuple[Expr, tuple[Expr, ...]]:
        """Value and index of the result at position x of a tile."""
        value, index = self._value
        moved = {
            place: start + i * along.residues
            for place, start, i, along in zip(
                self.layer.spine.index[2:], starts, x, self.layer.spatial
            )
            if place.op == "axis"
        }
        return substitute(value, moved), tuple(substitute(i, moved) for i in index)

    def _output_tile(self, tile: Expr, starts: list[Expr], column: Expr) -> tuple[Stmt, ...]:
        emit = Emitter("y", column)
        inside = column - self.share * (self.blocking.share * self.blocking.lanes)
        base = tile * self.slabs.m_pitch + inside
        loaded = {
            position: emit.let(load("@m", F32, base + x * self.slabs.m_slab))
            for x, position in enumerate(self.layer.places)
        }
        results = self._transformed(emit, [loaded[p] for p in self._positions("n")], "m")
        tile_of = dict(zip(self._positions("m"), results))
        if self.pooled is None or not self.pooled.alone:
            for x, result in tile_of.items():
                emit.stmts.extend(self._stored(starts, x, result))
        if self._windows is not None:
            for window in self._windows.positions:
                emit.stmts.extend(self._stored_window(self._windows, starts, window, tile_of))
        return tuple(emit.stmts)

    def _finished(self, starts: list[Expr], x: tuple[int, ...], result: Expr) -> Expr:
        """What the epilogue makes of a result."""
        return substitute(self._moved(starts, x)[0], {ACCUMULATED: result})

    def _stored(self, starts: list[Expr], x: tuple[int, ...], result: Expr) -> tuple[Stmt, ...]:
        present = const(True)
        for start, i, along in zip(starts, x, self.layer.spatial):
            if not along.even and (i or along.residues > 1):
                present = present & (start + i * along.residues < along.results)
        value, index = self._finished(starts, x, result), self._moved(starts, x)[1]
        return self._store(self.layer.spine.end.name, index, value, present)

    def _coming_results(self, starts: list[Expr]) -> tuple[Stmt, ...]:
        """Fetches where the next tile's results are stored, and what their epilogue reads."""
        moved = [*starts[:-1], starts[-1] + self.layer.spatial[-1].ahead]
        values: list[Expr] = []
        places: list[tuple[str, tuple[Expr, ...]]] = []
        if self.pooled is None or not self.pooled.alone:
            name = self.layer.spine.end.name
            for x in self._positions("m"):
                values.append(self._finished(moved, x, const(0.0)))
                places.append((name, self._moved(moved, x)[1]))
        if self.pooled is not None and self._windows is not None:
            windows = self._windows
            places += [(self.pooled.sink, windows.index(moved, w)) for w in windows.positions]
        outputs = [self.memory.target(name, index, const(0.0)) for name, index in places]
        stored = dict.fromkeys((o.buffer, o.index) for o in outputs)
        return (
            *self._fetched(values, starts[-1]),
            *(Fetch(buffer, index) for buffer, index in stored if index is not None),
        )

    def _stored_window(
        self,
        windows: Windows,
        starts: list[Expr],
        window: tuple[int, ...],
        results: dict[tuple[int, ...], Expr],
    ) -> tuple[Stmt, ...]:
        value = windows.element(starts, window, lambda x: self._finished(starts, x, results[x]))
        index = windows.index(starts, window)
        return self._store(windows.pooled.sink, index, value, windows.exists(starts, window))

    def _store(
        self, name: str, index: tuple[Expr, ...], value: Expr, present: Expr
    ) -> tuple[Stmt, ...]:
        """An element of a result where it is present."""
        output = self.memory.target(name, index, value)
        assert output.index is not None
        store = Store(output.buffer, output.index, self.builder.final(output.value))
        return when(present, (store,))
