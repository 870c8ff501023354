"""Linear layers with few rows per image, such as the heads of classifiers: the weights are the
traffic.

    y[row, column] = sum over k of x[row, k] * w[column, k]

W is read in the order in which the framework keeps it, without a packed copy, once for all images
of a batch: a unit takes a few columns through all rows, in tiles of a few rows. Lanes run along k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.core.dims import Size
from sol.core.dtypes import F32
from sol.ir.expr import Expr, axis, const, substitute
from sol.ir.expr import local_value as local
from sol.ir.loop import Fetch, For, If, Kernel, Let, Set, Stmt, Store, Var, lanes_reduce
from sol.kernels.micro import AHEAD
from sol.kernels.operands import ACCUMULATED, Spine, spine
from sol.lower.cluster import Lowered, Memory
from sol.lower.nest import NestBuilder
from sol.lower.ranges import lane_pieces, size_expr
from sol.lower.units import UNIT, count, decode, with_units
from sol.plan.inline import Inliner
from sol.plan.records import Cluster, Plan

_NARROWEST = 4  # lanes of the narrowest vector
_GRAIN = 1 << 15  # multiply-adds of one image that a unit should do at least


@dataclass(frozen=True, slots=True)
class ThinTile:
    """rows x columns accumulators of `lanes` floats."""

    rows: int
    columns: int
    lanes: int


def lower_thin(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> tuple[Lowered, ThinTile]:
    """The kernel of such a layer."""
    lanes = device.vector_lanes(4)
    tile = ThinTile(4, 6, lanes) if device.vector_registers >= 32 else ThinTile(2, 4, lanes)
    return _Thin(plan, cluster, tile, widths).lowered(), tile


class _Thin:
    """The kernel of one layer: names and axes that its parts share."""

    def __init__(
        self, plan: Plan, cluster: Cluster, tile: ThinTile, widths: tuple[int, ...]
    ) -> None:
        self.plan, self.tile, self.widths = plan, tile, widths
        self.spine: Spine = spine(plan, cluster)
        self.memory = Memory(plan)
        self.builder = NestBuilder(self.memory.access(), widths)
        self.inline = Inliner(plan.graph, plan.stored)
        weight = plan.graph[self.spine.root.inputs[1]]
        columns, depth = weight.shape
        assert isinstance(columns, int)
        assert isinstance(depth, int)
        self.columns, self.depth = columns, depth
        self.rows = self.spine.rows(plan.orders[self.spine.end.name])
        self.total: Size = count(self.rows)
        self.block = axis("block", -(-columns // tile.columns))

    def lowered(self) -> Lowered:
        """The whole kernel."""
        whole, rest = divmod(self.columns, self.tile.columns)
        body = self._columns(self.tile.columns)
        if rest and whole:
            body = (If(self.block < whole, body, self._columns(rest)),)
        elif rest:
            body = self._columns(rest)
        kernel = Kernel(
            self.memory.buffers.arguments(),
            UNIT,
            count([self.block]),
            with_units([self.block], body),
            grain=max(1, _GRAIN // (self.tile.columns * self.depth)),
        )
        return Lowered(kernel, tuple(self.memory.buffers.names))

    def _columns(self, columns: int) -> tuple[Stmt, ...]:
        """All rows of one block of columns."""
        step, row = axis("step", 1 << 31), axis("row", 1 << 31)
        total = size_expr(self.total)
        full = total // self.tile.rows
        stmts: list[Stmt] = []
        if not isinstance(self.total, int) or self.total >= self.tile.rows:
            first = step * self.tile.rows
            body = self._tile([first + p for p in range(self.tile.rows)], columns)
            stmts.append(For(step, const(0), full, body))
        if not isinstance(self.total, int) or self.total % self.tile.rows:
            stmts.append(For(row, full * self.tile.rows, total, self._tile([row], columns)))
        return tuple(stmts)

    def _tile(self, rows: list[Expr], columns: int) -> tuple[Stmt, ...]:
        """Sums of some rows and columns, and their epilogues."""
        outputs = [self.block * self.tile.columns + j for j in range(columns)]
        pairs = [(p, j) for p in range(len(rows)) for j in range(columns)]
        totals = dict.fromkeys(pairs, const(0.0))
        stmts: list[Stmt] = []
        end = self.depth // _NARROWEST * _NARROWEST
        for begin, last, width in lane_pieces(end, self.widths):
            stmts.extend(self._sums(rows, outputs, begin.value, last.value, width))
            for p, j in pairs:
                name = _name(width, p, j)
                totals[p, j] = totals[p, j] + lanes_reduce("sum", name, F32, width)
        for k in range(end, self.depth):  # a loop might be summed up in another order
            stmts.extend(Let(f"x_{p}_{k}", self._x(row, const(k))) for p, row in enumerate(rows))
            stmts.extend(Let(f"w_{j}_{k}", self._w(o, const(k))) for j, o in enumerate(outputs))
            for p, j in pairs:
                totals[p, j] = totals[p, j] + local(f"x_{p}_{k}") * local(f"w_{j}_{k}")
        for p, j in pairs:
            name = f"sum_{p}_{j}"
            stmts.append(Let(name, totals[p, j]))
            stmts.append(self._stored(rows[p], outputs[j], local(name)))
        return tuple(stmts)

    def _sums(
        self, rows: list[Expr], outputs: list[Expr], begin: int, end: int, width: int
    ) -> list[Stmt]:
        """Accumulators of `width` lanes over k from begin to end."""
        k = axis("k", self.depth)
        stmts: list[Stmt] = []
        body: list[Stmt] = []
        for p in range(len(rows)):
            stmts.extend(Var(_name(width, p, j), const(0.0), width) for j in range(len(outputs)))
        for p, row in enumerate(rows):
            body.append(Let(f"x_{p}", self._x(row, k)))
        weights = [self._w(output, k) for output in outputs]
        for j, weight in enumerate(weights):
            body.append(Let(f"w_{j}", weight))
            for p in range(len(rows)):
                name = _name(width, p, j)
                product = local(f"x_{p}", F32, True) * local(f"w_{j}", F32, True)
                body.append(Set(name, local(name, F32, True) + product))
        for first, last, ahead in self._ahead(begin, end, len(outputs)):
            fetched = (Fetch(*_place(weight, ahead)) for weight in weights)
            stmts.append(For(k, const(first), const(last), (*fetched, *body), width))
        return stmts

    def _ahead(self, begin: int, end: int, columns: int) -> Iterator[tuple[int, int, int]]:
        """(first, last, how far weights are fetched ahead) of parts of k from begin to end.

        At the end of a block's columns the next block's begin.
        """
        near = max(begin, min(end, (self.depth - AHEAD) // self.tile.lanes * self.tile.lanes))
        if near > begin:
            yield begin, near, AHEAD
        if end > near:
            yield near, end, min(AHEAD, self.depth) + (columns - 1) * self.depth

    def _moved(self, row: Expr) -> dict[Expr, Expr]:
        return decode(row, self.rows)

    def _x(self, row: Expr, k: Expr) -> Expr:
        index = tuple(substitute(i, self._moved(row)) for i in self.spine.index[:-1])
        return self.builder.final(self.inline.element(self.spine.root.inputs[0], (*index, k)))

    def _w(self, output: Expr, k: Expr) -> Expr:
        return self.builder.final(self.inline.element(self.spine.root.inputs[1], (output, k)))

    def _stored(self, row: Expr, output: Expr, total: Expr) -> Stmt:
        moved = self._moved(row)
        if self.spine.channel.op == "axis":
            moved[self.spine.channel] = output
        value = substitute(substitute(self.spine.value, moved), {ACCUMULATED: total})
        index = tuple(substitute(i, moved) for i in self.spine.axes)
        target = self.memory.target(self.spine.end.name, index, value)
        assert target.index is not None
        return Store(target.buffer, target.index, self.builder.final(target.value))


def _place(weight: Expr, ahead: int) -> tuple[str, Expr]:
    """The buffer and the index of what lies so far behind an element of W."""
    assert weight.op == "load"
    assert isinstance(weight.value, str)
    return weight.value, weight.args[0] + ahead


def _name(width: int, p: int, j: int) -> str:
    return f"acc{width}_{p}_{j}"
