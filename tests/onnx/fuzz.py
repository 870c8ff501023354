"""Damaged models: files with bytes changed, cut off or repeated, and models with fields changed.

`survives` reads one as `optimize` does before it compiles. A model that is refused is refused by a
SolError; anything else is a bug.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper

from sol.arrays.captured import Captured
from sol.core.dims import B
from sol.core.errors import SolError
from sol.ir.graph import TensorType
from sol.onnx.model import load, sound
from sol.onnx.optimize import check_operators
from sol.onnx.read import Reader
from sol.onnx.splice import items_of
from tests.onnx.models import model, node, numbers

_FLOATS = (np.float32, ["batch", 3, 9, 9])


@cache
def seeds() -> list[Any]:
    """Models with all kinds of fields: weights, shapes, functions, branches, loops, NumPy."""
    convolution = model(
        [
            node("Conv", "x w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=1),
            node("BatchNormalization", "c s s s s", "n"),
            node("MaxPool", "n", "m", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
            node("Shape", "m", "sh"),
            node("Gather", "sh zero", "n0"),
            node("Unsqueeze", "n0 axes", "n1"),
            node("Concat", "n1 rest", "to", axis=0),
            node("Reshape", "m to", "f"),
            node("Gemm", "f v", "y", transB=1, alpha=0.5),
            node("Softmax", "y", "p", axis=-1),
        ],
        {"x": _FLOATS},
        ["p"],
        {
            "w": numbers(4, 3, 3, 3), "b": numbers(4), "s": np.abs(numbers(4)),
            "v": numbers(5, 100), "zero": np.array(0), "axes": np.array([0]),
            "rest": np.array([-1]),
        },
    )  # fmt: skip
    convolution = onnx.ModelProto.FromString(convolution.SerializeToString())
    return [convolution, _controlled(), _host(), _whole_numbers()]


def _controlled() -> Any:
    value = helper.make_tensor_value_info
    number = onnx.TensorProto
    body = helper.make_graph(
        [node("Identity", "more", "go"), node("Add", "s one", "t"), node("Mul", "t t", "q")],
        "body",
        [value("i", number.INT64, []), value("more", number.BOOL, []), value("s", 1, None)],
        [value("go", number.BOOL, []), value("t", 1, None), value("q", 1, None)],
    )
    yes = helper.make_graph([node("Relu", "e", "u")], "yes", [], [value("u", 1, None)])
    no = helper.make_graph([node("Neg", "e", "v")], "no", [], [value("v", 1, None)])
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"],
        [node("Add", "a a", "c"), node("LeakyRelu", "c", "b", alpha=0.1)],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    call = helper.make_node("Twice", ["e"], ["d"], domain="own")
    return model(
        [
            node("Loop", "count - x", "e all", body=body),
            call,
            node("If", "cond", "r", then_branch=yes, else_branch=no),
            node("Pad", "r pads", "y", mode="reflect"),
            node("Slice", "d starts ends", "z"),
        ],
        {"x": (np.float32, ["batch", 4])},
        ["y", "z", "all"],
        {
            "count": np.array(3), "one": np.float32(1), "cond": np.array(True),
            "pads": np.array([0, 1, 0, 1]), "starts": np.array([0]), "ends": np.array([9]),
        },
        functions=[twice],
    )  # fmt: skip


def _host() -> Any:
    return model(
        [
            node("TopK", "x k", "v i", axis=1),
            node("NonZero", "v", "nz"),
            node("Cast", "i", "h", to=10),
            node("Tile", "h reps", "t"),
            node("Einsum", "x x", "e", equation="ij,kj->ik"),
            node("Resize", "x - scales", "r", mode="linear"),
            node("ReduceSum", "r ax", "s", keepdims=0),
        ],
        {"x": (np.float32, ["batch", 4])},
        ["nz", "t", "e", "s"],
        {
            "k": np.array([2]), "reps": np.array([1, 2]), "scales": np.float32([1, 2]),
            "ax": np.array([1]),
        },
    )  # fmt: skip


def _whole_numbers() -> Any:
    """Quantised products, sequences, transforms, shifts, float64, gathers at arithmetic places."""
    return model(
        [
            node("QuantizeLinear", "x scale zero", "q", axis=1),
            node("MatMulInteger", "q w zero", "p"),
            node("QLinearMatMul", "q scale zero v scale zero scale zero", "l"),
            node("BitShift", "l one", "sh", direction="LEFT"),
            node("SplitToSequence", "p", "seq", axis=1, keepdims=0),
            node("Gather", "p first", "col", axis=1),
            node("SequenceInsert", "seq col place", "more"),
            node("SequenceErase", "more place", "less"),
            node("ConcatFromSequence", "less", "y", axis=1, new_axis=1),
            node("Cast", "x", "d", to=11),
            node("CumProd", "d axis", "r"),
            node("Reshape", "d signal", "u"),
            node("DFT", "u", "f", onesided=1, axis=1),
            node("Gather", "x places", "g", axis=1),
        ],
        {"x": (np.float32, ["batch", 4])},
        ["sh", "y", "r", "f", "g"],
        {
            "scale": np.float32(0.1), "zero": np.uint8(3), "one": np.uint8(1),
            "w": np.arange(12, dtype=np.int8).reshape(4, 3), "v": np.uint8([[1], [2], [3], [4]]),
            "place": np.array(1), "axis": np.array(1), "signal": np.array([-1, 4, 1]),
            "places": np.array([[0, 2], [1, 3]]), "first": np.array(0),
        },
    )  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file with a few bytes changed, cut off, taken out or repeated."""
    kind = rng.randrange(6)
    place = rng.randrange(len(data))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place + rng.randrange(1, 9) :]
    if kind == 2:
        return data[:place] + data[place : place + rng.randrange(1, 65)] + data[place:]
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data))
        changed[at] = rng.choice(
            (rng.randrange(256), 0, 255, changed[at] ^ (1 << rng.randrange(8)))
        )
    return bytes(changed)


