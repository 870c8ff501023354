"""scatter_add: rows added where an index says, the gradient of an embedding's table.

    y[index[i], …, c] += x[i, …, c]         from zeros

A unit of work has a block of columns c: it sets them to zero in all rows, then it goes through the
index in its order and adds. So units never meet, the order of additions does not depend on threads,
and the table, which may be large, is written once; beyond that only rows that are met are touched.
In: the plan and a cluster of scatter_add. Out: its kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sol.core.device import CpuDevice
from sol.core.dtypes import F32, I64
from sol.ir.expr import Expr, axis, const, load, local_value
from sol.ir.loop import For, If, Kernel, Let, Stmt, Store
from sol.lower.cluster import Lowered, Memory, with_serial
from sol.lower.nest import NestBuilder
from sol.lower.ranges import lane_pieces
from sol.lower.units import UNIT
from sol.ops.maps import from_data
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Cluster, Plan

_UNITS = 4  # for each core: threads wait for the last one
_NARROWEST = 64  # columns of a unit: whole cache lines of each row

Body = Callable[[Expr], tuple[Stmt, ...]]  # for a column, or a vector of them


def lower_scatter(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> Lowered:
    """The kernel of a cluster of scatter_add."""
    node = plan.graph[cluster.root]
    index, x = plan.graph.inputs_of(node)
    memory, inline = Memory(plan), Inliner(plan.graph, plan.stored)
    builder = NestBuilder(memory.access(), widths)
    place = plan.places[node.name]
    table = memory.buffers.write(place.buffer, F32)
    row, *others = axes_for(node)
    picked = tuple(axis(f"at{n}", s) if s != 1 else const(0) for n, s in enumerate(index.shape))
    columns = node.shape[-1] if others else 1
    assert isinstance(columns, int)
    outer = tuple(others[:-1])
    width = _block(columns, device)

    def at(to: Expr, column: Expr) -> Expr:
        return place.flat((to, *outer, column) if others else (to,))

    def zero(column: Expr) -> tuple[Stmt, ...]:
        return (Store(table, at(row, column), const(0.0)),)

    def add(column: Expr) -> tuple[Stmt, ...]:
        to = local_value("to", I64)
        value = builder.final(
            inline.element(x.name, (*picked, *outer, *([column] if others else [])))
        )
        return (Store(table, at(to, column), load("@" + table, F32, at(to, column)) + value),)

    def code(count: int) -> tuple[Stmt, ...]:
        inside = [with_serial(_loops(outer), _lanes(b, width, count, widths)) for b in (zero, add)]
        where_to = builder.final(from_data(inline.element(index.name, picked), node.shape[0]))
        each = (Let("to", where_to), *inside[1])
        return (*with_serial(_loops((row,)), inside[0]), *with_serial(_loops(picked), each))

    whole, rest = divmod(columns, width)
    body = code(width)
    if rest:
        body = (If(whole > UNIT, body, code(rest)),)
    kernel = Kernel(memory.buffers.arguments(), UNIT, whole + bool(rest), body)
    return Lowered(kernel, tuple(memory.buffers.names))


def _block(columns: int, device: CpuDevice) -> int:
    """Columns of a unit."""
    share = -(-columns // (_UNITS * device.cores))
    return min(columns, -(-share // _NARROWEST) * _NARROWEST)


def _loops(axes: Sequence[Expr]) -> list[Expr]:
    """Those that are longer than 1."""
    return [a for a in axes if a.op == "axis"]


def _lanes(body: Body, width: int, count: int, widths: tuple[int, ...]) -> tuple[Stmt, ...]:
    """body for `count` columns of the unit's block of `width`."""
    column = axis("column", count)
    return tuple(
        For(column, begin, end, body(UNIT * width + column), lanes)
        for begin, end, lanes in lane_pieces(count, widths)
    )
