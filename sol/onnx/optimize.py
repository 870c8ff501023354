"""The call of a user: `sol.onnx.optimize("model.onnx")`.

Comes in: the path of a file, its bytes, or an onnx.ModelProto. Goes out: a `Session`. What no row
takes is refused here, with the operator and the node, before anything is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from sol.arrays.program import Progress
from sol.core.errors import InputError, UnsupportedError
from sol.onnx.control import CONTROL
from sol.onnx.example import example, example_of
from sol.onnx.host import HOST
from sol.onnx.model import STANDARD, Model, load, sound
from sol.onnx.networks import Networks
from sol.onnx.rows import ROWS
from sol.onnx.sequences import SEQUENCES
from sol.onnx.session import Session
from sol.onnx.sizes import OF_ANY
from sol.onnx.splice import label_of
from sol.options import Options

_KNOWN = (ROWS, CONTROL, SEQUENCES, HOST, OF_ANY)


def optimize(
    model: Any,
    *examples: Any,
    threads: int | None = None,
    precision: Any = "float32",
    memory: int | str | None = None,
    tune: float | None = None,
    progress: Progress | None = None,
) -> Session:
    """A session that computes what the model computes.

    examples: what it will be called with, in the order of its inputs, or a dict by name: arrays, or
    sizes, which stand for random numbers. For these the model is compiled now, and tuned. Without
    them it is compiled now if no size but the batch, which stands open first, is open, and tuned at
    its first call. threads: of a call, all cores if it is None. precision, memory, tune: see
    docs/using.md.
    Raises InputError for what is no model and for examples that do not fit, UnsupportedError with
    operator and node for what Sol cannot compute, ConfigError for options.
    """
    options = Options(threads=threads, precision=precision, memory=memory, tune=tune)
    loaded = load(model)
    check_operators(loaded)
    networks = Networks(loaded, options=options, progress=progress)
    session = Session(networks)
    if examples:
        networks.prepare(example_of(networks.inputs, examples))
        return session
    try:
        arrays = example(networks)
    except InputError:  # other sizes are open, too
        return session
    if not tune:
        networks.prepare(arrays)
    return session


def check_operators(model: Model) -> None:
    """Raise UnsupportedError for operators that are neither Sol's nor NumPy's."""
    with sound(model.name):
        _check_operators(model)


def _check_operators(model: Model) -> None:
    functions = {name for _, name in model.functions}
    nodes = [*model.graph.node, *(n for f in model.functions.values() for n in f.node)]
    for node in _all(nodes):
        standard = node.domain in STANDARD
        op = node.op_type
        known = any(op in table for table in _KNOWN) or op == "Constant"
        if (standard and known) or op in functions or not standard:
            continue
        if not _computable(op, model.opset):
            raise UnsupportedError(
                f"{op}, node {label_of(node)}",
                "Sol has no row for it",
                do="leave it out of the model, or run it before or after in NumPy",
            )


def _computable(op: str, version: int) -> bool:
    """Whether the standard says an operator in others, or constants may be made of it."""
    try:
        schema = onnx.defs.get_schema(op, version, "")
    except Exception:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function or op in _OF_CONSTANTS)


_OF_CONSTANTS = ("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")


def _all(nodes: Any) -> Iterator[Any]:
    """Nodes, those of bodies included."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from _all(attribute.g.node)
            for graph in attribute.graphs:
                yield from _all(graph.node)
