"""A compiled network, ready to run: one native call with pointers, nothing of Python in between.

The library comes from the cache and is verified when it is loaded. `run` may be called by many
threads at once: one of them has the thread pool, the others run alone, with the same results.
"""

from __future__ import annotations

import ctypes
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sol.core.cores import QUOTA_SECONDS
from sol.core.errors import CacheError, InputError
from sol.runtime import threads as thread_count
from sol.runtime.arena import arenas
from sol.runtime.cache import Cache, cache
from sol.runtime.native import ABI, AgainTable, Look, ProgramTable, SegmentTable, runtime, words

_OK = 0  # the status of a call that ran


class Program:
    """A library with a `sol_program_table`.

    `group` is the planner's choice of how many images pass through all steps at once (0: the whole
    batch). It counts only if the program is `splittable`, that is if images are independent.
    """

    def __init__(self, library: Path, *, group: int = 0, store: Cache = cache) -> None:
        self.path = library
        self.group = group
        self._runtime = runtime()
        self._library = store.load(library)  # keeps the table alive
        table = ProgramTable.in_dll(self._library, "sol_program_table")
        if table.abi != ABI:
            raise CacheError(
                f"{library} has version {table.abi} of the runtime's ABI",
                expected=f"version {ABI}",
                do="compile the network again: `sol.cache.clear()`",
            )
        self._table = ctypes.addressof(table)
        self.n_tensors: int = table.n_tensors
        self.n_steps: int = table.n_steps
        self.splittable = bool(table.splittable)
        self._sizes: dict[tuple[int, int], int] = {}
        self._parts: dict[tuple[int, int], tuple[ProgramTable, Any]] = {}

    def images_at_once(self, batch: int) -> int:
        """How many images of a batch are in the arena together."""
        split = self.splittable and 0 < self.group < batch
        return self.group if split else batch

    def arena_bytes(self, batch: int, threads: int) -> int:
        """Bytes that a call needs for intermediates, tables and the scratch of its threads."""
        key = (self.images_at_once(batch), threads)
        size = self._sizes.get(key)
        if size is None:
            size = int(self._runtime.sol_arena_bytes(self._table, *key))
            self._sizes[key] = size
        return size

    def run(
        self,
        pointers: Sequence[int],
        batch: int,
        threads: int | None = None,
        profile: bool = False,
    ) -> tuple[int, ...]:
        """Run on the tensors at these addresses; array("Q") is the fastest sequence for them.

        `threads` is taken as it is; None means sol.runtime.threads.count(). Returns the nanoseconds
        of each step if `profile`, else (). Raises InputError, MemoryBudgetError.
        """
        if len(pointers) != self.n_tensors or batch < 0:
            raise InputError(
                f"a call with {len(pointers)} tensors and a batch of {batch}",
                expected=f"{self.n_tensors} tensors and a batch of 0 or more",
            )
        if threads is None:
            threads = thread_count.count()
        times = array("q", bytes(8 * self.n_steps)) if profile else None
        self._call(words(pointers), batch, threads, times)
        return tuple(times) if times else ()

    def run_in(
        self, pointers: Sequence[int], batch: int, threads: int, arena: int, group: int = 0
    ) -> None:
        """Run in the caller's memory at `arena`, `arena_bytes` bytes at a multiple of 64: so many
        images at once, or, if that is 0, the whole batch, whose intermediates stay there.
        """
        status = self._runtime.sol_run(
            self._table, words(pointers), batch, group, arena, threads, None
        )
        _check(status, batch, threads)

    def again(
        self, pointers: array[int], given: int, batch: int, threads: int, look: Look
    ) -> Callable[[bytes], bool]:
        """What makes a call of `run` once more, with the least that can be done for it.

        It takes the addresses of the first tensors, as many as are `given`, in an array of C; the
        others stay what `pointers` says. It returns False, and has done nothing, if a word of the
        look has changed, or if a second is over, for there may be other cores.
        """
        table = AgainTable(
            self._table, pointers.buffer_info()[0], given, batch, self.group, threads,
            look.places.buffer_info()[0], look.words.buffer_info()[0], look.first,
            len(look.places), time.monotonic_ns() + int(1e9 * QUOTA_SECONDS),
        )  # fmt: skip

        size, at = self.arena_bytes(batch, threads), ctypes.addressof(table)
        run, alive = self._runtime.sol_run_again, (table, pointers, look)

        def call(given: bytes) -> bool:
            assert alive
            arena = arenas.take(size)
            try:
                return bool(run(at, given, arena.address) == _OK)
            finally:
                arenas.give(arena)

        return call

    def run_in_parts(
        self, pointers: array[int], batch: int, threads: int,
        parts: Sequence[tuple[int, int, Callable[[], None]]], arena: int = 0, profile: bool = False,
    ) -> tuple[int, ...]:  # fmt: skip
        """Run the whole batch at once, steps [begin, end) after [begin, end).

        Before each part a function of its own is called, which may change `pointers`. arena: as for
        `run_in`, or 0. Returns what `run` returns.
        """
        assert not self.splittable, "its images run apart"
        times = array("q", bytes(8 * self.n_steps)) if profile else None
        own = None if arena else arenas.take(self.arena_bytes(batch, threads))
        try:
            for begin, end, ready in parts:
                ready()
                status = self._runtime.sol_run(
                    self._part(begin, end), words(pointers), batch, 0,
                    own.address if own else arena, threads,
                    times.buffer_info()[0] if times else None,
                )  # fmt: skip
                _check(status, batch, threads)
        finally:
            if own:
                arenas.give(own)
        return tuple(times) if times else ()

    def run_each(self, pointers: array[int], batches: array[int], threads: int, piece: int) -> None:
        """Run on several sets of tensors: the addresses of one set after those of another, and for
        each set its batch. Threads share out pieces of so many images of all sets."""
        assert len(pointers) == self.n_tensors * len(batches)
        status = self._runtime.sol_run_each(
            self._table, words(pointers), words(batches), len(batches), piece, threads
        )
        _check(status, sum(batches), threads)

    def _part(self, begin: int, end: int) -> int:
        """The address of the table of a program with these steps only. A segment that runs apart
        is in one part."""
        found = self._parts.get((begin, end))
        if found is None:
            table = ProgramTable.from_buffer_copy(ProgramTable.from_address(self._table))
            every = (SegmentTable * table.n_segments).from_address(table.segments)
            mine = [
                SegmentTable(max(s.begin, begin), min(s.end, end), s.apart)
                for s in every
                if s.begin < end and begin < s.end
            ]
            segments = (SegmentTable * len(mine))(*mine)
            table.n_segments, table.segments = len(mine), ctypes.addressof(segments)
            found = self._parts[begin, end] = table, segments
        return ctypes.addressof(found[0])

    def _call(
        self, pointers: bytes | int, batch: int, threads: int, times: array[int] | None
    ) -> None:
        arena = arenas.take(self.arena_bytes(batch, threads))
        try:
            status = self._runtime.sol_run(
                self._table,
                pointers,
                batch,
                self.group,
                arena.address,
                threads,
                times.buffer_info()[0] if times else None,
            )
        finally:
            arenas.give(arena)
        _check(status, batch, threads)

    def close(self) -> None:
        """Give the memory of finished calls back to the system. The program stays usable."""
        arenas.trim()


def _check(status: int, batch: int, threads: int) -> None:
    if status != _OK:
        raise InputError(
            f"the runtime refused a call with a batch of {batch} on {threads} threads",
            expected="a batch of 0 or more and 1 or more threads",
        )
