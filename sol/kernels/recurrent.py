"""Scans (plan/scan.py): one recurrent layer in one direction, step of time after step of time.

A step is, for a few images and a block of hidden units: h W_hh of all gates, then the cell's
element-wise part (scan.py). h of the step before is read where it lies, or packed into a panel for
all blocks of a unit; other states stay where the last of them is wanted, or, in training, where
those of all steps are kept, as is what the cell keeps for the way back.
In: the plan and a recurrent cluster. Out: kernels with their buffers, in the order of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.device import CpuDevice
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, local_value, substitute, where
from sol.ir.loop import For, Let, Stmt
from sol.kernels.recurrent_gradient import lower_scan_gradient
from sol.kernels.scan import (
    Left,
    Recurrence,
    Scan,
    Work,
    describe,
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
from sol.plan.records import Cluster, Plan


def lower_scan(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> Recurrence:
    """The kernels of a recurrent cluster: one, or one for each step of time."""
    scan = describe(plan.graph, cluster, device)
    if scan.node.op == "scan_gradient":
        calls = lower_scan_gradient(plan, scan, widths)
    else:
        calls = _shared(plan, scan, widths) if scan.shared else (_whole(plan, scan, widths),)
    return Recurrence(calls, scan.packed(plan.graph), scan.why)


def _gates(scan: Scan) -> str:
    """The input's share of the gates, of all steps."""
    return scan.node.inputs[0]


def _initial(scan: Scan) -> tuple[str, ...]:
    """States before the first step."""
    return scan.node.inputs[2 : 2 + scan.cell.states]


def _bias(scan: Scan) -> str:
    """The bias of the recurrent product; "" if there is none."""
    return "".join(scan.node.inputs[2 + scan.cell.states :])


# ---- the two forms -------------------------------------------------------------------------------


def _whole(plan: Plan, scan: Scan, widths: tuple[int, ...]) -> Lowered:
    """All steps of time of a block of images."""
    time, block = axis("time", scan.time), axis("block", scan.blocks)
    now = size_expr(scan.time) - 1 - time if scan.backwards else time
    _, row0, _ = image_blocks(scan)
    work = Work.of(plan, scan, widths, now, apply("eq", time, 0), row0, block)
    code = _block(work, work.in_panel())
    step = (*_panel(work), For(block, const(0), const(scan.blocks), code))
    return of_images(work, (For(time, const(0), size_expr(scan.time), step),))


def _shared(plan: Plan, scan: Scan, widths: tuple[int, ...]) -> tuple[Lowered, ...]:
    """A kernel for the first step of time and one for all others, and where their buffers begin."""
    steps, reverse = scan.time, scan.backwards
    assert isinstance(steps, int)
    moving = (_gates(scan), *(scan.results if scan.node["keep"] else scan.results[:1]))
    row0 = axis("row0", scan.images)
    kernels = []
    for first in (True, False)[: min(steps, 2)]:
        # buffers begin at the current step, or at the one before it if that lies in front of it
        now = const(0 if first or reverse else 1)
        work = Work.of(plan, scan, widths, now, const(first), row0, UNIT, moving)
        if first:
            step = (*_panel(work), *_block(work, work.in_panel()))
        else:
            step = _block(work, work.in_place(scan.results[0], work.before))
        kernels.append(of_units(work, step, panel=first))
    begins = [steps - 1 - t if reverse else max(t - 1, 0) for t in range(steps)]
    return tuple(from_step(plan, scan, kernels[min(t, 1)], k) for t, k in enumerate(begins))


# ---- one step of time ----------------------------------------------------------------------------


def _panel(work: Work) -> tuple[Stmt, ...]:
    """h of the step before."""
    scan = work.scan
    row, k = axis("row", scan.rows), axis("k", scan.hidden)
    image = work.row0 + row
    begin = work.element(_initial(scan)[0], const(0), image, k)
    before = load(scan.results[0], F32, *scan.at(work.before, image, k))
    return panel(work, where(work.first, begin, before), row, k)


def _block(work: Work, h: Left) -> tuple[Stmt, ...]:
    """All gates of one block of hidden units, and their new states, from h of the step before."""
    return (*products(work, h), *over_units(work, lambda row, unit: _cell(work, h, row, unit)))


def _cell(work: Work, h: Left, row: Expr, unit: Expr) -> tuple[Stmt, ...]:
    """New states of one hidden unit (of a vector of them) of one image."""
    scan, cell = work.scan, work.scan.cell
    image, hidden = work.row0 + row, work.block * scan.block + unit
    bias = _bias(scan)
    x, r = [], []
    for gate in range(cell.gates):
        channel = hidden + gate * scan.hidden
        x.append(work.element(_gates(scan), *scan.at(work.now, image, channel)))
        product = load("@tile", F32, row * scan.columns + unit + gate * scan.block)
        r.append(product + work.element(bias, channel) if bias else product)
    keep = scan.node["keep"]
    states = [load("@" + h.buffer, F32, h.at(row, hidden))]
    others = zip(_initial(scan)[1:], scan.results[1 : cell.states])
    for initial, result in others:
        begin = (const(0), image, hidden)
        before = scan.at(work.before, image, hidden) if keep else begin
        first = work.element(initial, *begin)
        states.append(where(work.first, first, load(result, F32, *before)))
    own = scan.at(work.now, image, hidden)
    if not keep:
        values = cell.step(apply, x, r, states)
        rest = [(const(0), image, hidden)] * (cell.states - 1)
        return _stores(work, values, [*zip(scan.results, [own, *rest])])
    values, kept = cell.keep(apply, x, r, states)
    places = [(result, own) for result in scan.results[: cell.states]]
    for number in range(cell.kept):
        at = scan.at(work.now, image, hidden + number * scan.hidden)
        places.append((scan.results[-1], at))
    return _stores(work, (*values, *kept), places)


def _stores(
    work: Work, values: Sequence[Expr], places: Sequence[tuple[str, tuple[Expr, ...]]]
) -> tuple[Stmt, ...]:
    """All new values are computed before one is stored, the first, h, from the others."""
    stmts: list[Stmt] = []
    known: dict[Expr, Expr] = {}
    for number, value in reversed(list(enumerate(values))):
        if is_constant(value):
            continue
        name = f"state_{number}"
        stmts.append(Let(name, work.builder.final(substitute(value, known))))
        known[value] = local_value(name, F32, True)
    for value, (name, place) in zip(values, places):
        stmts.append(work.store(name, place, known.get(value, value)))
    return tuple(stmts)
