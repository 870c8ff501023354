"""Writes parameter files of all versions, for tests of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

_NUMBERS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}


def record(array: np.ndarray, version: int = 2) -> bytes:
    """One array as a file has it."""
    head = {
        0: struct.pack("<I", array.ndim),
        1: struct.pack("<II", 0xF993FAC8, array.ndim),
        2: struct.pack("<Iii", 0xF993FAC9, 0, array.ndim),
        3: struct.pack("<Iii", 0xF993FACA, 0, array.ndim),
    }[version]
    sizes = struct.pack(f"<{array.ndim}{'q' if version else 'I'}", *array.shape)
    context = struct.pack("<iii", 1, 0, _NUMBERS[array.dtype.name])
    return head + sizes + context + array.tobytes()


def file_of(records: Mapping[str, bytes]) -> bytes:
    """A file with these arrays."""
    names = b"".join(struct.pack("<Q", len(n)) + n.encode() for n in records)
    count = struct.pack("<Q", len(records))
    return struct.pack("<QQ", 0x112, 0) + count + b"".join(records.values()) + count + names
