"""What Sol uses of MXNet itself, where a user has it: its objects as NumPy arrays, and back.

Nothing here imports MXNet: whoever hands one of its objects over has done so.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def package() -> Any:
    """The package `mxnet`, None if the process has not imported it."""
    return sys.modules.get("mxnet")


def is_array(value: Any) -> bool:
    """Whether this is an NDArray, of either interface."""
    mx = package()
    return mx is not None and isinstance(value, mx.nd.NDArray)


def is_symbol(value: Any) -> bool:
    """Whether this is a Symbol."""
    mx = package()
    return mx is not None and isinstance(value, mx.sym.Symbol)


def is_block(value: Any) -> bool:
    """Whether this is a gluon Block."""
    mx = package()
    return mx is not None and isinstance(value, mx.gluon.Block)


def copied(value: Any) -> Array:
    """An array of its own with the values of an NDArray; other arrays as they are."""
    return np.asarray(value.asnumpy()) if is_array(value) else np.asarray(value)


def viewed(value: Any) -> Array:
    """The memory of a dense NDArray on the CPU, once all that writes to it has ended. It is valid
    as long as MXNet does nothing with the NDArray."""
    mx = package()
    value.wait_to_read()
    address = ctypes.c_void_p()
    mx.base.check_call(mx.base._LIB.MXNDArrayGetData(value.handle, ctypes.byref(address)))
    dtype = np.dtype(value.dtype)
    shape = tuple(value.shape)
    if address.value is None or 0 in shape:
        return np.empty(shape, dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = (ctypes.c_char * size).from_address(address.value)
    return np.frombuffer(memory, dtype).reshape(shape)


def handed_back(result: Array, like: Any) -> Any:
    """A result as an NDArray of the same interface as another, on the result's own memory."""
    mx = package()
    made = mx.nd.from_numpy(np.ascontiguousarray(result).reshape(result.shape))
    return made.as_np_ndarray() if isinstance(like, mx.np.ndarray) else made
