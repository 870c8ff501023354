"""Memory of tensors that live from a forward program to its backward program, for step after step.

New memory for each step would be cleared by the system, page by page, which takes as long as some
layers do. A lease ends when the last tensor on it dies, whoever holds it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sol.runtime.arena import ArenaPool

_LINE = 64  # bytes; each tensor begins at a cache line
Kind = tuple[tuple[int, ...], torch.dtype]


@dataclass(frozen=True)
class Layout:
    """Where tensors begin in a piece of memory, in bytes, and its size."""

    begins: tuple[int, ...]
    size: int


def one_after_the_other(kinds: Sequence[Kind]) -> Layout:
    """A layout without gaps but for cache lines."""
    begins, size = [], 0
    for kind in kinds:
        begins.append(size)
        size += -(-_bytes(kind) // _LINE) * _LINE
    return Layout(tuple(begins), size)


def lease(pool: ArenaPool, kinds: Sequence[Kind], layout: Layout) -> list[torch.Tensor]:
    """Contiguous tensors of these shapes and types on one piece of the pool's memory, which goes
    back to the pool when none of them is alive. What is in them is arbitrary."""
    if not sum(map(_bytes, kinds)):
        return [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
    block = torch.from_numpy(pool.lease(layout.size))
    return [
        block[begin : begin + _bytes((shape, dtype))].view(dtype).view(shape)
        for begin, (shape, dtype) in zip(layout.begins, kinds, strict=True)
    ]


def _bytes(kind: Kind) -> int:
    shape, dtype = kind
    return math.prod(shape) * dtype.itemsize
