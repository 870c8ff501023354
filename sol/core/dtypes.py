"""Element types:

name, NumPy name, C name, bytes. float32 is computed; integers and booleans carry indices, masks and
positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DType:
    """One element type."""

    name: str
    numpy: str
    c: str
    bytes: int
    kind: Literal["float", "int", "bool"]

    def __str__(self) -> str:
        return self.name


F32 = DType("f32", "float32", "float", 4, "float")
F64 = DType("f64", "float64", "double", 8, "float")
I64 = DType("i64", "int64", "int64_t", 8, "int")
I32 = DType("i32", "int32", "int32_t", 4, "int")
I16 = DType("i16", "int16", "int16_t", 2, "int")
I8 = DType("i8", "int8", "int8_t", 1, "int")
U8 = DType("u8", "uint8", "uint8_t", 1, "int")
BOOL = DType("bool", "bool", "uint8_t", 1, "bool")

DTYPES = {t.name: t for t in (F32, F64, I64, I32, I16, I8, U8, BOOL)}


def promote(a: DType, b: DType) -> DType:
    """The type that holds both:

    bool < u8/i8 < i16 < i32 < i64 < f32 < f64 (u8 with i8 gives i16, as in PyTorch).
    """
    if a is b:  # nearly always
        return a
    if {a.name, b.name} == {"u8", "i8"}:
        return I16
    order = (BOOL, U8, I8, I16, I32, I64, F32, F64)
    return max(a, b, key=order.index)
