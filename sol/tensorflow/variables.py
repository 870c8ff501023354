"""The variables of a model: their values without copies, and which of them were assigned.

A variable's memory is shared by whoever has read it, and TensorFlow never writes into memory that
somebody else holds: an assignment gives the variable other memory. So Sol holds what it has read,
and reads all variables again at each call, by one operation and without a copy: a variable was
assigned if, and only if, it stands at another address. (Variables that sparse updates have put into
the mode where each read is a copy are taken out of it, and compared by content that one time.)
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import RLock
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context

from sol.tensorflow.watch import Watch

Array = NDArray[Any]


class Variables:
    """All variables that programs of one model read, each by a name of its own."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.watch = Watch()  # of the layers whose variables these are
        self._keys: dict[int, str] = {}
        self._owners: list[Any] = []  # identities stay taken as long as their objects live
        self._taken: set[str] = set()
        self._variables: dict[str, Any] = {}
        self._held: dict[str, Array] = {}
        # of the variables, in this order: what is needed to read them, and where they stood
        self._handles: list[Any] = []
        self._types: list[int] = []
        self._addresses: list[int] = []

    def key(self, owner: Any, name: str) -> str:
        """The name of a variable or array: the same at each time, and no other's."""
        identity = id(getattr(owner, "handle", owner))
        found = self._keys.get(identity)
        if found is not None:
            return found
        key = f"{name}:"  # no name of a value has a colon
        while key in self._taken:
            key += ":"
        self._taken.add(key)
        self._keys[identity] = key
        self._owners.append(owner)
        return key

    def value(self, key: str, owner: Any) -> Array:
        """The array of a variable, on its own memory; an array is its own."""
        if isinstance(owner, np.ndarray):
            return owner
        with self.lock:
            if key not in self._variables:
                self._variables[key] = owner
                self._handles.append(owner.handle)
                self._types.append(owner.dtype.as_datatype_enum)
                (tensor,) = _read(self._handles[-1:], self._types[-1:])
                self._held[key] = _array(tensor)
                self._addresses.append(_address(self._held[key]))
            return self._held[key]

    def changed(self) -> dict[str, Array]:
        """The arrays of variables that were assigned since they were read last."""
        if not self._variables:
            return {}
        tensors = _read(self._handles, self._types)
        found: dict[str, Array] = {}
        for key, tensor, before in zip(self._variables, tensors, self._addresses):
            array = _array(tensor)
            if _address(array) != before and not self._is_copy(key, array):
                found[key] = array
        if found:
            self._held.update(found)
            self._addresses = [_address(a) for a in self._held.values()]
        return found

    def _is_copy(self, key: str, array: Array) -> bool:
        """Whether an array at another address is what is known already."""
        known = self._held[key]
        if known.shape != array.shape or known.tobytes() != array.tobytes():
            return False
        tf.raw_ops.DisableCopyOnRead(resource=self._variables[key].handle)
        self._held[key] = array
        self._addresses = [_address(a) for a in self._held.values()]
        return True


def _read(handles: Sequence[Any], types: Sequence[int]) -> list[Any]:
    """The values of variables, on their own memory; by one operation where TensorFlow has it."""
    count = len(handles)
    try:
        eager = context.context()
        eager.ensure_initialized()
        return pywrap_tfe.TFE_Py_Execute(  # type: ignore[no-any-return]
            eager._handle, None, "_ReadVariablesOp", handles, ("N", count, "dtypes", types), count
        )
    except Exception:
        return [
            tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.as_dtype(kind))
            for handle, kind in zip(handles, types)
        ]


def _array(tensor: Any) -> Array:
    """A tensor as an array on its memory."""
    return np.asarray(memoryview(tensor))


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])
