"""Methods to compute a contraction that are worth measuring, where `choice.py` only estimates.

Winograd's algorithm with other tiles and blockings, and the direct kernel with other register
tiles, panels and shares of columns: a few that differ, the best by estimate first. Each has a name
that says all about it, so that a way can be found again (sol/tune/).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from sol.core.device import CpuDevice
from sol.kernels.choice import Fast, Strassen, Winograd, strassen_ways, winograd_ways
from sol.kernels.lines import choose_lines, find_lines
from sol.kernels.operands import Product, describe
from sol.kernels.tiles import Tile, candidates, choose_tile, tile_cycles
from sol.lower.ranges import fixed_extent
from sol.plan.records import Cluster, Plan

_TRANSFORMS = 3  # ways of Winograd that differ in transform or register tile
_BLOCKINGS = 2  # ways of Winograd that differ from the best in how tiles are grouped
_BELIEVED = 1.6  # ways whose estimate is so many times the best one's are not worth their time
_STRASSEN = 2  # blockings of Strassen's algorithm
_TILES = 3  # register tiles of the direct kernel


@dataclass(frozen=True, slots=True)
class Direct:
    """The direct kernel with this tile."""

    tile: Tile


Method = Fast | Direct


def name_of(method: Method) -> str:
    """A text that is the same for the same method."""
    if isinstance(method, Direct):
        t = method.tile
        return (
            f"direct {t.rows}x{t.vectors}x{t.lanes} panel {t.panel} share {t.columns}"
            + " lines" * t.lines
        )
    if isinstance(method, Strassen):
        b = method.blocking
        return f"strassen {b.rows}x{b.vectors}x{b.lanes} pairs {b.tiles} share {b.share}"
    m = "x".join(str(s.transform.m) for s in method.layer.spatial)
    b = method.blocking
    return f"winograd {m} {b.rows}x{b.vectors}x{b.lanes} tiles {b.tiles} share {b.share}"


def methods(
    plan: Plan, cluster: Cluster, device: CpuDevice, cached: bool, precision: str
) -> tuple[Method, ...]:
    """A few methods for a contraction cluster, the best by estimate first.

    cached: whether the weights of the network stay in the last-level cache between calls.
    precision: of sol/options.py.
    """
    fast: tuple[Fast, ...] = tuple(_few(winograd_ways(plan, cluster, device, cached, precision)))
    fast += tuple(strassen_ways(plan, cluster, device, cached, precision)[:_STRASSEN])
    direct = tuple(map(Direct, _tiles(plan, cluster, device)))
    if not fast:
        return direct
    fast = tuple(sorted(fast, key=lambda w: w.cycles))
    return (*fast, *direct[:2]) if fast[0].cycles < fast[0].direct else (*direct[:3], *fast[:3])


def _few(found: list[Winograd]) -> Iterator[Winograd]:
    """The best of each transform and register tile, then other blockings of the best."""
    if not found:
        return
    near = [w for w in found if w.cycles <= _BELIEVED * found[0].cycles]
    kinds: dict[object, Winograd] = {}
    for way in near:
        kinds.setdefault((way.layer.products, way.blocking.rows, way.blocking.vectors), way)
    chosen = list(kinds.values())[:_TRANSFORMS]
    yield from chosen
    best = near[0]
    alike = [w for w in near[1:] if _register_tile(w) == _register_tile(best)]
    yield from [w for w in alike if w.blocking.share != best.blocking.share][: _BLOCKINGS - 1]
    yield from [w for w in alike if w.blocking.share == best.blocking.share][:1]


def _register_tile(way: Winograd) -> tuple[int, int, int]:
    return way.layer.products, way.blocking.rows, way.blocking.vectors


def _tiles(plan: Plan, cluster: Cluster, device: CpuDevice) -> list[Tile]:
    """Tiles of the direct kernel: the chosen ones, then others beside them."""
    product = describe(plan, cluster, device.vector_lanes(4))
    rows, depth = (math.prod(map(fixed_extent, axes)) for axes in (product.rows, product.k))
    chosen = [
        choose_tile(rows, product.columns, depth, device, packed=p, block=product.w_block)
        for p in (True, False)
    ]
    lanes = chosen[0].lanes
    vectors = -(-product.columns // lanes)
    others = _register_tiles(rows, vectors, device, product.w_block // lanes, lanes)
    cut = [_cut(chosen[0], rows, vectors, p, v) for p, v in others[:_TILES]]
    found = [
        *_lines(plan, cluster, product, device),
        chosen[0],
        *cut[:1],
        *_beside(chosen[0], rows, vectors),
        *cut[1:],
        chosen[1],
    ]
    return list(dict.fromkeys(found))


def _lines(plan: Plan, cluster: Cluster, product: Product, device: CpuDevice) -> list[Tile]:
    """The tile for padded lines, if they seem better than packing."""
    lines = find_lines(plan, cluster, product)
    tile = choose_lines(lines, device) if lines is not None else None
    return [tile] if tile is not None else []


def _register_tiles(
    rows: int, vectors: int, device: CpuDevice, block: int, lanes: int
) -> list[tuple[int, int]]:
    """(rows, vectors) of register tiles, the best by estimate first, one for each `vectors`."""
    fitting = [
        t
        for t in candidates(device.vector_registers)
        if t[0] <= rows and t[1] <= vectors and (not block or block % t[1] == 0)
    ]
    each = device.fma_cycles(lanes)
    fitting.sort(key=lambda t: (round(tile_cycles(rows, vectors, t, each), 3), -t[0] * t[1]))
    best: dict[int, tuple[int, int]] = {}
    for tile in fitting:
        best.setdefault(tile[1], tile)
    return list(best.values())


def _cut(tile: Tile, rows: int, vectors: int, p: int, v: int) -> Tile:
    """A tile with other registers, and panels and shares as near as there are to the same."""
    panel = min(_up(tile.panel, p), _up(rows, p))
    return Tile(p, v, tile.lanes, panel, _share(tile.columns, v, vectors))


def _beside(tile: Tile, rows: int, vectors: int) -> Iterable[Tile]:
    """The same registers with longer or shorter panels, narrower or wider shares."""
    p, v = tile.rows, tile.vectors
    panels = (min(2 * tile.panel, _up(rows, p)), _up(-(-tile.panel // 2), p))
    shares = (_share(-(-tile.columns // 2), v, vectors), _share(2 * tile.columns, v, vectors))
    for panel, share in zip(panels, shares):
        yield replace(tile, panel=panel)
        yield replace(tile, columns=share)


def _share(columns: int, v: int, vectors: int) -> int:
    """Whole blocks of columns, or all columns."""
    return min(_up(columns, v), vectors)


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
