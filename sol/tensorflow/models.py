"""Reads a model of Keras: its graph of layers, each through its row, models within it too.

A layer without a row, or whose row refuses it, is traced and read as TensorFlow's (graphs.py).
If that fails as well, the layer runs in TensorFlow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras import tree
from keras.src.models.functional import Functional

from sol.core.dims import Dim
from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.tensorflow import host
from sol.tensorflow.context import Context, Known, Reading, Value, computable, dtype_of
from sol.tensorflow.graphs import Resource, Variable, read_graph
from sol.tensorflow.layers import LAYERS

_MISTAKES = (TypeError, ValueError, LookupError, AssertionError, AttributeError)
_MASKERS = (keras.layers.Masking,)
_IGNORE_MASKS = (keras.layers.BatchNormalization, keras.layers.TimeDistributed)


class Wrapper:
    """A model that computes what another one does: `original`."""

    original: Any


def is_functional(model: Any) -> bool:
    """Whether a model is its graph of layers, and nothing else."""
    kind = type(model)
    plain = getattr(kind, "call", None) is Functional.call and kind.__call__ is Functional.__call__
    return isinstance(model, Functional) and plain


def is_sequential(model: Any) -> bool:
    """Whether a model is a sequence of layers, and nothing else."""
    kind = type(model)
    return isinstance(model, keras.Sequential) and kind.call is keras.Sequential.call


def graph_of(model: Any) -> Any:
    """The graph of layers of a model: inputs, outputs and nodes. None without one."""
    if isinstance(model, Wrapper):
        return graph_of(model.original)
    if is_functional(model):
        return model
    if is_sequential(model) and model.built:
        return getattr(model, "_functional", None)
    return None


def drawing(model: Any) -> str:
    """The first layer that was put into training mode when the model was made, so that it draws
    random numbers or uses statistics of the batch unless a call says `training=False`; or ""."""
    graph = graph_of(model)
    nodes = [n for each in graph._nodes_by_depth.values() for n in each] if graph else []
    for layer, own in ((n.operation, n.arguments.kwargs) for n in nodes):
        inner = drawing(layer) if graph_of(layer) is not None else ""
        if inner or (own.get("training") and _is_other_in_training(layer)):
            return inner or str(layer.name)
    return ""


def _is_other_in_training(layer: Any) -> bool:
    generator = getattr(layer, "seed_generator", None) or getattr(layer, "generator", None)
    return generator is not None or isinstance(layer, keras.layers.BatchNormalization)


def read_model(
    reading: Reading, model: Any, inputs: Sequence[Value], path: str = ""
) -> list[Value]:
    """The values of the outputs of a model with a graph of layers, for those of its inputs."""
    graph = graph_of(model)
    _check(graph, reading.training)
    values: dict[int, Value] = {id(t): x for t, x in zip(graph._inputs, inputs)}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.operation or node.is_input:
                continue
            args, kwargs = node.arguments.fill_in(values)
            name = f"{path}/{node.operation.name}" if path else node.operation.name
            results = _read_layer(reading, node, args, kwargs, name)
            values.update((id(t), r) for t, r in zip(node.outputs, results))
    return [values[id(t)] for t in graph._outputs]


def _check(graph: Any, training: bool) -> None:
    """What the whole model must not have."""
    layers = [n.operation for nodes in graph._nodes_by_depth.values() for n in nodes]
    for layer in layers:
        if getattr(layer, "activity_regularizer", None) is not None:
            raise UnsupportedError(layer.name, "it adds to the loss of the model")
        kind = getattr(layer, "compute_dtype", None)
        if kind is not None and str(kind) not in ("float32", "int32", "int64", "bool", "uint8"):
            raise UnsupportedError(layer.name, f"Sol computes in float32, not in {kind}")
    makers = [x for x in layers if isinstance(x, _MASKERS) or getattr(x, "mask_zero", False)]
    ignore = () if training else _IGNORE_MASKS
    readers = [x for x in layers if not isinstance(x, ignore) and _reads_masks(x)]
    if makers and readers:
        raise UnsupportedError(
            readers[0].name, f"it reads the mask that {makers[0].name} makes, and Sol has no masks"
        )


def layers_of(layer: Any) -> list[Any]:
    """A layer and all layers within it; operations that are no layers have none."""
    return list(layer._flatten_layers()) if isinstance(layer, keras.layers.Layer) else []


def _reads_masks(layer: Any) -> bool:
    if not isinstance(layer, keras.layers.Layer):
        return False
    return any("mask" in name for name in inspect.signature(layer.call).parameters)


def _read_layer(reading: Reading, node: Any, args: Any, kwargs: Any, path: str) -> Sequence[Value]:
    layer = node.operation
    if graph_of(layer) is not None:
        (given,) = args
        return read_model(reading, layer, _in_order(layer, given), path)
    if type(layer) is keras.layers.TimeDistributed and not reading.training:
        return _over_time(reading, layer, args[0], path)
    reasons: list[str] = []
    mark, seeds, updates = len(reading.hosted), len(reading.seeds), len(reading.updates)
    for way in (_by_row, _by_trace):
        try:
            results: list[Value] = tree.flatten(way(reading, layer, args, kwargs, path))
            if way is _by_trace:
                return results
            reading.variables.watch.add_row(layer)
            return [_checked(layer, r, t) for r, t in zip(results, node.outputs, strict=True)]
        except SolError as error:
            reasons.append(getattr(error, "reason", "") or error.what)
        except _MISTAKES as error:
            reasons.append(f"the row failed: {type(error).__name__}: {error}")
        del reading.hosted[mark:], reading.seeds[seeds:], reading.updates[updates:]
    reason = "; ".join(dict.fromkeys(r for r in reasons if r != _NO_ROW)) or _NO_ROW
    if reading.training:
        raise UnsupportedError(f"{type(layer).__name__} {path}", reason)
    nodes, call = _as_function(layer, args, kwargs, False)
    outputs = node.outputs
    return host.layer(reading, call, nodes, outputs, type(layer).__name__, path, reason)


@dataclass(frozen=True)
class _Inner:
    """What is asked of a node of Keras: a layer, and the symbolic tensors of its results."""

    operation: Any
    outputs: Sequence[Any]


def _over_time(reading: Reading, layer: Any, x: Node, path: str) -> Sequence[Value]:
    """A layer for each step of a sequence: for all steps at once, as one batch."""
    batch, steps, *sizes = x.shape
    c = Context(reading, type(layer).__name__, path)
    if not isinstance(steps, int):
        c.refuse("an open number of steps")
    spec = layer.layer.compute_output_spec(keras.KerasTensor((None, *sizes), dtype=x.dtype.numpy))
    inner = _Inner(layer.layer, tree.flatten(spec))
    reading.variables.watch.add_row(layer)
    flat = c.reshape(x, (batch * steps, *sizes))
    found = as_nodes(reading, _read_layer(reading, inner, (flat,), {}, path))
    return [c.reshape(y, (batch, steps, *y.shape[1:])) for y in found]


_NO_ROW = "Sol has no row for it"


def _in_order(model: Any, given: Any) -> list[Value]:
    """The inputs of a model in the order of its graph."""
    if isinstance(given, dict):
        names = [t.name for t in graph_of(model)._inputs]
        struct = getattr(graph_of(model), "_inputs_struct", None)
        keys = sorted(struct) if isinstance(struct, dict) else names
        return [given[key] for key in keys]
    return list(tree.flatten(given))


def _by_row(reading: Reading, layer: Any, args: Any, kwargs: Any, path: str) -> Any:
    row = LAYERS.get(type(layer))
    if row is None or getattr(layer, "lora_enabled", False):
        raise UnsupportedError(type(layer).__name__, _NO_ROW)
    if getattr(layer, "quantization_mode", None):
        raise UnsupportedError(type(layer).__name__, "its weights are quantised")
    kwargs = {k: v for k, v in kwargs.items() if k != "training"}
    return row(Context(reading, type(layer).__name__, path), layer, *args, **kwargs)


def _checked(layer: Any, result: Value, expected: Any) -> Value:
    """The result, if it has the type that Keras says."""
    if isinstance(result, Known):
        return result
    kind = result.type
    name = type(layer).__name__
    if not isinstance(kind, TensorType):
        raise UnsupportedError(name, "a row with several results in one")
    computable(kind, name)
    fits = kind.dtype.numpy == str(expected.dtype) and kind.rank == len(expected.shape)
    pairs = zip(kind.shape, expected.shape)
    fits = fits and all(e is None or isinstance(s, Dim) or s == e for s, e in pairs)
    if not fits:
        raise UnsupportedError(name, f"Sol infers {kind}, Keras {expected.dtype}{expected.shape}")
    return result


def packed(structure: Any, results: list[Any]) -> Any:
    """Results in the structure of a model's outputs; a single one in a list stands alone."""
    packed = tree.pack_sequence_as(structure, results)
    if isinstance(packed, (list, tuple)) and len(packed) == 1:
        return packed[0]
    return packed


