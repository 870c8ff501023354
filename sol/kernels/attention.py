"""Attention as one kernel: scores of a block of queries, softmax, product with v, all in scratch.

    panel[s, l] = sum_e k[s, e] * (scale * q[l, e])      queries l along vectors, keys s as rows
    panel[s, l] = exp(panel[s, l] + mask[s, l] - largest[l])
    out[l, c]   = sum_s panel[s, l] * v[s, c] / sum_s panel[s, l]

A unit of work is one head and a block of queries. Only the block's queries are transposed: k is
read as scalars and v as vectors, in place where they are views of a larger tensor (one linear
layer makes q, k and v), and the reductions of the softmax run along vectors of queries. Keys beyond
one panel follow block by block with running maxima and sums (T. Dao et al., "FlashAttention",
2022), so scratch memory does not grow with their number. Called by compiler.py.

NaN and infinity spread as in PyTorch, with one exception: a score that a boolean mask hides counts
for nothing even if it is NaN, where PyTorch adds -inf to it and gets NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.core.dtypes import F32, DType
from sol.ir.expr import Expr, apply, axis, const, load, substitute, where
from sol.ir.loop import For, Kernel, Stmt, scratch_layout, when
from sol.kernels.cut import Cut, cut_attention
from sol.kernels.heads import Block, Context, Head, Keys, describe
from sol.kernels.micro import Micro, micro_kernel
from sol.kernels.softmax import softmax
from sol.lower.cluster import Lowered, Memory
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import extent_of
from sol.lower.units import UNIT, count, with_units
from sol.lower.vector import step
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


def lower_attention(
    plan: Plan, cluster: Cluster, device: CpuDevice, widths: tuple[int, ...]
) -> Attention:
    """The kernel of an attention cluster."""
    head = describe(plan, cluster)
    queries, keys, depth, columns = head.sizes()
    cut = cut_attention(head.sizes(), head.per_image(), device)
    memory = Memory(plan)
    packed = _packed(memory, head, cut.lanes)
    kernel = Context(memory, NestBuilder(memory.access(), widths), head, cut, packed)
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


def _packed(memory: Memory, head: Head, lanes: int) -> tuple[str, ...]:
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


def _shares(head: Head, blocks: int, device: CpuDevice) -> int:
    """Units that a head is cut into, where each of them copies k or v."""
    return min(blocks, -(-_UNITS_PER_CORE * device.cores // head.per_image()))


def _scratch(kernel: Context) -> list[tuple[str, DType, int]]:
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


def _unit(kernel: Context, share: Expr, per_share: int) -> tuple[Stmt, ...]:
    """A share of the blocks of one head; the last block, if it is narrower, has its own code."""
    cut = kernel.cut
    whole, rest = divmod(kernel.head.sizes()[0], cut.width)
    number = axis("block", whole + 1)
    first = share * per_share
    stmts: list[Stmt] = []
    if kernel.blocks == 1:
        everything = Keys(const(0), const(cut.keys))
        stmts.extend(_pack(kernel, everything))
    if whole:
        block = Block(number * cut.width, cut.width, cut.vectors, cut.width)
        end = apply("min", first + per_share, const(whole))
        stmts.append(For(number, first, end, _block(kernel, block)))
    if rest:
        vectors = -(-rest // cut.lanes)
        block = Block(const(whole * cut.width), rest, vectors, vectors * cut.lanes)
        here = (first <= const(whole)) & (const(whole) < first + per_share)
        stmts.extend(when(here, _block(kernel, block)))
    return tuple(stmts)


def _block(kernel: Context, block: Block) -> tuple[Stmt, ...]:
    """All of one block of queries."""
    one = kernel.blocks == 1
    number = const(0) if one else axis("key_block", kernel.blocks)
    first = number * kernel.cut.keys
    end = _reached(kernel, block)
    span = Keys(first, apply("min", const(kernel.cut.keys), end - first))
    body = (
        *(() if one else _pack(kernel, span)),
        *_scores(kernel, block, span),
        *softmax(kernel, block, span),
        *(() if one else _decay(kernel, block)),
        *_values(kernel, block, span),
    )
    if not one:
        blocks = (end + (kernel.cut.keys - 1)) // kernel.cut.keys
        body = (*_start(kernel, block), For(number, const(0), blocks, body))
    return (*_queries(kernel, block), *body, *_finish(kernel, block))


def _reached(kernel: Context, block: Block) -> Expr:
    """Keys that some query of the block may attend to, in whole tiles."""
    keys = kernel.head.sizes()[1]
    if not kernel.head.causal:
        return const(keys)
    rows = _score_rows(kernel, block)
    return apply("min", const(keys), (block.first + (block.width + rows - 1)) // rows * rows)


def _score_rows(kernel: Context, block: Block) -> int:
    return kernel.cut.score_rows(kernel.head.sizes()[1], block.vectors)


def _pack(kernel: Context, keys: Keys) -> tuple[Stmt, ...]:
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
        start = row * kernel.pitch
        copy = Output("values", start + head.column, substitute(head.v, here))
        stmts.extend(nest(kernel.builder, (head.column,), (copy,)))
        stmts.extend(_zeros(kernel, "values", start + columns, kernel.pitch - columns))
    return (For(row, const(0), keys.present, tuple(stmts)),) if stmts else ()


def _queries(kernel: Context, block: Block) -> tuple[Stmt, ...]:
    """The block's queries, transposed and scaled; lanes without a query are 0."""
    head, place = kernel.head, axis("place", block.queries)
    start = head.depth * block.width
    value = substitute(head.q, {head.query: block.first + place})
    code = nest(kernel.builder, (place,), (Output("query", start + place, value),))
    rest = _zeros(kernel, "query", start + block.queries, block.width - block.queries)
    return (For(head.depth, const(0), const(head.sizes()[2]), (*code, *rest)),)


