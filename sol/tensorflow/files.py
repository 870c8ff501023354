"""Loads models from files: SavedModels, frozen graphs, models of Keras.

TensorFlow reads them, but not before their protocol buffers were parsed here, so that a file that
is cut off or no model at all is an InputError that says so, and never the end of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from sol.core.errors import InputError

_SAVED = "saved_model.pb"


def load(path: Path) -> Any:
    """What a path holds, as TensorFlow has it. Raises InputError."""
    if not path.exists():
        raise InputError(f"there is no {path}", expected="a SavedModel, a .pb or a .keras file")
    try:
        return _loader(path)(path)
    except InputError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise InputError(
            f"{path} cannot be read: {type(error).__name__}: {lines[0][:300]}",
            expected="a file that TensorFlow has written completely",
        ) from None


def _loader(path: Path) -> Callable[[Path], Any]:
    if path.is_dir():
        return _saved_model
    if path.name == _SAVED:
        return lambda file: _saved_model(file.parent)
    if path.suffix in (".keras", ".h5", ".hdf5"):
        return lambda file: keras.saving.load_model(file, compile=False)
    if path.suffix in (".pb", ".graphdef"):
        return frozen_graph
    raise InputError(
        f"{path} is none of the files that Sol knows by their names",
        expected="the directory of a SavedModel, or a file .pb, .keras, .h5",
    )


def _saved_model(directory: Path) -> Any:
    file = directory / _SAVED
    if not file.exists():
        raise InputError(f"{directory} has no {_SAVED}", expected="the directory of a SavedModel")
    parsed = _parsed(file, saved_model_pb2.SavedModel())
    if not parsed.meta_graphs:
        raise InputError(f"{file} has no graph", expected="a SavedModel")
    for meta in parsed.meta_graphs:
        _check_graph(file, meta.graph_def)
    return tf.saved_model.load(str(directory))


def _parsed(file: Path, message: Any) -> Any:
    try:
        message.ParseFromString(file.read_bytes())
    except DecodeError:
        raise InputError(
            f"{file} is no {type(message).__name__}: its bytes cannot be parsed",
            expected="a file that TensorFlow has written completely",
        ) from None
    return message


def _check_graph(file: Path, graph: Any) -> None:
    """What TensorFlow's own loader relies on; where it fails, the loader ends the process."""
    functions = graph.library.function
    for node in (*graph.node, *(n for f in functions for n in f.node_def)):
        if not node.name or not node.op:
            raise InputError(f"{file} has a node without a name or operation", expected="a graph")
        if node.op == "Const" and not _is_constant(node):
            raise InputError(
                f"{file}: the constant {node.name} is of another type than it is said to be",
                expected="a graph",
            )
    for function in functions:
        if not function.signature.name:
            raise InputError(f"{file} has a function without a name", expected="a graph")


def _is_constant(node: Any) -> bool:
    """Whether a constant has a value of its type. (Reading an entry that is missing makes it.)"""
    has_both = "value" in node.attr and "dtype" in node.attr
    return has_both and node.attr["value"].tensor.dtype == node.attr["dtype"].type


# ---- frozen graphs -------------------------------------------------------------------------------


class Frozen:
    """A graph with all weights in it, as a function of its placeholders.

    Called with tensors in the order of the placeholders, or by their names. The results are those
    of nodes that nothing reads: one tensor, or a dictionary by name.
    """

    def __init__(self, graph: Any, file: Path) -> None:
        self.__name__ = file.stem
        places = [n for n in graph.node if n.op == "Placeholder"]
        read = {i.lstrip("^").partition(":")[0] for n in graph.node for i in n.input}
        ends = [n.name for n in graph.node if n.name not in read and n.op not in _NO_RESULTS]
        if not places or not ends:
            raise InputError(
                f"{file} has {len(places)} placeholders and {len(ends)} results",
                expected="a graph with at least one of each",
            )
        self.inputs = tuple(n.name for n in places)
        self.outputs = tuple(ends)

        def imported() -> Any:
            tf.import_graph_def(graph, name="")

        wrapped = tf.compat.v1.wrap_function(imported, [])
        tensors = [wrapped.graph.get_tensor_by_name(f"{n}:0") for n in self.inputs]
        results = [wrapped.graph.get_tensor_by_name(f"{n}:0") for n in self.outputs]
        self._pruned = wrapped.prune(tensors, results)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The results for tensors of the placeholders."""
        given = dict(zip(self.inputs, args)) | kwargs
        missing = [name for name in self.inputs if name not in given]
        if missing or len(given) > len(self.inputs):
            raise InputError(
                f"{self.__name__} got {', '.join(given) or 'nothing'}",
                expected=f"tensors for {', '.join(self.inputs)}",
            )
        found = self._pruned(*(tf.convert_to_tensor(given[name]) for name in self.inputs))
        return found[0] if len(found) == 1 else dict(zip(self.outputs, found))


_NO_RESULTS = ("NoOp", "Assert", "Placeholder", "Const")


def frozen_graph(file: Path) -> Frozen:
    """The function of a frozen graph."""
    graph = _parsed(file, graph_pb2.GraphDef())
    if not graph.node:
        raise InputError(f"{file} has no nodes", expected="a frozen graph")
    _check_graph(file, graph)
    return Frozen(graph, file)
