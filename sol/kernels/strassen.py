"""Matrix products with fewer multiplications: one step of Strassen's algorithm, in one thread's
scratch memory.

An image's rows of C[m, n] = Σ A[m, k] W[k, n] are cut in halves, and so are k and n. Seven products
of sums of quadrants of A and W give the four quadrants of C, where the plain sum has eight:

    V[x][pair][k]   = sums of A at rows pair and pair + P, at k and k + K/2;   x = 0 … 6
    M[x][pair][n]   = V[x] U[x]      U: the same of W, packed once
    C               = sums of M

V. Strassen, "Gaussian Elimination is not Optimal", Numerische Mathematik 13, 1969; rounding: N. J.
Higham, "Accuracy and Stability of Numerical Algorithms", section 23.2.2: errors are small beside
the largest numbers of a pair of rows, not beside each row's. A pair with infinities or NaN is
computed as plain sums, so that these stay in their row. Called by kernels/choice.py, which decides
where that pays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, substitute, walk, where
from sol.ir.expr import local_value as local
from sol.ir.loop import For, If, Let, Set, Stmt, Store, Var, when
from sol.kernels.blocks import Blocking, Run, Slabs
from sol.kernels.gemm import element, volume
from sol.kernels.operands import ACCUMULATED, Product, describe
from sol.kernels.pack import Recipe, columns_in_blocks, positions
from sol.kernels.transform import Emitter
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder
from sol.lower.ranges import extent_of, lane_pieces
from sol.lower.units import decode
from sol.lower.vector import lane_cost
from sol.plan.records import Cluster, Plan

_LONGEST = 768  # of half of k: what V holds at a time

# quadrants are numbered 11, 12, 21, 22; a row for each product
_LEFT = (
    (1, 0, 0, 1),
    (0, 0, 1, 1),
    (1, 0, 0, 0),
    (0, 0, 0, 1),
    (1, 1, 0, 0),
    (-1, 0, 1, 0),
    (0, 1, 0, -1),
)
_RIGHT = (
    (1, 0, 0, 1),
    (1, 0, 0, 0),
    (0, 1, 0, -1),
    (-1, 0, 1, 0),
    (0, 0, 0, 1),
    (1, 1, 0, 0),
    (0, 0, 1, 1),
)
# a row for each quadrant of C
_RESULT = (
    (1, 0, 0, 1, -1, 0, 1),
    (0, 0, 1, 0, 1, 0, 0),
    (0, 1, 0, 1, 0, 0, 0),
    (1, -1, 1, 0, 0, 1, 0),
)
PRODUCTS = len(_LEFT)
"""Of quadrants."""
# the quadrants of W from those of U that hold one, or a difference to one
_PLAIN = ((1,), (2, 4), (3, 1), (4,))

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StrassenPacking:
    """U: [x][column block][k][vectors * lanes], k and the columns of half the weight's.

    The weight is (O, I) or (O, I, 1…).
    """

    vectors: int
    lanes: int

    def apply(self, weight: Array) -> Array:
        """The packed weight, float32."""
        dense = weight.reshape(weight.shape[0], -1).T.astype(np.float64)
        depth, columns = (n // 2 for n in dense.shape)
        quadrants = dense.reshape(2, depth, 2, columns).transpose(0, 2, 1, 3)
        sums = np.tensordot(np.array(_RIGHT, float), quadrants.reshape(4, depth, columns), 1)
        width = self.vectors * self.lanes
        return np.concatenate(
            [columns_in_blocks(m.astype(np.float32), width, self.lanes) for m in sums]
        )

    def recipe(self, weight: Array) -> Recipe:
        """The same as loops."""
        depth, columns = weight.shape[1] // 2, weight.shape[0] // 2
        of_output, of_channel = (s // weight.itemsize for s in weight.strides[:2])
        return Recipe(
            1,
            columns,
            depth,
            0,
            of_output,
            of_channel,
            positions((2, 2), (depth * of_channel, columns * of_output))[None],
            np.zeros(1, np.int64),
            1,
            np.array(_RIGHT, float)[None],
            self.vectors * self.lanes,
            self.lanes,
        )

    def size(self, shape: tuple[int, ...]) -> int:
        """Elements of the packed weight for a weight of this shape."""
        columns = -(-shape[0] // 2 // self.lanes) * self.lanes
        return PRODUCTS * (shape[1] // 2) * columns

    @property
    def signature(self) -> str:
        """Equal for equal packings."""
        return f"strassen{self.vectors}x{self.lanes}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of the halves of a product: pairs of rows, depth, columns."""

    pairs: int
    depth: int
    columns: int

    @property
    def chunk(self) -> int:
        """Of the depth, what V holds at a time."""
        parts = -(-self.depth // _LONGEST)
        return self.depth // parts if self.depth % parts == 0 else self.depth


@dataclass(frozen=True, slots=True)
class Halves:
    """A product that can be cut in halves. rows: those of an image; k: the axis of the sum."""

    product: Product
    k: Expr
    rows: int
    sizes: Sizes


def halves_of(plan: Plan, cluster: Cluster, lanes: int) -> Halves | None:
    """The product of a contraction cluster, None where it can't be cut in halves."""
    product = describe(plan, cluster, lanes)
    if product.packing is None or product.packing.kind == "deconv" or product.group is not None:
        return None
    if any(p.op == "reduce" for p in walk(product.value)):
        return None
    rows = volume(product.rows)
    long = [k for k in product.k if extent_of(k) != 1]
    if rows < 2 or len(long) != 1:
        return None
    depth, shape = extent_of(long[0]), plan.graph[product.weight].shape
    assert isinstance(depth, int)
    if depth != shape[1] or depth % 2 or product.columns % 2:
        return None
    sizes = Sizes(-(-rows // 2), depth // 2, product.columns // 2)
    found = Halves(product, long[0], rows, sizes)
    return found if _in_vectors(plan, found) else None


def _in_vectors(plan: Plan, layer: Halves) -> bool:
    """Whether operands and results are vectors as they lie in memory."""
    memory = Memory(plan)
    access, product = memory.access(), layer.product
    finished = substitute(product.value, {ACCUMULATED: load("@m", F32, product.column)})
    output = memory.target(product.end, product.index, finished)
    assert output.index is not None
    stored = load("@" + output.buffer, F32, output.index)
    return (
        lane_cost([product.a], layer.k, access) == 0
        and lane_cost([finished], product.column, access) == 0
        and lane_cost([stored], product.column, access) == 0
    )


def lower_strassen(
    plan: Plan, layer: Halves, blocking: Blocking, widths: tuple[int, ...]
) -> tuple[Lowered, tuple[str, str, StrassenPacking]]:
    """The kernel of a layer, and the weight to pack for it (buffer, value, packing)."""
    packing = StrassenPacking(blocking.vectors, blocking.lanes)
    buffer = f"{layer.product.weight}/{packing.signature}"
    lowered = _Lowering(plan, layer, blocking, widths).lowered(buffer)
    return lowered, (buffer, layer.product.weight, packing)


class _Lowering:
    """The kernel of one layer: names and axes that its parts share."""

    def __init__(
        self, plan: Plan, layer: Halves, blocking: Blocking, widths: tuple[int, ...]
    ) -> None:
        self.layer, self.blocking, self.widths = layer, blocking, widths
        self.sizes = sizes = layer.sizes
        self.memory = Memory(plan)
        self.builder = NestBuilder(self.memory.access(), widths)
        vectors = -(-sizes.columns // blocking.lanes)
        self.share = axis("share", -(-vectors // blocking.share))
        whole, last = divmod(sizes.pairs, blocking.tiles)
        blocks = [blocking.tiles] * whole + [last] * (last > 0)
        self.block = axis("block", len(blocks))
        chunks = sizes.depth // sizes.chunk
        self.chunk, self.chunks = axis("chunk", chunks), const(chunks)
        self.first = self.block * blocking.tiles
        self.present = apply("min", const(blocking.tiles), const(sizes.pairs) - self.first)
        self.source = self.memory.buffers.read("@weights", F32)
        self.slabs = Slabs(
            blocking, (Run(0, PRODUCTS, sizes.chunk),), frozenset(blocks), sizes.columns,
            sizes.chunk, self.source, self.share, self.present,
        )  # fmt: skip

    def lowered(self, weights: str) -> Lowered:
        """The whole kernel."""
        slabs = self.slabs
        arrays = [("v", F32, PRODUCTS * slabs.v_slab), ("m", F32, PRODUCTS * slabs.m_slab)]
        products = slabs.products(self._u, self.chunk > 0 if self.chunks is not const(1) else None)
        chunk = (*self._inputs(), *products)
        body = (For(self.chunk, const(0), self.chunks, chunk), *self._outputs())
        outer = [self.share, *self.layer.product.outer, self.block]  # one share of U for all images
        return lowered_units(self.memory, outer, arrays, body, weights)

    def _rows(self, pair: Expr) -> tuple[Expr, Expr]:
        """Both rows of a pair of the block; where the last has one row only, this one twice."""
        first = self.first + pair
        second = first + self.sizes.pairs
        if self.layer.rows % 2:
            second = apply("min", second, const(self.layer.rows - 1))
        return first, second

    # ---- inputs

    def _inputs(self) -> tuple[Stmt, ...]:
        """V for all pairs of the block, for one chunk of k."""
        pair = axis("pair", self.blocking.tiles)
        k = axis("k", self.sizes.chunk)
        sums = [[(q, c) for q, c in enumerate(row) if c] for row in _LEFT]

        def body(emit: Emitter, quadrants: list[Expr]) -> None:
            for x, terms in enumerate(sums):
                at = pair * self.slabs.v_pitch + k + x * self.slabs.v_slab
                emit.stmts.append(Store("v", at, _sum(terms, quadrants)))

        return (For(pair, const(0), self.present, self._quadrants(pair, k, body)),)

    def _quadrants(
        self, pair: Expr, k: Expr, body: Callable[[Emitter, list[Expr]], None]
    ) -> tuple[Stmt, ...]:
        """Loops over a chunk of k in vectors; body gets the four elements of A."""
        code: list[Stmt] = []
        for begin, end, width in lane_pieces(self.sizes.chunk, self.widths):
            emit = Emitter("a", k)
            place = self.chunk * self.sizes.chunk + k
            loaded = [
                emit.let(self.builder.final(self._a(row, place + half * self.sizes.depth)))
                for row in self._rows(pair)
                for half in (0, 1)
            ]
            body(emit, loaded)
            code.append(For(k, begin, end, tuple(emit.stmts), width))
        return tuple(code)

    def _a(self, row: Expr, k: Expr) -> Expr:
        product = self.layer.product
        mapping = decode(row, product.rows)
        mapping.update({a: const(0) for a in product.k})
        mapping[self.layer.k] = k
        return substitute(product.a, mapping)

    # ---- weights

    def _u(self, x: Expr | int, vector: Expr, vectors: int) -> Expr:
        """Where U[x] has a block of columns, for the chunk's first k."""
        lanes, depth = self.blocking.lanes, self.sizes.depth
        every = -(-self.sizes.columns // lanes) * lanes
        base = const(0) + x * (depth * every) + vector * (lanes * depth)
        return base + self.chunk * (self.sizes.chunk * vectors * lanes)

    # ---- outputs

    def _outputs(self) -> tuple[Stmt, ...]:
        """Results of all pairs of the block, for the columns of the share."""
        pair = axis("pair_out", self.blocking.tiles)
        stored = self._stored(pair)
        return (For(pair, const(0), self.present, (*self._combined(pair), *stored)),)

    def _combined(self, pair: Expr) -> tuple[Stmt, ...]:
        """C in the place of M[0] to M[3]."""
        checked = const(0.0)
        for x in range(PRODUCTS):
            checked = (
                checked + load("@m", F32, pair * self.slabs.m_pitch + x * self.slabs.m_slab) * 0.0
            )
        return (
            Let("checked", checked),
            If(apply("eq", local("checked", F32), 0.0), self._sums(pair), self._plain(pair)),
        )

    def _sums(self, pair: Expr) -> tuple[Stmt, ...]:
        column = self._inside()
        body = Emitter("m", column)
        at = [pair * self.slabs.m_pitch + column + x * self.slabs.m_slab for x in range(PRODUCTS)]
        loaded = [body.let(load("@m", F32, a)) for a in at]
        for q, row in enumerate(_RESULT):
            total = _sum([(x, c) for x, c in enumerate(row) if c], loaded)
            body.stmts.append(Store("m", at[q], total))
        end, lanes = self.blocking.share * self.blocking.lanes, self.blocking.lanes
        return (For(column, const(0), const(end), tuple(body.stmts), lanes),)

    def _inside(self) -> Expr:
        return axis("inside", self.blocking.share * self.blocking.lanes)

    def _plain(self, pair: Expr) -> tuple[Stmt, ...]:
        """C as plain sums, the quadrants of A in the place of V[0] to V[3]."""
        k, lanes = axis("k", self.sizes.chunk), self.blocking.lanes

        def copied(emit: Emitter, quadrants: list[Expr]) -> None:
            for q, value in enumerate(quadrants):
                emit.stmts.append(
                    Store("v", pair * self.slabs.v_pitch + k + q * self.slabs.v_slab, value)
                )

        vector = axis("vector", self.blocking.share)
        lane = axis("lane", lanes)
        columns = -(-self.sizes.columns // lanes)
        ahead = apply(
            "min", const(self.blocking.share), const(columns) - self.share * self.blocking.share
        )
        body: list[Stmt] = [Var(f"c_{q}", const(0.0), lanes) for q in range(4)]
        step: list[Stmt] = [
            Let(f"a_{q}", load("@v", F32, pair * self.slabs.v_pitch + k + q * self.slabs.v_slab))
            for q in range(4)
        ]
        for q, parts in enumerate(_PLAIN):
            loads = [load("@" + self.source, F32, self._u_at(x, vector, k, lane)) for x in parts]
            step.append(Let(f"w_{q}", loads[0] + loads[1] if len(loads) > 1 else loads[0]))
        for q in range(4):
            row, half = divmod(q, 2)
            for middle in (0, 1):
                product = local(f"a_{2 * row + middle}", F32) * local(
                    f"w_{2 * middle + half}", F32, True
                )
                step.append(Set(f"c_{q}", local(f"c_{q}", F32, True) + product))
        body.append(For(k, const(0), const(self.sizes.chunk), tuple(step)))
        more = self.chunk > 0
        for q in range(4):
            at = pair * self.slabs.m_pitch + vector * lanes + lane + q * self.slabs.m_slab
            before = where(more, load("@m", F32, at), const(0.0))
            body.append(Store("m", at, local(f"c_{q}", F32, True) + before))
        every = For(
            vector, const(0), ahead, (For(lane, const(0), const(lanes), tuple(body), lanes),)
        )
        chunk = (*self._quadrants(pair, k, copied), every)
        return (For(self.chunk, const(0), self.chunks, chunk),)

    def _u_at(self, x: int, vector: Expr, k: Expr, lane: Expr) -> Expr:
        """Where U[x] has an element; the last block of columns may be narrower."""
        b, vectors = self.blocking, -(-self.sizes.columns // self.blocking.lanes)
        place = self.share * b.share + vector
        block = place // b.vectors * b.vectors
        width = apply("min", const(b.vectors), const(vectors) - block) * b.lanes
        base = self._u(x, block, 0) + (self.chunk * self.sizes.chunk + k) * width
        return base + (place - block) * b.lanes + lane

    def _stored(self, pair: Expr) -> tuple[Stmt, ...]:
        """The epilogue of the four results."""
        b, columns = self.blocking, self.sizes.columns
        column = axis("column", columns)
        begin = self.share * (b.share * b.lanes)
        end = begin + b.share * b.lanes
        code: list[Stmt] = []
        for second, row in enumerate(self._rows(pair)):
            pieces: list[Stmt] = []
            for first, last, width in lane_pieces(columns, self.widths):
                body = []
                for half in (0, 1):
                    at = (
                        pair * self.slabs.m_pitch
                        + (column - begin)
                        + (2 * second + half) * self.slabs.m_slab
                    )
                    body.append(self._store(row, column + half * columns, load("@m", F32, at)))
                low, high = apply("max", begin, first), apply("min", end, last)
                pieces.append(For(column, low, high, tuple(body), width))
            odd = second and self.layer.rows % 2
            there = self.first + pair + self.sizes.pairs < self.layer.rows if odd else const(True)
            code.extend(when(there, tuple(pieces)))
        return tuple(code)

    def _store(self, row: Expr, column: Expr, finished: Expr) -> Stmt:
        output = element(self.memory, self.layer.product, row, column, finished)
        assert output.index is not None
        return Store(output.buffer, output.index, self.builder.final(output.value))


def _sum(terms: list[tuple[int, int]], values: list[Expr]) -> Expr:
    """Σ ± value; a positive one first."""
    (first, _), *rest = sorted(terms, key=lambda t: -t[1])
    total = values[first]
    for number, sign in rest:
        total = total + values[number] if sign > 0 else total - values[number]
    return total
