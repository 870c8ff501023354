"""Scans (plan/scan.py): one recurrent layer in one direction, step of time after step of time.

A step is, for a few images and a block of hidden units: h W_hh of all gates by the register-tiled
micro-kernel, then the cell's element-wise part while the products are in the L1 cache. h of the
step before is packed into a panel; other states stay where the last of them is wanted.

Two forms. `whole`: a unit of work is a block of images, which runs through all steps. `shared`: a
unit is a block of hidden units for all images, and the program has a step for every step of time:
where W_hh is large, threads share it, and few images keep all of them busy.
In: the plan and a recurrent cluster. Out: kernels with their buffers, in the order of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sol.core.device import CpuDevice
from sol.core.dims import Dim, Size
from sol.core.dtypes import F32
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, apply, axis, const, load, local_value, substitute, where
from sol.ir.graph import Graph, Node
from sol.ir.loop import For, If, Kernel, Let, Stmt, Store, scratch_layout
from sol.kernels.micro import Micro, micro_kernel
from sol.lower.cluster import Lowered, Memory
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import lane_pieces, size_expr
from sol.lower.units import UNIT
from sol.lower.vector import Access
from sol.ops.cells import CELLS, Cell
from sol.plan.inline import Inliner
from sol.plan.records import Cluster, Plan

_MOST_ROWS = 4  # of a block that runs through all steps: few, so that batches fall into even shares
_MOST_STEPS = 1024  # of the program, for one scan
_MOVING = "+"  # before the name of a value whose buffer is passed from its current step on


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A lowered scan: the calls of kernels one after the other, and why in this way."""

    calls: tuple[Lowered, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan: its results by name, its sizes, its form and its register tile.

    hidden: units; block: units of one block of the packed weight; rows: images of one tile.
    """

    node: Node
    cell: Cell
    results: tuple[str, ...]
    time: Size
    images: Size
    hidden: int
    block: int
    lanes: int
    shared: bool
    rows: int

    @property
    def gates(self) -> str:
        """The input's share of the gates, of all steps."""
        return self.node.inputs[0]

    @property
    def weight(self) -> str:
        """The packed W_hh."""
        return self.node.inputs[1]

    @property
    def states(self) -> tuple[str, ...]:
        """States before the first step."""
        return self.node.inputs[2 : 2 + self.cell.states]

    @property
    def bias(self) -> str:
        """The bias of the recurrent product; "" if there is none."""
        return "".join(self.node.inputs[2 + self.cell.states :])

    @property
    def blocks(self) -> int:
        """Blocks of hidden units."""
        return -(-self.hidden // self.block)

    @property
    def columns(self) -> int:
        """Columns of one block: all gates of its units."""
        return self.cell.gates * self.block

    @property
    def pitch(self) -> int:
        """Distance of rows in the panel: rows at multiples of 1 KiB would share L1 sets."""
        return self.hidden + (16 if self.hidden % 256 == 0 else 0)

    def at(self, step: Expr, image: Expr, channel: Expr) -> tuple[Expr, ...]:
        """The index of a sequence."""
        batch_first = self.node["batch_first"]
        return (image, step, channel) if batch_first else (step, image, channel)


def describe(graph: Graph, cluster: Cluster, device: CpuDevice) -> Scan:
    """The scan of a recurrent cluster."""
    node = graph[cluster.root]
    gates, weight = graph[node.inputs[0]], graph[node.inputs[1]]
    if gates.dtype != F32:
        raise UnsupportedError(node.op, f"it computes in {gates.dtype}", expected="float32")
    cell = CELLS[node["cell"]]
    _, hidden, columns = weight.shape
    time, images = gates.shape[:2][:: -1 if node["batch_first"] else 1]
    assert isinstance(hidden, int)
    assert isinstance(columns, int)
    results = {graph[v]["index"]: v for v in cluster.values}
    names = tuple(results[k] for k in range(cell.states))
    lanes = device.vector_lanes(4)
    shared = is_shared(time, weight, device)
    vectors = columns // lanes
    fitting = (device.vector_registers - vectors - 1) // vectors
    rows = max(1, fitting if shared else min(fitting, _MOST_ROWS))
    return Scan(
        node, cell, names, time, images, hidden, columns // cell.gates, lanes, shared, rows
    )  # fmt: skip


def is_shared(time: Size, weight: Node, device: CpuDevice) -> bool:
    """Whether threads share the hidden units of each step of time: W_hh fills the L2 cache of one
    core, and there are not too many steps.
    """
    blocks, hidden, columns = weight.shape
    assert isinstance(blocks, int)
    assert isinstance(hidden, int)
    assert isinstance(columns, int)
    few = isinstance(time, int) and time <= _MOST_STEPS
    return few and blocks > 1 and blocks * hidden * columns * F32.bytes >= device.l2


def lower_scan(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> Recurrence:
    """The kernels of a recurrent cluster: one, or one for each step of time."""
    scan = describe(plan.graph, cluster, device)
    tile = f"tile {scan.rows}x{scan.columns}"
    if scan.shared:
        why = f"{tile}, threads share the hidden units of each of {scan.time} steps of time"
        return Recurrence(_shared(plan, scan, widths), why)
    why = f"{tile}, a unit takes {scan.rows} images through all steps of time"
    return Recurrence((_whole(plan, scan, widths),), why)


# ---- the two forms -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """What all parts of one kernel use.

    moving: values whose buffers are passed from the current step of time on. now, before: that step
    and the one before it; first: whether there is none before. row0, present: the images at hand.
    block: the block of hidden units at hand.
    """

    scan: Scan
    memory: Memory
    builder: NestBuilder
    inline: Inliner
    moving: frozenset[str]
    now: Expr
    first: Expr
    row0: Expr
    block: Expr

    @property
    def before(self) -> Expr:
        """The step before."""
        return self.now + 1 if self.scan.node["reverse"] else self.now - 1

    @property
    def present(self) -> Expr:
        """Images at hand."""
        return apply("min", const(self.scan.rows), size_expr(self.scan.images) - self.row0)

    def element(self, name: str, *index: Expr) -> Expr:
        """An element of an operand, over what lies in memory."""
        return self.inline.element(name, index)

    def store(self, name: str, index: tuple[Expr, ...], value: Expr) -> Stmt:
        """The store of an element of a result."""
        place = self.memory.plan.places[name]
        buffer = _MOVING + name if name in self.moving else place.buffer
        return Store(self.memory.buffers.write(buffer, F32), place.flat(index), value)


def _whole(plan: Plan, scan: Scan, widths: tuple[int, ...]) -> Lowered:
    """All steps of time of a block of images."""
    time, block = axis("time", scan.time), axis("block", scan.blocks)
    now = size_expr(scan.time) - 1 - time if scan.node["reverse"] else time
    units, row0, guard = _image_blocks(scan)
    work = _work(plan, scan, widths, now, apply("eq", time, 0), row0, block, frozenset())
    step = (*_panel(work), For(block, const(0), const(scan.blocks), _block(work)))
    loop = For(time, const(0), size_expr(scan.time), step)
    body = (loop,) if guard is const(True) else (If(guard, (loop,)),)
    return _lowered(work, body, units, scan.rows if isinstance(units, Dim) else 1)


def _image_blocks(scan: Scan) -> tuple[Size, Expr, Expr]:
    """Units, the first image of one, and whether it has any.

    The number of blocks is not linear in the batch, so each image counts as a unit, and the first
    of a block stands for all of it.
    """
    if isinstance(scan.images, Dim):
        return scan.images, UNIT, apply("eq", UNIT % scan.rows, 0)
    units = -(-scan.images // scan.rows)
    return units, const(0) if units == 1 else UNIT * scan.rows, const(True)


def _shared(plan: Plan, scan: Scan, widths: tuple[int, ...]) -> tuple[Lowered, ...]:
    """A kernel for the first step of time and one for all others, and where their buffers begin."""
    steps, reverse = scan.time, scan.node["reverse"]
    assert isinstance(steps, int)
    moving = frozenset((scan.gates, scan.results[0]))
    row0 = axis("row0", scan.images)
    kernels = []
    for first in (True, False)[: min(steps, 2)]:
        # buffers begin at the current step, or at the one before it if that lies in front of it
        now = const(0 if first or reverse else 1)
        work = _work(plan, scan, widths, now, const(first), row0, UNIT, moving)
        step = (*_panel(work), *_block(work))
        body = (For(row0, const(0), size_expr(scan.images), step, step=scan.rows),)
        kernels.append(_lowered(work, body, scan.blocks, 1))
    begins = [steps - 1 - t if reverse else max(t - 1, 0) for t in range(steps)]
    return tuple(_from(plan, scan, kernels[min(t, 1)], k) for t, k in enumerate(begins))


def _from(plan: Plan, scan: Scan, lowered: Lowered, step: int) -> Lowered:
    """The call of a kernel whose moving buffers begin at a step of time."""
    names, shifts = [], []
    for name in lowered.buffers:
        moving = name.startswith(_MOVING)
        place = plan.places[name.removeprefix(_MOVING)] if moving else None
        names.append(place.buffer if place else name)
        axis_of_time = 1 if scan.node["batch_first"] else 0
        shifts.append(place.strides[axis_of_time] * (step * F32.bytes) if place else 0)
    return Lowered(lowered.kernel, tuple(names), tuple(shifts))


def _work(
    plan: Plan,
    scan: Scan,
    widths: tuple[int, ...],
    now: Expr,
    first: Expr,
    row0: Expr,
    block: Expr,
    moving: frozenset[str],
) -> _Work:
    memory = Memory(plan)

    def flat(x: Expr) -> Expr:
        if x.value not in moving:
            return memory.flat(x)
        place = plan.places[x.value]
        return load(memory.buffers.read(_MOVING + x.value, F32), F32, place.flat(x.args))

    builder = NestBuilder(Access(flat, memory.safe, memory.alike), widths)
    inline = Inliner(plan.graph, plan.stored)
    return _Work(scan, memory, builder, inline, moving, now, first, row0, block)


def _lowered(work: _Work, body: tuple[Stmt, ...], units: Size, grain: int) -> Lowered:
    scan = work.scan
    sizes = [("panel", F32, scan.rows * scan.pitch), ("tile", F32, scan.rows * scan.columns)]
    arrays, scratch = scratch_layout(sizes)
    buffers = work.memory.buffers
    kernel = Kernel(buffers.arguments(), UNIT, units, (*arrays, *body), scratch, grain)
    return Lowered(kernel, tuple(buffers.names))


# ---- one step of time ----------------------------------------------------------------------------


def _panel(work: _Work) -> tuple[Stmt, ...]:
    """h of the step before, row after row."""
    scan = work.scan
    row, k = axis("row", scan.rows), axis("k", scan.hidden)
    image = work.row0 + row
    begin = work.element(scan.states[0], const(0), image, k)
    before = load(scan.results[0], F32, *scan.at(work.before, image, k))
    value = where(work.first, begin, before)
    code = nest(work.builder, (k,), (Output("panel", row * scan.pitch + k, value),))
    return (For(row, const(0), work.present, code),)


def _block(work: _Work) -> tuple[Stmt, ...]:
    """All gates of one block of hidden units, and their new states."""
    whole, rest = divmod(work.scan.hidden, work.scan.block)
    full, part = _cells(work, work.scan.block), _cells(work, rest)
    if rest and whole:
        return (*_products(work), If(work.block < whole, full, part))
    return (*_products(work), *(part if rest else full))


def _products(work: _Work) -> tuple[Stmt, ...]:
    """tile[row, gate, unit] = h W_hh; a micro-kernel for each number of rows that may be left."""
    scan = work.scan
    place = work.memory.plan.places[scan.weight]
    weight = work.memory.buffers.read(place.buffer, F32)
    stmts: tuple[Stmt, ...] = ()
    for rows in _row_counts(scan):
        micro = Micro(
            rows,
            scan.columns // scan.lanes,
            scan.lanes,
            "panel",
            weight,
            lambda p, k: const(p * scan.pitch) + k,
            lambda k, j, lane: place.flat((work.block, k, lane + j * scan.lanes)),
        )
        code = micro_kernel(micro, scan.hidden, partial(_tile_index, scan), "tile")
        stmts = (If(apply("eq", work.present, rows), code, stmts),) if stmts else code
    return stmts


def _tile_index(scan: Scan, row: int, vector: int, lane: Expr) -> Expr:
    return const(row * scan.columns + vector * scan.lanes) + lane


def _row_counts(scan: Scan) -> list[int]:
    """The numbers of images that a block may have."""
    if isinstance(scan.images, Dim):
        return list(range(1, scan.rows + 1))
    rest = scan.images % scan.rows
    return [*([rest] if rest else []), *([scan.rows] if scan.images >= scan.rows else [])]


def _cells(work: _Work, units: int) -> tuple[Stmt, ...]:
    """The cell's element-wise part for the first `units` units of the block."""
    if not units:
        return ()
    row, unit = axis("row", work.scan.rows), axis("hidden", units)
    code = tuple(
        For(unit, begin, end, _cell(work, row, unit), width)
        for begin, end, width in lane_pieces(units, work.builder.widths)
    )
    return (For(row, const(0), work.present, code),)


def _cell(work: _Work, row: Expr, unit: Expr) -> tuple[Stmt, ...]:
    """New states of one hidden unit (of a vector of them) of one image."""
    scan, cell = work.scan, work.scan.cell
    image, hidden = work.row0 + row, work.block * scan.block + unit
    x, r = [], []
    for gate in range(cell.gates):
        channel = hidden + gate * scan.hidden
        x.append(work.element(scan.gates, *scan.at(work.now, image, channel)))
        product = load("@tile", F32, row * scan.columns + unit + gate * scan.block)
        r.append(product + work.element(scan.bias, channel) if scan.bias else product)
    states = [load("@panel", F32, row * scan.pitch + hidden)]
    for initial, result in zip(scan.states[1:], scan.results[1:]):
        place = (const(0), image, hidden)
        states.append(where(work.first, work.element(initial, *place), load(result, F32, *place)))
    values = cell.step(apply, x, r, states)
    places = [scan.at(work.now, image, hidden), *[(const(0), image, hidden)] * (cell.states - 1)]
    return _stores(work, values, places)


def _stores(
    work: _Work, values: Sequence[Expr], places: Sequence[tuple[Expr, ...]]
) -> tuple[Stmt, ...]:
    """All new states are computed before one is stored; h, the first, from the others."""
    stmts: list[Stmt] = []
    known: dict[Expr, Expr] = {}
    for number, value in reversed(list(enumerate(values))):
        name = f"state_{number}"
        stmts.append(Let(name, work.builder.final(substitute(value, known))))
        known[value] = local_value(name, F32, True)
    for value, name, place in zip(values, work.scan.results, places):
        stmts.append(work.store(name, place, known[value]))
    return tuple(stmts)