def _zeros(kernel: Context, array: str, start: Expr, count: int) -> tuple[Stmt, ...]:
    """What fills the last vector, so that nothing arbitrary is computed with."""
    if not count:
        return ()
    place = axis("gap", count)
    return nest(kernel.builder, (place,), (Output(array, start + place, const(0.0)),))


# ---- the two products ----------------------------------------------------------------------------


def _scores(kernel: Context, block: Block, keys: Keys) -> tuple[Stmt, ...]:
    """panel = k q^T, in tiles of a few keys by all vectors of the block."""
    rows = _score_rows(kernel, block)
    rest = kernel.head.sizes()[1] % rows
    number = axis("tile", -(-kernel.cut.keys // rows))
    full = keys.present // rows
    tiles = For(number, const(0), full, _score_tile(kernel, block, keys, rows, number * rows))
    if not rest:
        return (tiles,)
    remainder = _score_tile(kernel, block, keys, rest, full * rows)
    return (tiles, *when(keys.present % rows > 0, remainder))


def _score_tile(
    kernel: Context, block: Block, keys: Keys, rows: int, first: Expr
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


def _values(kernel: Context, block: Block, keys: Keys) -> tuple[Stmt, ...]:
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
    kernel: Context, block: Block, keys: Keys, size: tuple[int, int], vector: Expr
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
    kernel: Context, block: Block, keys: Keys, size: tuple[int, int], row: Expr, vector: Expr
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


# ---- several blocks of keys, and the result ------------------------------------------------------


def _start(kernel: Context, block: Block) -> tuple[Stmt, ...]:
    """Nothing seen yet."""
    lane, place = axis("place", block.width), axis("cell", block.queries * kernel.pitch)
    stats = (Output("largest", lane, const(-math.inf)), Output("total", lane, const(0.0)))
    sums = Output("out", place, const(0.0))
    return (*nest(kernel.builder, (lane,), stats), *nest(kernel.builder, (place,), (sums,)))


def _decay(kernel: Context, block: Block) -> tuple[Stmt, ...]:
    """Sums so far, measured from the new largest scores."""
    row, column = axis("row", block.queries), axis("wide", kernel.pitch)
    at = row * kernel.pitch + column
    value = load("@out", F32, at) * load("@decay", F32, row)
    return nest(kernel.builder, (row, column), (Output("out", at, value),))


def _finish(kernel: Context, block: Block) -> tuple[Stmt, ...]:
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
