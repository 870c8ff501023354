"""Linear layers with few rows per image whose weights lie with their columns innermost: gradients
of data through the heads of classifiers.

    y[row, column] = sum over k of x[row, k] * w[k, column]

W is read as it is, once for up to `ROWS` rows: a unit has some columns, and goes through k in
parts. Each part of W is copied to scratch memory in long pieces, then multiplied from there in
register tiles, which are added to sums in scratch memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.core.dtypes import F32, DType
from sol.ir.expr import Expr, apply, axis, const, load, substitute
from sol.ir.loop import For, If, Stmt
from sol.kernels.micro import Micro, micro_kernel
from sol.kernels.operands import ACCUMULATED, spine
from sol.kernels.tiles import pieces
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of, size_expr
from sol.lower.units import count, decode
from sol.plan.inline import Inliner
from sol.plan.records import Cluster, Plan

ROWS = 32  # for which W is read once
_PART = 64  # of k
_WIDEST = 32  # vectors of a unit
_UNITS_PER_CORE = 4
_TILES = (8, 4, 2, 1)  # rows of register tiles
_VECTORS = 3  # columns of register tiles
_GAP = 16  # floats between rows in scratch memory, which else would share sets of the L1 cache


@dataclass(frozen=True, slots=True)
class TurnedTile:
    """Columns of a unit, and the largest register tile."""

    width: int
    rows: int
    columns: int


def lower_thin_turned(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> tuple[Lowered, TurnedTile]:
    """The kernel of such a layer."""
    lanes = device.vector_lanes(4)
    total = plan.graph[plan.graph[cluster.root].inputs[1]].shape[0]
    assert isinstance(total, int)
    share = -(-total // (lanes * _UNITS_PER_CORE * device.cores))
    width = max(1, min(_WIDEST, share)) * lanes
    kernel = _Turned(plan, cluster, lanes, width, widths)
    return kernel.lowered(), TurnedTile(width, _TILES[0], _VECTORS * lanes)


class _Turned:
    """The kernel of one layer: names and axes that its parts share."""

    def __init__(
        self, plan: Plan, cluster: Cluster, lanes: int, width: int, widths: tuple[int, ...]
    ) -> None:
        self.plan, self.lanes, self.width = plan, lanes, width
        self.spine = spine(plan, cluster)
        self.memory = Memory(plan)
        self.builder = NestBuilder(self.memory.access(), widths)
        self.inline = Inliner(plan.graph, plan.stored)
        columns, depth = plan.graph[self.spine.root.inputs[1]].shape
        assert isinstance(columns, int)
        assert isinstance(depth, int)
        self.columns, self.depth = columns, depth
        self.rows = self.spine.rows(plan.orders[self.spine.end.name])
        self.block = axis("block", -(-columns // width))
        self.band, self.part = axis("band", 1 << 31), axis("part", -(-depth // _PART))
        self.first = self.band * ROWS
        self.present = apply("min", const(ROWS), size_expr(count(self.rows)) - self.first)
        begin = self.part * _PART
        self.begin = begin
        self.length = apply("min", const(_PART), const(depth) - begin)

    def lowered(self) -> Lowered:
        """The whole kernel."""
        whole, rest = divmod(self.columns, self.width)
        body = self._columns(self.width if whole else rest)
        if whole and rest:
            body = (If(self.block < whole, body, self._columns(rest)),)
        arrays: list[tuple[str, DType, int]] = [
            ("panel", F32, _PART * (self.width + _GAP)),
            ("given", F32, ROWS * _PART),
            ("sums", F32, ROWS * (self.width + _GAP)),
        ]
        return lowered_units(self.memory, [self.block], arrays, body, "")

    def _columns(self, width: int) -> tuple[Stmt, ...]:
        """All rows of a block of so many columns."""
        pitch = -(-width // self.lanes) * self.lanes + _GAP
        row, column = axis("row", ROWS), axis("column", width)
        zero = Output("sums", row * pitch + column, const(0.0))
        part = (*self._copies(width, pitch), *self._products(width, pitch))
        code = (
            *nest(self.builder, (row, column), (zero,)),
            For(self.part, const(0), size_expr(extent_of(self.part)), part),
            *self._stored(width, pitch),
        )
        bands = (size_expr(count(self.rows)) + (ROWS - 1)) // ROWS
        return (For(self.band, const(0), bands, code),)

    def _copies(self, width: int, pitch: int) -> tuple[Stmt, ...]:
        """A part of W and of x."""
        k, column, row = axis("k", _PART), axis("column", width), axis("row", ROWS)
        root = self.spine.root
        w = self.inline.element(root.inputs[1], (self.block * self.width + column, self.begin + k))
        copy = nest(self.builder, (column,), (Output("panel", k * pitch + column, w),))
        moved = decode(self.first + row, self.rows)
        index = tuple(substitute(i, moved) for i in self.spine.index[:-1])
        x = self.inline.element(root.inputs[0], (*index, self.begin + k))
        given = Output("given", row * _PART + k, x)
        whole, rest = divmod(self.depth, _PART)
        taken = nest(self.builder, (k,), (given,))
        if rest:
            last: Stmt = For(k, const(0), const(rest), nest(self.builder, (), (given,)))
            taken = (If(self.part < whole, taken, (last,)),) if whole else (last,)
        return (
            For(k, const(0), self.length, copy),
            For(row, const(0), self.present, taken),
        )

    def _products(self, width: int, pitch: int) -> tuple[Stmt, ...]:
        """Register tiles, added to the sums."""
        vectors = -(-width // self.lanes)
        code: list[Stmt] = []
        done: Expr = const(0)
        for rows in _TILES:
            tiles = (self.present - done) // rows
            step = axis(f"step{rows}", 1 << 31)
            inner: list[Stmt] = []
            for starts, wide in pieces(vectors, _VECTORS):
                across = axis("across", len(starts))
                vector = across * wide + starts.start
                tile = self._tile(done + step * rows, rows, vector, wide, pitch)
                inner.append(For(across, const(0), const(len(starts)), tile))
            code.append(For(step, const(0), tiles, tuple(inner)))
            done = done + tiles * rows
        return tuple(code)

    def _tile(
        self, row: Expr, rows: int, vector: Expr, vectors: int, pitch: int
    ) -> tuple[Stmt, ...]:
        lanes = self.lanes
        micro = Micro(
            rows,
            vectors,
            lanes,
            "given",
            "panel",
            lambda p, k: (row + p) * _PART + k,
            lambda k, j, lane: k * pitch + (vector + j) * lanes + lane,
        )
        return micro_kernel(
            micro,
            self.length,
            lambda p, j, lane: (row + p) * pitch + (vector + j) * lanes + lane,
            "sums",
            const(True),
        )

    def _stored(self, width: int, pitch: int) -> tuple[Stmt, ...]:
        """Epilogues of all rows at hand."""
        row, column = axis("row", ROWS), axis("column", width)
        moved = decode(self.first + row, self.rows)
        if self.spine.channel.op == "axis":
            moved[self.spine.channel] = self.block * self.width + column
        total = load("@sums", F32, row * pitch + column)
        value = substitute(substitute(self.spine.value, moved), {ACCUMULATED: total})
        index = tuple(substitute(i, moved) for i in self.spine.axes)
        target = self.memory.target(self.spine.end.name, index, value)
        return (For(row, const(0), self.present, nest(self.builder, (column,), (target,))),)
