"""Reads `NAME-0000.params`, the files in which MXNet keeps arrays, without MXNet.

All numbers are little endian:

    file      u64 0x112, u64 0, u64 count, count arrays, u64 names, names of (u64 length, bytes)
    array     u32 0xF993FAC9 or 0xF993FACA, i32 0 (dense), i32 axes, i64 sizes[axes], context, data
    or older  u32 0xF993FAC8, u32 axes, i64 sizes[axes], context, data
    or oldest u32 axes, u32 sizes[axes], context, data
    context   i32 device, i32 number of the device, i32 element type

A file is read once, and arrays are views of its bytes: memory is that of the file, twice that at
most. Nothing in a file makes Sol allocate more. Whatever is not so raises `InputError`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.core.errors import InputError, UnsupportedError
from sol.mxnet.attributes import NUMBERED

Array = NDArray[Any]

_FILE = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_STORAGE = {1: "row_sparse", 2: "csr"}
_MOST_AXES = 32


class _Bytes:
    """The bytes of a file, read from the front; never beyond the end."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.position = 0

    def take(self, count: int, what: str) -> memoryview:
        """The next bytes."""
        left = len(self.data) - self.position
        if not 0 <= count <= left:
            raise InputError(
                f"{self.where} ends too early: {what} needs {count} bytes at byte "
                f"{self.position}, and {left} are left",
                do="copy the file again",
            )
        self.position += count
        return memoryview(self.data)[self.position - count : self.position]

    def numbers(self, code: str, what: str) -> tuple[int, ...]:
        """Some whole numbers, in the letters of the module struct."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))


def read_params(path: Path) -> dict[str, Array]:
    """The arrays of a file, by name. InputError names the file and what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", expected="a file NAME-0000.params"
        ) from None
    return parse_params(data, str(path))


def parse_params(data: bytes, where: str = "the parameters") -> dict[str, Array]:
    """The arrays in the bytes of a file, by name."""
    source = _Bytes(data, where)
    magic, _, count = source.numbers("QQQ", "the head")
    if magic != _FILE:
        raise InputError(
            f"{where} begins with {magic:#x}", expected=f"{_FILE:#x}, as in files that MXNet writes"
        )
    arrays = []
    for number in range(count):  # every turn takes bytes, so a wrong count ends with the file
        arrays.append(_array(source, f"array {number}"))
    (names,) = source.numbers("Q", "the number of names")
    if names != count:
        raise InputError(
            f"{where} has {count} arrays and {names} names",
            expected="a name for each, as Symbol and gluon write them",
        )
    found = {_name(source, f"name {number}"): array for number, array in enumerate(arrays)}
    if len(found) != count:
        raise InputError(f"{where} names two arrays the same", expected="a name for each")
    return found


def without_prefix(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays by the names that the symbol has for them: without `arg:` or `aux:`."""
    return {name.removeprefix("arg:").removeprefix("aux:"): a for name, a in arrays.items()}


def _name(source: _Bytes, what: str) -> str:
    (length,) = source.numbers("Q", what)
    try:
        return bytes(source.take(length, what)).decode()
    except UnicodeDecodeError:
        raise InputError(f"{source.where}: {what} is no text", expected="UTF-8") from None


def _array(source: _Bytes, what: str) -> Array:
    shape = _shape(source, what)
    if shape is None:
        raise InputError(f"{source.where}: {what} has no value", expected="an array")
    _, _, number = source.numbers("iii", f"the context of {what}")
    if number not in NUMBERED:
        raise InputError(
            f"{source.where}: {what} has the element type {number}",
            expected=", ".join(f"{n} {name}" for n, name in NUMBERED.items()),
        )
    if NUMBERED[number] == "bfloat16":
        raise UnsupportedError(f"{source.where}: {what}", "it is of bfloat16")
    dtype = np.dtype(NUMBERED[number]).newbyteorder("<")
    data = source.take(math.prod(shape) * dtype.itemsize, f"{what} of shape {shape}")
    if math.prod(size or 1 for size in shape) * dtype.itemsize >= 1 << 63:  # NumPy's own bound
        raise InputError(
            f"{source.where}: {what} has the shape {shape}", expected="fewer than 2^63 bytes"
        )
    array = np.frombuffer(data, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def _shape(source: _Bytes, what: str) -> tuple[int, ...] | None:
    """The sizes; None for an array that was never given a value."""
    (magic,) = source.numbers("I", what)
    if magic in (_V2, _V3):
        (storage,) = source.numbers("i", what)
        if storage:
            kind = _STORAGE.get(storage, f"of the kind {storage}")
            raise UnsupportedError(f"{source.where}: {what}", f"its storage is {kind}, not dense")
        (axes,) = source.numbers("i", what)
    elif magic == _V1:
        (axes,) = source.numbers("I", what)
    else:
        axes = magic
    if axes == (-1 if magic == _V3 else 0):
        return None
    if not 0 <= axes <= _MOST_AXES:
        raise InputError(
            f"{source.where}: {what} has {axes} axes", expected=f"{_MOST_AXES} at most"
        )
    letter = "q" if magic in (_V1, _V2, _V3) else "I"
    shape = source.numbers(f"{axes}{letter}", f"the shape of {what}")
    if any(size < 0 for size in shape):
        raise InputError(f"{source.where}: {what} has the shape {shape}", expected="sizes from 0")
    return shape
