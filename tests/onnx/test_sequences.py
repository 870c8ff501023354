"""Sequences and optional values, taken apart while a model is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from sol.core.errors import SolError
from tests.onnx.models import by_reference, model, networks, node, numbers

X = {"x": (np.float32, [4, 3])}
Y = {"x": (np.float32, [4, 3]), "y": (np.float32, [4, 3])}


def check(nodes: list[Any], inputs: Any = X, **weights: Any) -> None:
    proto = model(nodes, inputs, ["z"], {k: np.asarray(v) for k, v in weights.items()})
    arrays = {name: numbers(4, 3, seed=k) for k, name in enumerate(inputs)}
    np.testing.assert_array_equal(networks(proto)(arrays)["z"], by_reference(proto, arrays)["z"])


def test_a_sequence_grows_and_shrinks() -> None:
    check(
        [
            node("SequenceEmpty", "", "s0"),
            node("SequenceInsert", "s0 x", "s1"),
            node("SequenceInsert", "s1 y zero", "s2"),
            node("SequenceInsert", "s2 x minus", "s3"),
            node("SequenceErase", "s3 minus", "s4"),
            node("SequenceConstruct", "x y", "s5"),
            node("SequenceErase", "s5", "s6"),
            node("SequenceAt", "s6 minus", "w"),
            node("ConcatFromSequence", "s4", "v", axis=1),
            node("Concat", "v w", "z", axis=1),
        ],
        Y,
        zero=np.int64(0),
        minus=np.int64(-1),
    )


@pytest.mark.parametrize("sizes", [None, np.array([1, 3]), np.array(3)])
@pytest.mark.parametrize("opset", [11, 21])
def test_a_tensor_is_split(sizes: Any, opset: int) -> None:
    given, weights = ("x", {}) if sizes is None else ("x n", {"n": sizes})
    nodes = [
        node("SplitToSequence", given, "s", axis=0, **({"keepdims": 0} if sizes is None else {})),
        node("Identity", "s", "t"),
        node("SequenceLength", "t", "count"),
        node("SequenceAt", "t one", "a"),
        node("Mul", "a count_", "z"),
        node("Cast", "count", "count_", to=TensorProto.FLOAT),
    ]
    nodes[4], nodes[5] = nodes[5], nodes[4]
    proto = model(nodes, X, ["z"], {"one": np.int64(1), **weights}, opset)
    arrays = {"x": numbers(4, 3)}
    np.testing.assert_array_equal(networks(proto)(arrays)["z"], by_reference(proto, arrays)["z"])


def test_a_loop_collects_a_sequence() -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            node("Identity", "more", "go"),
            node("Add", "state x", "next"),
            node("SequenceInsert", "seen next", "all"),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("more", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, None),
            helper.make_tensor_sequence_value_info("seen", TensorProto.FLOAT, None),
        ],
        [
            value("go", TensorProto.BOOL, []),
            value("next", TensorProto.FLOAT, None),
            helper.make_tensor_sequence_value_info("all", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        node("SequenceEmpty", "", "none"),
        node("Loop", "rounds true x none", "last found", body=body),
        node("ConcatFromSequence", "found", "z", axis=0, new_axis=1),
    ]
    check(nodes, rounds=np.int64(3), true=np.array(True))


def test_a_body_for_each_element() -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Add", "a b", "c")],
        "body",
        [value("a", 1, None), value("b", 1, None)],
        [value("c", 1, None)],
    )
    check(
        [
            node("SplitToSequence", "x", "s", axis=1),
            node("SequenceMap", "s x", "t", body=body),
            node("ConcatFromSequence", "t", "z", axis=0),
        ]
    )


def test_the_place_of_an_element_may_be_an_input() -> None:
    inputs = {**X, "k": (np.int64, [])}
    nodes = [node("SplitToSequence", "x", "s", axis=1), node("SequenceAt", "s k", "z")]
    made = networks(model(nodes, inputs, ["z"]))
    x = numbers(4, 3)
    for k in (2, 0, -1):
        np.testing.assert_array_equal(made({"x": x, "k": np.int64(k)})["z"], x[:, [k]])
    with pytest.raises(SolError, match=r"SequenceAt.*: place \[3\] of 3"):
        made({"x": x, "k": np.int64(3)})


def test_optional_values() -> None:
    nodes = [
        node("Optional", "x", "o"),
        node("OptionalHasElement", "o", "there"),
        node("OptionalGetElement", "o", "e"),
        node("Where", "there e x", "z"),
    ]
    proto = model(nodes, X, ["z"])
    made = networks(proto)
    np.testing.assert_array_equal(made({"x": numbers(4, 3)})["z"], numbers(4, 3))


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([node("SequenceConstruct", "x", "s"), node("Relu", "s", "z")], "reads 's', a sequence"),
        ([node("SequenceLength", "x", "z")], "SequenceLength.*, reads 'x', which is none"),
        ([node("SequenceConstruct", "x", "z")], "the output z is not supported: it is a sequence"),
        ([node("SequenceEmpty", "", "s"), node("SequenceAt", "s k", "z")], "place .* of 0"),
    ],
)
def test_what_is_no_sequence_or_no_tensor(nodes: list[Any], text: str) -> None:
    proto = model(nodes, X, ["z"], {"k": np.array(0)})
    with pytest.raises(SolError, match=text):
        networks(proto)({"x": numbers(4, 3)})
