"""What kernels of scans share, forward (recurrent.py) and back (recurrent_gradient.py).

A step of time is, for a few images and a block of hidden units: a product of what the step before
left with W_hh by the register-tiled micro-kernel, then the cell's element-wise part while the
products are in the L1 cache. The left operand is read where the step before stored it, or from a
panel, where all blocks of a unit share one or it has to be computed.

Two forms. `whole`: a unit of work is a block of images, which runs through all steps. `shared`: a
unit is a block of hidden units for all images, and the program has a step for every step of time:
where W_hh is large, threads share it, and few images keep all of them busy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from sol.core.device import CpuDevice
from sol.core.dims import Dim, Size
from sol.core.dtypes import F32
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, apply, axis, const, load, walk
from sol.ir.graph import Graph, Node, types_of
from sol.ir.loop import For, If, Kernel, Stmt, Store, scratch_layout
from sol.kernels.micro import Micro, micro_kernel
from sol.kernels.pack import GatesPacking, Packing
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
CellCode = Callable[[Expr, Expr], tuple[Stmt, ...]]
_MOVING = "+"  # before the name of a value whose buffer is passed from its current step on


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A lowered scan: the calls of kernels one after the other, the weight that must be packed for
    them, if a program packs it, and why in this way."""

    calls: tuple[Lowered, ...]
    packed: tuple[str, str, GatesPacking | Packing] | None
    why: str


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan: its results by number, its packed weight, its sizes, its form, its register tile.

    backwards: whether it comes to the last step first. hidden: units; depth: rows of the weight;
    block: units of one block of its columns, which are `columns`; rows: images of one tile.
    """

    node: Node
    cell: Cell
    results: tuple[str, ...]
    weight: str
    backwards: bool
    time: Size
    images: Size
    hidden: int
    depth: int
    block: int
    columns: int
    lanes: int
    shared: bool
    rows: int

    @property
    def blocks(self) -> int:
        """Blocks of hidden units."""
        return -(-self.hidden // self.block)

    @property
    def pitch(self) -> int:
        """Distance of rows in the panel: rows at multiples of 1 KiB would share L1 sets."""
        return self.depth + (16 if self.depth % 256 == 0 else 0)

    @property
    def axis_of_time(self) -> int:
        """Of sequences."""
        return 1 if self.node["batch_first"] else 0

    def at(self, step: Expr, image: Expr, channel: Expr) -> tuple[Expr, ...]:
        """The index of a sequence."""
        return (image, step, channel) if self.axis_of_time else (step, image, channel)

    def packed(self, graph: Graph) -> tuple[str, str, GatesPacking | Packing] | None:
        """Its weight's buffer, value and packing, if it follows from parameters alone."""
        node = graph[self.weight]
        if node.name not in graph.static:
            return None
        if node.op == "packed_gates":
            return node.name, node.inputs[0], GatesPacking(node["gates"], node["units"])
        return node.name, node.inputs[0], Packing("deconv", 1, (0,), 1, node["block"])

    @property
    def why(self) -> str:
        """For `explain`."""
        tile = f"tile {self.rows}x{self.columns}"
        if self.shared:
            return f"{tile}, threads share the hidden units of each of {self.time} steps of time"
        return f"{tile}, a unit takes {self.rows} images through all steps of time"


