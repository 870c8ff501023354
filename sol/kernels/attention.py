"""Attention as one kernel: scores of a block of queries, softmax, product with v, all in scratch.

    panel[s, l] = sum_e k[s, e] * (scale * q[l, e])      queries l along vectors, keys s as rows
    panel[s, l] = exp(panel[s, l] + mask[s, l] - largest[l])
    out[l, c]   = sum_s panel[s, l] * v[s, c] / sum_s panel[s, l]

A unit of work is one head and a block of queries. Only the block's queries are transposed: k is
read as scalars and v as vectors, in place where they are views of a larger tensor (one linear
layer makes q, k and v), and the reductions of the softmax run along vectors of queries. Keys beyond
one panel follow block by block with running maxima and sums (T. Dao et al., "FlashAttention",
2022), so scratch memory does not grow with their number. Called by compiler.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.core.dims import Dim
from sol.core.dtypes import BOOL, F32, DType
from sol.ir.expr import Expr, apply, axis, const, load, substitute, where
from sol.ir.expr import local_value as local
from sol.ir.loop import For, If, Kernel, Let, Set, Stmt, Store, Var, scratch_layout
from sol.kernels.cut import Cut, cut_attention
from sol.kernels.micro import Micro, micro_kernel
from sol.lower.cluster import Lowered, Memory
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of
from sol.lower.units import UNIT, count, with_units
from sol.lower.vector import step
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Cluster, Plan

_UNITS_PER_CORE = 4
_WORK = 1 << 17  # multiply-adds that a thread should take at once at least


@dataclass(frozen=True, slots=True)
class Attention:
    """A lowered attention: the kernel, its cut, and which operands are copied before use."""

    lowered: Lowered
    cut: Cut
    packed: tuple[str, ...]

    @property
    def why(self) -> str:
        """For `explain`."""
        copied = f", {' and '.join(self.packed)} copied" if self.packed else ""
        return f"{self.cut.width} queries by {self.cut.keys} keys at a time{copied}"


@dataclass(frozen=True)
class _Head:
    """One head: elements of its operands over the axes query, key, depth and column.

    lead: the axes in front, which count heads; index: the result's leading indices.
    """

    lead: tuple[Expr, ...]
    index: tuple[Expr, ...]
    query: Expr
    key: Expr
    depth: Expr
    column: Expr
    q: Expr
    k: Expr
    v: Expr
    masks: tuple[Expr, ...]
    causal: bool
    name: str

    def sizes(self) -> tuple[int, int, int, int]:
        """(queries, keys, depth, columns)"""
        return _length(self.query), _length(self.key), _length(self.depth), _length(self.column)


@dataclass(frozen=True)
class _Kernel:
    """What all parts of one kernel need."""

    memory: Memory
    builder: NestBuilder
    head: _Head
    cut: Cut
    packed: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """Blocks of keys."""
        return -(-self.head.sizes()[1] // self.cut.keys)

    @property
    def pitch(self) -> int:
        """Distance of rows of the scratch copies of v and of the result: whole vectors."""
        return -(-self.head.sizes()[3] // self.cut.lanes) * self.cut.lanes


@dataclass(frozen=True)
class _Block:
    """A block of queries: its first one, how many there are, and in how many vectors."""

    first: Expr
    queries: int
    vectors: int
    width: int

    def at(self, key: Expr, vector: int | Expr, lane: Expr, lanes: int) -> Expr:
        """Where the panel holds a key and a lane of a vector."""
        return key * self.width + vector * const(lanes) + lane


@dataclass(frozen=True)
class _Keys:
    """A block of keys: its number, its first one, and how many there are."""

    number: Expr
    first: Expr
    present: Expr


def _length(axis: Expr) -> int:
    extent = extent_of(axis)
    assert isinstance(extent, int), f"the kernel takes no attention with {axis.value} in it"
    return extent


def lower_attention(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> Attention:
    """The kernel of an attention cluster."""
    head = _describe(plan, cluster)
    queries, keys, depth, columns = head.sizes()
    cut = cut_attention(queries, keys, depth, columns, device)
    memory = Memory(plan)
    packed = _packed(memory, head, cut.lanes)
    kernel = _Kernel(memory, NestBuilder(memory.access(), widths), head, cut, packed)
    blocks = -(-queries // cut.width)
    shares = _shares(head, blocks, device) if packed and kernel.blocks == 1 else blocks
    share = axis("share", shares)
    body = _unit(kernel, share, -(-blocks // shares))
    arrays, scratch = scratch_layout(_scratch(kernel))
    outer = [*head.lead, share]
    statements = (*arrays, *with_units(outer, body))
    grain = max(1, _WORK * shares // (queries * keys * (depth + columns)))
    lowered = Kernel(memory.buffers.arguments(), UNIT, count(outer), statements, scratch, grain)
    return Attention(Lowered(lowered, tuple(memory.buffers.names)), cut, packed)


def _describe(plan: Plan, cluster: Cluster) -> _Head:
    graph = plan.graph
    node = graph[cluster.root]
    q, k, v, *masks = graph.inputs_of(node)
    index = axes_for(node)[:-2]
    query, key = axis("query", q.shape[-2]), axis("key", k.shape[-2])
    depth, column = axis("depth", q.shape[-1]), axis("column", v.shape[-1])
    shared = (*index[:-1], index[-1] // node["groups"]) if index else index
    inline = Inliner(graph, plan.stored)
    counted = sorted(
        (a for a in index if a.op == "axis"), key=lambda a: not isinstance(extent_of(a), Dim)
    )
    return _Head(
        lead=tuple(counted),
        index=index,
        query=query,
        key=key,
        depth=depth,
        column=column,
        q=inline.element(q.name, (*index, query, depth)) * const(float(node["scale"])),
        k=inline.element(k.name, (*shared, key, depth)),
        v=inline.element(v.name, (*shared, key, column)),
        masks=tuple(
            inline.element(m.name, _mask_index(m.shape, (*index, key, query))) for m in masks
        ),
        causal=node["causal"],
        name=node.name,
    )


def _mask_index(shape: Sequence[object], index: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The index of a mask that broadcasts to (…, keys, queries)."""
    tail = index[len(index) - len(shape) :]
    return tuple(const(0) if s == 1 else i for i, s in zip(tail, shape))


