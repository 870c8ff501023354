"""Gradients of weights with fewer multiplications: Winograd's algorithm the other way round.

    dw[o, c, tap] = sum over images and places of dy[n, o, place] * x[n, c, place + tap - padding]

Along an axis this is a filter of as many taps as places of dy are taken at a time (m), which gives
as many results as the window has taps (r): F(r, m) of transform.py, with the inputs of F(m, r). The
transform of the results is linear, so it is done once, after all tiles have been added up:

    V[x][tile][c] = B^T x B,  U[x][tile][o] = G dy G^T      tiles of m_y x m_x places
    M[x][o][c]   += sum over tiles of U[x][tile][o] V[x][tile][c]
    dw[o][c]      = A^T M A                                 at the end

A unit of work has a block of results o by a block of channels c whose M stays in the L2 cache; it
goes through all tiles of all images, some at a time. The order of additions does not depend on
threads. Chosen by kernels/weight_gradient.py where it needs fewer cycles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sol.core.device import CpuDevice
from sol.core.dtypes import BOOL, F32, DType
from sol.ir.expr import Expr, apply, axis, const, load, where
from sol.ir.expr import local_value as local
from sol.ir.loop import For, If, Let, Stmt, Store
from sol.kernels.gradient_layer import Layer
from sol.kernels.micro import Micro, micro_kernel, over_tiles
from sol.kernels.tiles import best_tile, tile_cycles
from sol.kernels.transform import Emitter, Transform, over_axes
from sol.lower.cluster import Lowered, Memory, lowered_units
from sol.lower.nest import NestBuilder, Output, nest
from sol.lower.ranges import lane_pieces, size_expr
from sol.lower.units import decode
from sol.lower.vector import lane_cost
from sol.ops.maps import all_of

_PLACES = (4, 2)  # of dy along an axis that a tile may have
_MOST_PRODUCTS = 36
_L2 = 0.9  # of the cache for M and the tiles at hand
_AT_HAND = (64, 48, 32, 24, 16)  # tiles
_TRANSFORM = 3.5  # cycles for each of a tile's values and vector of channels
_ADDED = 3.0  # cycles to add a vector to M
_FEWEST = 16  # channels and results

Place = Callable[[Sequence[Expr], Expr, Expr, Sequence[Expr]], Expr]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a layer is cut: a transform for each axis, channels and results of a unit, tiles at hand,
    register tiles."""

    transforms: tuple[Transform, ...]
    channels: int
    results: int
    tiles: int
    rows: int
    columns: int
    lanes: int

    @property
    def products(self) -> int:
        """Multiplications of a tile for each pair of channel and result."""
        return math.prod(t.n for t in self.transforms)

    @property
    def vectors(self) -> int:
        """Of channels."""
        return -(-self.channels // self.lanes)

    @property
    def why(self) -> str:
        """For `explain`."""
        taps = "x".join(str(t.m) for t in self.transforms)
        places = "x".join(str(t.r) for t in self.transforms)
        return (
            f"Winograd F({taps}, {places}), tile {self.rows}x{self.columns * self.lanes}, "
            f"{self.results} x {self.channels} weights, {self.tiles} tiles at a time"
        )


def cuts(layer: Layer, device: CpuDevice) -> Iterator[tuple[float, Cut]]:
    """Ways to cut a layer that the algorithm can take, with the cycles for an image of the core
    that has most to do."""
    plain = all(s.stride == 1 and s.dilation == 1 and s.taps > 1 for s in layer.spans)
    wide = min(layer.channels, layer.results) >= _FEWEST
    if layer.depthwise or len(layer.spans) != 2 or not plain or not wide:
        return
    if any(not isinstance(s.places, int) or not isinstance(s.extent, int) for s in layer.spans):
        return
    lanes = device.vector_lanes(4)
    for places in ((m, n) for m in _PLACES for n in _PLACES):
        transforms = tuple(Transform(s.taps, m) for s, m in zip(layer.spans, places))
        if not all(t.exists for t in transforms):
            continue
        for channels in _parts(layer.channels, lanes):
            for results in _parts(layer.results, 1):
                vectors = -(-channels // lanes)
                tile = best_tile(results, vectors, device)
                for tiles in _AT_HAND:
                    cut = Cut(transforms, channels, results, tiles, *tile, lanes)
                    size = 4 * sum(s for _, _, s in _arrays(cut))
                    if cut.products <= _MOST_PRODUCTS and size <= _L2 * device.l2:
                        yield _cycles(layer, cut, device), cut


def _parts(size: int, multiple: int) -> list[int]:
    """Sizes of equal parts of something that are multiples; all of it is one, too."""
    return [
        size // n for n in range(1, size + 1)
        if size % n == 0 and (n == 1 or size // n % multiple == 0)
    ]  # fmt: skip


def _cycles(layer: Layer, cut: Cut, device: CpuDevice) -> float:
    units = layer.groups * (layer.channels // cut.channels) * (layer.results // cut.results)
    step = tile_cycles(cut.results, cut.vectors, (cut.rows, cut.columns))
    added = cut.results * cut.vectors * _ADDED / cut.tiles
    moved = (cut.vectors + -(-cut.results // cut.lanes)) * _TRANSFORM
    tile = cut.products * (step + added + moved)
    return -(-units // device.cores) * tile * _tiles(layer, cut)


def _tiles(layer: Layer, cut: Cut) -> int:
    """Of an image."""
    return math.prod(_along(layer, cut))


def _along(layer: Layer, cut: Cut) -> list[int]:
    found = []
    for span, t in zip(layer.spans, cut.transforms):
        assert isinstance(span.places, int)
        found.append(-(-span.places // t.r))
    return found


def _pitch(floats: int, lanes: int) -> int:
    """Floats between rows of scratch memory: whole vectors that share no sets of the L1 cache."""
    whole = -(-floats // lanes) * lanes
    return whole + 16 if whole % 256 == 0 else whole


def _slab(rows: int, pitch: int) -> int:
    """Floats between the matrices of consecutive products."""
    return rows * pitch + 16


def _arrays(cut: Cut) -> list[tuple[str, DType, int]]:
    """Arrays of scratch memory."""
    c, o = _pitch(cut.channels, cut.lanes), _pitch(cut.results, cut.lanes)
    taps = math.prod(t.m for t in cut.transforms)
    return [
        ("v", F32, cut.products * _slab(cut.tiles, c)),
        ("u", F32, cut.products * _slab(cut.tiles, o)),
        ("m", F32, cut.products * _slab(cut.results, c)),
        ("taps", F32, taps * c),
    ]


# ---- the kernel ----------------------------------------------------------------------------------


def lower_winograd_gradient(
    layer: Layer, cut: Cut, memory: Memory, builder: NestBuilder
) -> Lowered | None:
    """The kernel; None if channels or results are not innermost in memory."""
    kernel = _Kernel(layer, cut, memory, builder)
    return kernel.lowered() if kernel.along_memory() else None


class _Kernel:
    """Statements of one kernel, and the axes that they share."""

    def __init__(self, layer: Layer, cut: Cut, memory: Memory, builder: NestBuilder) -> None:
        self.layer, self.cut = layer, cut
        self.memory, self.builder = memory, builder
        self.group = axis("group", layer.groups)
        self.block = axis("channels", layer.channels // cut.channels)
        self.part = axis("results", layer.results // cut.results)
        self.c_pitch = _pitch(cut.channels, cut.lanes)
        self.o_pitch = _pitch(cut.results, cut.lanes)
        self.v_slab = _slab(cut.tiles, self.c_pitch)
        self.u_slab = _slab(cut.tiles, self.o_pitch)
        self.m_slab = _slab(cut.results, self.c_pitch)
        self.turn = axis("turn", 1 << 31)
        (images,) = layer.images
        self.image = axis("image", images)
        self.counters = (
            self.image,
            *(axis(f"tile{k}", n) for k, n in enumerate(_along(layer, cut))),
        )
        self.total = size_expr(images) * _tiles(layer, cut)
        self.present = apply("min", const(cut.tiles), self.total - self.turn * cut.tiles)

    def along_memory(self) -> bool:
        """Whether vectors of channels and of results are vectors in memory."""
        place = [axis(f"place{k}", s.places) for k, s in enumerate(self.layer.spans)]
        for element, size in (
            (self.layer.x, self.layer.channels), (self.layer.dy, self.layer.results)
        ):  # fmt: skip
            number = axis("number", size)
            value = element((self.image,), self.group, number, place)
            if lane_cost([value], number, self.builder.access) != 0:
                return False
        return True

    def lowered(self) -> Lowered:
        """The kernel."""
        turns = (self.total + (self.cut.tiles - 1)) // self.cut.tiles
        code = (*self._transforms(), *self._products())
        body = (*self._zeros(), For(self.turn, const(0), turns, code), *self._results())
        outer = [self.group, self.part, self.block]
        return lowered_units(self.memory, outer, _arrays(self.cut), body, "")

    def _zeros(self) -> tuple[Stmt, ...]:
        place = axis("place", self.cut.products * self.m_slab)
        return nest(self.builder, (place,), (Output("m", place, const(0.0)),))

    # ---- U and V

    def _transforms(self) -> tuple[Stmt, ...]:
        """U and V of the tiles at hand."""
        tile, cut, layer = axis("tile", self.cut.tiles), self.cut, self.layer
        found = decode(self.turn * cut.tiles + tile, self.counters)
        names = [f"at{k}" for k in range(len(self.counters))]
        lets = [Let(name, found[c]) for name, c in zip(names, self.counters)]
        image, *tiles = (local(name, const(0).dtype) for name in names)
        firsts = [at * t.r for at, t in zip(tiles, cut.transforms)]
        begins = [first - s.padding for first, s in zip(firsts, layer.spans)]
        x = self._side(
            "x", layer.x, image, begins, [t.n for t in cut.transforms],
            [s.extent for s in layer.spans], self.block * cut.channels, cut.channels,
            ("v", tile * self.c_pitch, self.v_slab),
        )  # fmt: skip
        dy = self._side(
            "dy", layer.dy, image, firsts, [t.r for t in cut.transforms],
            [s.places for s in layer.spans], self.part * cut.results, cut.results,
            ("u", tile * self.o_pitch, self.u_slab),
        )  # fmt: skip
        return (For(tile, const(0), self.present, (*lets, *x, *dy)),)

    def _side(
        self, name: str, element: Place, image: Expr, begins: Sequence[Expr],
        lengths: Sequence[int], extents: Sequence[object], first: Expr, count: int,
        target: tuple[str, Expr, int],
    ) -> tuple[Stmt, ...]:  # fmt: skip
        """One tile of x or dy, transformed; those within the map have code without borders."""
        starts = [local(f"{name}{k}", const(0).dtype) for k in range(len(begins))]
        stmts: list[Stmt] = [Let(f"{name}{k}", b) for k, b in enumerate(begins)]
        inside, flags = const(True), []
        for k, (start, length, extent) in enumerate(zip(starts, lengths, extents)):
            assert isinstance(extent, int)
            inside = inside & (start >= 0) & (start <= extent - length)
            for i in range(length):
                flags.append(Let(f"{name}{k}_{i}", (start + i >= 0) & (start + i < extent)))
        number = axis("number", count)

        def code(border: bool) -> tuple[Stmt, ...]:
            values = []
            for at in np.ndindex(*lengths):
                place = [s + i for s, i in zip(starts, at)]
                value = element((image,), self.group, first + number, place)
                if border:
                    valid = [local(f"{name}{k}_{i}", BOOL) for k, i in enumerate(at)]
                    value = where(all_of(valid), value, const(0.0))
                values.append(value)
            return self._transformed(name, values, lengths, number, count, target)

        return (*stmts, If(inside, code(False), (*flags, *code(True))))

    def _transformed(
        self, name: str, values: Sequence[Expr], lengths: Sequence[int], number: Expr, count: int,
        target: tuple[str, Expr, int],
    ) -> tuple[Stmt, ...]:  # fmt: skip
        array, base, slab = target
        code: list[Stmt] = []
        for begin, end, width in lane_pieces(count, self.builder.widths):
            emit = Emitter("d", number)
            loaded = [emit.let(self.builder.final(v)) for v in values]
            change = emit.inputs if name == "x" else emit.filters
            for k, value in enumerate(over_axes(loaded, lengths, self.cut.transforms, change)):
                emit.stmts.append(Store(array, base + number + k * slab, value))
            code.append(For(number, begin, end, tuple(emit.stmts), width))
        return tuple(code)

    # ---- products

    def _products(self) -> tuple[Stmt, ...]:
        """M += U V for all products."""
        cut, k = self.cut, axis("product", self.cut.products)
        tile = (cut.rows, cut.columns)
        code = over_tiles(cut.results, cut.vectors, tile, partial(self._tile, k))
        return (For(k, const(0), const(cut.products), code),)

    def _tile(
        self, product: Expr, row: Expr, rows: int, vector: Expr, vectors: int
    ) -> tuple[Stmt, ...]:
        lanes = self.cut.lanes
        u, v, m = product * self.u_slab, product * self.v_slab, product * self.m_slab
        micro = Micro(
            rows,
            vectors,
            lanes,
            "u",
            "v",
            lambda p, k: u + k * self.o_pitch + (row + p),
            lambda k, j, lane: v + k * self.c_pitch + (vector + j) * lanes + lane,
        )
        return micro_kernel(
            micro,
            self.present,
            lambda p, j, lane: m + (row + p) * self.c_pitch + (vector + j) * lanes + lane,
            "m",
            const(True),
        )

    # ---- results

    def _results(self) -> tuple[Stmt, ...]:
        """A^T M A: to scratch memory, and from there to where dw lies."""
        cut, layer, row = self.cut, self.layer, axis("row", self.cut.results)
        number = axis("number", cut.channels)
        code: list[Stmt] = []
        sizes = [t.n for t in cut.transforms]
        for begin, end, width in lane_pieces(cut.channels, self.builder.widths):
            emit = Emitter("w", number)
            at = row * self.c_pitch + number
            values = [emit.let(load("@m", F32, at + k * self.m_slab)) for k in range(cut.products)]
            results = over_axes(values, sizes, cut.transforms, emit.outputs)
            for k, value in enumerate(results):
                emit.stmts.append(Store("taps", number + k * self.c_pitch, value))
            code.append(For(number, begin, end, tuple(emit.stmts), width))
        taps = [axis(f"tap{k}", t.m) for k, t in enumerate(cut.transforms)]
        place = const(0)
        for tap, t in zip(taps, cut.transforms):
            place = place * t.m + tap
        result = self.group * layer.results + self.part * cut.results + row
        index = layer.index(result, self.block * cut.channels + number, taps)
        value = load("@taps", F32, place * self.c_pitch + number)
        output = self.memory.target(layer.name, index, value)
        stored = nest(self.builder, (number, *taps), (output,))
        return (For(row, const(0), const(cut.results), (*code, *stored)),)
