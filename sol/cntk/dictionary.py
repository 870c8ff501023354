"""CNTK's own container: a dictionary of numbers, strings, shapes, axes, arrays and dictionaries.

`parse` reads the bytes of a saved model into Python values. A `DictionaryValue` holds one of the
kinds of the table `_KINDS`; arrays stay views of the file. Shapes are as they are stored: CNTK
counts axes from the one that runs fastest, so NumPy's order is the reverse (`Tensor.array`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.cntk.wire import BYTES, FIXED32, FIXED64, VARINT, broken, fields, varints
from sol.core.errors import SolError, UnsupportedError

_DEEPEST = 100  # dictionaries in each other; CNTK's own models have less than ten

# data_type of an array -> its NumPy type
DTYPES = {1: "float32", 2: "float64", 4: "float16", 5: "int8", 6: "int16"}


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes, the axis that runs fastest first."""

    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a value: a static one by its number, or a dynamic one (batch, time) by name."""

    index: int = 0
    name: str = ""
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array as it is stored: a type, a shape, and memory of the file."""

    dtype: str
    shape: Shape
    values: memoryview
    integers: bool = False  # one variable-length integer for each element, sign in the lowest bit

    @property
    def array(self) -> NDArray[Any]:
        """The array, in NumPy's order of axes."""
        shape = self.shape.sizes[::-1]
        if self.integers:
            numbers = np.array(varints(self.values), np.int64)
            flat: NDArray[Any] = ((numbers >> 1) ^ -(numbers & 1)).astype(self.dtype)
        else:
            if len(self.values) % np.dtype(self.dtype).itemsize:
                raise broken(f"{len(self.values)} bytes for an array of {self.dtype}")
            flat = np.frombuffer(self.values, np.dtype(self.dtype).newbyteorder("<"))
        count = 1
        for size in shape:
            count *= size
        if flat.size != count:
            raise broken(f"{flat.size} values for an array of the shape {shape}")
        return flat.reshape(shape)


def parse(data: bytes | memoryview) -> dict[str, Any]:
    """The dictionary that a file holds."""
    return _dictionary(memoryview(data), 0)


def _dictionary(message: memoryview, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise broken(f"more than {_DEEPEST} dictionaries in each other")
    found: dict[str, Any] = {}
    for number, kind, value in fields(message):
        if number == 2:
            key, entry = "", None
            for part, wire, content in fields(_bytes(kind, value)):
                if part == 1:
                    key = _text(wire, content, depth)
                elif part == 2:
                    entry = _value(_bytes(wire, content), depth + 1)
            found[key] = entry
    return found


def _vector(message: memoryview, depth: int) -> list[Any]:
    if depth > _DEEPEST:
        raise broken(f"more than {_DEEPEST} vectors in each other")
    return [
        _value(_bytes(kind, value), depth + 1)
        for number, kind, value in fields(message)
        if number == 1
    ]


def _value(message: memoryview, depth: int) -> Any:
    """What a DictionaryValue holds; None if nothing."""
    result = None
    for number, kind, value in fields(message):
        if number in _KINDS:
            result = _KINDS[number](kind, value, depth)
    return result


# ---- the kinds of values -------------------------------------------------------------------------

Wire = int | memoryview


def _bytes(kind: int, value: Wire) -> memoryview:
    if kind != BYTES or isinstance(value, int):
        raise broken("a number where a message should be")
    return value


def _number(kind: int, value: Wire) -> int:
    if kind != VARINT or not isinstance(value, int):
        raise broken("a message where a number should be")
    return value


def _signed(kind: int, value: Wire, depth: int = 0) -> int:
    number = _number(kind, value) & (1 << 32) - 1
    return number - (1 << 32) if number >> 31 else number


def _size(kind: int, value: Wire, depth: int = 0) -> int:
    """A size_t; sizes that are not known yet are small negative numbers."""
    number = _number(kind, value)
    return number - (1 << 64) if number >> 63 else number


def _text(kind: int, value: Wire, depth: int = 0) -> str:
    try:
        return str(_bytes(kind, value), "utf-8")
    except UnicodeDecodeError:
        raise broken("a name that is not UTF-8") from None


def _floating(form: str, wire: int) -> Callable[[int, Wire, int], float]:
    def read(kind: int, value: Wire, depth: int) -> float:
        if kind != wire or isinstance(value, int):
            raise broken("a floating-point number of another size")
        return float(struct.unpack(form, value)[0])

    return read


def _shape(kind: int, value: Wire, depth: int = 0) -> Shape:
    sizes: list[int] = []
    for number, wire, content in fields(_bytes(kind, value)):
        if number == 1:
            if isinstance(content, int):
                sizes.append(_size(wire, content))
            else:
                sizes += [_size(VARINT, size) for size in varints(_bytes(wire, content))]
    return Shape(tuple(sizes))


def _axis(kind: int, value: Wire, depth: int) -> Axis:
    index, name, ordered = 0, "", False
    for number, wire, content in fields(_bytes(kind, value)):
        if number == 1:
            index = _signed(wire, content)
        elif number == 2:
            name = _text(wire, content)
        elif number == 3:
            ordered = bool(_number(wire, content))
    return Axis(index, name, ordered)


_DENSE = 0
_FLOATS, _DOUBLES, _RAW, _INTEGERS = 4, 5, 6, 7


def _tensor(kind: int, value: Wire, depth: int) -> Tensor:
    data_type, storage, shape = 0, _DENSE, Shape(())
    field, values = 0, memoryview(b"")
    for number, wire, content in fields(_bytes(kind, value)):
        if number == 1:
            data_type = _number(wire, content)
        elif number == 2:
            storage = _number(wire, content)
        elif number == 3:
            shape = _shape(wire, content)
        elif number in (_FLOATS, _DOUBLES, _RAW, _INTEGERS):
            field, values = number, _packed(_bytes(wire, content))
    if data_type not in DTYPES:
        raise broken(f"an array of the unknown type {data_type}")
    if storage != _DENSE:
        raise UnsupportedError("a sparse parameter", f"storage format {storage}", expected="dense")
    # the list says how numbers are written, data_type what they are
    written = {_FLOATS: "float32", _DOUBLES: "float64"}.get(field, DTYPES[data_type])
    return Tensor(written, shape, values, integers=field == _INTEGERS)


def _packed(message: memoryview) -> memoryview:
    """The values of a list of numbers; in pieces if it was written so."""
    pieces = [
        memoryview(bytes([content & 255])) if isinstance(content, int) else content
        for number, _, content in fields(message)
        if number == 1
    ]
    return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))


_KINDS: dict[int, Callable[[int, Wire, int], Any]] = {
    3: lambda kind, value, depth: bool(_number(kind, value)),
    4: _signed,
    5: _size,
    6: _floating("<f", FIXED32),
    7: _floating("<d", FIXED64),
    8: _text,
    9: _shape,
    10: _axis,
    11: lambda kind, value, depth: _vector(_bytes(kind, value), depth),
    12: lambda kind, value, depth: _dictionary(_bytes(kind, value), depth),
    13: _tensor,
}

__all__ = ["DTYPES", "Axis", "Shape", "SolError", "Tensor", "parse"]
