"""Contractions as kernels: panels of A, register tiles, and the epilogue of the cluster.

A unit of work is (image, group, share of columns, panel of rows). A is read in place where its rows
lie at a constant distance, else a panel is packed into scratch memory, where padding, strides,
dilation, any layout and element-wise prologues are taken care of. Each tile goes through the
epilogue as soon as it is finished: in registers if that takes a few operations, else while it is
in the L1 cache. First layers of networks read A from padded lines of the map (lines.py). Where
taps meet padding, regions of the map with equal taps are products of their own (regions.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sol.core.device import CpuDevice
from sol.core.dtypes import F32, DType
from sol.ir.expr import Expr, apply, axis, const, linear, load, substitute, walk
from sol.ir.expr import local_value as accumulator
from sol.ir.loop import Fetch, For, Stmt, Store, when
from sol.kernels.lines import Lines, choose_lines, find_lines
from sol.kernels.micro import AHEAD, Micro, in_one_go, micro_kernel
from sol.kernels.operands import ACCUMULATED, Product, describe, foreseen
from sol.kernels.pack import Packing
from sol.kernels.regions import Region, find_regions
from sol.kernels.tiles import _LONGEST_K, Tile, choose_tile
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of, fixed_extent
from sol.lower.units import decode
from sol.lower.vector import lane_cost, step
from sol.plan.records import Cluster, Plan

_CONFLICT = 1024  # floats: rows at multiples of 4 KiB share their L1 sets
_IN_PLACE_COLUMNS = 64  # so few columns that conflicts cost less than packing
_FINISHED = accumulator("finished", F32, True)
_SHORT = 160  # sums up to which the time of an epilogue counts
_FEW_OPERATIONS = 6  # of an epilogue on registers: the code of a tile repeats it for each of them
_CHEAP = ("add", "sub", "mul", "neg", "relu", "max", "min")
_LINE = 16  # floats of a line of the cache
_OPERANDS = ("load", "local", "const")


@dataclass(frozen=True, slots=True)
class Contraction:
    """A lowered contraction:

    the kernel, and the weight that must be packed for it (buffer name, value, packing).
    """

    lowered: Lowered
    packed: tuple[str, str, Packing] | None
    tile: Tile
    access: str  # to A


@dataclass
class Shape:
    """Numbers of one contraction that all its parts use."""

    product: Product
    tile: Tile
    total_rows: int
    depth: int  # of one block of k
    blocks: int  # of k
    pitch: int  # of a packed panel
    row0: Expr  # first row of the unit's panel
    vector0: Expr  # first vector of columns of the unit's share
    lines: Lines | None = None  # if A is read from padded lines
    region: Region | None = None  # if it is one of several

    @property
    def cut(self) -> tuple[Expr, ...]:
        """The axes of k that its blocks count."""
        if self.region is not None:
            return self.region.taps
        return self.product.k[:1] if self.blocks > 1 else ()

    def weights_before(self, block: Expr) -> tuple[int, Expr]:
        """How long k is in the weight, and where a block begins in it."""
        if self.region is None:
            return self.depth * self.blocks, block * self.depth
        taps = math.prod(self.region.kernel)
        return self.depth * taps, self.region.place(block) * self.depth


def lower_contraction(
    plan: Plan,
    cluster: Cluster,
    device: CpuDevice,
    widths: tuple[int, ...],
    tile: Tile | None = None,
) -> Contraction:
    """The kernel of a contraction cluster, with this tile or the one that seems best."""
    product = describe(plan, cluster, device.vector_lanes(4))
    memory = Memory(plan)
    builder = NestBuilder(memory.access(), widths)
    rows = volume(product.rows)
    in_place = reads_in_place(memory, product)
    regions = find_regions(plan, cluster, product, device) if not in_place else ()
    lines = find_lines(plan, cluster, product) if not in_place and not regions else None
    if tile is None and lines is not None:
        tile = choose_lines(lines, device)
    at_once = volume(product.k[-1:]) if regions else volume(product.k)
    tile = tile or choose_tile(
        rows, product.columns, at_once, device, packed=not in_place, block=product.w_block
    )
    if lines is not None and tile.lines:
        product = lines.product
    else:
        lines = None
    vectors = -(-product.columns // tile.lanes)
    parts = [Part(r.product, tile, r) for r in regions] or [Part(product, tile)]
    ends = list(itertools.accumulate(p.panels for p in parts))
    share, panel = axis("share", -(-vectors // tile.columns)), axis("panel", ends[-1])
    body: tuple[Stmt, ...] = ()
    shapes: list[Shape] = []
    for part, end in zip(parts, ends):
        begin = end - part.panels
        number = const(0) if regions and part.panels == 1 else panel - begin
        shape = part.shape(number, share * tile.columns, in_place, lines)
        code = _unit(memory, builder, shape, in_place)
        body += when((panel >= begin) & (panel < end), code)
        shapes.append(shape)
    group = [product.group] if product.group is not None else []
    packing = product.packing
    if packing is not None:
        packing = replace(packing, vectors=tile.vectors, lanes=tile.lanes)
    weight = f"{product.weight}/{signature(packing)}" if packing else product.weight
    return Contraction(
        lowered_units(
            memory, [*product.outer, *group, share, panel], _scratch(shapes, in_place), body, weight
        ),
        (weight, product.weight, packing) if packing else None,
        tile,
        _access(in_place, lines, regions),
    )


def _access(in_place: bool, lines: Lines | None, regions: Sequence[Region]) -> str:
    if regions:
        return f"packed, {len(regions)} regions of equal taps"
    return "in place" if in_place else "packed" if lines is None else "in padded lines"


@dataclass(frozen=True)
class Part:
    """All of a contraction, or one of its regions."""

    product: Product
    tile: Tile
    region: Region | None = None

    @property
    def panels(self) -> int:
        """How many panels of rows it has."""
        return -(-volume(self.product.rows) // self.tile.panel)

    def shape(self, number: Expr, vector0: Expr, in_place: bool, lines: Lines | None) -> Shape:
        """Its numbers, for panel `number` of it."""
        product, tile = self.product, self.tile
        rows, depth, blocks = volume(product.rows), volume(product.k), 1
        if self.region is not None:
            blocks = volume(self.region.taps)
            tile = replace(tile, panel=-(-rows // self.panels // tile.rows) * tile.rows)
        elif not in_place and depth > _LONGEST_K and len(product.k) > 1:
            blocks = volume(product.k[:1])
        block = depth // blocks
        pitch = block + (16 if block % 256 == 0 else 0)
        row0 = number * tile.panel
        return Shape(product, tile, rows, block, blocks, pitch, row0, vector0, lines, self.region)


def signature(packing: Packing) -> str:
    """Names the layout of a packed weight."""
    order = "".join(map(str, packing.k_order))
    return f"{packing.kind}{order}x{packing.vectors}x{packing.lanes}g{packing.groups}"


def volume(axes: tuple[Expr, ...]) -> int:
    """Number of elements of axes that do not depend on the batch."""
    return math.prod(map(fixed_extent, axes))


def reads_in_place(memory: Memory, product: Product) -> bool:
    """Whether A is read where it lies."""
    direct = row_pitch(memory, product)
    return direct is not None and (direct % _CONFLICT != 0 or product.columns <= _IN_PLACE_COLUMNS)


def row_pitch(memory: Memory, product: Product) -> int | None:
    """Distance of A's rows in memory, if rows and k are read along constant steps;

    None if A must be packed.
    """
    if product.a.op != "load" or sum(extent_of(a) != 1 for a in product.k) > 1:
        return None
    row = axis("row", volume(product.rows))
    flat = memory.flat(substitute(product.a, decode(row, product.rows))).args[0]
    _, terms = linear(flat)
    if any(
        atom is not row and any(p is row or p.op == "load" for p in walk(atom)) for atom in terms
    ):
        return None
    inner = [a for a in product.k if extent_of(a) != 1]
    if inner and terms.get(inner[0]) != 1:
        return None
    pitch = terms.get(row, 0)
    return pitch if isinstance(pitch, int) and (pitch > 0 or volume(product.rows) == 1) else None


def _scratch(shapes: Sequence[Shape], in_place: bool) -> list[tuple[str, DType, int]]:
    arrays = [("tile", F32, max(_tile_size(s) for s in shapes))]
    first = shapes[0]
    if first.lines is not None:
        arrays.append(("panel", F32, math.prod(first.lines.shape(first.tile.panel))))
    elif not in_place:
        arrays.append(("panel", F32, max(s.tile.panel * s.pitch for s in shapes)))
    return arrays


def _tile_size(shape: Shape) -> int:
    tile = shape.tile
    whole = tile.panel * tile.columns * tile.lanes
    return whole if shape.blocks > 1 else tile.rows * tile.vectors * tile.lanes


def _unit(memory: Memory, builder: NestBuilder, shape: Shape, in_place: bool) -> tuple[Stmt, ...]:
    """Everything for one panel of rows and one share of columns."""
    tile, rows = shape.tile, shape.total_rows
    present = apply("min", const(tile.panel), const(rows) - shape.row0)
    block = axis("kblock", shape.blocks)
    source = weights_name(memory, shape.product)
    body: list[Stmt] = []
    if shape.lines is not None:
        body.extend(shape.lines.copy(builder, tile.panel, shape.row0))
    elif not in_place:
        body.extend(_pack(builder, shape, present, block))
    code = column_blocks(memory, builder, shape, present, block, source, in_place)
    if shape.lines is None or shape.lines.flat:
        body.extend(code)
    else:  # a line at a time: what different columns store lies side by side
        line = shape.lines.line(tile.panel)
        body.append(For(line, const(0), present // shape.lines.length, code))
    return (For(block, const(0), const(shape.blocks), tuple(body)),)


def weights_name(memory: Memory, product: Product) -> str:
    """The kernel's name for the packed W."""
    if product.packing is not None:
        return memory.buffers.read("@weights", F32)
    return memory.buffers.read(memory.plan.places[product.weight].buffer, F32)


