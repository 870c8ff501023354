"""Kernels that make one product of many smaller ones, in one thread's scratch memory: Winograd's
and Strassen's.

    M[x][tile][n] = V[x][tile] U[x]        for each x, by the register-tiled micro-kernel

V are the transformed inputs of a block of tiles, U the transformed weights, packed once, M what the
results are made of. Called by kernels/winograd.py and kernels/strassen.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sol.ir.expr import Expr, apply, axis, const, where
from sol.ir.expr import local_value as local
from sol.ir.loop import For, Let, Stmt, when
from sol.kernels.micro import AHEAD, Micro, micro_kernel

LONGEST_SUM = 64  # products added up in one go: the transform of results multiplies their errors

Weights = Callable[[Expr, Expr, int], Expr]


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a layer is cut: register tiles of `rows` x `vectors`, `tiles` per block, and vectors of
    output channels per unit: a multiple of `vectors`, or as many for each unit."""

    rows: int
    vectors: int
    lanes: int
    tiles: int
    share: int


def even_blocks(tiles: int, most: int) -> list[int]:
    """The sizes of as few blocks as there can be, which differ by one tile at most."""
    count = -(-tiles // most)
    return [(k + 1) * tiles // count - k * tiles // count for k in range(count)]


@dataclass(frozen=True, slots=True)
class Run:
    """Products x = begin … end - 1, which add up `depth` terms each: from `first` on, those from
    `later` x on from another one on."""

    begin: int
    end: int
    depth: int
    first: int = 0
    later: tuple[tuple[int, int], ...] = ()

    def first_of(self, x: Expr) -> Expr:
        """The first term of a product."""
        first: Expr = const(self.first)
        for begin, other in self.later:
            first = where(x >= begin, const(other), first)
        return first


@dataclass(frozen=True, slots=True)
class Slabs:
    """V and M of a block, and the loops over its products.

    runs: of x, and what each adds up; sizes: how many tiles a block may have; columns: of the
    layer; depth: of V; source: the name of U; share: which vectors of columns; present: tiles of
    the block.
    """

    blocking: Blocking
    runs: tuple[Run, ...]
    sizes: frozenset[int]
    columns: int
    depth: int
    source: str
    share: Expr
    present: Expr

    @property
    def v_pitch(self) -> int:
        """Floats from tile to tile in V."""
        return _pitch(self.depth)

    @property
    def m_pitch(self) -> int:
        """Floats from tile to tile in M."""
        return _pitch(self.blocking.share * self.blocking.lanes)

    @property
    def v_slab(self) -> int:
        """Floats from x to x in V."""
        return self._slab(self.v_pitch)

    @property
    def m_slab(self) -> int:
        """Floats from x to x in M."""
        return self._slab(self.m_pitch)

    def _slab(self, pitch: int) -> int:
        """One matrix falls into other L1 sets than the next."""
        rows = -(-self.blocking.tiles // self.blocking.rows) * self.blocking.rows
        return -(-rows * pitch // 1024) * 1024 + 80

    def products(self, u: Weights, resume: Expr | None = None) -> tuple[Stmt, ...]:
        """M for all x: loops over column blocks of the share and over register tiles.

        u(x, vector, width): where U[x] has the first of a block of columns. Where `resume` holds,
        products are added to what is there.
        """
        x = axis("x", self.runs[-1].end)
        code = []
        for run in self.runs:
            body = self._columns(partial(self._rows, u, resume, x, run.depth))
            first = Let("first", run.first_of(x))
            code.append(For(x, const(run.begin), const(run.end), (first, *body)))
        return tuple(code)

    def _columns(self, block: Callable[[Expr, int], tuple[Stmt, ...]]) -> tuple[Stmt, ...]:
        """Whole blocks of columns of the share, and the rest: of the last share, or of each."""
        b, every = self.blocking, -(-self.columns // self.blocking.lanes)
        per, rest = divmod(b.share, b.vectors)
        if rest:
            assert every % b.share == 0, "shares with a rest are equal"
            first = self.share * b.share
            code: list[Stmt] = []
            if per:
                column = axis("cblock", per)
                body = block(first + column * b.vectors, b.vectors)
                code.append(For(column, const(0), const(per), body))
            return (*code, *block(first + per * b.vectors, rest))
        whole, tail = divmod(every, b.vectors)
        stmts: list[Stmt] = []
        if whole:
            column = axis("cblock", whole)
            begin = self.share * per
            end = apply("min", begin + per, const(whole))
            stmts.append(For(column, begin, end, block(column * b.vectors, b.vectors)))
        if tail:
            here = apply("eq", const(whole) // per, self.share)
            stmts.extend(when(here, block(const(whole * b.vectors), tail)))
        return tuple(stmts)

    def _rows(
        self, u: Weights, resume: Expr | None, x: Expr, depth: int, vector: Expr, vectors: int
    ) -> tuple[Stmt, ...]:
        """Whole register tiles of the block, and the rest, which differs from block to block."""
        b = self.blocking
        step = axis("step", -(-b.tiles // b.rows))
        full = self.present // b.rows
        stmts: list[Stmt] = []
        if max(self.sizes) >= b.rows:
            body = self._product(u, resume, x, depth, step * b.rows, b.rows, vector, vectors)
            stmts.append(For(step, const(0), full, body))
        for rest in sorted({size % b.rows for size in self.sizes} - {0}):
            body = self._product(u, resume, x, depth, full * b.rows, rest, vector, vectors)
            stmts.extend(when(apply("eq", self.present % b.rows, const(rest)), body))
        return tuple(stmts)

    def _product(
        self, u: Weights, resume: Expr | None, x: Expr, depth: int, row: Expr, rows: int,
        vector: Expr, vectors: int,
    ) -> tuple[Stmt, ...]:  # fmt: skip
        lanes = self.blocking.lanes
        first = local("first", x.dtype)
        base = u(x, vector, vectors) + first * (vectors * lanes)
        column = (vector - self.share * self.blocking.share) * lanes

        def a(p: int, k: Expr) -> Expr:
            return x * self.v_slab + (row + p) * self.v_pitch + first + k

        def w(k: Expr, j: int, lane: Expr) -> Expr:
            return base + k * (vectors * lanes) + j * lanes + lane

        def target(p: int, j: int, lane: Expr) -> Expr:
            return x * self.m_slab + (row + p) * self.m_pitch + column + j * lanes + lane

        tile = Micro(rows, vectors, lanes, "v", self.source, a, w, longest=LONGEST_SUM, ahead=AHEAD)
        return micro_kernel(tile, depth, target, "m", resume)


def scratch_of(count: int, depth: int, columns: int) -> int:
    """Bytes of V and M for a tile."""
    return 4 * count * (_pitch(depth) + columns)


def _pitch(length: int) -> int:
    """Floats between rows that neither share L1 sets nor split lines."""
    length = -(-length // 16) * 16
    return length + 16 if length % 256 == 0 else length
