"""One arena for all intermediate values: an offset for every buffer, reused as soon as its last
reader is done.

Two regions: sizes that do not depend on the batch, then sizes per image; the offset of a buffer of
the second is a multiple of the batch. Buffers are placed largest first at the lowest offset that no
buffer alive at the same time takes (Y. Pisarchyk and J. Lee, "Efficient Memory Management for Deep
Neural Net Inference", 2020, greedy by size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sol.core.dims import Dim, Size

_ALIGN = 64


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of `size` bytes that is in use from step `first` to step `last`."""

    name: str
    size: Size
    first: int
    last: int


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
    """Offsets for all buffers."""
    fixed = [(item, _aligned(item.size)) for item in lifetimes if isinstance(item.size, int)]
    scaled = [
        (item, _aligned(item.size.coef + max(0, item.size.const)))
        for item in lifetimes
        if isinstance(item.size, Dim)
    ]
    constants, constant = _place(fixed)
    multiples, per_image = _place(scaled)
    offsets = {name: (0, offset) for name, offset in constants.items()}
    offsets.update({name: (offset, constant) for name, offset in multiples.items()})
    return Arena(offsets, per_image, constant)


def _aligned(size: int) -> int:
    return (size + _ALIGN - 1) // _ALIGN * _ALIGN


def _place(items: Sequence[tuple[Lifetime, int]]) -> tuple[dict[str, int], int]:
    placed: list[tuple[Lifetime, int, int]] = []
    total = 0
    for item, size in sorted(items, key=lambda pair: (-pair[1], pair[0].first, pair[0].name)):
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
        total = max(total, offset + size)
    return {item.name: offset for item, offset, _ in placed}, total
