"""What NumPy computes: operators whose results depend on data in a way that Sol cannot express, or
of types that it does not compute, and constants that are folded while a network is read.

The arithmetic is that of ONNX's own reference (onnx.reference), one operator at a time, or that of
hosted/. Before anything is computed its size is known, so a file of a few bytes cannot take all
memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx.shape_inference

from sol.core.dims import Dim, Size, concrete, dim
from sol.core.errors import InputError, SolError, UnsupportedError
from sol.onnx.hosted import HOSTED
from sol.onnx.types import elem_of, numpy_of
from sol.onnx.values import Array, Tensor, Value, is_symbolic

Shape = tuple[Size, ...]
_MOST_ELEMENTS = 1 << 27  # of a folded constant
_BATCHES = (5, 7)  # two batches tell a linear size
DATA = "its result depends on data in a way that Sol's operators cannot express"
SIZE = "the size of its result depends on data"
_ROW = "Sol has no row for it"
_DRAWS = "it draws random numbers, others in each call"
RANDOM = ("Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")

_OTHER_FORMS = (
    "Col2Im",
    "DFT",
    "STFT",
    "BitCast",
    "BitShift",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "MaxPool",
    "LpPool",
    "AveragePool",
    "GridSample",
    "Einsum",
    "CumSum",
    "CumProd",
    "Mod",
    "Pow",
    "Cast",
    "QuantizeLinear",
    "DequantizeLinear",
    "MelWeightMatrix",
    "LSTM",
    "GRU",
    "RNN",
)  # the forms of them that no row takes

# operators that onnx.reference computes and Sol may leave to it, with the reason
HOST: dict[str, str] = (
    {
        "NonZero": SIZE,
        "Unique": SIZE,
        "NonMaxSuppression": SIZE,
        "Compress": SIZE,
        "TopK": "it sorts",
        "Det": "its steps depend on data",
        "ScatterElements": DATA,
        "Scatter": DATA,
        "ScatterND": DATA,
        "TensorScatter": DATA,
        "MaxUnpool": DATA,
        "RoiAlign": DATA,
        "MaxRoiPool": DATA,
        "DeformConv": DATA,
        "ReverseSequence": DATA,
        "Resize": "this way of resizing has no row",
        "TfIdfVectorizer": DATA,
    }
    | dict.fromkeys(_OTHER_FORMS, _ROW)
    | dict.fromkeys(RANDOM, _DRAWS)
)
# types that Sol does not compute with; for all operators with numbers in and out
REFUSED = frozenset(
    (
        "StringNormalizer",
        "StringConcat",
        "StringSplit",
        "RegexFullMatch",
        "ImageDecoder",
        "Multinomial",
        "If",
        "Loop",
        "Scan",
        "Gradient",
        "Adam",
        "Adagrad",
        "Momentum",
    )
)


@dataclass(frozen=True)
class Runner:
    """An operator in NumPy. constants: inputs that are known, by place; types: of the others;
    label: what errors call the node."""

    node: Any
    version: int
    constants: Mapping[int, Array]
    dtypes: tuple[np.dtype[Any], ...]
    label: str = ""

    def __call__(self, *given: Array) -> tuple[Array, ...]:
        """The results, in the order of the node's outputs that have a name."""
        arrays = (np.asarray(a, dtype=t) for a, t in zip(given, self.dtypes))
        feeds: dict[str, Array] = {}
        for place, name in enumerate(self.node.input):
            if name:
                known = self.constants.get(place)
                feeds[name] = next(arrays) if known is None else known
        try:
            return _computed(self.node, self.version, feeds)
        except SolError:
            raise
        except Exception as error:  # whatever numbers make NumPy raise: an index that is too large
            raise InputError(
                f"{self.node.op_type}, node {self.label}, cannot be computed for these inputs: "
                f"{_short(error)}"
            ) from error


def _renewed(node: Any, version: int) -> tuple[Any, int]:
    """A node of an old operator set as a newer one says it, and that set."""
    if node.op_type == "Scatter":  # its newer name
        node = _copy(node)
        node.op_type = "ScatterElements"
        return node, 11
    if node.op_type == "RoiAlign" and version < 16:  # the attribute came with another default
        node, mode = _copy(node), "coordinate_transformation_mode"
        node.attribute.append(onnx.helper.make_attribute(mode, "output_half_pixel"))
        return node, 16
    return node, version


