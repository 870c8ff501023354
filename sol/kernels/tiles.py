"""Choice of register tile and panels for a matrix product C[M, N] = A[M, K] W[K, N].

A tile is `rows` x `vectors` accumulators. The choice minimises an estimate of cycles over whole
tiles and remainders; measurements that it rests on are in docs/performance.md: all tiles that fill
the registers reach a similar rate, so what counts is how little the edges waste.

How C is cut into units of work is another estimate, of the time until all cores are done with one
image: equal shares for the cores, against operands that are read again by each unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.kernels.schedule import of_grid

_PANEL_BYTES = 160 * 1024  # of packed A per thread: leaves room for weights in a 1 MiB L2 cache
_LONGEST_K = 2304  # longer reductions are cut at kernel taps, so that a panel stays in the cache
_WEIGHTS = 0.6  # of the L2 cache for a unit's share of W
_LATENCY = 6  # multiply-adds that must be under way to keep the units busy
_PACKED = 3.0  # cycles to pack a vector of A
_UNIT = 600.0  # cycles to begin a unit
_FAR = 8.0  # bytes a cycle from beyond the L2 cache
_NEAR = 32.0  # and from it
_EXPOSED = 0.5  # of these do not overlap with multiply-adds
_UNEVEN = 0.2  # of a unit: cores are never equally fast
_NARROW = 1.05  # that narrower vectors must gain: they are more instructions
_FEWEST_ROWS = 4  # for which it matters


@dataclass(frozen=True, slots=True)
class Tile:
    """rows x vectors accumulators of `lanes` floats;

    panels of `panel` rows; `columns` vectors of N per unit. lines: A is read from padded lines of a
    map (lines.py), and a tile has rows of one line.
    """

    rows: int
    vectors: int
    lanes: int
    panel: int
    columns: int
    lines: bool = False


def _cycles(rows: int, vectors: int, each: float) -> float:
    """Cycles of one step in k:

    multiply-adds, no fewer than their latency needs, and two loads a cycle.
    """
    return max(rows * vectors * each, _LATENCY, (rows + vectors) * 0.75) + 0.5


def tile_cycles(rows: int, vectors: int, tile: tuple[int, int], each: float = 1.0) -> float:
    """Cycles per step of k for rows x vectors accumulators in tiles of (rows, vectors), whole ones
    and remainders. each: cycles of a multiply-add.
    """
    p, v = tile
    full, rest = divmod(rows, p)
    blocks, tail = divmod(vectors, v)
    column = full * _cycles(p, v, each) + (_cycles(rest, v, each) if rest else 0)
    edge = full * _cycles(p, tail, each) + (_cycles(rest, tail, each) if rest else 0) if tail else 0
    return blocks * column + edge


def candidates(registers: int) -> list[tuple[int, int]]:
    """(rows, vectors) whose accumulators, a row of weights and one broadcast fit the registers."""
    found: list[tuple[int, int]] = []
    for vectors in (1, 2, 3, 4, 6):
        most = (registers - vectors - 1) // vectors
        found.extend((rows, vectors) for rows in range(2, min(most, 24) + 1))
    return found


def best_tile(
    rows: int,
    vectors: int,
    device: CpuDevice,
    block: int = 0,
    again: float = 0.0,
    each: float = 1.0,
) -> tuple[int, int]:
    """The fastest (rows, vectors); vectors divide `block` where that is given.

    again: cycles, for each step of k, of coming back to a row of results for another block of
    columns. each: cycles of a multiply-add.
    """
    fitting = [
        t
        for t in candidates(device.vector_registers)
        if (t[0] <= rows and t[1] <= vectors) or t == (2, 1)
    ]
    if block:
        fitting = [t for t in fitting if block % t[1] == 0]

    def cost(tile: tuple[int, int]) -> tuple[float, int]:
        back = again * rows * (-(-vectors // tile[1]) - 1)
        return round(tile_cycles(rows, vectors, tile, each) + back, 3), -tile[0] * tile[1]

    p, v = min(fitting, key=cost)
    return min(p, rows), v


def share_of_columns(vectors: int, v: int, depth: int, lanes: int, device: CpuDevice) -> int:
    """Vectors of columns whose W stays in the L2 cache: a multiple of v, or all."""
    return max(v, min(vectors, int(_WEIGHTS * device.l2) // (4 * depth * lanes) // v * v))


def choose_tile(
    rows: int, columns: int, depth: int, device: CpuDevice, *, packed: bool, block: int = 0
) -> Tile:
    """The tile for M = rows (of one image), N = columns, K = depth, and the units of work.

    packed: whether A is packed into panels. block: columns per block of W where that is given.
    """
    widths = device.fma_lanes()[:1] if block else vector_widths(rows, device)
    found = [_best(rows, columns, depth, device, packed, block, lanes) for lanes in widths]
    return fastest(found)[1]


def vector_widths(rows: int, device: CpuDevice) -> tuple[int, ...]:
    """Lanes of vectors that are worth an estimate with so many rows."""
    return device.fma_lanes()[: 1 if rows < _FEWEST_ROWS else None]


def fastest(found: Sequence[tuple[float, Tile]]) -> tuple[float, Tile]:
    """The (cycles, tile) with the least cycles; the first if others are hardly faster."""
    return min(found, key=lambda f: f[0] if f is found[0] else f[0] * _NARROW)


def _best(
    rows: int, columns: int, depth: int, device: CpuDevice, packed: bool, block: int, lanes: int
) -> tuple[float, Tile]:
    """(cycles, tile) of the fastest with vectors of so many lanes."""
    vectors = -(-columns // lanes)
    p, v = best_tile(rows, vectors, device, block // lanes, each=device.fma_cycles(lanes))
    most = max(p, min(_whole(rows, p), _PANEL_BYTES // (4 * min(depth, _LONGEST_K)) // p * p))
    panels = {min(most, _whole(-(-rows // n), p)) for n in _pieces(-(-rows // p))}
    shares = {_whole(-(-vectors // n), v) for n in _pieces(-(-vectors // v))}
    tiles = (Tile(p, v, lanes, panel, share) for panel in panels for share in shares)
    found = ((_time(rows, vectors, depth, t, device, packed), t) for t in tiles)
    return min(found, key=lambda f: (f[0], -f[1].panel, -f[1].columns))


def _pieces(most: int) -> list[int]:
    """Into how many pieces something may be cut: roughly by factors of 4/3."""
    found = [1]
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, found[-1] * 4 // 3)))
    return found


def _time(
    rows: int, vectors: int, depth: int, tile: Tile, device: CpuDevice, packed: bool
) -> float:
    """Cycles until all cores are done with one image."""
    panels, shares = -(-rows // tile.panel), -(-vectors // tile.columns)
    units = panels * shares
    busy = min(units, device.cores)
    turns = -(-units // device.cores)  # units of the core that has most
    size, each = (tile.rows, tile.vectors), device.fma_cycles(tile.lanes)
    packing = depth / device.vector_lanes(4) * _PACKED if packed else 0.0

    def panel(present: int, wide: int) -> float:
        return tile_cycles(present, wide, size, each) * depth + present * packing + _UNIT

    def part(wide: int) -> list[float]:
        last = rows - (panels - 1) * tile.panel
        return [panel(tile.panel, wide)] * (panels - 1) + [panel(last, wide)]

    whole, last = part(tile.columns), part(vectors - (shares - 1) * tile.columns)
    unit = (sum(whole) * (shares - 1) + sum(last)) / units
    ends = of_grid(shares, whole, last, device.cores)

    share = 4 * depth * tile.columns * tile.lanes  # bytes of W
    met = -(-turns // panels)  # shares that one core meets
    stays = share <= _WEIGHTS * device.l2
    far: float = share * (met if stays else turns)
    near = share * (turns - met) if stays else 0
    images = 4 * depth * rows  # bytes of A
    read = images * min(turns, panels) / panels
    far += read if read <= _WEIGHTS * device.l2 else read * met
    moved = (far / _FAR + near / _NEAR) * _EXPOSED
    waiting = unit * _UNEVEN if busy > 1 else 0.0
    return ends + moved + waiting


def _whole(rows: int, p: int) -> int:
    return (rows + p - 1) // p * p


def pieces(size: int, part: int) -> list[tuple[range, int]]:
    """Where whole parts begin, and the rest: (beginnings, size)."""
    whole, rest = divmod(size, part)
    found = [(range(0, whole * part, part), part)] if whole else []
    return [*found, (range(whole * part, size, rest), rest)] if rest else found
