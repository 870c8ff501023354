"""Shapes that are computed: with the batch as a symbol, from inputs, and from data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.onnx.models import agree, by_onnxruntime, by_reference, model, networks, node, numbers

IMAGES = {"x": (np.float32, ["batch", 2, 6])}

# what exporters write; nodes that make y of x, and weights
COMPUTED: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "flatten by shape": (
        [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n axes", "u"),
         node("Concat", "u rest", "to", axis=0), node("Reshape", "x to", "y")],
        {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])},
    ),
    "heads": (
        [node("Shape", "x", "s", start=0, end=1), node("Mul", "s two", "m"),
         node("Concat", "m rest", "to", axis=0), node("Reshape", "x to", "y")],
        {"two": np.array([2]), "rest": np.array([-1])},
    ),
    "a token for each image": (
        [node("Shape", "x", "s", start=0, end=1), node("Concat", "s rest", "to", axis=0),
         node("Expand", "token to", "t"), node("Concat", "t x", "y", axis=1)],
        {"token": numbers(1, 1, 6), "rest": np.array([1, 6])},
    ),
    "expand with -1": (
        [node("Shape", "x", "s"), node("Equal", "minus s", "e"), node("Where", "e ones s", "to"),
         node("Expand", "token to", "t"), node("Add", "x t", "y")],
        {"minus": np.array([-1]), "ones": np.array([1, 1, 1]), "token": numbers(1, 2, 6)},
    ),
    "positions": (
        [node("Shape", "x", "s", start=2, end=3), node("Squeeze", "s", "n"),
         node("Range", "zero n one", "r"), node("Cast", "r", "f", to=1), node("Add", "x f", "y")],
        {"zero": np.array(0), "one": np.array(1)},
    ),
    "numbers of images": (
        [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Range", "zero n one", "r"),
         node("Cast", "r", "f", to=1), node("Reshape", "f to", "c"), node("Add", "x c", "y")],
        {"zero": np.array(0), "one": np.array(1), "to": np.array([-1, 1, 1])},
    ),
    "a slice of half": (
        [node("Shape", "x", "s", start=2, end=3), node("Div", "s two", "h"),
         node("Slice", "x h s axis", "y")],
        {"two": np.array([2]), "axis": np.array([2])},
    ),
    "zeros": (
        [node("Shape", "x", "s"), node("ConstantOfShape", "s", "z"), node("Add", "x z", "y")], {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COMPUTED)
def test_one_program_for_every_batch(case: str) -> None:
    nodes, weights = COMPUTED[case]
    proto = model(nodes, IMAGES, ["y"], weights)
    made = networks(proto)
    for batch in (3, 1, 4):
        arrays = {"x": numbers(batch, 2, 6)}
        np.testing.assert_allclose(made(arrays)["y"], by_reference(proto, arrays)["y"], rtol=1e-5)
    (network,) = made.networks
    (entry,) = network.entries
    assert entry.signature.symbolic
    assert len(entry.program.captured.steps) == 1


def test_not_linear_in_the_batch_is_read_for_each() -> None:
    nodes = [node("MatMul", "x t", "y"), node("Transpose", "x", "t", perm=[1, 0])][::-1]
    proto = model([*nodes, node("Flatten", "y", "f", axis=0)], {"x": (np.float32, ["n", 3])}, ["f"])
    made = networks(proto)
    for batch in (2, 3):
        arrays = {"x": numbers(batch, 3)}
        np.testing.assert_allclose(made(arrays)["f"], by_reference(proto, arrays)["f"], rtol=1e-5)
    assert "for this batch size only" in made.explain()


def test_an_input_that_decides_about_a_size_belongs_to_the_program() -> None:
    inputs = {**IMAGES, "to": (np.int64, [2])}
    proto = model([node("Reshape", "x to", "r"), node("Relu", "r", "y")], inputs, ["y"])
    made = networks(proto)
    for sizes in ([0, -1], [-1, 3], [0, -1]):
        arrays = {"x": numbers(2, 2, 6), "to": np.array(sizes)}
        np.testing.assert_array_equal(made(arrays)["y"], by_reference(proto, arrays)["y"])
    assert len(made.networks) == 2
    assert "with to=[ 0 -1]" in made.explain()


def test_sizes_that_depend_on_data_lead_to_one_program_for_all() -> None:
    nodes = [
        node("Relu", "x", "r"), node("NonZero", "r", "z"), node("Transpose", "z", "places"),
        node("GatherND", "r places", "found"), node("Mul", "found two", "y"),
    ]  # fmt: skip
    proto = model(nodes, {"x": (np.float32, ["n", 3])}, ["y", "r"], {"two": np.float32(2)})
    made = networks(proto)
    for seed in range(3):
        arrays = {"x": numbers(4, 3, seed=seed)}
        for name, expected in by_reference(proto, arrays).items():
            np.testing.assert_array_equal(made(arrays)[name], expected)
    text = made.explain()
    assert "NonZero" in text
    assert "the size of its result depends on data" in text
    assert "3 operators" in text
    none = {"x": -np.ones((2, 3), np.float32)}
    assert made(none)["y"].shape == (0,)


def test_a_size_from_data_decides_about_a_shape() -> None:
    nodes = [node("ReduceMax", "n", "m", keepdims=1), node("Concat", "m one", "to", axis=0),
             node("Expand", "x to", "y")]  # fmt: skip
    proto = model(nodes, {"x": (np.float32, [1, 3]), "n": (np.int64, [2])}, ["y"],
                  {"one": np.array([3])})  # fmt: skip
    made = networks(proto)
    for most in (2, 5):
        arrays = {"x": numbers(1, 3), "n": np.array([1, most])}
        assert made(arrays)["y"].shape == (most, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16])
def test_other_types_are_computed_in_float32_or_by_numpy(dtype: Any) -> None:
    nodes = [node("Add", "x x", "a"), node("Mul", "a a", "y")]
    proto = model(nodes, {"x": (dtype, ["n", 3])}, ["y"])
    x = (np.arange(6).reshape(2, 3) / (4 if dtype != np.uint16 else 1)).astype(dtype)
    made = agree_exactly(proto, {"x": x})
    assert ("Cast" in made.explain()) == (dtype == np.float16)


def agree_exactly(proto: Any, arrays: Any) -> Any:
    made = networks(proto)
    found, expected = made(arrays)["y"], by_reference(proto, arrays)["y"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    return made


def test_no_elements() -> None:
    proto = model([node("Relu", "x", "r"), node("Concat", "r r", "y", axis=1)],
                  {"x": (np.float32, ["n", 0, "m"])}, ["y"])  # fmt: skip
    agree(proto, {"x": numbers(2, 0, 3)})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_gru_whose_reset_gate_comes_before_the_product(direction: str) -> None:
    runs = 1 + (direction == "bidirectional")
    weights = {
        "w": numbers(runs, 18, 3), "r": numbers(runs, 18, 6, seed=1),
        "b": numbers(runs, 36, seed=2), "h": numbers(runs, 2, 6, seed=3),
    }  # fmt: skip
    gru = node("GRU", "x w r b - h", "y last", hidden_size=6, direction=direction)
    proto = model([gru], {"x": (np.float32, [4, 2, 3])}, ["y", "last"], weights)
    made = networks(proto)
    found = made({"x": numbers(4, 2, 3, seed=4)})
    for name, expected in zip(
        ("y", "last"), by_onnxruntime(proto, {"x": numbers(4, 2, 3, seed=4)})
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    assert "NumPy" not in made.explain()
