"""An ONNX model as Sol reads it: its graph, functions, weights, inputs and outputs.

`load` takes a path, bytes or a ModelProto, and refuses what is no valid model with a reason.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from sol.arrays.signature import Input, Open
from sol.core import config
from sol.core.errors import InputError, UnsupportedError
from sol.onnx.tensors import Array, array_of
from sol.onnx.types import edge_type, name_of

STANDARD = ("", "ai.onnx")
_SEQUENCES = "sequences, maps and optional values are not tensors"


@dataclass(frozen=True)
class Port:
    """An input or output as ONNX Runtime shows it: sizes are numbers, names or None."""

    name: str
    elem: int
    shape: tuple[Open, ...] | None

    @property
    def type(self) -> str:
        """`tensor(float)` and so on."""
        return f"tensor({name_of(self.elem)})"


@dataclass(frozen=True)
class Model:
    """A model, read: `weights` are initialisers by name, `functions` by domain and name."""

    name: str
    graph: Any
    opsets: Mapping[str, int]
    functions: Mapping[tuple[str, str], Any]
    weights: Mapping[str, Array]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    ir_version: int = 8
    converted: dict[str, Array] = field(default_factory=dict)  # float16 weights in float32

    @property
    def network_inputs(self) -> tuple[Input, ...]:
        """The inputs as sol.arrays has them."""
        return tuple(Input(p.name, edge_type(p.elem), p.shape or ()) for p in self.inputs)

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(w.size for w in self.weights.values() if w.dtype.kind not in "iub")

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return self.opsets.get("", 1)


# what reading a model that contradicts itself may raise: in protobuf, NumPy, onnx and Python
DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip


def load(source: Any) -> Model:
    """The model in a file, in bytes, or a ModelProto. Raises InputError, UnsupportedError."""
    proto, folder, name = _proto_of(source)
    with sound(name):
        return _model_of(proto, folder, name)


@contextmanager
def sound(name: str) -> Iterator[None]:
    """Whatever a damaged model makes others raise is an InputError; SOL_CHECK=1 shows it all."""
    try:
        yield
    except DAMAGE as error:
        if config.CHECK.get():
            raise
        raise InputError(
            f"{name} cannot be read: {type(error).__name__}: {error}",
            expected="a valid ONNX model",
            do="check it: onnx.checker.check_model(model, full_check=True)",
        ) from error


def _proto_of(source: Any) -> tuple[Any, Path | None, str]:
    if isinstance(source, onnx.ModelProto):
        return source, None, source.graph.name or "the network"
    if isinstance(source, bytes):
        return _parsed(source, "these bytes"), None, "the network"
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            f"a {type(source).__name__} is no ONNX model",
            expected="the path of a file, its bytes, or an onnx.ModelProto",
        )
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", expected="the path of an ONNX file") from None
    return _parsed(data, str(path)), path.parent, path.name


def _parsed(data: bytes, what: str) -> Any:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise InputError(
            f"{what}: no ONNX model, or a damaged one ({error})", expected="a file written by ONNX"
        ) from None
    return proto


def _model_of(proto: Any, folder: Path | None, name: str) -> Model:
    graph = proto.graph
    if not graph.node and not graph.output:
        raise InputError(f"{name} has no graph", expected="an ONNX model with nodes and outputs")
    opsets = _opsets(proto, name)
    weights = {t.name: array_of(t, folder) for t in graph.initializer}
    weights |= {t.values.name: _dense(t) for t in graph.sparse_initializer}
    inputs = tuple(_port(i, name) for i in graph.input if i.name not in weights)
    outputs = tuple(_port(o, name) for o in graph.output)
    for kind, ports in (("inputs", inputs), ("outputs", outputs)):
        names = [p.name for p in ports]
        if len(set(names)) < len(names):
            raise InputError(f"{name} has two {kind} of one name", expected="each name once")
    functions = {(f.domain, f.name): f for f in proto.functions}
    return Model(name, graph, opsets, functions, weights, inputs, outputs, proto.ir_version or 8)


def _opsets(proto: Any, name: str) -> dict[str, int]:
    opsets = {"" if o.domain in STANDARD else o.domain: o.version for o in proto.opset_import}
    newest = onnx.defs.onnx_opset_version()
    version = opsets.get("", 0 if proto.opset_import else 1)
    if "" in opsets and not 1 <= version <= newest:
        raise UnsupportedError(
            f"opset {version}",
            f"{name} was written for it",
            expected=f"opsets up to {newest}",
            do="update onnx: pip install -U onnx",
        )
    return opsets


def _port(value: Any, name: str) -> Port:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(
            f"{value.name} of {name}",
            f"it is a {kind or 'value without a type'}: {_SEQUENCES}",
            do="export the model with tensors only (skl2onnx: options={'zipmap': False})",
        )
    tensor = value.type.tensor_type
    edge_type(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Port(value.name, tensor.elem_type, None)
    return Port(value.name, tensor.elem_type, tuple(map(_open, tensor.shape.dim)))


def _open(dim: Any) -> Open:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return str(dim.dim_param) or None


def _dense(sparse: Any) -> Array:
    """A sparse initialiser as an array; only small ones, since a few bytes may say any size."""
    import numpy as np

    shape, values = tuple(sparse.dims), array_of(sparse.values, None)
    if any(d < 0 for d in shape) or math.prod(shape) > max(1 << 16, 64 * values.size):
        raise UnsupportedError(
            f"the sparse tensor {sparse.values.name!r}", f"its shape is {list(shape)}"
        )
    places = array_of(sparse.indices, None)
    dense = np.zeros(shape, values.dtype)
    try:
        at = np.unravel_index(places, shape) if places.ndim == 1 else tuple(places.T)
        dense[at] = values
    except (IndexError, ValueError) as error:
        raise InputError(f"the sparse tensor {sparse.values.name!r}: {error}") from None
    return dense
