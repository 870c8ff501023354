"""Which algorithm computes a contraction: the direct kernel, Winograd's with which tiles, or
Strassen's.

All are estimated in cycles of one image on all cores: multiply-adds of register tiles with their
remainders, transforms, packing, and weights that come from memory slower than they are used. The
constants were fitted to measured layers (docs/performance.md). Measuring may overrule it (tune/).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.kernels.blocks import Blocking, even_blocks, scratch_of
from sol.kernels.gemm import reads_in_place
from sol.kernels.operands import describe
from sol.kernels.schedule import of_units
from sol.kernels.strassen import PRODUCTS, Halves, Sizes, halves_of
from sol.kernels.tiles import candidates, choose_tile, tile_cycles
from sol.kernels.winograd_layer import Layer, layer_of
from sol.lower.cluster import Memory
from sol.lower.ranges import extent_of, fixed_pieces
from sol.plan.facts import rows_per_image
from sol.plan.prepare import STEM_CHANNELS
from sol.plan.records import Cluster, Plan

_SCRATCH = 1.25  # of a core's L2 cache: V and M of a block of tiles, beyond one register tile
_ROOMY = 0.6  # of the L2 cache: what of V and M stays there while weights stream by
_SPILL = 0.5  # cycles for each byte that does not
_STREAMED = 4  # times the L2 cache: weights that never stay there
_CACHED = 20.0  # bytes a cycle of weights from the last-level cache, for one core
_DRAM = 7.0  # from memory, for a core alone
_DRAM_SHARED = 4.6  # for each of several
_OVERLAP = 4  # how well weights come while others are multiplied: the longer of both, and a bit
_READ = 0.5  # cycles for a vector of weights that a register tile reads
_PACKING = 3.0  # cycles for a vector of packed inputs of the direct kernel
_TRANSFORM = 3.5  # cycles for each of a tile's values and vector of channels
_TRANSFORM_LARGE = 8.0  # where a tile has 7 inputs or more along an axis
_LARGE = 7
_BARRIER = 3000.0  # cycles until all cores have begun
_GATHERED = 10.0  # cycles for a vector of inputs that a linear layer packs: mostly not in a cache
_SUMS = 6.0  # cycles for each value and vector of sums that Strassen's algorithm takes
_SLABS = 2.0  # of the L2 cache: V and M of a block of pairs at most
_NEAR = 0.4  # of the L2 cache: what of V and M stays in it
_SPILLED = 0.06  # cycles for each byte that does not
_UNIT = 2000.0  # cycles to begin a unit
_WAIT = 0.05  # cycles of waiting for a byte of weights from the last-level cache
_WAIT_DRAM = 0.05  # from memory
_WAIT_ROWS = 3.0  # and so many more, divided by the rows that need it
_CACHED_SHARE = 0.5  # of the last-level cache: weights that stay there from block to block
_PAIRS = 32  # of rows at least: fewer wait for weights
_DEEP = 64  # terms of its products at least: sums in front of shorter ones do not pay
_BUSY = 16  # accumulators of a register tile at least
_HOPELESS = 1.4  # times the least cycles of other tiles: no blocking makes up for it
_MARGIN = 1.05  # how much faster an estimate must be to be believed
# results of a tile, fewer inputs first: what is no faster by estimate rounds more
_TILES = ((2, 2), (3, 3), (2, 4), (4, 2), (4, 4), (5, 5))
_COPY = 2.0  # cycles for an element of a first layer's input that is copied
_MOST_TILES = 50
_MOST_PRODUCTS = 49
_CAREFUL = 4  # inputs per tile along an axis where nothing may be lost


@dataclass(frozen=True, slots=True)
class Winograd:
    """A choice of Winograd's algorithm, with both estimates in cycles."""

    layer: Layer
    blocking: Blocking
    cycles: float
    direct: float

    @property
    def why(self) -> str:
        """For `explain`."""
        tiles = "x".join(str(s.transform.m) for s in self.layer.spatial)
        taps = "x".join(str(s.transform.r) for s in self.layer.spatial)
        b = self.blocking
        shape = f"tile {b.rows}x{b.vectors * b.lanes}, blocks of {b.tiles}"
        gain = f"estimated {self.direct / self.cycles:.1f} times as fast as the direct kernel"
        steps = [str(s.stride) for s in self.layer.spatial]
        stride = f", stride {'x'.join(steps)}" if set(steps) != {"1"} else ""
        return f"Winograd F({tiles}, {taps}){stride}, {shape}, {gain}"


