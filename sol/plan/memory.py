"""One arena for all intermediate values: an offset for every buffer, reused as soon as its last
reader is done.

Two regions: sizes that do not depend on the batch, then sizes per image; the offset of a buffer of
the second is a multiple of the batch. Buffers are placed largest first at the lowest offset that no
buffer alive at the same time takes (Y. Pisarchyk and J. Lee, "Efficient Memory Management for Deep
Neural Net Inference", 2020, greedy by size).

What a forward program keeps for a backward one lies in the arenas of both, at the same places: at
the begin, in its own order, sizes that do not depend on the batch first. Before it is written, and
after it was read for the last time, its memory is there for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sol.core.dims import Dim, Size

_ALIGN = 64
_MOST_ROUNDS, _MOST_PLACES = 32, 8000  # in which places are looked for again


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of `size` bytes that is in use from step `first` to step `last`.

    held: it is passed from one program to another, so its place follows from what is held alone.
    """

    name: str
    size: Size
    first: int
    last: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class Arena:
    """Byte offsets as (per image, constant), and the arena's size in the same form."""

    offsets: Mapping[str, tuple[int, int]]
    per_image: int
    constant: int

    def bytes(self, images: int) -> int:
        """Size for a group of images."""
        return self.per_image * images + self.constant


def plan_arena(lifetimes: Sequence[Lifetime]) -> Arena:
    """Offsets for all buffers; those that are held in the order given."""
    held = [item for item in lifetimes if item.held]
    free = [item for item in lifetimes if not item.held]
    below, begin = _in_turn([(item, _bytes(item)) for item in held if _is_fixed(item)])
    rows, _ = _in_turn([(item, _bytes(item)) for item in held if not _is_fixed(item)])
    constants, constant = _place([(item, _bytes(item)) for item in free if _is_fixed(item)], [])
    scaled = [(item, _bytes(item)) for item in free if not _is_fixed(item)]
    multiples, per_image = _place(scaled, rows)
    offsets = {item.name: (0, offset) for item, offset, _ in below}
    if held:  # what is held comes first
        offsets |= {item.name: (per_image, begin + at) for item, at, _ in constants}
    else:
        offsets |= {item.name: (0, at) for item, at, _ in constants}
        begin = constant
    offsets |= {item.name: (at, begin) for item, at, _ in (*rows, *multiples)}
    return Arena(offsets, per_image, begin + constant if held else constant)


_Sized = tuple[Lifetime, int]  # with its bytes, of an image or at all
_Placed = tuple[Lifetime, int, int]  # with its offset and its bytes


def _is_fixed(item: Lifetime) -> bool:
    return isinstance(item.size, int)


def _bytes(item: Lifetime) -> int:
    """Of a buffer, or of an image in it, in whole lines."""
    size = item.size
    count = size.coef + max(0, size.const) if isinstance(size, Dim) else size
    return (count + _ALIGN - 1) // _ALIGN * _ALIGN


def _in_turn(items: Sequence[tuple[Lifetime, int]]) -> tuple[list[_Placed], int]:
    """One after the other, and their bytes."""
    placed, total = [], 0
    for item, size in items:
        placed.append((item, total, size))
        total += size
    return placed, total


def _place(items: Sequence[_Sized], held: Sequence[_Placed]) -> tuple[list[_Placed], int]:
    """Places around those that are held, and the bytes of all. Around what is held, the largest
    first leaves gaps: what lies at the end then goes first, a few times."""
    order = sorted(items, key=lambda pair: (-pair[1], pair[0].first, pair[0].name))
    best = placed, size = _in_order(order, held)
    for _ in range(1, min(_MOST_ROUNDS, _MOST_PLACES // max(1, len(order))) if held else 1):
        last = {item.name for item, at, count in placed if at + count == size}
        order.sort(key=lambda pair: pair[0].name not in last)
        placed, size = _in_order(order, held)
        best = min(best, (placed, size), key=lambda found: found[1])
    return best


def _in_order(items: Sequence[_Sized], held: Sequence[_Placed]) -> tuple[list[_Placed], int]:
    """One after the other, each at the lowest place that is free."""
    placed = list(held)
    for item, size in items:
        offset = 0
        alive = sorted(
            (o, s)
            for other, o, s in placed
            if other.first <= item.last and item.first <= other.last
        )
        for start, length in alive:
            if offset + size <= start:
                break
            offset = max(offset, start + length)
        placed.append((item, offset, size))
    return placed[len(held) :], max((o + s for _, o, s in placed), default=0)
