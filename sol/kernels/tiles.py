"""Choice of register tile and panels for a matrix product C[M, N] = A[M, K] W[K, N].

A tile is `rows` x `vectors` accumulators. The choice minimises an estimate of cycles over whole
tiles and remainders; measurements that it rests on are in docs/performance.md: all tiles that fill
the registers reach a similar rate, so what counts is how little the edges waste.
"""

from __future__ import annotations

from dataclasses import dataclass

from sol.core.device import CpuDevice

_PANEL_BYTES = 160 * 1024  # of packed A per thread: leaves room for weights in a 1 MiB L2 cache
_LONGEST_K = 2304  # longer reductions are cut at kernel taps, so that a panel stays in the cache
_UNITS_PER_CORE = 4
_WEIGHTS = 0.5  # of the L2 cache for a unit's share of W
_LATENCY = 6  # multiply-adds that must be under way to keep the units busy
_FEWEST_COLUMNS = 64  # a narrower share of columns repeats the packing of A too often


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


def _cycles(rows: int, vectors: int) -> float:
    """Cycles of one step in k:

    one multiply-add a cycle, no fewer than its latency needs, and two loads a cycle.
    """
    return max(rows * vectors, _LATENCY, (rows + vectors) * 0.75) + 0.5


def tile_cycles(rows: int, vectors: int, tile: tuple[int, int]) -> float:
    """Cycles per step of k for rows x vectors accumulators in tiles of (rows, vectors), whole ones
    and remainders.
    """
    p, v = tile
    full, rest = divmod(rows, p)
    blocks, tail = divmod(vectors, v)
    column = full * _cycles(p, v) + (_cycles(rest, v) if rest else 0)
    edge = full * _cycles(p, tail) + (_cycles(rest, tail) if rest else 0) if tail else 0
    return blocks * column + edge


def candidates(registers: int) -> list[tuple[int, int]]:
    """(rows, vectors) whose accumulators, a row of weights and one broadcast fit the registers."""
    found: list[tuple[int, int]] = []
    for vectors in (1, 2, 3, 4, 6):
        most = (registers - vectors - 1) // vectors
        found.extend((rows, vectors) for rows in range(2, min(most, 24) + 1))
    return found


def best_tile(
    rows: int, vectors: int, device: CpuDevice, block: int = 0, again: float = 0.0
) -> tuple[int, int]:
    """The fastest (rows, vectors); vectors divide `block` where that is given.

    again: cycles, for each step of k, of coming back to a row of results for another block of
    columns.
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
        return round(tile_cycles(rows, vectors, tile) + back, 3), -tile[0] * tile[1]

    p, v = min(fitting, key=cost)
    return min(p, rows), v


def share_of_columns(vectors: int, v: int, depth: int, lanes: int, device: CpuDevice) -> int:
    """Vectors of columns whose W stays in the L2 cache: a multiple of v, or all."""
    return max(v, min(vectors, int(_WEIGHTS * device.l2) // (4 * depth * lanes) // v * v))


def choose_tile(
    rows: int, columns: int, depth: int, device: CpuDevice, *, packed: bool, block: int = 0
) -> Tile:
    """The tile for M = rows (of one image), N = columns, K = depth.

    packed: whether A is packed into panels. block: columns per block of W where that is given.
    """
    lanes = device.vector_lanes(4)
    vectors = -(-columns // lanes)
    p, v = best_tile(rows, vectors, device, block // lanes)
    panel = max(p, min(_whole(rows, p), _PANEL_BYTES // (4 * min(depth, _LONGEST_K)) // p * p))
    want = _UNITS_PER_CORE * device.cores
    share = vectors
    if packed:
        while _whole(rows, panel) // panel < want and panel > 2 * p:
            panel = max(p, (panel // 2 + p - 1) // p * p)
    units = -(-rows // panel)
    if units > 1:  # panel after panel meets the same share of W: it should stay in the L2 cache
        share = share_of_columns(vectors, v, depth, lanes, device)
    while (
        units * -(-vectors // share) < want and share * lanes >= 2 * _FEWEST_COLUMNS and share > v
    ):
        share = max(v, (share // 2 + v - 1) // v * v)
    return Tile(p, v, lanes, panel, share)


def _whole(rows: int, p: int) -> int:
    return (rows + p - 1) // p * p
