"""Reads a graph of TensorFlow: every operation through its row, functions that it calls inlined.

Comes in: a graph and what its placeholders stand for. Goes out: the values of its results, as
nodes appended to the reading. What has no row, or is refused by it, runs in TensorFlow as it is and
leaves its reason (host.py). What is known already is computed by TensorFlow at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import function_def_to_graph

from sol.core.dims import Dim
from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.tensorflow import host
from sol.tensorflow.context import Context, Known, Reading, Value, computable, dtype_of
from sol.tensorflow.operations import OPERATIONS
from sol.tensorflow.operations.known import computed

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_QUIET = (
    "Assert",
    "NoOp",
    "ReadVariableOp",
    "VarHandleOp",
    "ResourceGather",
    "Placeholder",
    *_CALLS,
)
_MOST_FOLDED = 1 << 16  # elements of results that are computed while reading
_ROW_MISTAKES = (TypeError, ValueError, LookupError, AssertionError, AttributeError)


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """A variable of which nothing is known but its handle."""

    handle: Any
    name: str

    @property
    def dtype(self) -> Any:
        """The type of its elements."""
        return tf.as_dtype(self._known.dtype)

    @property
    def shape(self) -> Any:
        """Its shape."""
        return tf.TensorShape(self._known.shape)

    @property
    def _known(self) -> Any:
        data = self.handle._handle_data
        if data is None or not data.is_set or len(data.shape_and_type) != 1:
            raise UnsupportedError(self.name, "a resource that is no variable")
        return data.shape_and_type[0]


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A variable, where a graph hands it around."""

    variable: Any


class Attributes(Mapping[str, Any]):
    """The attributes of an operation, text as text."""

    def __init__(self, op: Any) -> None:
        self._op = op

    def __getitem__(self, name: str) -> Any:
        try:
            value = self._op.get_attr(name)
        except ValueError:
            raise KeyError(name) from None
        return value.decode() if isinstance(value, bytes) else value

    def __iter__(self) -> Iterator[str]:
        return iter(a.name for a in self._op.op_def.attr)

    def __len__(self) -> int:
        return len(self._op.op_def.attr)


def read_graph(
    reading: Reading,
    graph: Any,
    given: Mapping[Any, Value],
    outputs: Sequence[Any],
    origin: str = "",
) -> list[Value]:
    """The values of tensors of a graph. given: values of placeholders, by `tensor.ref()`."""
    values: dict[Any, Value] = dict(given)
    needed = _needed(outputs)
    _check_effects(graph, needed)
    for op in graph.get_operations():
        if op in needed and not all(t.ref() in values for t in op.outputs):
            _read_operation(reading, op, values, origin)
    return [values[t.ref()] for t in outputs]


def _needed(outputs: Iterable[Any]) -> set[Any]:
    found: set[Any] = set()
    stack = [t.op for t in outputs]
    while stack:
        op = stack.pop()
        if op not in found:
            found.add(op)
            stack.extend(t.op for t in op.inputs)
    return found


def _check_effects(graph: Any, needed: set[Any]) -> None:
    """What a graph does beside its results would not be done."""
    for op in graph.get_operations():
        if op not in needed and op.op_def.is_stateful and op.type not in _QUIET:
            raise UnsupportedError(op.type, "it changes something beside the result")


def _read_operation(reading: Reading, op: Any, values: dict[Any, Value], origin: str) -> None:
    inputs = tuple(values.get(t.ref()) for t in op.inputs)
    place = origin or _place(op.name)
    mark = len(reading.hosted)
    try:
        results = _translated(reading, op, inputs, place)
    except SolError as error:
        reason = getattr(error, "reason", "") or error.what
    except _ROW_MISTAKES as error:
        reason = f"the row failed: {type(error).__name__}: {error}"
    else:
        values.update((t.ref(), r) for t, r in zip(op.outputs, results))
        return
    del reading.hosted[mark:]
    results = host.operation(reading, op, inputs, place, reason)
    values.update((t.ref(), r) for t, r in zip(op.outputs, results))


def _place(name: str) -> str:
    """The user's layer that an operation stands in: all but the last part of its name."""
    layer, _, own = name.rpartition("/")
    return layer or own


