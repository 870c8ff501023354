"""Branches, loops and functions, put in place of the nodes that they would run."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from sol.core.errors import UnsupportedError
from tests.onnx.models import agree, by_onnxruntime, by_reference, model, networks, node, numbers

X = {"x": (np.float32, ["batch", 4])}


def value(name: str, elem: int = 1, shape: Any = None) -> Any:
    return helper.make_tensor_value_info(name, elem, shape)


def check(proto: Any, arrays: Any) -> None:
    """The results are those of ONNX Runtime, which knows more than ONNX's reference."""
    found = networks(proto)(arrays)
    for output, expected in zip(proto.graph.output, by_onnxruntime(proto, arrays), strict=True):
        np.testing.assert_allclose(found[output.name], expected, rtol=1e-5, err_msg=output.name)


def branches() -> dict[str, Any]:
    yes = helper.make_graph([node("Relu", "x", "u")], "yes", [], [value("u")])
    no = helper.make_graph([node("Neg", "x", "v")], "no", [], [value("v")])
    return {"then_branch": yes, "else_branch": no}


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_of_a_constant(condition: bool) -> None:
    proto = model([node("If", "c", "y", **branches())], X, ["y"], {"c": np.array(condition)})
    made = agree(proto, {"x": numbers(3, 4)})
    assert "neg" in made.explain() or condition


def test_a_branch_of_an_input_is_chosen_by_its_value() -> None:
    inputs = {**X, "c": (np.bool_, [])}
    proto = model([node("If", "c", "y", **branches())], inputs, ["y"])
    made = networks(proto)
    for condition in (True, False, True):
        arrays = {"x": numbers(3, 4), "c": np.array(condition)}
        np.testing.assert_array_equal(made(arrays)["y"], by_reference(proto, arrays)["y"])
    assert len(made.networks) == 2


def body(condition: Any) -> Any:
    """s = s + x; the condition of the next round; each s."""
    return helper.make_graph(
        [condition, node("Add", "s x", "t"), node("Identity", "t", "each")],
        "body",
        [value("i", 7, []), value("more", 9, []), value("s")],
        [value("go", 9, []), value("t"), value("each")],
    )


def test_a_loop_with_a_known_number_of_rounds() -> None:
    graph = body(node("Identity", "more", "go"))
    proto = model(
        [node("Loop", "n - x", "y each", body=graph)], X, ["y", "each"], {"n": np.array(3)}
    )
    check(proto, {"x": numbers(2, 4)})


def test_a_loop_that_ends_by_a_condition_of_its_counter() -> None:
    graph = body(node("Less", "i two", "go"))
    proto = model([node("Loop", "- c x", "y each", body=graph)], X, ["y", "each"],
                  {"c": np.array(True), "two": np.array(2)})  # fmt: skip
    check(proto, {"x": numbers(2, 4)})


def test_a_loop_that_depends_on_data_is_refused_by_name() -> None:
    condition = [node("ReduceMax", "s", "m", keepdims=0), node("Less", "m limit", "go")]
    graph = body(condition[0])
    graph.node.insert(1, condition[1])
    loop = node("Loop", "- c x", "y each", body=graph, name="until")
    weights = {"c": np.array(True), "limit": np.float32(5)}
    with pytest.raises(UnsupportedError, match="Loop, node until"):
        networks(model([loop], X, ["y", "each"], weights))({"x": numbers(2, 4)})


def test_a_scan_over_an_axis() -> None:
    graph = helper.make_graph(
        [node("Add", "s e", "t"), node("Mul", "t e", "o")],
        "body",
        [value("s"), value("e")],
        [value("t"), value("o")],
    )
    scan = node("Scan", "zero x", "last all", body=graph, num_scan_inputs=1,
                scan_input_directions=[1], scan_output_directions=[0])  # fmt: skip
    proto = model([scan], {"x": (np.float32, [5, 4])}, ["last", "all"], {"zero": np.zeros(4, "f")})
    check(proto, {"x": numbers(5, 4)})


def test_functions_of_the_model_with_attributes() -> None:
    slope = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    leaky = node("LeakyRelu", "b", "c")
    leaky.attribute.append(slope)
    own = helper.make_function(
        "own", "Leak", ["a", "b"], ["d"], [leaky, node("Add", "a c", "d")],
        [helper.make_opsetid("", 21)], ["slope"],
    )  # fmt: skip
    call = helper.make_node("Leak", ["x", "x"], ["y"], domain="own", slope=0.25)
    check(model([call], X, ["y"], functions=[own]), {"x": numbers(3, 4)})
