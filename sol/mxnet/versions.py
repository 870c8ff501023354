"""Finds out whether an NDArray was written to, without reading it.

MXNet's engine counts the writes to the memory of an NDArray, but no function of MXNet gives that
number out. `counter` finds it in memory: it writes to an array of its own a few times and looks for
the one number, in what the array points to, that grows by one each time. Where there is no such
number, `Watch` compares contents.

Memory is looked at through /proc/self/mem, which refuses what is no address.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.mxnet.framework import copied, package

_SEARCHED = 512  # bytes of the record of an array's memory


def _at(memory: int, address: int) -> int | None:
    """The number at an address; None if there is no memory."""
    try:
        found = os.pread(memory, 8, address)
    except (OSError, OverflowError):
        return None
    return int.from_bytes(found, "little") if len(found) == 8 else None


def _counts(memory: int, array: Any) -> dict[int, int]:
    """Numbers behind pointers in the record of an array's memory, by the place of the pointer."""
    array.wait_to_read()
    record = _at(memory, _address(array))
    found = {}
    for place in range(0, _SEARCHED, 8) if record else ():
        pointer = _at(memory, (record or 0) + place)
        count = _at(memory, pointer + 8) if pointer else None
        if count is not None:
            found[place] = count
    return found


def _address(array: Any) -> int:
    return ctypes.cast(array.handle, ctypes.c_void_p).value or 0


@cache
def _place() -> int | None:
    """Where, in the record of an array's memory, the pointer to the counter of writes stands."""
    mx = package()
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY)
    except (OSError, OverflowError):
        return None
    try:
        array = mx.nd.zeros((3, 5))
        seen = [_counts(memory, array)]
        for writes in (1, 2, 1):
            for _ in range(writes):
                array[:] = 1
            seen.append(_counts(memory, array))
            array.asnumpy()
            seen.append(_counts(memory, array))
    finally:
        os.close(memory)
    steps = (1, 0, 2, 0, 1, 0)
    known = [p for p in seen[0] if all(p in counts for counts in seen)]
    pairs = list(zip(seen, seen[1:], steps))
    places = [p for p in known if all(b[p] - a[p] == step for a, b, step in pairs)]
    return places[0] if len(places) == 1 else None


def counter(array: Any) -> ctypes.c_uint64 | None:
    """The number of writes to an NDArray's memory, as a view of it; None if it is not found. It
    lives as long as the NDArray."""
    place = _place()
    if place is None:
        return None
    record = ctypes.c_uint64.from_address(_address(array))
    pointer = ctypes.c_uint64.from_address(record.value + place)
    return ctypes.c_uint64.from_address(pointer.value + 8)


class Watch:
    """Parameters of a block: their values, and which of them have changed since."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = dict(parameters)
        self._arrays: dict[str, Any] = {}
        self._counters: dict[str, ctypes.c_uint64 | None] = {}
        self._seen: dict[str, int] = {}
        self.values: dict[str, NDArray[Any]] = {}
        self.changed()

    def changed(self) -> dict[str, NDArray[Any]]:
        """The new values of parameters that were written to, or replaced. A write counts when it
        has ended: wait for those that matter before."""
        found = {}
        for name, parameter in self._parameters.items():
            array = parameter.data()
            if array is not self._arrays.get(name):
                self._arrays[name] = array
                self._counters[name] = counter(array)
                self._seen[name] = -1
            count = self._counters[name]
            if count is not None and count.value == self._seen[name]:
                continue
            value = copied(array)
            self._seen[name] = -1 if count is None else count.value
            known = self.values.get(name)
            if known is None or not np.array_equal(known, value, equal_nan=known.dtype.kind == "f"):
                found[name] = value
        self.values.update(found)
        return found
