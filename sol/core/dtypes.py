"""Element types:

name, NumPy name, C name, bytes. Kernels compute in float32; integers and booleans carry indices,
masks, positions and quantised numbers, and float64 is computed element by element.
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
U64 = DType("u64", "uint64", "uint64_t", 8, "int")
U32 = DType("u32", "uint32", "uint32_t", 4, "int")
U16 = DType("u16", "uint16", "uint16_t", 2, "int")
U8 = DType("u8", "uint8", "uint8_t", 1, "int")
BOOL = DType("bool", "bool", "uint8_t", 1, "bool")

DTYPES = {t.name: t for t in (F32, F64, I64, I32, I16, I8, U64, U32, U16, U8, BOOL)}
_ORDER = (BOOL, U8, I8, U16, I16, U32, I32, U64, I64, F32, F64)
_UNSIGNED = (U8, U16, U32, U64)
_SIGNED = {1: I16, 2: I32, 4: I64, 8: I64}  # what holds unsigned integers of so many bytes


def promote(a: DType, b: DType) -> DType:
    """The type that holds both:

    bool < integers < f32 < f64; u8 with i8 gives i16, and so on, but u64 with a signed one i64.
    """
    if a is b:  # nearly always
        return a
    larger = max(a, b, key=_ORDER.index)
    lesser = a if larger is b else b
    if larger in _UNSIGNED and lesser.kind == "int" and lesser not in _UNSIGNED:
        return _SIGNED[larger.bytes]
    if lesser in _UNSIGNED and larger.kind == "int" and lesser.bytes == larger.bytes:
        return _SIGNED[lesser.bytes]
    return larger