def _copy(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _computed(node: Any, version: int, feeds: Mapping[str, Array]) -> tuple[Array, ...]:
    node, version = _renewed(node, version)
    if node.op_type in HOSTED and node.domain in ("", "ai.onnx"):
        return _hosted(node, [feeds.get(n) if n else None for n in node.input])
    outputs = [o for o in node.output if o]
    opsets = [onnx.helper.make_opsetid(node.domain, version)]
    if node.domain:
        opsets.append(onnx.helper.make_opsetid("", 21))
    graph = onnx.helper.make_graph(
        [node], "g", [onnx.helper.make_empty_tensor_value_info(n) for n in feeds],
        [onnx.helper.make_empty_tensor_value_info(n) for n in outputs],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    with np.errstate(all="ignore"):
        found = onnx.reference.ReferenceEvaluator(model).run(outputs, dict(feeds))
    return tuple(_array(node, v) for v in found)


def _hosted(node: Any, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    with np.errstate(all="ignore"):
        found = HOSTED[node.op_type](attrs, inputs)
    return tuple(value for name, value in zip(node.output, found) if name)


def _short(error: Exception) -> str:
    """The first line of an error of somebody else's, and its type."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.160}"


def _array(node: Any, value: Any) -> Array:
    if not isinstance(value, (np.ndarray, np.generic, int, float, bool)):
        raise UnsupportedError(node.op_type, f"its result is a {type(value).__name__}")
    return np.asarray(value)


def folded(node: Any, version: int, inputs: Sequence[Array | None]) -> tuple[Array, ...]:
    """The results of a node whose inputs are all known."""
    shapes = result_types(node, version, inputs)
    if shapes is not None:
        for shape, _ in shapes:
            check_size(node, shape)
    elif node.op_type in _GROWING:
        raise UnsupportedError(node.op_type, "the size of a constant is not known")
    feeds = {name: value for name, value in zip(node.input, inputs) if name and value is not None}
    try:
        return _computed(node, version, feeds)
    except (UnsupportedError, InputError, MemoryError):
        raise
    except Exception as error:  # whatever a damaged model makes NumPy raise
        raise UnsupportedError(
            node.op_type, f"its constants cannot be computed: {_short(error)}"
        ) from error


_GROWING = frozenset(
    (
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "OneHot",
        "Pad",
        "EyeLike",
        "Resize",
        "Upsample",
        "HannWindow",
        "Col2Im",
        "HammingWindow",
        "BlackmanWindow",
        "MelWeightMatrix",
        "ConvTranspose",
        "AffineGrid",
        "CenterCropPad",
    )
)


def check_size(node: Any, shape: Sequence[Size]) -> None:
    """Refuse a constant that takes all memory."""
    count = math.prod(concrete(shape, 1))
    if count > _MOST_ELEMENTS:
        raise InputError(
            f"{node.op_type}: a constant of {count} elements",
            expected=f"at most {_MOST_ELEMENTS}",
            do="check the model: such a constant takes more memory than the file suggests",
        )


# ---- types of results ----------------------------------------------------------------------------


def result_types(
    node: Any, version: int, inputs: Sequence[Value | None]
) -> list[tuple[Shape, int]] | None:
    """Shape and element type of each result, by ONNX's own rules; None if data decides."""
    open = any(isinstance(s, Dim) for v in inputs if isinstance(v, Tensor) for s in v.shape)
    if any(isinstance(v, np.ndarray) and is_symbolic(v) for v in inputs):
        raise UnsupportedError(node.op_type, "an input depends on the batch size B")
    if not open:
        return _inferred(node, version, inputs, 1)
    found = [_inferred(node, version, inputs, b) for b in _BATCHES]
    a, b = found
    if a is None or b is None:
        return None
    return [(_between(s, t), elem) for (s, elem), (t, _) in zip(a, b)]


def _between(a: Shape, b: Shape) -> Shape:
    """Sizes for any batch from those for two."""
    first, second = _BATCHES
    sizes: list[Size] = []
    for at_first, at_second in zip(a, b, strict=True):
        assert isinstance(at_first, int)
        assert isinstance(at_second, int)
        coef, rest = divmod(at_second - at_first, second - first)
        if rest:
            raise UnsupportedError("a size", "it is not linear in the batch size B")
        sizes.append(dim(coef, at_first - coef * first))
    return tuple(sizes)


def _inferred(
    node: Any, version: int, inputs: Sequence[Value | None], batch: int
) -> list[tuple[Shape, int]] | None:
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
    except Exception:
        return None
    types, data = {}, {}
    for name, value in zip(node.input, inputs):
        if not name or value is None:
            continue
        if isinstance(value, np.ndarray):
            elem, shape = elem_of(value.dtype), value.shape
            if value.size <= 4096 and value.dtype.kind in "iufb":
                data[name] = onnx.numpy_helper.from_array(value, name)
        else:
            elem, shape = value.elem, concrete(value.shape, batch)
        types[name] = onnx.helper.make_tensor_type_proto(elem, shape)
    opsets = [onnx.helper.make_opsetid(node.domain, version)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=opsets
        )
    except Exception:
        return None
    return _fixed(found, [o for o in node.output if o])


def _fixed(found: Mapping[str, Any], outputs: Sequence[str]) -> list[tuple[Shape, int]] | None:
    result: list[tuple[Shape, int]] = []
    for name in outputs:
        if name not in found or not found[name].HasField("tensor_type"):
            return None
        tensor = found[name].tensor_type
        if not tensor.HasField("shape") or not tensor.elem_type:
            return None
        if any(not d.HasField("dim_value") for d in tensor.shape.dim):
            return None
        numpy_of(tensor.elem_type)
        result.append((tuple(d.dim_value for d in tensor.shape.dim), tensor.elem_type))
    return result


def reason_of(op: str) -> str:
    """Why NumPy computes an operator that Sol has no row for."""
    return HOST.get(op, _ROW)
