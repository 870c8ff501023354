"""The C part of the runtime (UNITS): compiled with the user's compiler at first use, loaded once by
a process, because a process has one thread pool.

`ProgramTable`, `SegmentTable` and `AgainTable` mirror structs of sol_runtime.h.
"""

from __future__ import annotations

import ctypes
import functools
import re
import struct
import threading
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sol.backends.toolchain import build
from sol.core.device import detect
from sol.runtime.cache import Cache, cache

ABI = 2
UNITS = ("pool.c", "run.c", "each.c", "pack.c", "look.c")
_FOLDER = Path(__file__).parent
_lock = threading.Lock()


class ProgramTable(ctypes.Structure):
    """struct sol_program."""

    _fields_ = (
        ("abi", ctypes.c_uint32),
        ("n_steps", ctypes.c_int32),
        ("steps", ctypes.c_void_p),
        ("n_segments", ctypes.c_int32),
        ("segments", ctypes.c_void_p),
        ("n_buffers", ctypes.c_int32),
        ("buffers", ctypes.c_void_p),
        ("n_tensors", ctypes.c_int32),
        ("arena_coef", ctypes.c_int64),
        ("arena_const", ctypes.c_int64),
        ("own_coef", ctypes.c_int64),
        ("own_const", ctypes.c_int64),
        ("scratch", ctypes.c_int64),
        ("splittable", ctypes.c_int32),
    )


class SegmentTable(ctypes.Structure):
    """struct sol_segment."""

    _fields_ = (("begin", ctypes.c_int32), ("end", ctypes.c_int32), ("apart", ctypes.c_int32))


class AgainTable(ctypes.Structure):
    """struct sol_again."""

    _fields_ = (
        ("program", ctypes.c_void_p),
        ("tensors", ctypes.c_void_p),
        ("given", ctypes.c_int64),
        ("batch", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("places", ctypes.c_void_p),
        ("words", ctypes.c_void_p),
        ("first", ctypes.c_int64),
        ("n", ctypes.c_int64),
        ("until_ns", ctypes.c_int64),
    )


def source(name: str) -> str:
    """A C file of the runtime with our own headers pasted in: one text that stands alone."""
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return re.sub(r'^#include "(\w+\.h)"$', lambda match: source(match[1]), text, flags=re.M)


def runtime() -> ctypes.CDLL:
    """The runtime library of this process. Raises CompilerError, CacheError."""
    with _lock:  # two threads at once would get two pools
        return _load(cache)


@functools.lru_cache(maxsize=1)
def _load(store: Cache) -> ctypes.CDLL:
    library = store.load(build([source(name) for name in UNITS], detect(), store))
    library.sol_run.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_void_p,
    )
    library.sol_arena_bytes.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)
    library.sol_arena_bytes.restype = ctypes.c_int64
    library.sol_run_each.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int,
    )
    library.sol_pack.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.sol_fingerprint.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
    library.sol_fingerprint.restype = ctypes.c_uint64
    library.sol_unchanged.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_int32,
    )
    library.sol_run_again.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return library


def words(values: Sequence[int]) -> bytes | int:
    """A C array of 64-bit words, as ctypes takes it: the array's own memory, else a packed copy."""
    if isinstance(values, array):
        assert values.itemsize == 8, "addresses and sizes are 64-bit"
        return values.buffer_info()[0]
    return struct.pack(f"{len(values)}Q", *values)


def fingerprint(pointers: Sequence[int], sizes: Sequence[int]) -> int:
    """A number that changes if sampled words of one of the tensors do.

    `pointers` are addresses, `sizes` bytes; fastest as array("Q") and array("q"). A change that
    misses all samples (a word or three of each tensor) is not seen.
    """
    assert len(pointers) == len(sizes)
    return int(runtime().sol_fingerprint(words(pointers), words(sizes), len(sizes)))


class Look:
    """Tells whether the aligned 64-bit words at some places are what they were when it was made.

    places: all addresses. The first ones, so many, are read before the others, and these only if
    those have not changed. words: what was there. alive: what keeps the first ones readable.
    """

    __slots__ = ("_alive", "_call", "first", "places", "words")

    def __init__(
        self, places: array[int], words: array[int], first: int, alive: object = None
    ) -> None:
        self.places, self.words, self.first, self._alive = places, words, first, alive
        at, known = places.buffer_info()[0], words.buffer_info()[0]
        self._call = partial(runtime().sol_unchanged, at, known, first, len(places))

    def __call__(self) -> bool:
        return bool(self._call())

    def joined(self, other: Look) -> Look:
        """Both of them as one."""
        a, b = self.first, other.first
        return Look(
            self.places[:a] + other.places[:b] + self.places[a:] + other.places[b:],
            self.words[:a] + other.words[:b] + self.words[a:] + other.words[b:],
            a + b, (self._alive, other._alive),
        )  # fmt: skip


def look(first: array[int], others: array[int], alive: object = None) -> Look:
    """Tells whether the aligned 64-bit words at these addresses are what they are now; the others
    are read only while the first ones have not changed. alive: what keeps these readable."""
    places = first + others
    return Look(places, words_at(places), len(first), alive)


def words_at(places: array[int]) -> array[int]:
    """The aligned 64-bit words at these addresses."""
    return array("Q", [ctypes.c_uint64.from_address(place).value for place in places])
