"""One value of a cluster as a loop nest: result[index] = expression, for all values of its axes.

The expression may hold reductions: they become accumulators, whose loops are restricted to where
the body counts (padding costs nothing inside), the innermost window axis unrolled, several results
side by side (`_JAM`) so that neighbouring windows share their loads. Loops are cut at the borders
of conditions, so that interiors run without any. Called by lower/cluster.py and by kernels/ for
epilogues and packing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sol.core.dims import Dim
from sol.core.dtypes import DType
from sol.ir.expr import Expr, apply, const, load, rebuild, substitute, walk, where
from sol.ir.expr import axis as new_axis
from sol.ir.expr import local_value as local
from sol.ir.loop import For, If, Let, Set, Stmt, Store, Var, lanes_reduce
from sol.lower.ranges import extent_of, lane_pieces, restrict, shifted, size_expr, split_points
from sol.lower.vector import Access, choose_lane, lane_cost

_JAM = 8  # results computed side by side along a window or a row of outputs
_LONG_SUM = 8  # sums over more elements than this are added up in parts
_UNROLLED_WINDOW = 8  # an innermost window axis up to this extent is unrolled
# independent accumulators of a reduction along lanes: latency, and a smaller rounding error
_CHAINS = 4
_MANY_ROWS = 16  # of a reduction whose lanes are results: several vectors at a time


@dataclass
class NestBuilder:
    """What lowering a nest needs:

    the memory access, the vector widths of the device (widest first), and a counter for names.
    """

    access: Access
    widths: tuple[int, ...]
    count: int = field(default=0)

    def fresh(self, hint: str) -> str:
        """A new local name."""
        self.count += 1
        return f"{hint}{self.count}"

    def final(self, x: Expr) -> Expr:
        """x with loads of linear indices, ready to print."""
        loads = {p: self.access.flat(p) for p in walk(x) if p.op == "load"}
        return _flatten(x, loads)


def _flatten(x: Expr, loads: dict[Expr, Expr]) -> Expr:
    """Replace loads from the inside out: the index of a load may hold another load."""
    memo: dict[Expr, Expr] = {}
    for part in walk(x):
        if part.op != "load":
            memo[part] = rebuild(part, [memo[a] for a in part.args]) if part.args else part
            continue
        flat = loads[part]
        inner = {a: b for a, b in memo.items() if a.op == "load" and a is not b}
        memo[part] = rebuild(flat, [substitute(a, inner) for a in flat.args]) if inner else flat
    return memo[x]


@dataclass(frozen=True, slots=True)
class Output:
    """Where a nest's results go:

    stores `value` at `index` of `buffer`, or into the scalar variable `buffer` when there is no
    index.
    """

    buffer: str
    index: Expr | None
    value: Expr


def outer_reductions(values: Sequence[Expr]) -> list[Expr]:
    """Reductions that are not inside other reductions, in order of evaluation."""
    inside: set[Expr] = set()
    found: dict[Expr, None] = {}
    for value in values:
        for part in walk(value):
            if part.op == "reduce":
                found[part] = None
                inside.update(p for p in walk(part.args[0]) if p.op == "reduce")
    return [r for r in found if r not in inside]


def nest(builder: NestBuilder, axes: Sequence[Expr], outputs: Sequence[Output]) -> tuple[Stmt, ...]:
    """Loops over `axes` (outer to inner) that store all outputs."""
    values = [o.value for o in outputs]
    reductions = outer_reductions(values)
    reduced = list(dict.fromkeys(a for r in reductions for a in reversed(r.args[1:])))
    index = next((o.index for o in outputs if o.index is not None), const(0))
    lane = choose_lane(tuple(axes), reduced, values, index, builder.access)
    loops = [a for a in axes if a is not lane]
    jam = loops.pop() if reductions and loops and isinstance(extent_of(loops[-1]), int) else None
    body = _jammed(builder, outputs, jam, lane if lane in axes else None, lane)
    for axis in reversed(loops):
        body = (For(axis, const(0), size_expr(extent_of(axis)), body),)
    return body


def side_by_side(builder: NestBuilder, lane: Expr, outputs: Sequence[Output]) -> tuple[Stmt, ...]:
    """The nest of a lane axis that stores several outputs; their reductions, over the same axes,
    share their loops."""
    chains = max(1, _CHAINS // len(outputs))
    return _lanes(builder, [(output,) for output in outputs], lane, lane, chains)


def turned_nest(
    builder: NestBuilder, lane: Expr, along: Expr, output: Output, tile: str
) -> tuple[Stmt, ...]:
    """Loops over two axes: lanes run over `lane`, where operands are contiguous, and the result is
    stored along `along`. In between it stands in the array `tile`, of `turned_size` elements.
    """
    assert output.index is not None
    place = along * turned_pitch(lane) + lane
    filled = nest(builder, (along, lane), (Output(tile, place, output.value),))
    again = {
        lane: new_axis("turned_lane", lane.value[1]),
        along: new_axis("turned", along.value[1]),
    }
    kept = load("@" + tile, output.value.dtype, substitute(place, again))
    stored = Output(output.buffer, substitute(output.index, again), kept)
    return (*filled, *nest(builder, (again[lane], again[along]), (stored,)))


def turned_pitch(lane: Expr) -> int:
    """Elements between the vectors of neighbours in the array of `turned_nest`."""
    extent = extent_of(lane)
    assert isinstance(extent, int)
    return extent + (16 if extent % 256 == 0 else 0)


Copies = list[tuple[Output, ...]]


def _jammed(
    builder: NestBuilder,
    outputs: Sequence[Output],
    jam: Expr | None,
    store_lane: Expr | None,
    lane: Expr | None,
) -> tuple[Stmt, ...]:
    if jam is None:
        return _lanes(builder, [tuple(outputs)], store_lane, lane, _CHAINS)
    extent = extent_of(jam)
    assert isinstance(extent, int)
    points = sorted({p for o in outputs for p in split_points(o.value, jam)})
    stmts: list[Stmt] = []
    for low, high in _runs(extent, points):
        groups, rest = divmod(high - low, _JAM)
        if groups == 1 and not rest:
            groups, rest = 0, _JAM
        if groups:
            block = new_axis(f"{jam.value[0]}_b{low}", groups)
            copies = [_moved(outputs, jam, block * _JAM + (low + u)) for u in range(_JAM)]
            stmts.append(
                For(block, const(0), const(groups), _lanes(builder, copies, store_lane, lane, 1))
            )
        if rest:
            copies = [_moved(outputs, jam, const(high - rest + u)) for u in range(rest)]
            stmts.extend(
                _lanes(builder, copies, store_lane, lane, 1 if len(copies) > 1 else _CHAINS)
            )
    return tuple(stmts)


def _runs(extent: int, points: Sequence[int]) -> list[tuple[int, int]]:
    """(begin, end) of parts of an axis: those of more than `_JAM` results have no points inside,
    where conditions change. The ends are written out, with the border beside what follows it.
    """
    if not points:
        return [(0, extent)]
    if extent <= 2 * _JAM:
        count = -(-extent // _JAM)
        cuts = [extent * n // count for n in range(1, count)]
    else:
        cuts = [_JAM, extent - (extent % _JAM or _JAM)]
        if any(cuts[0] < p < cuts[1] for p in points):
            cuts = list(points)
    return [(a, b) for a, b in zip([0, *cuts], [*cuts, extent]) if a < b]


def _moved(outputs: Sequence[Output], axis: Expr, position: Expr) -> tuple[Output, ...]:
    memo: dict[Expr, Expr] = {}
    moved = {axis: position}
    return tuple(
        Output(
            o.buffer,
            None if o.index is None else substitute(o.index, moved, memo),
            substitute(o.value, moved, memo),
        )
        for o in outputs
    )


def _lanes(
    builder: NestBuilder, copies: Copies, store_lane: Expr | None, lane: Expr | None, chains: int
) -> tuple[Stmt, ...]:
    """The loop over lanes of the result, if there is one, cut where conditions on the lane axis
    change. chains: vectors of each copy at a time, if they are sums of rows.
    """
    if store_lane is None:
        return _stores(builder, copies, lane, 0)
    extent = extent_of(store_lane)
    if isinstance(extent, Dim):
        return _lane_loops(builder, copies, store_lane, chains)
    points = sorted({p for c in copies for o in c for p in split_points(o.value, store_lane)})
    stmts: list[Stmt] = []
    for low, high in zip([0, *points], [*points, extent]):
        inner = store_lane if not points else new_axis(f"{store_lane.value[0]}_{low}", high - low)
        moved = copies if not points else [_moved(c, store_lane, inner + low) for c in copies]
        stmts.extend(_lane_loops(builder, moved, inner, chains))
    return tuple(stmts)


def _lane_loops(builder: NestBuilder, copies: Copies, lane: Expr, chains: int) -> tuple[Stmt, ...]:
    condition = _shared_condition(copies, lane)
    if condition is not None:  # unswitch: one test outside the loop instead of one per vector
        yes, no = (
            [tuple(Output(o.buffer, o.index, o.value.args[k]) for o in c) for c in copies]
            for k in (1, 2)
        )
        return (
            If(
                builder.final(condition),
                _lane_loops(builder, yes, lane, chains),
                _lane_loops(builder, no, lane, chains),
            ),
        )
    values = [o.value for c in copies for o in c]
    possible = lane_cost(values, lane, builder.access) is not None
    together = chains if possible and _sums_rows(values, lane) else 1
    stmts: list[Stmt] = []
    for begin, end, width in lane_pieces(extent_of(lane), builder.widths if possible else (1,)):
        if together > 1 and isinstance(end.value, int) and width == builder.widths[0]:
            for first, last, count in _chain_pieces(begin.value, end.value, width, together):
                moved = [_moved(c, lane, lane + u * width) for u in range(count) for c in copies]
                body = _stores(builder, moved, lane, width)
                stmts.append(For(lane, const(first), const(last), body, width, count))
            continue
        stmts.append(For(lane, begin, end, _stores(builder, copies, lane, width), width))
    return tuple(stmts)


def _sums_rows(values: Sequence[Expr], lane: Expr) -> bool:
    """Whether values are long reductions over rows of lanes: several vectors of a row at a time
    read memory in longer pieces."""
    reductions = outer_reductions(values)
    return bool(reductions) and all(
        lane in walk(r) and _count(r.args[1:]) >= _MANY_ROWS for r in reductions
    )


def _shared_condition(copies: Copies, lane: Expr) -> Expr | None:
    """The condition of every value, if all are `where` of one condition that does not differ
    between lanes.
    """
    first = copies[0][0].value
    if first.op != "where" or lane in walk(first.args[0]):
        return None
    alike = all(
        o.value.op == "where" and o.value.args[0] is first.args[0] for c in copies for o in c
    )
    return first.args[0] if alike else None


def _stores(
    builder: NestBuilder, copies: Copies, lane: Expr | None, width: int
) -> tuple[Stmt, ...]:
    """Reductions of all copies, then their stores.

    width > 0: inside a loop over lanes of the result; 0: lanes, if any, run inside reductions.
    """
    stmts: list[Stmt] = []
    done = [[o.value for o in copy] for copy in copies]
    while True:
        reductions = [outer_reductions(values) for values in done]
        if not reductions[0]:
            break
        group = [r[0] for r in reductions]
        code, results = _reduction(builder, group, lane, width)
        stmts.extend(code)
        done = [
            [substitute(v, {r: result}) for v in values]
            for values, r, result in zip(done, group, results)
        ]
    for copy, values in zip(copies, done):
        for output, value in zip(copy, values):
            stmts.append(_store(builder, output, value))
    return tuple(stmts)


def _store(builder: NestBuilder, output: Output, value: Expr) -> Stmt:
    value = builder.final(value)
    if output.index is None:
        return Let(output.buffer, value)
    return Store(output.buffer, output.index, value)


NEUTRAL: dict[str, float] = {
    "sum": 0.0,
    "prod": 1.0,
    "max": -math.inf,
    "min": math.inf,
    "any": 0.0,
    "all": 1.0,
}
COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and"}


def neutral(kind: str, dtype: DType) -> Expr:
    """The value that changes nothing in a reduction."""
    if dtype.kind == "int":
        limits = np.iinfo(dtype.numpy)
        extremes = {"max": int(limits.min), "min": int(limits.max)}
        return const(extremes[kind] if kind in extremes else int(NEUTRAL[kind]), dtype)
    return const(NEUTRAL[kind], dtype)


def _kind(reduction: Expr) -> str:
    """The kind of a reduction; the largest of booleans is `any`, the smallest `all`."""
    kind: str = reduction.value
    return {"max": "any", "min": "all"}.get(kind, kind) if reduction.dtype.kind == "bool" else kind


def _reduction(
    builder: NestBuilder, group: Sequence[Expr], lane: Expr | None, width: int
) -> tuple[list[Stmt], list[Expr]]:
    """Accumulators for one reduction of each copy, sharing their loops; the copies' results."""
    if width == 0 and lane is not None and lane in group[0].args[1:]:
        return _lane_reduction(builder, group, lane)
    kind, dtype = _kind(group[0]), group[0].dtype
    vector = width > 1 and lane is not None and any(lane in walk(r) for r in group)
    names = [builder.fresh("acc") for _ in group]
    start = neutral(kind, dtype)
    stmts: list[Stmt] = [Var(n, start, width if vector else 1) for n in names]
    results = [local(n, dtype, vector) for n in names]
    bodies = [_guard_outside(r.args[0], neutral(kind, dtype)) for r in group]
    updates = _reduce_loops(
        builder,
        _cut_long(list(group[0].args[1:]), kind, bodies),
        bodies,
        kind,
        results,
        lane,
        width,
    )
    return [*stmts, *updates], results


