"""How one head of attention is cut: queries and keys into blocks, both into register tiles.

A block of queries lies along a few vectors. Its scores against a block of keys fill a panel that
should stay in the innermost caches. Tiles are chosen with the estimate of tiles.py for both
products, so that remainders waste little. In: sizes and the device. Out: `Cut`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sol.core.device import CpuDevice
from sol.kernels.tiles import candidates, tile_cycles

_WIDEST = 4  # vectors of a block of queries
_PANEL_BYTES = 128 * 1024  # of scores per thread: an eighth of an L2 cache of 1 MiB
_SOFTMAX = 24  # cycles of largest value, exponential and sum for one vector of scores
_BLOCK = 200  # cycles that a block of queries costs beside


@dataclass(frozen=True, slots=True)
class Cut:
    """lanes per vector; `vectors` per block of queries; keys per block of keys."""

    lanes: int
    vectors: int
    keys: int
    registers: int

    @property
    def width(self) -> int:
        """Queries of a whole block."""
        return self.vectors * self.lanes

    def score_rows(self, keys: int, vectors: int) -> int:
        """Keys per tile of q kᵀ, for blocks of `vectors` vectors of queries."""
        return _score_tile(keys, vectors, self.registers)[0]

    def out_tile(self, queries: int, columns: int) -> tuple[int, int]:
        """(queries, vectors of columns) per tile of the product with v."""
        return _out_tile(queries, columns, self.registers)


def cut_attention(sizes: tuple[int, int, int, int], heads: int, device: CpuDevice) -> Cut:
    """The cut of each of `heads` heads per image; sizes: queries, keys, depth and columns."""
    queries, keys, depth, columns = sizes
    lanes, registers = device.vector_lanes(4), device.vector_registers
    wide = -(-queries // lanes)
    value_vectors = -(-columns // lanes)

    def cycles(vectors: int, rows: int) -> float:
        """Of one block of `rows` queries in `vectors` vectors."""
        score = tile_cycles(keys, vectors, _score_tile(keys, vectors, registers)) * depth
        out = tile_cycles(rows, value_vectors, _out_tile(rows, value_vectors, registers)) * keys
        return score + out + keys * vectors * _SOFTMAX + _BLOCK

    def total(vectors: int) -> float:
        whole = queries // (vectors * lanes)
        rest = queries - whole * vectors * lanes
        tail = cycles(-(-rest // lanes), rest) if rest else 0.0
        busy = whole * (cycles(vectors, vectors * lanes) if whole else 0.0) + tail
        return busy * _idling(heads * -(-wide // vectors), device.cores)

    vectors = min(range(1, min(_WIDEST, wide) + 1), key=lambda v: (total(v), v))
    return Cut(lanes, vectors, _block_of_keys(keys, vectors, wide, lanes, registers), registers)


def _idling(units: int, cores: int) -> float:
    """How much longer cores take for equal units than if units could be divided."""
    return -(-units // cores) * cores / units


def _block_of_keys(keys: int, vectors: int, wide: int, lanes: int, registers: int) -> int:
    """All keys if their scores fit a panel, else an equal share in whole tiles."""
    most = _PANEL_BYTES // (4 * vectors * lanes)
    if keys <= most:
        return keys
    shares = -(-keys // most)
    step = _score_tile(keys, vectors, registers)[0]
    tail = wide % vectors
    if tail:
        step *= _score_tile(keys, tail, registers)[0]
    return min(keys, -(-keys // shares // step) * step)


def _score_tile(keys: int, vectors: int, registers: int) -> tuple[int, int]:
    fitting = [t for t in candidates(registers) if t[1] == vectors and t[0] <= keys]
    fitting = fitting or [(1, vectors)]
    return min(fitting, key=lambda t: (round(tile_cycles(keys, vectors, t), 3), -t[0]))


def _out_tile(queries: int, columns: int, registers: int) -> tuple[int, int]:
    fitting = [t for t in candidates(registers) if t[0] <= queries and t[1] <= columns]
    fitting = fitting or [(1, 1)]
    return min(fitting, key=lambda t: (round(tile_cycles(queries, columns, t), 3), -t[0] * t[1]))
