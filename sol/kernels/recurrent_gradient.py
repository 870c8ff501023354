"""The way back through a scan (plan/scan.py): from the last step of time to the first.

A step is, for a few images and a block of hidden units: dr W_hh of the step before (the later one),
which is what h of this step gets through the gates; then the cell's element-wise part: gradients of
its gates, which are stored, and what the states of the earlier step get directly, which stays where
the gradients of the first states are wanted. dr of a step is read where it lies, or packed into a
panel for all blocks of a unit. After the first step of time one more product gives the gradient of
the first h.
In: the plan and a scan, `whole` or `shared` (scan.py). Out: kernels with their buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, local_value, where
from sol.ir.loop import For, If, Let, Stmt
from sol.kernels.scan import (
    Left,
    Scan,
    Work,
    from_step,
    image_blocks,
    is_constant,
    of_images,
    of_units,
    over_units,
    panel,
    products,
)
from sol.lower.cluster import Lowered
from sol.lower.ranges import size_expr
from sol.lower.units import UNIT
from sol.ops.recurrence import Operands
from sol.plan.records import Plan


@dataclass(frozen=True, slots=True)
class _Back:
    """A kernel's work, operands of its scan by name, and whether no step comes after this one."""

    work: Work
    operands: Operands
    last: Expr

    @property
    def gates(self) -> Sequence[str]:
        """Results: gradients of x and of r, which may be one."""
        results, apart = self.work.scan.results, self.work.scan.cell.apart
        return results[0], results[int(apart)]

    @property
    def carried(self) -> Sequence[str]:
        """Results: gradients of the states before the first step, meanwhile before this one."""
        return self.work.scan.results[1 + self.work.scan.cell.apart :]


def lower_scan_gradient(plan: Plan, scan: Scan, widths: tuple[int, ...]) -> tuple[Lowered, ...]:
    """The kernels, in the order of their calls."""
    operands = Operands.of(scan.cell, scan.node["given"], scan.node.inputs[1:])
    if scan.shared:
        return _shared(plan, scan, operands, widths)
    time, block = axis("time", scan.time), axis("block", scan.blocks)
    end = size_expr(scan.time) - 1
    _, row0, _ = image_blocks(scan)
    now = end - time if scan.backwards else time
    work = Work.of(plan, scan, widths, now, apply("eq", time, 0), row0, block)
    back = _Back(work, operands, apply("eq", time, end))

    def blocks(code: tuple[Stmt, ...]) -> Stmt:
        return For(block, const(0), const(scan.blocks), code)

    dr = work.in_panel()
    step = (If(time > 0, _panel(back, work.before)), blocks(_block(back, dr)))
    ends = const(0) if scan.backwards else end
    first = (*_panel(back, ends), blocks(_first_state(back, dr)))
    return (of_images(work, (For(time, const(0), size_expr(scan.time), step), *first)),)


def _shared(
    plan: Plan, scan: Scan, operands: Operands, widths: tuple[int, ...]
) -> tuple[Lowered, ...]:
    """A call for each step of time, and one for the gradient of the first h. Buffers begin at the
    step in front of the current one, if there is one."""
    steps = scan.time
    assert isinstance(steps, int)
    cell = scan.cell
    given = (c for c in operands.changes if c is not None)
    moving = frozenset((*operands.states, *operands.kept, *given, *scan.results[: 1 + cell.apart]))
    row0 = axis("row0", scan.images)

    def work(now: int, first: bool) -> Work:
        return Work.of(plan, scan, widths, const(now), const(first), row0, UNIT, moving)

    made: dict[tuple[int, bool, bool], Lowered] = {}
    calls = []
    order = range(steps)[:: -1 if scan.backwards else 1]
    for t in order:
        begin = max(t - 1, 0)
        key = (t - begin, t == order[0], t == order[-1])
        if key not in made:
            back = _Back(work(*key[:2]), operands, const(key[2]))
            dr = back.work.in_place(back.gates[1], back.work.before)
            made[key] = of_units(back.work, _block(back, dr), panel=False)
        calls.append(from_step(plan, scan, made[key], begin))
    back = _Back(work(0, False), operands, const(True))
    dr = back.work.in_place(back.gates[1], const(0))
    last = of_units(back.work, _first_state(back, dr), panel=False)
    return (*calls, from_step(plan, scan, last, order[-1]))


