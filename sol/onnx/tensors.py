"""Tensors of a file as arrays: inside of it, or in files beside it.

Everything here distrusts the file: sizes are compared with the bytes that are there before memory
is taken for them, and a file beside the model is read only if it lies in the model's folder, by no
detour. Large tensors are not copied.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from sol.core.errors import InputError
from sol.onnx.types import numpy_of

Array = NDArray[Any]


def array_of(tensor: Any, folder: Path | None) -> Array:
    """The value of a TensorProto. Raises InputError if it contradicts itself."""
    shape = _shape_of(tensor)
    dtype = numpy_of(tensor.data_type)
    count = math.prod(shape)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _external(tensor, shape, dtype, folder)
    there = _elements_there(tensor)
    if count > there:
        raise InputError(
            f"the tensor {tensor.name!r} has the shape {list(shape)}, and {there} elements",
            expected=f"{count} elements",
            do="the file is damaged: write it again",
        )
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor)).reshape(shape)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the tensor {tensor.name!r} cannot be read: {error}") from error


def _shape_of(tensor: Any) -> tuple[int, ...]:
    shape = tuple(tensor.dims)
    if len(shape) > 32 or any(not 0 <= d < 2**48 for d in shape) or math.prod(shape) >= 2**48:
        raise InputError(
            f"the tensor {tensor.name!r} has the shape {list(shape)}",
            expected="at most 32 sizes of at least 0",
        )
    return shape


def _elements_there(tensor: Any) -> int:
    """An upper bound of the elements that the fields of a tensor hold."""
    if tensor.HasField("raw_data"):
        bits = max(1, _bits(tensor.data_type))
        return len(tensor.raw_data) * 8 // bits
    fields = (
        tensor.float_data, tensor.int32_data, tensor.int64_data,
        tensor.double_data, tensor.uint64_data, tensor.string_data,
    )  # fmt: skip
    per_entry = max(1, 8 // max(1, _bits(tensor.data_type)))  # two int4 in one number
    return max(map(len, fields)) * per_entry


def _bits(elem: int) -> int:
    name = onnx.TensorProto.DataType.Name(elem)
    known = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    known |= {"FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
    return known.get(name, 8 * numpy_of(elem).itemsize)


# ---- files beside the model ----------------------------------------------------------------------


def _external(
    tensor: Any, shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None
) -> Array:
    entries = {e.key: e.value for e in tensor.external_data}
    path = _inside(entries.get("location", ""), folder, tensor.name)
    offset, length = _number(entries, "offset", tensor.name), entries.get("length")
    bits = _bits(tensor.data_type)
    needed = -(-math.prod(shape) * bits // 8)
    size = path.stat().st_size
    given = needed if length is None else _number(entries, "length", tensor.name)
    if offset + needed > size or given < needed:
        raise InputError(
            f"the tensor {tensor.name!r} needs {needed} bytes from {offset} on in {path.name}, "
            f"which has {size}",
            expected="a file that goes with the model",
        )
    if needed == 0:
        return np.zeros(shape, dtype)
    if bits % 8 == 0:
        raw = np.memmap(path, np.uint8, "r", offset, (needed,))
        little = dtype.newbyteorder("<") if dtype.kind in "iuf" else dtype
        return raw.view(little).reshape(shape)
    with path.open("rb") as file:
        file.seek(offset)
        copy = onnx.TensorProto(
            data_type=tensor.data_type, dims=shape, name=tensor.name, raw_data=file.read(needed)
        )
    return array_of(copy, None)


def _number(entries: dict[str, str], key: str, name: str) -> int:
    text = entries.get(key, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InputError(f"the tensor {name!r} has {key}={text!r}", expected="a number of bytes")
    return int(text)


def _inside(location: str, folder: Path | None, name: str) -> Path:
    """The file beside the model that a tensor names."""
    what = f"the tensor {name!r} is in the file {location!r}"
    if folder is None:
        raise InputError(
            what, expected="a model that stands in a file", do="give the path of the model"
        )
    parts = location.replace("\\", "/").split("/")
    plain = not location.startswith("/") and ".." not in parts and ":" not in parts[0]
    if not location or "\0" in location or not plain:
        raise InputError(what, expected="a file in the folder of the model, by a relative path")
    path, kind = folder, stat.S_IFDIR
    for part in (p for p in parts if p not in ("", ".")):
        path = path / part
        try:
            kind = os.lstat(path).st_mode
        except OSError as error:
            raise InputError(
                f"{what}: {error.strerror}", expected=f"that file in {folder}"
            ) from None
        if stat.S_ISLNK(kind):
            raise InputError(f"{what}, a symbolic link", expected="a file in the model's folder")
    if not stat.S_ISREG(kind):
        raise InputError(f"{what}, which is no file", expected="a file in the model's folder")
    return path