def as_nodes(reading: Reading, values: Sequence[Any]) -> list[Node]:
    """Results as nodes of the graph."""
    found = []
    for value in values:
        if isinstance(value, Known):
            if value.symbolic:
                raise UnsupportedError("a result", "it is a size that follows the batch")
            value = reading.builder.constant(value.array, value.dtype)
        if not isinstance(value, Node):
            raise UnsupportedError("a result", "it is no tensor")
        found.append(value)
    return found


# ---- tracing a layer -----------------------------------------------------------------------------


def _as_function(
    layer: Any, args: Any, kwargs: Any, training: bool
) -> tuple[list[Node], Callable[..., Any]]:
    """The nodes that a call of a layer reads, and the call as a function of tensors for them."""
    flat = tree.flatten((args, kwargs))
    nodes = [x for x in flat if isinstance(x, Node)]
    more = {"training": training} if getattr(layer, "_call_has_training_arg", False) else {}

    def call(*tensors: Any) -> Any:
        given = iter(tensors)
        filled = [_filled(x, given) for x in flat]
        own_args, own_kwargs = tree.pack_sequence_as((args, kwargs), filled)
        return layer(*own_args, **{**own_kwargs, **more})

    return nodes, call


def _filled(x: Any, tensors: Any) -> Any:
    if isinstance(x, Node):
        return next(tensors)
    return x.array if isinstance(x, Known) else x


