"""Element types of ONNX: their numbers, NumPy's and Sol's names of them.

Sol computes in float32 and in integers of up to 64 bits. float16 and bfloat16 are computed in
float32 and converted where they enter and leave a network; other types are left to NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from sol.core.dtypes import BOOL, F32, I8, I16, I32, I64, U8, DType
from sol.core.errors import UnsupportedError

_T: Any = onnx.TensorProto
COMPUTED: dict[int, DType] = {
    _T.FLOAT: F32,
    _T.INT64: I64,
    _T.INT32: I32,
    _T.INT16: I16,
    _T.INT8: I8,
    _T.UINT8: U8,
    _T.BOOL: BOOL,
    _T.FLOAT16: F32,
    _T.BFLOAT16: F32,
}
HALVES = (_T.FLOAT16, _T.BFLOAT16)
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
