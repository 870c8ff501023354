"""Quantised and integer operators by Sol alone: exact, as ONNX's reference and ONNX Runtime have
them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.onnx.models import by_onnxruntime, by_reference, model, networks, node, numbers

RNG = np.random.default_rng(0)


def integers(dtype: Any, *shape: int) -> Any:
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def check(
    op: str, arrays: dict[str, Any], weights: dict[str, Any], runtime: bool = True, **attrs: Any
) -> Any:
    """One node, whose inputs are the arrays and the weights in alphabetical order."""
    names = sorted({**arrays, **weights})
    inputs = {n: (a.dtype, a.shape) for n, a in arrays.items()}
    proto = model([node(op, " ".join(names), "z", **attrs)], inputs, ["z"], weights)
    proto.graph.output[0].type.Clear()
    expected = by_reference(proto, arrays)["z"]
    proto.graph.output[0].type.tensor_type.elem_type = _elem(expected)
    made = networks(proto)
    found = made(arrays)["z"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    assert not [s for n in made.networks for e in n.entries for s in e.program.captured.steps[1:]]
    if runtime:  # it multiplies in float32, which may round to the other side
        (other,) = by_onnxruntime(proto, arrays)
        assert abs(found.astype(np.int64) - other.astype(np.int64)).max() <= (op[0] == "Q")
    return found


def _elem(array: Any) -> int:
    from tests.onnx.models import elem

    return elem(array.dtype)


@pytest.mark.parametrize("axis", [None, 0])
def test_qlinear_conv(axis: int | None) -> None:
    per_channel = axis is not None
    scale = np.float32([0.02, 0.05, 0.01, 0.03]) if per_channel else np.float32(0.02)
    zero = np.zeros(4, np.int8) if per_channel else np.int8(0)
    weights = {
        "b_scale": np.float32(0.1), "c_zero": np.uint8(120), "d_w": integers(np.int8, 4, 3, 3, 3),
        "e_scale": scale, "f_zero": zero, "g_scale": np.float32(0.9), "h_zero": np.uint8(7),
        "i_bias": RNG.integers(-5000, 5000, 4).astype(np.int32),
    }  # fmt: skip
    found = check("QLinearConv", {"a_x": integers(np.uint8, 2, 3, 9, 7)}, weights, pads=[1] * 4)
    assert len(np.unique(found)) > 2


def test_qlinear_matmul() -> None:
    weights = {
        "b": np.float32(0.1), "c": np.uint8(113), "d": integers(np.uint8, 33, 5),
        "e": np.float32(0.03), "f": np.uint8(9), "g": np.float32(1.7), "h": np.uint8(128),
    }  # fmt: skip
    check("QLinearMatMul", {"a": integers(np.uint8, 2, 4, 33)}, weights)


def test_integer_products() -> None:
    x, w = {"a": integers(np.uint8, 7, 1300)}, {"b": integers(np.int8, 1300, 6)}
    check("MatMulInteger", x, w | {"c": np.uint8(200), "d": np.int8(-3)})
    rows = {"c": integers(np.uint8, 7, 1), "d": integers(np.int8, 6)}
    check("MatMulInteger", x, w | rows, runtime=False)
    images = {"a": integers(np.uint8, 1, 4, 8, 9)}
    w = {"b": integers(np.uint8, 6, 2, 3, 3), "c": np.uint8(17), "d": np.uint8(130)}
    check("ConvInteger", images, w, group=2, strides=[2, 1], pads=[0, 1, 1, 0])
    check("MatMul", {"a": integers(np.int32, 3, 5)}, {"b": integers(np.int32, 5, 4)}, False)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_numbers_that_lie_between_two_steps_go_to_the_even_one(dtype: Any) -> None:
    x = {"a": np.float32(np.arange(-900, 900) * 0.05)}
    check("QuantizeLinear", x, {"b": np.float32(0.1), "c": np.asarray(3, dtype)}, False)


def test_quantised_in_blocks() -> None:
    scales = np.abs(numbers(2, 3, 2)) + 0.1
    zeros = RNG.integers(-9, 9, (2, 3, 2)).astype(np.int8)
    weights = {"b": scales, "c": zeros}
    q = check("QuantizeLinear", {"a": numbers(2, 5, 2)}, weights, False, axis=1, block_size=2)
    inputs = {"a": (np.int8, q.shape)}
    proto = model(
        [node("DequantizeLinear", "a b c", "z", axis=1, block_size=2)], inputs, ["z"], weights
    )
    found = networks(proto)({"a": q})["z"]
    np.testing.assert_array_equal(found, by_reference(proto, {"a": q})["z"])


@pytest.mark.parametrize("dtype", [np.uint16, np.uint64, np.int32])
def test_whole_numbers_beyond_those_of_float32(dtype: Any) -> None:
    ops = ("Add", "Mul", "Div", "Mod", "Max", "Less")
    nodes = [node(op, "a b", op) for op in ops] + [node("ReduceMax", "a", "last")]
    a, b = integers(dtype, 5, 7), np.maximum(integers(dtype, 7), 1)
    proto = model(nodes, {"a": (dtype, a.shape)}, [*ops, "last"], {"b": b})
    found, expected = networks(proto)({"a": a}), by_reference(proto, {"a": a})
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_bits_that_leave_the_type_are_gone() -> None:
    a, b = {"a": integers(np.uint8, 40)}, {"b": np.uint8(np.arange(40) // 4)}
    check("BitShift", a, b, False, direction="LEFT")
    check("BitShift", a, b, False, direction="RIGHT")