_NUMBERS = (0, 1, -1, 2, 3, 7, 1 << 31, -(1 << 31), (1 << 63) - 1, -(1 << 63), 1 << 40, 100000)


def changed(proto: Any, rng: random.Random) -> Any:
    """A model with fields of nodes, tensors or shapes changed: well formed, and mostly wrong."""
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    graph = proto.graph
    for _ in range(rng.randrange(1, 4)):
        match rng.randrange(8):
            case 0:
                _attribute(rng.choice(graph.node), rng)
            case 1:
                one = rng.choice(graph.node)
                one.input[:] = rng.sample(list(one.input), len(one.input)) or [""]
            case 2:
                tensor = rng.choice(graph.initializer)
                tensor.dims[:] = [rng.choice(_NUMBERS) for _ in range(rng.randrange(4))]
            case 3:
                tensor = rng.choice(graph.initializer)
                if tensor.data_type == onnx.TensorProto.INT64:
                    values = [rng.choice(_NUMBERS) for _ in range(len(tensor.raw_data) // 8)]
                    tensor.raw_data = np.array(values, np.int64).tobytes()
            case 4:
                one = rng.choice(graph.node)
                one.op_type = rng.choice(graph.node).op_type
            case 5:
                proto.opset_import[0].version = rng.randrange(30)
            case 6:
                shape = graph.input[0].type.tensor_type.shape
                rng.choice(shape.dim).dim_value = rng.choice((0, 1, 2, 5, -3))
            case 7:
                tensor = rng.choice(graph.initializer)
                tensor.data_type = rng.randrange(30)
    return proto


def _attribute(one: Any, rng: random.Random) -> None:
    if not one.attribute:
        one.attribute.append(helper.make_attribute("axis", rng.choice(_NUMBERS[:6])))
        return
    attribute = rng.choice(one.attribute)
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_NUMBERS)
    elif attribute.type == onnx.AttributeProto.INT:
        attribute.i = rng.choice(_NUMBERS)
    elif attribute.type == onnx.AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"SAME_UPPER", b"\xff\xfe", b"linear", b"ii->"))
    else:
        attribute.f = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))


def survives(source: Any) -> str:
    """Read a model: the kind of error that it is refused with, or "read"."""
    try:
        read(source)
    except SolError as error:
        return type(error).__name__
    return "read"


def read(source: Any) -> Captured:
    """All that `optimize` does before something is compiled: with the batch open, then fixed."""
    loaded = load(source)
    check_operators(loaded)
    for batch in (B, 2):
        types = {
            i.name: TensorType(tuple(s if isinstance(s, int) else batch for s in i.shape), i.dtype)
            for i in loaded.network_inputs
        }
        with sound(loaded.name):
            items = items_of(loaded.graph.node, loaded.opsets)
        reader = Reader(loaded, types)
        outputs = tuple(p.name for p in loaded.outputs)
        try:
            return reader.captured(items, outputs)
        except SolError:
            if batch == 2:
                raise
    raise AssertionError


def mutations(count: int, seed: int) -> Iterator[Any]:
    """Damaged files and changed models, in turn."""
    rng = random.Random(seed)
    for n in range(count):
        yield mutation(rng, fields=n % 2 == 0)


def mutation(rng: random.Random, fields: bool) -> Any:
    """A model with fields changed, or a damaged file."""
    chosen = rng.choice(seeds())
    return changed(chosen, rng) if fields else damaged(chosen.SerializeToString(), rng)