@dataclass(frozen=True, slots=True)
class Strassen:
    """A choice of Strassen's algorithm, with both estimates in cycles."""

    layer: Halves
    blocking: Blocking
    cycles: float
    direct: float

    @property
    def why(self) -> str:
        """For `explain`."""
        b = self.blocking
        shape = f"tile {b.rows}x{b.vectors * b.lanes}, blocks of {b.tiles} pairs of rows"
        gain = f"estimated {self.direct / self.cycles:.2f} times as fast as the direct kernel"
        return f"Strassen, {shape}, {gain}"


Fast = Winograd | Strassen


def choose_fast(
    plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str = "float32"
) -> Fast | None:
    """The best way with fewer multiplications, None if the direct kernel seems faster.

    cached: whether the weights of the network stay in the last-level cache between calls.
    precision: of sol/options.py.
    """
    fast = winograd_ways(plan, cluster, device, cached, precision)
    halves = strassen_ways(plan, cluster, device, cached, precision)
    ways: list[Fast] = [w for w in fast[:1] if w.cycles * _MARGIN < w.direct]
    ways += [w for w in halves[:1] if w.cycles < w.direct]  # most take less than estimated
    return min(ways, key=lambda w: w.cycles, default=None)


def strassen_ways(
    plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str = "float32"
) -> list[Strassen]:
    """All ways to use Strassen's algorithm, the best by estimate first."""
    layer = halves_of(plan, cluster, device.vector_lanes(4)) if precision == "float32" else None
    if layer is None or layer.sizes.pairs < _PAIRS or layer.sizes.depth < _DEEP:
        return []
    direct = _in_place(layer, plan, device, cached)
    found = _pairings(layer.sizes, device, cached)
    return [Strassen(layer, blocking, cycles, direct) for cycles, blocking in found]


def winograd_ways(
    plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str = "float32"
) -> list[Winograd]:
    """All ways to use Winograd's algorithm, the best by estimate first."""
    found = layer_of(plan, cluster) if precision != "strict" else "only plain sums"
    return [] if isinstance(found, str) else _ways(found, plan, cluster, device, cached, precision)


def copy_pays(
    plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str
) -> bool:
    """Whether a convolution of few input channels, a first layer, takes less time by Winograd's
    algorithm on a copy of its input with channels innermost, the making of the copy included."""
    root = plan.graph[cluster.root]
    plain = root.op == "conv" and root["groups"] == 1 and root.inputs[1] in plan.graph.static
    if precision == "strict" or not plain:
        return False
    channels, *sizes = plan.graph[root.inputs[0]].shape[1:]
    if not isinstance(channels, int) or channels >= STEM_CHANNELS:
        return False
    found = layer_of(plan, cluster, STEM_CHANNELS)
    if isinstance(found, str):
        return False
    elements = STEM_CHANNELS * math.prod(s for s in sizes if isinstance(s, int))
    # results are written after the products, not while others are computed
    written = 4 * found.columns * math.prod(s.results for s in found.spatial)
    rate = _CACHED if written < _CACHED_SHARE / 2 * device.l3 else _DRAM_SHARED
    beside = (elements * _COPY + written / rate) / device.cores + _BARRIER
    ways = _ways(found, plan, cluster, device, cached, precision)
    return any((w.cycles + beside) * _MARGIN < w.direct for w in ways[:1])


def _ways(
    found: Layer, plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str
) -> list[Winograd]:
    direct = _direct(plan, cluster, device, cached)
    layers = list(_layers(found, precision == "careful"))
    least = [_least(layer, device, cached) for layer in layers]
    ways = [
        Winograd(layer, blocking, _cycles(layer, blocking, device, cached), direct)
        for layer, cycles in zip(layers, least)
        if cycles <= _HOPELESS * min(least)
        for blocking in _blockings(layer, device)
    ]
    return sorted(ways, key=lambda w: w.cycles)


def _layers(found: Layer, careful: bool) -> Iterator[Layer]:
    """The layer with all tiles whose rounding errors stay near those of a plain sum.

    Errors grow with the inputs per tile and, in two axes, multiply: 4 x 4 inputs are as exact as
    the direct kernel, 6 x 6 lose a factor of two on networks in which small errors grow, 7 x 7 a
    third more, 8 x 8 another factor of two.
    """
    one = sum(s.transform.n > 1 for s in found.spatial) == 1
    for m in _TILES:
        if one and m[0] != m[1]:
            continue
        layer = found.with_results(m)
        if layer is None or layer.products > _MOST_PRODUCTS:
            continue
        if not careful or all(s.transform.n <= _CAREFUL for s in layer.spatial):
            yield layer


