"""A network of files or symbols in MXNet itself, where the process has it: Sol's rival.

It is bound as MXNet's users bind it, once for each set of shapes, of which the last one is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.mxnet.framework import package

Array = NDArray[Any]


class Original:
    """A Symbol with parameters, called with arrays by name; its results in order."""

    def __init__(self, symbol: Any, parameters: Mapping[str, Array], numpy_shapes: bool) -> None:
        self._symbol, self._numpy_shapes = symbol, numpy_shapes
        self._parameters = {k: _own(v) for k, v in parameters.items()}
        self._bound: tuple[Any, Any] | None = None
        self._lock = Lock()

    def update(self, parameters: Mapping[str, Array]) -> None:
        """Use these values of parameters."""
        with self._lock:
            self._bound = None
            self._parameters.update({k: _own(v) for k, v in parameters.items()})

    def __call__(self, arrays: Mapping[str, Array]) -> list[Array]:
        """What MXNet computes."""
        kind = tuple((k, v.shape, v.dtype.str) for k, v in arrays.items())
        with self._lock, package().util.np_shape(self._numpy_shapes):
            if self._bound is None or self._bound[0] != kind:
                self._bound = kind, self._bind(arrays)
            executor = self._bound[1]
            for name, array in arrays.items():
                executor.arg_dict[name][:] = array
            return [y.asnumpy() for y in executor.forward(is_train=False)]

    def _bind(self, arrays: Mapping[str, Array]) -> Any:
        symbol, mx = self._symbol, package()
        given = {k: _own(v) for k, v in arrays.items()}
        missing = [k for k in symbol.list_arguments() if k not in given | self._parameters]
        if missing:  # labels, which only training reads
            shapes, _, _ = symbol.infer_shape_partial(**{k: v.shape for k, v in arrays.items()})
            known = dict(zip(symbol.list_arguments(), shapes))
            given |= {k: mx.nd.zeros(known[k] or (1,)) for k in missing}
        values = self._parameters | given
        states = {k: values[k] for k in symbol.list_auxiliary_states()}
        arguments = {k: values[k] for k in symbol.list_arguments()}
        return symbol.bind(mx.cpu(), arguments, aux_states=states, grad_req="null")


def _own(array: Array) -> Any:
    """An array of MXNet's own."""
    return package().nd.array(array, dtype=np.dtype(array.dtype))
