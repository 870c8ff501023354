"""What Sol makes of a file, by the reference in NumPy: without a compiler, many calls are cheap."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sol.core.dtypes import DTYPES
from sol.ir.graph import TensorType
from sol.mxnet.symbol import parse_symbol
from sol.mxnet.translate import read
from sol.ops.reference import evaluate


def type_of(array: np.ndarray) -> TensorType:
    dtype = next(t for t in DTYPES.values() if t.numpy == array.dtype.name)
    return TensorType(array.shape, dtype)


def evaluated(text: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The results of a network without parameters."""
    types = {name: type_of(array) for name, array in arrays.items()}
    (graph,) = read(parse_symbol(text), types, {}).graphs
    return evaluate(graph, {n.name: arrays[n.origin] for n in graph.inputs}, batch=1)