def _translated(
    reading: Reading, op: Any, inputs: tuple[Value, ...], place: str
) -> Sequence[Value]:
    if op.type in _CALLS:
        return _call(reading, op, inputs, place)
    if op.type == "Const":
        return [_constant(op)]
    if op.type in ("ReadVariableOp", "ResourceGather"):
        inputs = (_variable(reading, inputs[0], op), *inputs[1:])
        if op.type == "ReadVariableOp":
            return [inputs[0]]
    if op.type == "Identity" and isinstance(inputs[0], Resource):
        return inputs
    c = Context(reading, op.type, place, Attributes(op))
    if any(isinstance(x, Resource) for x in inputs):
        c.refuse("it works on a variable")
    if inputs and all(isinstance(x, Known) for x in inputs):
        found = _folded(c, op, inputs)
        if found is not None:
            return found
    row = OPERATIONS.get(op.type)
    if row is None:
        c.refuse("Sol has no row for it")
    result = row(c, *inputs)
    results = result if isinstance(result, tuple) else (result,)
    return [_checked(c, r, t) for r, t in zip(results, op.outputs)]


def _constant(op: Any) -> Known:
    array = tf.make_ndarray(op.get_attr("value"))
    return Known(array, dtype_of(array.dtype.name, "Const"))


def _variable(reading: Reading, resource: Value, op: Any) -> Node:
    if not isinstance(resource, Resource):
        raise UnsupportedError(op.type, "it reads something that is no variable of the model")
    variable = resource.variable
    dtype = dtype_of(variable.dtype.name, op.type)
    computable(TensorType((), dtype), op.type)
    if not variable.shape.is_fully_defined():
        raise UnsupportedError(op.type, "a variable whose shape may change")
    name = str(variable.name).removesuffix(":0")
    return reading.parameter(variable, name, tuple(variable.shape), dtype)


def _folded(c: Context, op: Any, inputs: tuple[Known, ...]) -> Sequence[Value] | None:
    """The results of an operation on known values; None if its row has to say them."""
    if any(x.symbolic for x in inputs):
        found = computed(c, inputs)
        return None if found is None else [found]
    if op.op_def.is_stateful:
        return None
    sizes = [t.shape.num_elements() for t in op.outputs]
    if any(s is None or s > _MOST_FOLDED for s in sizes):
        return None
    arrays = host.run_operation(op, [x.array for x in inputs])
    return [Known(np.asarray(a), dtype_of(np.asarray(a).dtype.name, op.type)) for a in arrays]


def _checked(c: Context, result: Value, tensor: Any) -> Value:
    """The result, if it has the type that TensorFlow says, as far as it says one."""
    if isinstance(result, Known) or result is None:
        return result
    kind = result.type
    if not isinstance(kind, TensorType):
        c.refuse("a row with several results in one")
    computable(kind, c.target)
    shape = tensor.shape
    fits = kind.dtype.numpy == tensor.dtype.name
    if shape.rank is not None:
        fits = fits and shape.rank == kind.rank
        pairs = zip(shape.as_list(), kind.shape)
        fits = fits and all(s is None or isinstance(k, Dim) or s == k for s, k in pairs)
    if not fits:
        c.refuse(f"Sol infers {kind}, TensorFlow {tensor.dtype.name}{shape}")
    if any(size == 0 for size in kind.shape):
        c.refuse("a result without elements")
    return result


# ---- functions that are called -------------------------------------------------------------------


def _call(reading: Reading, op: Any, inputs: tuple[Value, ...], place: str) -> Sequence[Value]:
    body = _body(op.graph, op.get_attr("f").name)
    given = {t.ref(): x for t, x in zip(body.inputs, inputs)}
    inner = place if op.graph.building_function or place != op.name else ""
    return read_graph(reading, body, given, list(body.outputs), inner)


def _body(graph: Any, name: str) -> Any:
    """The graph of a function."""
    function = graph._get_function(name)
    if function is None:
        raise UnsupportedError(name, "the function that is called is not in the graph")
    body = getattr(function, "graph", None)
    return body or function_def_to_graph.function_def_to_graph(function.definition)