def _pack(builder: NestBuilder, shape: Shape, present: Expr, block: Expr) -> tuple[Stmt, ...]:
    """Copy rows of A, with all its index maps and prologues, into the panel."""
    product = shape.product
    row = axis("prow", shape.tile.panel)
    inner = product.k[len(shape.cut) :]
    mapping = decode(shape.row0 + row, product.rows) | decode(block, shape.cut)
    position = row * shape.pitch
    step = shape.depth
    for a in inner:
        step //= volume((a,))
        position = position + a * step
    value = substitute(product.a, mapping)
    code = nest(
        builder,
        tuple(a for a in inner if extent_of(a) != 1),
        (
            Output(
                "panel",
                substitute(position, {a: const(0) for a in inner if extent_of(a) == 1}),
                substitute(value, {a: const(0) for a in inner if extent_of(a) == 1}),
            ),
        ),
    )
    return (For(row, const(0), present, code),)


def column_blocks(
    memory: Memory,
    builder: NestBuilder,
    shape: Shape,
    present: Expr,
    block: Expr,
    source: str,
    in_place: bool,
) -> tuple[Stmt, ...]:
    """Loops over column blocks and row tiles;

    the last, narrower block of columns has code of its own.
    """
    tile, columns = shape.tile, shape.product.columns
    vectors = -(-columns // tile.lanes)
    whole, tail = divmod(vectors, tile.vectors)
    # the last block is full of vectors, but its last vector is not full
    if not tail and columns % tile.lanes:
        whole, tail = whole - 1, tile.vectors
    stmts: list[Stmt] = []
    if whole:
        cblock = axis("cblock", whole)
        first = shape.vector0 // tile.vectors
        last = apply("min", first + tile.columns // tile.vectors, const(whole))
        body = _rows(
            memory,
            builder,
            shape,
            present,
            block,
            source,
            in_place,
            tile.vectors,
            cblock * tile.vectors,
            0,
        )
        stmts.append(For(cblock, first, last, body))
    if tail:
        share = shape.vector0
        here = (share <= const(whole * tile.vectors)) & (
            const(whole * tile.vectors) < share + tile.columns
        )
        body = _rows(
            memory,
            builder,
            shape,
            present,
            block,
            source,
            in_place,
            tail,
            const(whole * tile.vectors),
            columns,
        )
        stmts.extend(when(here, body))
    return tuple(stmts)


def _rows(
    memory: Memory,
    builder: NestBuilder,
    shape: Shape,
    present: Expr,
    block: Expr,
    source: str,
    in_place: bool,
    vectors: int,
    vector: Expr,
    end: int,
) -> tuple[Stmt, ...]:
    """Row tiles of one block of columns:

    whole tiles, then the rest of the last panel. end: number of columns if the block may reach
    beyond them, else 0.
    """
    tile = shape.tile

    def one(rows: int, row: Expr) -> tuple[Stmt, ...]:
        size = (rows, vectors)
        return _tile(memory, builder, shape, block, source, in_place, size, row, vector, end)

    stmts: list[Stmt] = []
    if shape.lines is None or shape.lines.flat:
        turn = axis("step", -(-tile.panel // tile.rows))
        full, rest = present // tile.rows, shape.total_rows % tile.rows
        if shape.total_rows >= tile.rows:
            stmts.append(For(turn, const(0), full, one(tile.rows, turn * tile.rows)))
        if rest:
            stmts.extend(when(present % tile.rows > 0, one(rest, full * tile.rows)))
        return tuple(stmts)
    length = shape.lines.length
    whole, rest = divmod(length, tile.rows)
    turn, first = axis("step", whole), shape.lines.line(tile.panel) * length
    stmts.append(For(turn, const(0), const(whole), one(tile.rows, first + turn * tile.rows)))
    if rest:
        stmts.extend(one(rest, first + whole * tile.rows))
    return tuple(stmts)


def _tile(
    memory: Memory,
    builder: NestBuilder,
    shape: Shape,
    block: Expr,
    source: str,
    in_place: bool,
    size: tuple[int, int],
    row: Expr,
    vector: Expr,
    end: int,
) -> tuple[Stmt, ...]:
    """One register tile and its epilogue.

    row: first row within the panel; vector: first vector of columns.
    """
    tile = shape.tile
    rows, vectors = size
    target = _target(shape, row, vector, vectors)
    a_name, a = _reader_of_a(memory, shape, row, in_place)
    weights = _weight_index(memory, shape, block, vector, vectors)
    loops = shape.lines.loops(tile.panel) if shape.lines is not None else ()
    extents = tuple(extent for extent, _ in loops)
    micro = Micro(rows, vectors, tile.lanes, a_name, source, a, weights, extents, ahead=AHEAD)
    hints = _hints(memory, builder, shape, size, row, vector, end)
    if shape.blocks == 1 and in_one_go(shape.depth):
        return (*hints, *_finished(memory, builder, shape, micro, row, vector, end, target))
    resume = block > 0 if shape.blocks > 1 else None
    code = micro_kernel(micro, shape.depth, target, "tile", resume)
    last = when(
        apply("eq", block, const(shape.blocks - 1)),
        _epilogue(memory, builder, shape, size, row, vector, end, target),
    )
    if shape.blocks > 1:
        hints = when(apply("eq", block, const(shape.blocks - 1)), hints)
    return (*hints, *code, *last)


def _hints(
    memory: Memory,
    builder: NestBuilder,
    shape: Shape,
    size: tuple[int, int],
    row: Expr,
    vector: Expr,
    end: int,
) -> tuple[Stmt, ...]:
    """Fetches what the epilogue of a tile reads for each element, and where it stores that, while
    the tile is computed: short pieces far from each other, which the processor does not foresee.
    """
    width = _width(shape, size[1], end)
    p, lane = axis("erow", size[0]), axis("ecol", width)
    result = _element(memory, shape, row + p, vector * shape.tile.lanes + lane, _FINISHED)
    assert result.index is not None
    value = builder.final(result.value)
    read = [(x.value, x.args[0]) for x in foreseen(value, p) if step(x.args[0], lane) == 1]
    if not read:
        return ()
    return tuple(
        Fetch(buffer, substitute(index, {p: const(n), lane: const(first)}))
        for buffer, index in dict.fromkeys([*read, (result.buffer, result.index)])
        for n in range(size[0])
        for first in range(0, width, _LINE)
    )


def _finished(
    memory: Memory,
    builder: NestBuilder,
    shape: Shape,
    micro: Micro,
    row: Expr,
    vector: Expr,
    end: int,
    target: Callable[[int | Expr, int, Expr], Expr],
) -> tuple[Stmt, ...]:
    """A tile whose sum is added up in one go, and its epilogue.

    A cheap epilogue is applied to accumulators in registers; those of a last vector of columns that
    is not full go through the tile in scratch memory.
    """
    size = (micro.rows, micro.vectors)
    width = _width(shape, micro.vectors, end)
    whole = width // micro.lanes

    place = axis("erow", micro.rows), axis("ecol", micro.vectors * micro.lanes)
    column = vector * micro.lanes + place[1]
    result = _element(memory, shape, row + place[0], column, _FINISHED)
    part = micro.rows < shape.tile.rows or shape.depth > _SHORT
    if not whole or part or not _in_registers(builder, result, place, micro.lanes):
        code = micro_kernel(micro, shape.depth, target, "tile")
        return (*code, *_epilogue(memory, builder, shape, size, row, vector, end, target))

    index, value = result.index, builder.final(result.value)

    def finish(p: int, j: int, lane: Expr, finished: Expr) -> Stmt:
        if j >= whole:
            return Store("tile", target(p, j, lane), finished)
        here = {place[0]: const(p), place[1]: lane + j * micro.lanes, _FINISHED: finished}
        assert index is not None
        return Store(result.buffer, substitute(index, here), substitute(value, here))

    code = micro_kernel(micro, shape.depth, target, "tile", finish=finish)
    if whole == micro.vectors:
        return code
    first = whole * micro.lanes
    return (*code, *_epilogue(memory, builder, shape, size, row, vector, end, target, first))


def _in_registers(
    builder: NestBuilder, result: Output, place: tuple[Expr, Expr], lanes: int
) -> bool:
    """Whether an epilogue is a few operations, on vectors that lie in memory as they are stored.

    place: row and column of the tile.
    """
    p, lane = place[0], axis("lane", lanes)
    result = _moved(result, place[1], lane)
    assert result.index is not None
    if result.value.dtype != F32 or step(result.index, lane) != 1:
        return False
    parts = [x for x in walk(result.value) if x.dtype == F32 and x.op not in _OPERANDS]
    if len(parts) > _FEW_OPERATIONS or not all(map(_is_cheap, parts)):
        return False
    if lane_cost([result.value], lane, builder.access) != 0:
        return False
    indices = [result.index, builder.final(result.value)]
    return not any(x.op in ("floordiv", "mod") and p in walk(x) for i in indices for x in walk(i))


def _is_cheap(x: Expr) -> bool:
    return x.op in _CHEAP or (x.op == "div" and x.args[1].op == "const")


def _width(shape: Shape, vectors: int, end: int) -> int:
    """Columns of a block of so many vectors, which ends at column `end` if that is not 0."""
    lanes = shape.tile.lanes
    return end - (-(-end // lanes) - vectors) * lanes if end else vectors * lanes


def _target(
    shape: Shape, row: Expr, vector: Expr, vectors: int
) -> Callable[[int | Expr, int, Expr], Expr]:
    """Where accumulators of (row of the tile, vector, lane) are kept:

    a tile, or a whole panel when k is cut.
    """
    lanes = shape.tile.lanes
    if shape.blocks == 1:
        return lambda p, j, lane: const(0) + p * const(vectors * lanes) + lane + j * lanes
    width = shape.tile.columns * lanes
    return lambda p, j, lane: (
        (row + p) * width + (vector - shape.vector0) * lanes + j * lanes + lane
    )


def _reader_of_a(
    memory: Memory, shape: Shape, row: Expr, in_place: bool
) -> tuple[str, Callable[[int, Expr], Expr]]:
    product, lines = shape.product, shape.lines
    if lines is not None:
        return "panel", lambda p, k: lines.index(shape.tile.panel, row + p, k)
    if not in_place:
        return "panel", lambda p, k: (row + p) * shape.pitch + k
    inner = [a for a in product.k if extent_of(a) != 1]

    def index(p: int, k: Expr) -> Expr:
        mapping = decode(shape.row0 + row + p, product.rows)
        mapping.update({a: const(0) for a in product.k})
        base = memory.flat(substitute(product.a, mapping)).args[0]
        return base + k if inner else base

    return memory.flat(product.a).value, index


def _weight_index(
    memory: Memory, shape: Shape, block: Expr, vector: Expr, vectors: int
) -> Callable[[Expr, int, Expr], Expr]:
    lanes, product = shape.tile.lanes, shape.product
    if product.packing is None:
        per, place = product.w_block // lanes, memory.plan.places[product.weight]
        return lambda k, j, lane: place.flat(
            (
                *product.w_batch,
                vector // per,
                block * shape.depth + k,
                vector % per * lanes + j * lanes + lane,
            )
        )
    depth, before = shape.weights_before(block)
    all_columns = -(-product.columns // lanes) * lanes
    base = vector * (lanes * depth) + before * (vectors * lanes)
    if product.group is not None:
        base = base + product.group * (depth * all_columns)
    return lambda k, j, lane: base + k * (vectors * lanes) + j * lanes + lane


def _epilogue(
    memory: Memory,
    builder: NestBuilder,
    shape: Shape,
    size: tuple[int, int],
    row: Expr,
    vector: Expr,
    end: int,
    target: Callable[[Expr, int, Expr], Expr],
    first: int = 0,
) -> tuple[Stmt, ...]:
    """The cluster's element-wise operators on one finished tile, from its column `first` on, and
    the store of the result.
    """
    rows, vectors = size
    p, j = axis("erow", rows), axis("ecol", _width(shape, vectors, end) - first)
    finished = load("@tile", F32, target(p, 0, j + first))
    column = vector * shape.tile.lanes + j + first
    output = _element(memory, shape, row + p, column, finished)
    if rows == 1:
        return nest(builder, (j,), (_moved(output, p, const(0)),))
    return nest(builder, (p, j), (output,))


def _element(memory: Memory, shape: Shape, row: Expr, column: Expr, finished: Expr) -> Output:
    """The cluster's result where the product's element is `finished`; row: within the panel."""
    return element(memory, shape.product, shape.row0 + row, column, finished)


def element(memory: Memory, product: Product, row: Expr, column: Expr, finished: Expr) -> Output:
    """The result of a contraction's cluster where the product's element at (row, column) is
    `finished`."""
    at = {**decode(row, product.rows), product.column: column}
    return element_at(memory, product, at, finished)


def element_at(
    memory: Memory, product: Product, mapping: dict[Expr, Expr], finished: Expr
) -> Output:
    """The same, where the axes of rows and columns are what the mapping says."""
    value = substitute(substitute(product.value, mapping), {ACCUMULATED: finished})
    return memory.target(product.end, tuple(substitute(i, mapping) for i in product.index), value)


def _moved(output: Output, a: Expr, position: Expr) -> Output:
    here = {a: position}
    assert output.index is not None
    return Output(output.buffer, substitute(output.index, here), substitute(output.value, here))