def _blockings(layer: Layer, device: CpuDevice) -> Iterator[Blocking]:
    lanes = device.vector_lanes(4)
    vectors = -(-layer.columns // lanes)
    room = _SCRATCH * device.l2
    for rows, v in candidates(device.vector_registers):
        if rows > layer.tiles or v > vectors or v == 1 < vectors:
            continue  # with one vector the weights come too slowly
        for share in _shares(vectors, v):
            per_tile = scratch_of(layer.products, layer.depth, share * lanes)
            most = max(rows, int(min(_MOST_TILES, room // per_tile)))
            blocks = -(-layer.tiles // most)
            even = -(-blocks // device.cores) * device.cores  # as many for each core
            for count in {blocks, even}:
                yield Blocking(rows, v, lanes, -(-layer.tiles // count), share)


def _shares(vectors: int, v: int) -> set[int]:
    """Whole blocks of columns, and equal shares of all columns."""
    parts = (1, 2, 3, 4, 6, 8)
    whole = {-(-vectors // n // v) * v for n in parts}
    return whole | {vectors // n for n in parts if vectors % n == 0 and vectors // n >= v}


def _least(layer: Layer, device: CpuDevice, cached: bool) -> float:
    """Cycles of one image below which no blocking gets, on one core: products, and weights once."""
    columns = -(-layer.columns // device.vector_lanes(4)) * layer.groups
    weights = 4 * columns * device.vector_lanes(4) / _rate(layer, device, cached)
    return layer.multiplications * _overlapped(layer.tiles * columns, weights)


def _overlapped(steps: float, weights: float) -> float:
    return float((steps**_OVERLAP + weights**_OVERLAP) ** (1 / _OVERLAP))


def _rate(layer: Layer, device: CpuDevice, cached: bool) -> float:
    """Bytes of weights in a cycle."""
    weights = 4 * layer.multiplications * layer.columns * layer.groups
    if cached and weights < _CACHED_SHARE * device.l3:
        return _CACHED
    return _from_memory(device)


def _from_memory(device: CpuDevice) -> float:
    """Bytes of weights in a cycle for each core."""
    return _DRAM if device.cores == 1 else _DRAM_SHARED


def _cycles(layer: Layer, b: Blocking, device: CpuDevice, cached: bool) -> float:
    """Estimated cycles of one image."""
    vectors = -(-layer.columns // b.lanes)
    rate = _rate(layer, device, cached)
    each = functools.cache(lambda tiles, wide: _unit(layer, b, tiles, wide, device, rate))
    blocks = even_blocks(layer.tiles, b.tiles)
    group = [
        each(tiles, min(b.share, vectors - column))
        for column in range(0, vectors, b.share)
        for tiles in blocks
    ]
    return of_units(group * layer.groups, device.cores) + _BARRIER


def _unit(
    layer: Layer, b: Blocking, tiles: int, share: int, device: CpuDevice, rate: float
) -> float:
    steps = tile_cycles(tiles, share, (b.rows, b.vectors)) + -(-tiles // b.rows) * share * _READ
    weights = 4 * share * b.lanes / rate
    large = max(s.transform.n for s in layer.spatial) >= _LARGE
    moved = tiles * layer.products * (_TRANSFORM_LARGE if large else _TRANSFORM)
    parts = layer.depth // layer.inputs
    inside, outside = parts * _vectors(layer.inputs, device) * moved, share * moved
    scratch = 4 * layer.products * tiles * (layer.depth + share * b.lanes)
    streamed = 4 * layer.multiplications * layer.columns > _STREAMED * device.l2
    spill = max(0.0, scratch - _ROOMY * device.l2) * _SPILL if streamed else 0.0
    return layer.multiplications * _overlapped(steps, weights) + inside + outside + spill


@functools.cache
def _vectors(elements: int, device: CpuDevice) -> int:
    """Vectors of so many elements, the rest in narrower ones."""
    pieces = fixed_pieces(elements, device.widths)
    return sum((end - begin) // width for begin, end, width in pieces)


def _direct(plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool) -> float:
    """Estimated cycles of one image by the direct kernel."""
    product = describe(plan, cluster, device.vector_lanes(4))
    rows, depth = rows_per_image(tuple(map(extent_of, product.rows))), 1
    for a in product.k:
        extent = extent_of(a)
        assert isinstance(extent, int)
        depth *= extent
    tile = choose_tile(rows, product.columns, depth, device, packed=True)
    vectors = -(-product.columns // tile.lanes)
    shares = -(-vectors // tile.columns)
    size, each = (tile.rows, tile.vectors), device.fma_cycles(tile.lanes)
    steps = tile_cycles(rows, vectors, size, each) * depth
    packing = shares * rows * depth / device.vector_lanes(4) * _PACKING
    rate = _CACHED if cached else _from_memory(device)
    weights = 4 * depth * product.columns / rate
    groups = extent_of(product.group) if product.group is not None else 1
    assert isinstance(groups, int)
    return groups * (max(steps, weights) + packing) / device.cores + _BARRIER


# ---- Strassen's algorithm ------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _pairings(sizes: Sizes, device: CpuDevice, cached: bool) -> tuple[tuple[float, Blocking], ...]:
    """Blocks of about equally many pairs, and shares of about equally many columns, with estimated
    cycles of one image, the best first."""
    lanes = device.vector_lanes(4)
    vectors = -(-sizes.columns // lanes)
    found = []
    for rows, v in candidates(device.vector_registers):
        if rows > sizes.pairs or v > vectors or v == 1 < vectors or rows * v < _BUSY:
            continue
        for blocks in (1, 2, 3, 4, 6, 8, 12, 16):
            pairs = -(-sizes.pairs // blocks // rows) * rows
            for parts in (1, 2, 3, 4, 6, 8, 12, 16):
                share = -(-vectors // parts // v) * v
                scratch = pairs * scratch_of(PRODUCTS, sizes.chunk, share * lanes)
                fits = scratch <= _SLABS * device.l2
                if fits and (blocks - 1) * pairs < sizes.pairs and (parts - 1) * share < vectors:
                    blocking = Blocking(rows, v, lanes, pairs, share)
                    found.append((_halves_cycles(sizes, blocking, device, cached), blocking))
    return tuple(sorted(found, key=lambda f: f[0]))


def _halves_cycles(sizes: Sizes, b: Blocking, device: CpuDevice, cached: bool) -> float:
    """Estimated cycles of one image."""
    vectors = -(-sizes.columns // b.lanes)
    size, lanes = (b.rows, b.vectors), b.lanes
    scratch = b.tiles * scratch_of(PRODUCTS, sizes.chunk, b.share * lanes)
    spill = max(0.0, scratch - _NEAR * device.l2) * _SPILLED
    units: list[float] = []
    for first_column in range(0, vectors, b.share):
        wide = min(b.share, vectors - first_column)
        for first in range(0, sizes.pairs, b.tiles):
            pairs = min(b.tiles, sizes.pairs - first)
            steps = tile_cycles(pairs, wide, size) * sizes.depth
            sums = pairs * (-(-sizes.depth // lanes) + wide) * _SUMS
            units.append(PRODUCTS * (steps + sums) + spill + _UNIT)
    weights = 4 * PRODUCTS * sizes.depth * vectors * lanes
    again = weights * (-(-sizes.pairs // b.tiles) - 1)
    stays = weights < _CACHED_SHARE * device.l3
    rows = min(b.tiles, sizes.pairs)
    moved = _moved(weights, cached, rows) + _moved(again, stays, rows)
    return of_units(units, device.cores) + moved / device.cores + _BARRIER


def _in_place(layer: Halves, plan: Plan, device: CpuDevice, cached: bool) -> float:
    """Estimated cycles of one image by the direct kernel, on the same terms."""
    product, depth = layer.product, 2 * layer.sizes.depth
    packed = not reads_in_place(Memory(plan), product)
    tile = choose_tile(layer.rows, product.columns, depth, device, packed=packed)
    vectors = -(-product.columns // tile.lanes)
    shares, panels = -(-vectors // tile.columns), -(-layer.rows // tile.panel)
    lanes = device.vector_lanes(4)
    size, each = (tile.rows, tile.vectors), device.fma_cycles(tile.lanes)
    steps = tile_cycles(layer.rows, vectors, size, each) * depth
    packing = shares * layer.rows * depth / lanes * _GATHERED if packed else 0.0
    total = steps + packing + _moved(4 * depth * vectors * tile.lanes, cached, layer.rows)
    return total / device.cores + shares * panels * _UNIT / device.cores + _BARRIER


def _moved(weights: int, cached: bool, rows: int) -> float:
    """Cycles of waiting for so many bytes of weights; rows: that are multiplied with them once they
    are there, in which time more can come."""
    return weights * (_WAIT if cached else _WAIT_DRAM + _WAIT_ROWS / rows)
