"""What stays in TensorFlow: an operation or a layer, as a function of arrays between Sol's parts.

Its results are inputs of the graph that is being made; cut.py cuts the graph at them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, tensor_shape_pb2
from tensorflow.python.eager import context, execute

from sol.core.dims import Dim, Shape
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.tensorflow.context import Array, Hosted, Known, Reading, Value, computable, dtype_of


def add(
    reading: Reading, function: Callable[..., Sequence[Array]], inputs: Sequence[Node],
    types: Sequence[TensorType], operator: str, origin: str, reason: str,
) -> list[Node]:  # fmt: skip
    """The nodes of the results of a function that TensorFlow runs."""
    for kind in types:
        computable(kind, operator)
    nodes = [reading.builder.input(f"{operator}_result", kind) for kind in types]
    names = tuple(n.name for n in nodes)
    given = tuple(n.name for n in inputs)
    reading.hosted.append(Hosted(function, given, names, operator, origin, reason))
    return nodes


# ---- operations of a graph -----------------------------------------------------------------------


def operation(
    reading: Reading, op: Any, inputs: Sequence[Value], origin: str, reason: str
) -> Sequence[Value]:
    """An operation of a graph that runs in TensorFlow."""
    if any(not isinstance(x, (Node, Known)) for x in inputs):
        raise UnsupportedError(op.type, reason)
    if any(isinstance(x, Known) and x.symbolic for x in inputs):
        raise UnsupportedError(op.type, f"{reason}; it reads sizes that follow the batch")
    types = [_type(op.type, t, inputs) for t in op.outputs]
    nodes = [x for x in inputs if isinstance(x, Node)]

    def run(*arrays: Array) -> Sequence[Array]:
        given = iter(arrays)
        return run_operation(op, [x.array if isinstance(x, Known) else next(given) for x in inputs])

    return add(reading, run, nodes, types, op.type, origin, reason)


def _type(operator: str, tensor: Any, inputs: Sequence[Value]) -> TensorType:
    """The type of a result; one open size is the batch, if the inputs agree what that is."""
    if tensor.shape.rank is None:
        raise UnsupportedError(operator, "TensorFlow does not know the shape of its result")
    return TensorType(
        _shape(operator, tensor.shape.as_list(), [x.shape for x in inputs if isinstance(x, Node)]),
        dtype_of(tensor.dtype.name, operator),
    )


def _shape(operator: str, sizes: Sequence[int | None], known: Sequence[Shape]) -> Shape:
    open_sizes = {s for shape in known for s in shape if isinstance(s, Dim)}
    if None in sizes and len(open_sizes) != 1:
        raise UnsupportedError(operator, "a size of its result is not known before it runs")
    batch = next(iter(open_sizes), 0)
    return tuple(batch if s is None else s for s in sizes)


def run_operation(op: Any, arrays: Sequence[Array]) -> list[Array]:
    """The results of an operation of a graph on other values."""
    eager = context.context()
    eager.ensure_initialized()
    attributes = [
        part
        for a in op.op_def.attr
        for part in (a.name, _attribute(op.get_attr(a.name)))
        if a.name in op.node_def.attr
    ]
    tensors = [tf.convert_to_tensor(a) for a in arrays]
    found = execute.execute(
        op.type.encode(), len(op.outputs), inputs=tensors, attrs=tuple(attributes), ctx=eager
    )
    return [np.asarray(r) for r in found or ()]


def _attribute(value: Any) -> Any:
    """An attribute as TensorFlow's own calls have it."""
    match value:
        case tf.DType():
            return value.as_datatype_enum
        case list():
            return [_attribute(v) for v in value]
        case tensor_shape_pb2.TensorShapeProto():
            return (
                None if value.unknown_rank else [None if d.size < 0 else d.size for d in value.dim]
            )
        case attr_value_pb2.NameAttrList():
            return value.name
    return value


# ---- layers --------------------------------------------------------------------------------------


def layer(
    reading: Reading, function: Callable[..., Any], inputs: Sequence[Node],
    results: Sequence[Any], operator: str, origin: str, reason: str,
) -> list[Node]:  # fmt: skip
    """A layer that runs in TensorFlow; results: the symbolic tensors that Keras has for it."""
    known = [x.shape for x in inputs]
    types = [
        TensorType(_shape(operator, list(r.shape), known), dtype_of(str(r.dtype), operator))
        for r in results
    ]

    def run(*arrays: Array) -> Sequence[Array]:
        found = function(*(tf.convert_to_tensor(a) for a in arrays))
        return [np.asarray(r) for r in tf.nest.flatten(found)]

    return add(reading, run, inputs, types, operator, origin, reason)
