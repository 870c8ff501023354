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

from sol.core.dims import Dim, Size, concrete, dim
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.tensorflow.context import Array, Hosted, Known, Reading, Value, computable, dtype_of

_BATCHES = (5, 7)  # two batches tell a linear size
_UNKNOWN = "a size of its result is not known before it runs"


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
    nodes = [x for x in inputs if isinstance(x, Node)]
    types = _types(op.type, nodes, op.outputs, None)

    def run(*arrays: Array) -> Sequence[Array]:
        given = iter(arrays)
        return run_operation(op, [x.array if isinstance(x, Known) else next(given) for x in inputs])

    return add(reading, run, nodes, types, op.type, origin, reason)


def _types(
    operator: str, inputs: Sequence[Node], results: Sequence[Any],
    function: Callable[..., Any] | None,
) -> list[TensorType]:  # fmt: skip
    """The types of results. Sizes that their symbolic tensors do not have are those that
    TensorFlow infers for two batches, or else, and without a function to infer them of, those of
    the inputs' batch."""
    if any(r.shape is None or getattr(r.shape, "rank", 0) is None for r in results):
        raise UnsupportedError(operator, "TensorFlow does not know the shape of its result")
    shapes = [list(r.shape) for r in results]
    if any(None in shape for shape in shapes):
        try:
            if function is None:
                raise UnsupportedError(operator, _UNKNOWN)
            first, second = (_inferred(operator, inputs, function, batch) for batch in _BATCHES)
        except UnsupportedError:
            shapes = [_by_convention(operator, shape, inputs) for shape in shapes]
        else:
            shapes = [_between(operator, a, b) for a, b in zip(first, second, strict=True)]
    kinds = (tf.as_dtype(r.dtype).name for r in results)
    return [TensorType(tuple(s), dtype_of(k, operator)) for s, k in zip(shapes, kinds)]


def _by_convention(operator: str, shape: list[Any], inputs: Sequence[Node]) -> list[Any]:
    """Sizes of a result of which what is open is the batch, if the inputs agree what that is."""
    if None not in shape:
        return shape
    opened: set[Size] = {s for x in inputs for s in x.shape if isinstance(s, Dim)}
    batches = opened or {x.shape[0] for x in inputs if x.shape}
    if len(batches) != 1 or (not opened and None in shape[1:]):
        raise UnsupportedError(operator, _UNKNOWN)
    (batch,) = batches
    return [batch if s is None else s for s in shape]


def _inferred(
    operator: str, inputs: Sequence[Node], function: Callable[..., Any], batch: int
) -> list[list[int | None]]:
    """Sizes of the results for a batch, None for those that data decides."""
    specs = [tf.TensorSpec(concrete(x.shape, batch), x.dtype.numpy) for x in inputs]
    try:
        made = tf.function(function, autograph=False).get_concrete_function(*specs)
    except Exception as error:
        raise UnsupportedError(operator, _UNKNOWN) from error
    shapes = [t.shape for t in made.outputs]
    if any(s.rank is None for s in shapes):
        raise UnsupportedError(operator, _UNKNOWN)
    return [s.as_list() for s in shapes]


def _between(operator: str, a: Sequence[int | None], b: Sequence[int | None]) -> list[Size]:
    """Sizes for any batch from those for two."""
    first, second = _BATCHES
    found: list[Size] = []
    for at_first, at_second in zip(a, b, strict=True):
        if at_first is None or at_second is None:
            raise UnsupportedError(operator, _UNKNOWN)
        coef, rest = divmod(at_second - at_first, second - first)
        if rest:
            raise UnsupportedError(operator, "a size of its result is not linear in the batch")
        found.append(dim(coef, at_first - coef * first))
    return found


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
    types = _types(operator, inputs, results, function)

    def run(*arrays: Array) -> Sequence[Array]:
        found = function(*(tf.convert_to_tensor(a) for a in arrays))
        return [np.asarray(r) for r in tf.nest.flatten(found)]

    return add(reading, run, inputs, types, operator, origin, reason)