def _cut_long(axes: list[Expr], kind: str, bodies: list[Expr]) -> list[Expr]:
    """A lone long axis of a sum as two, so that it is added up in parts;

    `bodies` are rewritten in place.
    """
    extent = extent_of(axes[0]) if len(axes) == 1 else 0
    if kind != "sum" or not isinstance(extent, int) or extent < 4 * _LONG_SUM:
        return axes
    (axis,) = axes
    block = next((b for b in range(16, 3, -1) if extent % b == 0), 0)
    if not block:
        return axes
    high, low = (
        new_axis(f"{axis.value[0]}_hi", extent // block),
        new_axis(f"{axis.value[0]}_lo", block),
    )
    bodies[:] = [substitute(b, {axis: high * block + low}) for b in bodies]
    return [high, low]


def _guard_outside(body: Expr, start: Expr) -> Expr:
    """where(c, x, 0) * w -> where(c, x * w, 0):

    a condition around the whole body can bound the loop.
    """
    if body.op == "mul" and start.value == 0:
        for guarded, other in (body.args, reversed(body.args)):
            if guarded.op == "where" and guarded.args[2] is start:
                return where(guarded.args[0], guarded.args[1] * other, start)
    return body


def _reduce_loops(
    builder: NestBuilder,
    axes: list[Expr],
    bodies: list[Expr],
    kind: str,
    targets: Sequence[Expr],
    lane: Expr | None,
    width: int,
) -> list[Stmt]:
    if not axes:
        return [
            Set(t.value[0], apply(COMBINE[kind], t, builder.final(b)))
            for t, b in zip(targets, bodies)
        ]
    axis, *inner = axes
    extent = extent_of(axis)
    if not inner and isinstance(extent, int) and extent <= _UNROLLED_WINDOW:
        return [
            s
            for k in range(extent)
            for s in _guarded(
                builder, [substitute(b, {axis: const(k)}) for b in bodies], kind, targets, lane
            )
        ]
    hidden = set(inner) | ({lane} if lane is not None else set())
    begin, end, bodies = restrict(axis, bodies, neutral(kind, bodies[0].dtype), hidden)
    if kind == "sum" and inner and _count(inner) >= _LONG_SUM:
        return [
            For(
                axis, begin, end, tuple(_partial_sums(builder, inner, bodies, targets, lane, width))
            )
        ]
    body = _reduce_loops(builder, inner, bodies, kind, targets, lane, width)
    return [For(axis, begin, end, tuple(body))]


def _count(axes: Sequence[Expr]) -> int:
    total = 1
    for a in axes:
        extent = extent_of(a)
        total *= extent if isinstance(extent, int) else _LONG_SUM
    return total


def _partial_sums(
    builder: NestBuilder,
    axes: list[Expr],
    bodies: list[Expr],
    targets: Sequence[Expr],
    lane: Expr | None,
    width: int,
) -> list[Stmt]:
    """A sum of sums: rounding errors grow with the length of each part, not of the whole."""
    parts = [local(builder.fresh("part"), t.dtype, t.value[1]) for t in targets]
    stmts: list[Stmt] = [
        Var(p.value[0], const(0.0, p.dtype), width if p.value[1] else 1) for p in parts
    ]
    stmts.extend(_reduce_loops(builder, axes, bodies, "sum", parts, lane, width))
    stmts.extend(Set(t.value[0], t + p) for t, p in zip(targets, parts))
    return stmts


def _guarded(
    builder: NestBuilder, bodies: list[Expr], kind: str, targets: Sequence[Expr], lane: Expr | None
) -> list[Stmt]:
    """Updates of an unrolled step;

    a condition that guards a whole body becomes an `if` around its update.
    """
    stmts: list[Stmt] = []
    for target, body in zip(targets, bodies):
        start = neutral(kind, body.dtype)
        if body is start and kind != "prod":
            continue
        if body.op == "where" and body.args[2] is start and lane not in walk(body.args[0]):
            update = Set(target.value[0], apply(COMBINE[kind], target, builder.final(body.args[1])))
            stmts.append(If(builder.final(body.args[0]), (update,)))
        else:
            stmts.append(Set(target.value[0], apply(COMBINE[kind], target, builder.final(body))))
    return stmts


def _lane_reduction(
    builder: NestBuilder, group: Sequence[Expr], lane: Expr
) -> tuple[list[Stmt], list[Expr]]:
    """A reduction whose lanes run over one of its own axes:

    vector accumulators, combined horizontally at the end.
    """
    kind, dtype = _kind(group[0]), group[0].dtype
    outer = [a for a in group[0].args[1:] if a is not lane]
    extent = extent_of(lane)
    assert isinstance(extent, int)
    start = neutral(kind, dtype)
    stmts: list[Stmt] = []
    totals: list[Expr] = [start for _ in group]
    for begin, end, width in lane_pieces(extent, builder.widths):
        chains = (
            _CHAINS
            if len(group) == 1 and width == builder.widths[0] and extent >= 2 * _CHAINS * width
            else 1
        )
        for first, last, together in _chain_pieces(begin.value, end.value, width, chains):
            inner, names = _lane_piece(
                builder, group, lane, kind, dtype, outer, (first, last, width, together)
            )
            stmts.extend(inner)
            for i, mine in enumerate(names):
                for name in mine:
                    part = (
                        lanes_reduce(kind, name, dtype, width) if width > 1 else local(name, dtype)
                    )
                    totals[i] = (
                        part if totals[i] is start else apply(COMBINE[kind], totals[i], part)
                    )
    results = []
    for total in totals:
        name = builder.fresh("total")
        stmts.append(Let(name, total))
        results.append(local(name, dtype))
    return stmts, results


def _chain_pieces(begin: int, end: int, width: int, chains: int) -> list[tuple[int, int, int]]:
    middle = begin + (end - begin) // (width * chains) * (width * chains)
    pieces = [(begin, middle, chains)] if chains > 1 else []
    return [
        *pieces,
        *([(middle if chains > 1 else begin, end, 1)] if (end > middle or chains == 1) else []),
    ]


def _lane_piece(
    builder: NestBuilder,
    group: Sequence[Expr],
    lane: Expr,
    kind: str,
    dtype: DType,
    outer: list[Expr],
    piece: tuple[int, int, int, int],
) -> tuple[list[Stmt], list[list[str]]]:
    begin, end, width, together = piece
    names = [[builder.fresh("acc") for _ in range(together)] for _ in group]
    stmts: list[Stmt] = [Var(n, neutral(kind, dtype), width) for mine in names for n in mine]
    updates: list[Stmt] = []
    bodies = [_guard_outside(r.args[0], neutral(kind, dtype)) for r in group]
    starts = [(const(0), size_expr(extent_of(a))) for a in outer]
    for position, axis in enumerate(outer):
        low, high, bodies = restrict(
            axis, bodies, neutral(kind, dtype), set(outer[position + 1 :]) | {lane}
        )
        starts[position] = (low, high)
    for c in range(together):
        for mine, body in zip(names, bodies):
            target = local(mine[c], dtype, width > 1)
            moved = shifted(body, lane, lane, c * width) if c else body
            updates.append(Set(mine[c], apply(COMBINE[kind], target, builder.final(moved))))
    code: tuple[Stmt, ...] = (For(lane, const(begin), const(end), tuple(updates), width, together),)
    for axis, (low, high) in zip(reversed(outer), reversed(starts)):
        code = (For(axis, low, high, code),)
    return [*stmts, *code], names