def describe(graph: Graph, cluster: Cluster, device: CpuDevice) -> Scan:
    """The scan of a recurrent cluster."""
    node = graph[cluster.root]
    back = node.op == "scan_gradient"
    weight = graph[node.inputs[0 if back else 1]]
    gates = types_of(graph[node.inputs[1 if back else 0]])[0]
    if gates.dtype != F32:
        raise UnsupportedError(node.op, f"it computes in {gates.dtype}", expected="float32")
    cell = CELLS[node["cell"]]
    _, depth, columns = weight.shape
    time, images = gates.shape[:2][:: -1 if node["batch_first"] else 1]
    assert isinstance(depth, int)
    assert isinstance(columns, int)
    numbers = {graph[v]["index"]: v for v in cluster.values}
    names = tuple(numbers[k] for k in range(len(numbers)))
    hidden = depth // cell.gates if back else depth
    block = columns if back else columns // cell.gates
    lanes = device.vector_lanes(4)
    shared = is_shared(time, weight, device)
    vectors = columns // lanes
    fitting = (device.vector_registers - vectors - 1) // vectors
    rows = max(1, fitting if shared else min(fitting, _MOST_ROWS))
    return Scan(
        node, cell, names, weight.name, node["reverse"] != back, time, images, hidden, depth, block,
        columns, lanes, shared, rows,
    )  # fmt: skip


def is_shared(time: Size, weight: Node, device: CpuDevice) -> bool:
    """Whether threads share the hidden units of each step of time: W_hh fills the L2 cache of one
    core, and there are not too many steps.
    """
    blocks, depth, columns = weight.shape
    assert isinstance(blocks, int)
    assert isinstance(depth, int)
    assert isinstance(columns, int)
    few = isinstance(time, int) and time <= _MOST_STEPS
    return few and blocks > 1 and blocks * depth * columns * F32.bytes >= device.l2


@dataclass(frozen=True, slots=True)
class Left:
    """Where the left operand of a product lies: a buffer, and the index of (row, k) in it."""

    buffer: str
    at: Callable[[Expr | int, Expr], Expr]


