"""Memory of tensors that live from a forward program to its backward program, for step after step.

New memory for each step would be cleared by the system, page by page, which takes as long as some
layers do. A lease ends when the last tensor on it dies, whoever holds it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import torch

from sol.runtime.arena import ArenaPool

_LINE = 64  # bytes; each tensor begins at a cache line
Kind = tuple[tuple[int, ...], torch.dtype]


def lease(pool: ArenaPool, kinds: Sequence[Kind]) -> list[torch.Tensor]:
    """Contiguous tensors of these shapes and types on one piece of the pool's memory, which goes
    back to the pool when none of them is alive. What is in them is arbitrary."""
    begins, size = [], 0
    for shape, dtype in kinds:
        begins.append(size)
        size += -(-math.prod(shape) * dtype.itemsize // _LINE) * _LINE
    if not size:
        return [torch.empty(shape, dtype=dtype) for shape, dtype in kinds]
    arena = pool.take(size)
    memory = arena.array()
    weakref.finalize(memory, pool.give, arena).atexit = False
    block = torch.from_numpy(memory)
    return [
        block[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
        for begin, (shape, dtype) in zip(begins, kinds)
    ]