# ---- one step of time ----------------------------------------------------------------------------


def _panel(back: _Back, step: Expr) -> tuple[Stmt, ...]:
    """dr of a step."""
    work, scan = back.work, back.work.scan
    row, k = axis("row", scan.rows), axis("k", scan.depth)
    value = load(back.gates[1], F32, *scan.at(step, work.row0 + row, k))
    return panel(work, value, row, k)


def _block(back: _Back, dr: Left) -> tuple[Stmt, ...]:
    """What one block of hidden units gets from the step before, and what it gives."""
    work = back.work
    code: tuple[Stmt, ...] = products(work, dr)
    if work.first.op == "const":
        code = () if work.first.value else code
    else:
        code = (If(apply("not", work.first), code),)
    return (*code, *over_units(work, lambda row, unit: _cell(back, row, unit)))


def _cell(back: _Back, row: Expr, unit: Expr) -> tuple[Stmt, ...]:
    """Gradients of the gates of one hidden unit (of a vector of them) of one image."""
    work, scan, cell, o = back.work, back.work.scan, back.work.scan.cell, back.operands
    image, hidden = work.row0 + row, work.block * scan.block + unit
    start, own = (const(0), image, hidden), scan.at(work.now, image, hidden)
    kept = [
        work.element(o.kept[0], *scan.at(work.now, image, hidden + k * scan.hidden))
        for k in range(cell.kept)
    ]
    earlier = scan.at(work.after, image, hidden)
    before = [
        where(back.last, work.element(i, *start), work.element(s, *earlier))
        for s, i in zip(o.states, o.initial)
    ]
    after = [work.element(s, *own) for s in o.states]
    changes = []
    for number, given in enumerate(o.changes):
        carried = _carried(back, number, row, unit)
        value = where(work.first, const(0.0), carried)
        changes.append(work.element(given, *own) + value if given else value)
    names = [f"change_{k}" for k in range(cell.states)]
    constant = [is_constant(c) for c in changes]
    stmts: list[Stmt] = [
        Let(n, work.builder.final(c)) for n, c, same in zip(names, changes, constant) if not same
    ]
    dy = [c if same else local_value(n, F32, True) for n, c, same in zip(names, changes, constant)]
    change = cell.back(apply, kept, before, after, dy)
    stores: list[Stmt] = []

    def put(name: str, result: str, index: tuple[Expr, ...], value: Expr) -> None:
        if is_constant(value):
            stores.append(work.store(result, index, value))
            return
        stmts.append(Let(name, work.builder.final(value)))
        stores.append(work.store(result, index, local_value(name, F32, True)))

    for side, result, values in zip("xr", back.gates, (change.x, change.r)[: 1 + cell.apart]):
        for gate, value in enumerate(values):
            index = scan.at(work.now, image, hidden + gate * scan.hidden)
            put(f"{side}_{gate}", result, index, value)
    for number, (result, value) in enumerate(zip(back.carried, change.states)):
        if value is not None:
            put(f"state_{number}", result, start, value)
    return (*stmts, *stores)


def _carried(back: _Back, number: int, row: Expr, unit: Expr) -> Expr:
    """What a state gets from the step before: h through the gates, and maybe directly."""
    work, scan, cell = back.work, back.work.scan, back.work.scan.cell
    place = (const(0), work.row0 + row, work.block * scan.block + unit)
    direct = load(back.carried[number], F32, *place)
    if number:
        return direct
    product = load("@tile", F32, row * scan.columns + unit)
    return product + direct if cell.direct else product


def _first_state(back: _Back, dr: Left) -> tuple[Stmt, ...]:
    """The gradient of h before the first step, of one block of hidden units."""
    work = back.work

    def state(row: Expr, unit: Expr) -> tuple[Stmt, ...]:
        index = (const(0), work.row0 + row, work.block * work.scan.block + unit)
        value = work.builder.final(_carried(back, 0, row, unit))
        return (work.store(back.carried[0], index, value),)

    return (*products(work, dr), *over_units(work, state))