def _packed(memory: Memory, head: _Head, lanes: int) -> tuple[str, ...]:
    """Operands that are copied to scratch: those without rows at a constant distance."""
    whole = head.sizes()[3] % lanes == 0
    found = [] if _in_place(memory, head.k, head.key, head.depth) else ["k"]
    if not whole or not _in_place(memory, head.v, head.key, head.column):
        found.append("v")
    return tuple(found)


def _in_place(memory: Memory, element: Expr, row: Expr, inner: Expr) -> bool:
    if element.op != "load":
        return False
    flat = memory.flat(element).args[0]
    return step(flat, row) is not None and (step(flat, inner) == 1 or extent_of(inner) == 1)


def _shares(head: _Head, blocks: int, device: CpuDevice) -> int:
    """Units that a head is cut into, where each of them copies k or v."""
    heads = count(head.lead)
    per_image = heads.coef + heads.const if isinstance(heads, Dim) else heads
    return min(blocks, -(-_UNITS_PER_CORE * device.cores // per_image))


def _scratch(kernel: _Kernel) -> list[tuple[str, DType, int]]:
    _, _, depth, _ = kernel.head.sizes()
    width, keys = kernel.cut.width, kernel.cut.keys
    arrays = [("query", depth * width), ("panel", keys * width), ("out", width * kernel.pitch)]
    arrays.append(("total", width))
    if kernel.blocks > 1:
        arrays.extend([("largest", width), ("decay", width)])
    if "k" in kernel.packed:
        arrays.append(("keys", keys * depth))
    if "v" in kernel.packed:
        arrays.append(("values", keys * kernel.pitch))
    return [(name, F32, size) for name, size in arrays]


# ---- blocks --------------------------------------------------------------------------------------


def _unit(kernel: _Kernel, share: Expr, per_share: int) -> tuple[Stmt, ...]:
    """A share of the blocks of one head; the last block, if it is narrower, has its own code."""
    cut = kernel.cut
    whole, rest = divmod(kernel.head.sizes()[0], cut.width)
    number = axis("block", whole + 1)
    first = share * per_share
    stmts: list[Stmt] = []
    if kernel.blocks == 1:
        everything = _Keys(const(0), const(0), const(cut.keys))
        stmts.extend(_pack(kernel, everything))
    if whole:
        block = _Block(number * cut.width, cut.width, cut.vectors, cut.width)
        end = apply("min", first + per_share, const(whole))
        stmts.append(For(number, first, end, _block(kernel, block)))
    if rest:
        vectors = -(-rest // cut.lanes)
        block = _Block(const(whole * cut.width), rest, vectors, vectors * cut.lanes)
        here = (first <= const(whole)) & (const(whole) < first + per_share)
        stmts.extend(_when(here, _block(kernel, block)))
    return tuple(stmts)


def _when(condition: Expr, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    if condition.op == "const":
        return body if condition.value else ()
    return (If(condition, body),)


def _block(kernel: _Kernel, block: _Block) -> tuple[Stmt, ...]:
    """All of one block of queries."""
    keys = kernel.head.sizes()[1]
    number = axis("key_block", kernel.blocks)
    first = number * kernel.cut.keys
    end = _reached(kernel, block)
    present = apply("min", const(kernel.cut.keys), end - first)
    span = _Keys(number, first, present)
    body = (
        *(_pack(kernel, span) if kernel.blocks > 1 else ()),
        *_scores(kernel, block, span),
        *_softmax(kernel, block, span),
        *(_decay(kernel, block) if kernel.blocks > 1 else ()),
        *_values(kernel, block, span),
    )
    blocks = (end + (kernel.cut.keys - 1)) // kernel.cut.keys if keys > 1 else const(1)
    return (
        *_queries(kernel, block),
        *(_start(kernel, block) if kernel.blocks > 1 else ()),
        For(number, const(0), blocks, body),
        *_finish(kernel, block),
    )


def _reached(kernel: _Kernel, block: _Block) -> Expr:
    """Keys that some query of the block may attend to, in whole tiles."""
    keys = kernel.head.sizes()[1]
    if not kernel.head.causal:
        return const(keys)
    rows = _score_rows(kernel, block)
    return apply("min", const(keys), (block.first + (block.width + rows - 1)) // rows * rows)


def _score_rows(kernel: _Kernel, block: _Block) -> int:
    return kernel.cut.score_rows(kernel.head.sizes()[1], block.vectors)


def _pack(kernel: _Kernel, keys: _Keys) -> tuple[Stmt, ...]:
    """Copies of k and v where they are not read in place."""
    head = kernel.head
    stmts: list[Stmt] = []
    _, _, depth, columns = head.sizes()
    row = axis("row", kernel.cut.keys)
    here = {head.key: keys.first + row}
    if "k" in kernel.packed:
        copy = Output("keys", row * depth + head.depth, substitute(head.k, here))
        stmts.extend(nest(kernel.builder, (head.depth,), (copy,)))
    if "v" in kernel.packed:
        column = axis("wide", kernel.pitch)
        value = substitute(head.v, {**here, head.column: column})
        filled = where(column < columns, value, const(0.0))
        copy = Output("values", row * kernel.pitch + column, filled)
        stmts.extend(nest(kernel.builder, (column,), (copy,)))
    return (For(row, const(0), keys.present, tuple(stmts)),) if stmts else ()


def _queries(kernel: _Kernel, block: _Block) -> tuple[Stmt, ...]:
    """The block's queries, transposed and scaled; lanes without a query are 0."""
    head, lane = kernel.head, axis("place", block.width)
    value = substitute(head.q, {head.query: block.first + lane})
    filled = where(lane < block.queries, value, const(0.0))
    copy = Output("query", head.depth * block.width + lane, filled)
    return nest(kernel.builder, (head.depth, lane), (copy,))


# ---- the two products ----------------------------------------------------------------------------


def _scores(kernel: _Kernel, block: _Block, keys: _Keys) -> tuple[Stmt, ...]:
    """panel = k q^T, in tiles of a few keys by all vectors of the block."""
    rows = _score_rows(kernel, block)
    rest = kernel.head.sizes()[1] % rows
    number = axis("tile", -(-kernel.cut.keys // rows))
    full = keys.present // rows
    tiles = For(number, const(0), full, _score_tile(kernel, block, keys, rows, number * rows))
    if not rest:
        return (tiles,)
    remainder = _score_tile(kernel, block, keys, rest, full * rows)
    return (tiles, *_when(keys.present % rows > 0, remainder))


def _score_tile(
    kernel: _Kernel, block: _Block, keys: _Keys, rows: int, first: Expr
) -> tuple[Stmt, ...]:
    head, lanes = kernel.head, kernel.cut.lanes
    _, _, depth, _ = head.sizes()

    def key_element(p: int, k: Expr) -> Expr:
        if "k" in kernel.packed:
            return (first + p) * depth + k
        where_to = {head.key: keys.first + first + p, head.depth: const(0)}
        return kernel.memory.flat(substitute(head.k, where_to)).args[0] + k

    micro = Micro(
        rows=rows,
        vectors=block.vectors,
        lanes=lanes,
        a_name="keys" if "k" in kernel.packed else kernel.memory.flat(head.k).value,
        w_name="query",
        a=key_element,
        w=lambda k, j, lane: block.at(k, j, lane, lanes),
    )
    return micro_kernel(
        micro, depth, lambda p, j, lane: block.at(first + p, j, lane, lanes), "panel"
    )


def _values(kernel: _Kernel, block: _Block, keys: _Keys) -> tuple[Stmt, ...]:
    """out += panel^T v, in tiles of a few queries by a few vectors of columns."""
    vectors = kernel.pitch // kernel.cut.lanes
    rows, wide = kernel.cut.out_tile(block.queries, vectors)
    stmts: list[Stmt] = []
    for first, columns in ((0, wide), (vectors // wide * wide, vectors % wide)):
        repeats = vectors // wide if first == 0 else 1
        if not columns:
            continue
        number = axis("columns", repeats)
        vector = number * wide + first
        body = _out_tiles(kernel, block, keys, (rows, columns), vector)
        stmts.append(For(number, const(0), const(repeats), body))
    return tuple(stmts)


def _out_tiles(
    kernel: _Kernel, block: _Block, keys: _Keys, size: tuple[int, int], vector: Expr
) -> tuple[Stmt, ...]:
    rows, columns = size
    full, rest = divmod(block.queries, rows)
    number = axis("tile", full)
    stmts: list[Stmt] = []
    if full:
        tile = _out_tile(kernel, block, keys, (rows, columns), number * rows, vector)
        stmts.append(For(number, const(0), const(full), tile))
    if rest:
        stmts.extend(_out_tile(kernel, block, keys, (rest, columns), const(full * rows), vector))
    return tuple(stmts)


def _out_tile(
    kernel: _Kernel, block: _Block, keys: _Keys, size: tuple[int, int], row: Expr, vector: Expr
) -> tuple[Stmt, ...]:
    head, lanes, pitch = kernel.head, kernel.cut.lanes, kernel.pitch

    def value_element(k: Expr, j: int, lane: Expr) -> Expr:
        column = (vector + j) * lanes + lane
        if "v" in kernel.packed:
            return k * pitch + column
        where_to = {head.key: keys.first + k, head.column: column}
        return kernel.memory.flat(substitute(head.v, where_to)).args[0]

    micro = Micro(
        rows=size[0],
        vectors=size[1],
        lanes=lanes,
        a_name="panel",
        w_name="values" if "v" in kernel.packed else kernel.memory.flat(head.v).value,
        a=lambda p, k: k * block.width + row + p,
        w=value_element,
    )
    resume = const(True) if kernel.blocks > 1 else None
    return micro_kernel(
        micro,
        keys.present,
        lambda p, j, lane: (row + p) * pitch + (vector + j) * lanes + lane,
        "out",
        resume,
    )


# ---- softmax -------------------------------------------------------------------------------------


def _softmax(kernel: _Kernel, block: _Block, keys: _Keys) -> tuple[Stmt, ...]:
    """Scores to powers, and their sums: for all vectors of the block side by side."""
    lane = axis("lane", kernel.cut.lanes)
    vectors = range(block.vectors)
    body: list[Stmt] = [Var(f"top_{j}", const(-math.inf), kernel.cut.lanes) for j in vectors]
    body.extend(_largest(kernel, block, keys, lane))
    body.extend(s for j in vectors for s in _base(kernel, block, j, lane))
    body.extend(Var(f"sum_{j}", const(0.0), kernel.cut.lanes) for j in vectors)
    key = axis("s", kernel.cut.keys)
    powers: list[Stmt] = []
    for j in vectors:
        place = block.at(key, j, lane, kernel.cut.lanes)
        score = load("@panel", F32, place)
        power = apply("exp", score - local(f"base_{j}", F32, True))
        powers.append(Let(f"power_{j}", power))
        powers.append(Set(f"sum_{j}", _vector(f"sum_{j}") + _vector(f"power_{j}")))
        powers.append(Store("panel", place, _vector(f"power_{j}")))
    body.append(For(key, const(0), keys.present, tuple(powers)))
    body.extend(_total(kernel, j, lane) for j in vectors)
    return (For(lane, const(0), const(kernel.cut.lanes), tuple(body), kernel.cut.lanes),)


def _vector(name: str) -> Expr:
    return local(name, F32, True)


def _largest(kernel: _Kernel, block: _Block, keys: _Keys, lane: Expr) -> tuple[Stmt, ...]:
    """Masks applied to the panel, and the largest score of each query."""
    key = axis("s", kernel.cut.keys)
    if not kernel.head.causal:
        return (For(key, const(0), keys.present, _pass(kernel, block, keys, key, lane, False)),)
    free = apply("max", const(0), apply("min", keys.present, block.first + 1 - keys.first))
    return (
        For(key, const(0), free, _pass(kernel, block, keys, key, lane, False)),
        For(key, free, keys.present, _pass(kernel, block, keys, key, lane, True)),
    )


def _pass(
    kernel: _Kernel, block: _Block, keys: _Keys, key: Expr, lane: Expr, causal: bool
) -> tuple[Stmt, ...]:
    """One key: masked scores go back to the panel, and into the largest ones.

    A NaN is never the largest; it passes through its power into the sum.
    """
    stmts: list[Stmt] = []
    for j in range(block.vectors):
        place = block.at(key, j, lane, kernel.cut.lanes)
        score = load("@panel", F32, place)
        masked = _masked(kernel, block, keys, score, key, (j, lane), causal)
        stmts.append(Let(f"score_{j}", masked))
        if masked is not score:
            stmts.append(Store("panel", place, _vector(f"score_{j}")))
        larger = _vector(f"score_{j}") > _vector(f"top_{j}")
        stmts.append(Set(f"top_{j}", where(larger, _vector(f"score_{j}"), _vector(f"top_{j}"))))
    return tuple(stmts)


def _masked(
    kernel: _Kernel,
    block: _Block,
    keys: _Keys,
    score: Expr,
    key: Expr,
    position: tuple[int, Expr],
    causal: bool,
) -> Expr:
    head, (j, lane) = kernel.head, position
    query = block.first + (j * kernel.cut.lanes) + lane
    here = {head.key: keys.first + key, head.query: query}
    for mask in head.masks:
        value = kernel.builder.final(substitute(mask, here))
        score = where(value, score, const(-math.inf)) if mask.dtype == BOOL else score + value
    return where(keys.first + key <= query, score, const(-math.inf)) if causal else score


def _base(kernel: _Kernel, block: _Block, j: int, lane: Expr) -> list[Stmt]:
    """What scores are measured from: the largest one, or 0 for a query that may attend nothing."""
    at = lane + j * kernel.cut.lanes
    top = _vector(f"top_{j}")
    stmts: list[Stmt] = []
    if kernel.blocks > 1:
        before = load("@largest", F32, at)
        stmts.append(Let(f"before_{j}", before))
        stmts.append(
            Set(f"top_{j}", where(_vector(f"before_{j}") > top, _vector(f"before_{j}"), top))
        )
        stmts.append(Store("largest", at, top))
    nothing = apply("eq", top, const(-math.inf))
    stmts.append(Let(f"base_{j}", where(nothing, const(0.0), top)))
    if kernel.blocks > 1:
        decay = apply("exp", _vector(f"before_{j}") - _vector(f"base_{j}"))
        stmts.append(Store("decay", at, decay))
    return stmts


def _total(kernel: _Kernel, j: int, lane: Expr) -> Stmt:
    """The sum of powers, or the sum so far."""
    at, total = lane + j * kernel.cut.lanes, _vector(f"sum_{j}")
    if kernel.blocks > 1:
        total = load("@total", F32, at) * load("@decay", F32, at) + total
    return Store("total", at, total)


# ---- several blocks of keys, and the result ------------------------------------------------------


def _start(kernel: _Kernel, block: _Block) -> tuple[Stmt, ...]:
    """Nothing seen yet."""
    lane, place = axis("place", block.width), axis("cell", block.queries * kernel.pitch)
    stats = (Output("largest", lane, const(-math.inf)), Output("total", lane, const(0.0)))
    sums = Output("out", place, const(0.0))
    return (*nest(kernel.builder, (lane,), stats), *nest(kernel.builder, (place,), (sums,)))


def _decay(kernel: _Kernel, block: _Block) -> tuple[Stmt, ...]:
    """Sums so far, measured from the new largest scores."""
    row, column = axis("row", block.queries), axis("wide", kernel.pitch)
    at = row * kernel.pitch + column
    value = load("@out", F32, at) * load("@decay", F32, row)
    return nest(kernel.builder, (row, column), (Output("out", at, value),))


def _finish(kernel: _Kernel, block: _Block) -> tuple[Stmt, ...]:
    """The result: sums of values over sums of powers, 0 for a query that may attend nothing."""
    head, lane, row = kernel.head, axis("place", block.width), axis("row", block.queries)
    total = load("@total", F32, lane)
    inverse = 1.0 / where(apply("eq", total, const(0.0)), const(1.0), total)
    value = load("@out", F32, row * kernel.pitch + head.column) * load("@total", F32, row)
    index = (*head.index, block.first + row, head.column)
    target = kernel.memory.target(head.name, index, value)
    return (
        *nest(kernel.builder, (lane,), (Output("total", lane, inverse),)),
        *nest(kernel.builder, (row, head.column), (target,)),
    )
