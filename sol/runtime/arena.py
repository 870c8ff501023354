"""Memory for the intermediates of calls: one arena per call at a time, kept for the next call.
And a `Shelf`: memory for what stays as long as a program does.

Programs share the arenas of a pool, because nothing in an arena outlives a call: a process with ten
programs keeps as much memory as its largest needs, not the sum. An arena that is too small is
replaced by a larger one; memory goes back to the system when `trim` says so.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.errors import MemoryBudgetError

_HUGE_PAGE = 2 * 2**20
_LINE = 64  # bytes of a cache line, and of the widest vector
_FIRST_BOARD, _LARGEST_BOARD = 2**18, 2**25


def whole_pages(size: int) -> int:
    """Bytes of the arena that serves a call of `size` bytes."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


class Arena:
    """A piece of memory of its own pages: `address` is a multiple of 4096, `bytes` its size."""

    def __init__(self, size: int) -> None:
        self.bytes = whole_pages(size)
        try:
            # Private: a forked child gets a copy, not the parent's intermediates.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._memory = mmap.mmap(-1, self.bytes, flags=flags)
        except (OSError, OverflowError, ValueError) as error:
            raise MemoryBudgetError(
                f"the system gives no {size} bytes for the intermediates of a call: {error}",
                expected="that much free memory",
                do="use a smaller batch, or fewer threads",
            ) from error
        if self.bytes >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        view = ctypes.c_char.from_buffer(self._memory)
        self.address = ctypes.addressof(view)
        del view  # else the memory could not be closed

    def array(self) -> NDArray[np.uint8]:
        """All of it. It cannot be closed as long as this array lives."""
        return np.frombuffer(self._memory, np.uint8)

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()


class Shelf:
    """Memory for arrays that stay, packed weights for example.

    Each begins at a cache line, else every vector of it would be read from two. They lie close
    together and, where there is enough of them, in huge pages: a network streams through all of its
    weights in each call, and a processor knows the places of some thousand pages at most.
    """

    def __init__(self, size: int = 0) -> None:
        self._boards: list[NDArray[np.uint8]] = [_board(size)] if size else []  # of a first one
        self._used: list[int] = [0] * len(self._boards)  # bytes of each

    def emptied(self) -> Shelf:
        """The same, with room for other arrays in the place of those that were there."""
        return self.cleared_to(())

    @property
    def bytes(self) -> int:
        """Of all boards."""
        return sum(board.nbytes for board in self._boards)

    @property
    def mark(self) -> tuple[int, ...]:
        """What is on it now, for `cleared_to`."""
        return tuple(self._used)

    def cleared_to(self, mark: tuple[int, ...]) -> Shelf:
        """The same, without what came after a mark."""
        self._used = [*mark, *([0] * (len(self._boards) - len(mark)))]
        return self

    def keep(self, array: NDArray[Any]) -> NDArray[Any]:
        """A contiguous copy of an array."""
        kept = self.room(array.size, array.dtype).reshape(array.shape)
        kept[...] = array
        return kept

    def room(self, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Memory for so many elements."""
        count = size * dtype.itemsize
        free = (n for n, b in enumerate(self._boards) if self._used[n] + count <= b.nbytes)
        at = next(free, len(self._boards))
        if at == len(self._boards):
            self._boards.append(_board(max(min(_FIRST_BOARD << at, _LARGEST_BOARD), count)))
            self._used.append(0)
        begin = self._used[at]
        self._used[at] += -(-count // _LINE) * _LINE
        return self._boards[at][begin : begin + count].view(dtype)


def _board(size: int) -> NDArray[np.uint8]:
    """Memory of its own pages; it goes back to the system with the last array on it."""
    memory = mmap.mmap(-1, whole_pages(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)


class ArenaPool:
    """The arenas that are free at the moment. Safe to use from many threads."""

    def __init__(self) -> None:
        self._free: list[Arena] = []  # append and pop of a list are atomic

    def take(self, size: int) -> Arena:
        """An arena of at least `size` bytes. Raises MemoryBudgetError."""
        try:
            arena = self._free.pop()
        except IndexError:
            return Arena(size)
        if arena.bytes >= size:
            return arena
        arena.close()
        return Arena(size)

    def give(self, arena: Arena) -> None:
        """Take an arena back for the next call."""
        self._free.append(arena)

    def lease(self, size: int) -> NDArray[np.uint8]:
        """Memory of at least `size` bytes, arbitrary numbers in it, which comes back when nobody
        holds the array or a part of it any more."""
        arena = self.take(size)
        memory = arena.array()
        weakref.finalize(memory, self.give, arena).atexit = False
        return memory

    @property
    def bytes(self) -> int:
        """Size of the free arenas together."""
        return sum(arena.bytes for arena in list(self._free))

    def trim(self) -> int:
        """Give the free arenas back to the system. Returns their bytes."""
        released = 0
        while self._free:
            arena = self._free.pop()
            released += arena.bytes
            arena.close()
        return released


arenas = ArenaPool()
