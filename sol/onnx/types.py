"""Element types of ONNX: their numbers, NumPy's and Sol's names of them.

Sol computes in float32, in float64 where a network has it, and in integers of up to 64 bits.
float16 and bfloat16 are computed in float32, integers of 2 and 4 bits in 8: they are converted
where they enter and leave a network. Other types are left to NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from sol.core.dtypes import BOOL, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, DType
from sol.core.errors import UnsupportedError

_T: Any = onnx.TensorProto
COMPUTED: dict[int, DType] = {
    _T.FLOAT: F32,
    _T.INT64: I64,
    _T.INT32: I32,
    _T.INT16: I16,
    _T.INT8: I8,
    _T.UINT64: U64,
    _T.UINT32: U32,
    _T.UINT16: U16,
    _T.UINT8: U8,
    _T.BOOL: BOOL,
    _T.DOUBLE: F64,
    _T.FLOAT16: F32,
    _T.BFLOAT16: F32,
    _T.INT4: I8,
    _T.UINT4: U8,
    _T.INT2: I8,
    _T.UINT2: U8,
}
BITS: dict[int, int] = {_T.INT4: 4, _T.UINT4: 4, _T.INT2: 2, _T.UINT2: 2}
_REFUSED = (_T.UNDEFINED, _T.STRING)


def name_of(elem: int) -> str:
    """1 -> float: as ONNX spells a type in `tensor(float)`."""
    names = {v: k.lower() for k, v in _T.DataType.items()}
    return str(names.get(elem, f"type {elem}"))


def numpy_of(elem: int) -> np.dtype[Any]:
    """NumPy's type of elements."""
    if elem in _REFUSED or elem not in _T.DataType.values():
        raise UnsupportedError(
            f"tensor({name_of(elem)})", "Sol computes with numbers", expected="a numeric tensor"
        )
    found: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(elem)
    return found


def elem_of(dtype: np.dtype[Any]) -> int:
    """ONNX's number of a NumPy type."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def edge_type(elem: int) -> DType:
    """The type of an input or output of a network, float16 and all that included."""
    dtype = numpy_of(elem)
    known = next((t for t in COMPUTED.values() if t.numpy == dtype.name), None)
    kind = "float" if dtype.kind not in "iu" else "int"
    return known or DType(dtype.name, dtype.name, "", dtype.itemsize, kind)  # type: ignore[arg-type]