@dataclass(frozen=True, slots=True)
class Work:
    """What all parts of one kernel use.

    moving: values whose buffers are passed from the current step of time on. now: that step; first:
    whether the kernel comes to no step before it. row0, present: the images at hand. block: the
    block of hidden units at hand.
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

    @staticmethod
    def of(
        plan: Plan, scan: Scan, widths: tuple[int, ...], now: Expr, first: Expr, row0: Expr,
        block: Expr, moving: Collection[str] = (),
    ) -> Work:  # fmt: skip
        """Work on buffers of a plan."""
        memory = Memory(plan)

        def flat(x: Expr) -> Expr:
            if x.value not in moving:
                return memory.flat(x)
            place = plan.places[x.value]
            return load(memory.buffers.read(_MOVING + x.value, F32), F32, place.flat(x.args))

        builder = NestBuilder(Access(flat, memory.safe, memory.alike), widths)
        inline = Inliner(plan.graph, plan.stored)
        return Work(
            scan, memory, builder, inline, frozenset(moving), now, first, row0, block
        )  # fmt: skip

    @property
    def before(self) -> Expr:
        """The step to which the kernel came before."""
        return self.now + 1 if self.scan.backwards else self.now - 1

    @property
    def after(self) -> Expr:
        """The step to which it comes next."""
        return self.now - 1 if self.scan.backwards else self.now + 1

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

    def in_place(self, name: str, step: Expr) -> Left:
        """A value of a step of time that is a result of this scan."""
        place = self.memory.plan.places[name]
        moved = _MOVING + name if name in self.moving else place.buffer
        buffer = self.memory.buffers.read(moved, F32)
        return Left(buffer, lambda p, k: place.flat(self.scan.at(step, self.row0 + p, k)))

    def in_panel(self) -> Left:
        """What `panel` packed."""
        return Left("panel", lambda p, k: k + p * self.scan.pitch)

    def lowered(
        self, body: tuple[Stmt, ...], units: Size, grain: int, panel: bool = True
    ) -> Lowered:
        """The kernel with this body. panel: whether it packs one."""
        scan = self.scan
        sizes = [("tile", F32, scan.rows * scan.columns)]
        if panel:
            sizes.insert(0, ("panel", F32, scan.rows * scan.pitch))
        arrays, scratch = scratch_layout(sizes)
        buffers = self.memory.buffers
        kernel = Kernel(buffers.arguments(), UNIT, units, (*arrays, *body), scratch, grain)
        return Lowered(kernel, tuple(buffers.names))


# ---- the two forms -------------------------------------------------------------------------------


def of_images(work: Work, body: tuple[Stmt, ...]) -> Lowered:
    """The kernel whose units take a block of images, from `work.row0` on, through a body."""
    units, _, guard = image_blocks(work.scan)
    body = body if guard is const(True) else (If(guard, body),)
    return work.lowered(body, units, work.scan.rows if isinstance(units, Dim) else 1)


def image_blocks(scan: Scan) -> tuple[Size, Expr, Expr]:
    """Units, the first image of one, and whether it has any.

    The number of blocks is not linear in the batch, so each image counts as a unit, and the first
    of a block stands for all of it.
    """
    if isinstance(scan.images, Dim):
        return scan.images, UNIT, apply("eq", UNIT % scan.rows, 0)
    units = -(-scan.images // scan.rows)
    return units, const(0) if units == 1 else UNIT * scan.rows, const(True)


def of_units(work: Work, step: tuple[Stmt, ...], panel: bool) -> Lowered:
    """The kernel whose units take a block of hidden units, for all images, through a step."""
    scan = work.scan
    body = (For(work.row0, const(0), size_expr(scan.images), step, step=scan.rows),)
    return work.lowered(body, scan.blocks, 1, panel)


def from_step(plan: Plan, scan: Scan, lowered: Lowered, step: int) -> Lowered:
    """The call of a kernel whose moving buffers begin at a step of time."""
    names, shifts = [], []
    for name in lowered.buffers:
        moving = name.startswith(_MOVING)
        place = plan.places[name.removeprefix(_MOVING)] if moving else None
        names.append(place.buffer if place else name)
        shifts.append(place.strides[scan.axis_of_time] * (step * F32.bytes) if place else 0)
    return Lowered(lowered.kernel, tuple(names), tuple(shifts))


def is_constant(x: Expr) -> bool:
    """Whether an expression reads nothing, so that it is one number for all images and units."""
    return not any(e.op in ("load", "axis", "local") for e in walk(x))


# ---- one step of time ----------------------------------------------------------------------------


def panel(work: Work, value: Expr, row: Expr, k: Expr) -> tuple[Stmt, ...]:
    """The left operand of a product, `value` at (row, k), row after row."""
    code = nest(work.builder, (k,), (Output("panel", row * work.scan.pitch + k, value),))
    return (For(row, const(0), work.present, code),)


def products(work: Work, left: Left) -> tuple[Stmt, ...]:
    """tile[row, column] = left W_hh; a micro-kernel for each number of rows that may be left."""
    scan = work.scan
    place = work.memory.plan.places[scan.weight]
    weight = work.memory.buffers.read(place.buffer, F32)
    stmts: tuple[Stmt, ...] = ()
    for rows in _row_counts(scan):
        micro = Micro(
            rows,
            scan.columns // scan.lanes,
            scan.lanes,
            left.buffer,
            weight,
            left.at,
            lambda k, j, lane: place.flat((work.block, k, lane + j * scan.lanes)),
        )
        code = micro_kernel(micro, scan.depth, partial(_tile_index, scan), "tile")
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


def over_units(work: Work, body: CellCode) -> tuple[Stmt, ...]:
    """body(row, unit) for the rows and units of the block, lanes along units."""
    whole, rest = divmod(work.scan.hidden, work.scan.block)
    full, part = _cells(work, body, work.scan.block), _cells(work, body, rest)
    if rest and whole:
        return (If(work.block < whole, full, part),)
    return part if rest else full


def _cells(work: Work, body: CellCode, units: int) -> tuple[Stmt, ...]:
    if not units:
        return ()
    row, unit = axis("row", work.scan.rows), axis("hidden", units)
    code = tuple(
        For(unit, begin, end, body(row, unit), width)
        for begin, end, width in lane_pieces(units, work.builder.widths)
    )
    return (For(row, const(0), work.present, code),)