def _by_trace(reading: Reading, layer: Any, args: Any, kwargs: Any, path: str) -> Any:
    nodes, call = _as_function(layer, args, kwargs, reading.training)
    function = traced(call, [n.tensor for n in nodes])
    for each in layers_of(layer):
        reading.variables.watch.add_plain(each)
    return read_function(reading, function, nodes, path)


def traced(function: Callable[..., Any], types: Sequence[TensorType]) -> Any:
    """A function of tensors as a graph, the batch open where it is in the types."""
    specs = [
        tf.TensorSpec([None if isinstance(s, Dim) else s for s in t.shape], t.dtype.numpy)
        for t in types
    ]
    try:
        return tf.function(function, autograph=False).get_concrete_function(*specs)
    except Exception as error:
        first = str(error).strip().splitlines() or [""]
        raise UnsupportedError(
            "tracing", f"TensorFlow cannot trace it: {type(error).__name__}: {first[0]}"
        ) from None


def read_function(
    reading: Reading, function: Any, inputs: Sequence[Value], origin: str = ""
) -> list[Value]:
    """The values of the results of a concrete function, for those of its tensor arguments."""
    graph = function.graph
    own = graph.inputs[: len(graph.inputs) - len(graph.captures)]
    given: dict[Any, Value] = {t.ref(): x for t, x in zip(own, inputs, strict=True)}
    variables = {id(v.handle): v for v in function.variables}
    for outer, inner in graph.captures:
        given[inner.ref()] = _captured(outer, inner, variables)
    return read_graph(reading, graph, given, list(function.outputs), origin)


def _captured(outer: Any, inner: Any, variables: dict[int, Any]) -> Value:
    """What a function has from outside: a variable, or a tensor that never changes."""
    if outer.dtype == tf.resource:
        known = variables.get(id(outer))
        return Resource(Variable(outer, inner.op.name) if known is None else known)
    array = outer.numpy()
    return Known(array, dtype_of(array.dtype.name, "a captured tensor"))
