"""Properties of windows, broadcasting and layouts: any of them, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.onnx.models import by_onnxruntime, elem, model, networks, node, numbers
from tests.onnx.nodes import interpreted

SETTINGS = settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
few = st.integers(1, 3)


@pytest.fixture(autouse=True)
def _by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read is tested here, and run by the NumPy reference; code has its own tests."""
    monkeypatch.setattr("sol.arrays.network.make", interpreted)


def check(proto: Any, arrays: Any) -> None:
    found = networks(proto)(arrays)
    for output, expected in zip(proto.graph.output, by_onnxruntime(proto, arrays), strict=True):
        assert found[output.name].shape == expected.shape
        np.testing.assert_allclose(found[output.name], expected, rtol=1e-4, atol=1e-5)


@st.composite
def windows(draw: Any) -> dict[str, Any]:
    """Attributes of a window that fits an image of 9 x 8."""
    kernel = [draw(few), draw(few)]
    found = {"kernel_shape": kernel, "strides": [draw(few), draw(few)]}
    auto = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto == "NOTSET":
        found["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    else:
        found["auto_pad"] = auto
    return found


@SETTINGS
@given(windows(), st.sampled_from([1, 2]), st.integers(1, 2))
def test_convolutions(window: dict[str, Any], group: int, dilation: int) -> None:
    if "auto_pad" not in window or window["auto_pad"] == "VALID":
        window["dilations"] = [dilation, 1]
    weights = {"w": numbers(4, 4 // group, *window["kernel_shape"]), "b": numbers(4)}
    proto = model([node("Conv", "x w b", "y", group=group, **window)],
                  {"x": (np.float32, ["n", 4, 9, 8])}, ["y"], weights)  # fmt: skip
    check(proto, {"x": numbers(2, 4, 9, 8)})


@SETTINGS
@given(windows(), st.booleans(), st.integers(0, 1), st.sampled_from(["MaxPool", "AveragePool"]))
def test_pooling(window: dict[str, Any], ceil: bool, count: int, op: str) -> None:
    extra = {"count_include_pad": count} if op == "AveragePool" else {}
    ceil_mode = int(ceil and "auto_pad" not in window)
    proto = model([node(op, "x", "y", ceil_mode=ceil_mode, **window, **extra)],
                  {"x": (np.float32, ["n", 2, 9, 8])}, ["y"])  # fmt: skip
    check(proto, {"x": numbers(2, 2, 9, 8)})


@SETTINGS
@given(windows(), st.booleans(), st.integers(0, 1), st.sampled_from(["f", "b"]))
def test_maxima_and_their_places(window: dict[str, Any], ceil: bool, order: int, kind: str) -> None:
    ceil_mode = int(ceil and "auto_pad" not in window)
    if any(s > k for s, k in zip(window["strides"], window["kernel_shape"])):
        return  # ONNX Runtime has negative pads for some
    proto = model([node("MaxPool", "x", "y i", ceil_mode=ceil_mode, storage_order=order, **window)],
                  {"x": (np.dtype(kind), ["n", 2, 9, 8])}, ["y", "i"], opset=13)  # fmt: skip
    proto.graph.output[0].type.tensor_type.elem_type = elem(kind)
    proto.graph.output[1].type.tensor_type.elem_type = elem(np.int64)
    check(proto, {"x": (9 * numbers(2, 2, 9, 8)).astype(kind)})


@SETTINGS
@given(st.integers(1, 2), st.integers(1, 4), st.sampled_from(["SAME_UPPER", "SAME_LOWER", None]))
def test_transposed_convolutions_to_a_size(kernel: int, stride: int, auto: str | None) -> None:
    """What no window reaches, at the end, holds the bias."""
    full = 4 * stride + kernel
    wanted = [full - kernel + 1, full + stride - 1]
    proto = model([node("ConvTranspose", "x w b", "y", strides=[stride] * 2, output_shape=wanted,
                        auto_pad=auto or "NOTSET")],
                  {"x": (np.float32, ["n", 4, 5, 5])}, ["y"],
                  {"w": numbers(4, 3, kernel, kernel), "b": numbers(3)})  # fmt: skip
    check(proto, {"x": numbers(2, 4, 5, 5)})


@SETTINGS
@given(windows(), st.lists(st.integers(0, 1), min_size=2, max_size=2))
def test_transposed_convolutions(window: dict[str, Any], more: list[int]) -> None:
    window["output_padding"] = [min(m, s - 1) for m, s in zip(more, window["strides"])]
    if "auto_pad" in window:
        window |= {"auto_pad": "NOTSET", "output_padding": [0, 0]}
    weights = {"w": numbers(4, 3, *window["kernel_shape"]), "b": numbers(3)}
    proto = model([node("ConvTranspose", "x w b", "y", **window)],
                  {"x": (np.float32, ["n", 4, 5, 6])}, ["y"], weights)  # fmt: skip
    check(proto, {"x": numbers(2, 4, 5, 6)})


@SETTINGS
@given(st.data())
def test_broadcasting(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))

    def part() -> tuple[int, ...]:
        kept = shape[data.draw(st.integers(0, len(shape))) :]
        return tuple(s if data.draw(st.booleans()) else 1 for s in kept)

    a, b, c = part(), part(), part()
    nodes = [node("Sub", "a b", "d"), node("Greater", "d c", "g"), node("Where", "g d c", "y"),
             node("Max", "y a b", "z")]  # fmt: skip
    inputs = {n: (np.float32, list(s)) for n, s in zip("abc", (a, b, c))}
    arrays = {n: numbers(*s, seed=k) for k, (n, s) in enumerate(zip("abc", (a, b, c)))}
    check(model(nodes, inputs, ["y", "z"]), arrays)


@SETTINGS
@given(st.data())
def test_moves(data: Any) -> None:
    """A transposition, a slice with any bounds, a pad and a reshape, one after the other."""
    order = data.draw(st.permutations(range(3)))
    bound, step = st.integers(-9, 9), st.sampled_from([-3, -2, -1, 1, 2, 3])
    cut = [data.draw(bound), data.draw(bound), data.draw(st.integers(0, 2)), data.draw(step)]
    mode = data.draw(st.sampled_from(["constant", "edge"]))
    pads = [data.draw(st.integers(0, 3)) for _ in range(6)]
    nodes = [node("Transpose", "x", "t", perm=order), node("Slice", "t s e a k", "c"),
             node("Pad", "t p", "q", mode=mode), node("Reshape", "q r", "y")]  # fmt: skip
    weights = {n: np.array([v]) for n, v in zip("seak", cut)}
    weights |= {"p": np.array(pads), "r": np.array([-1, 1])}
    proto = model(nodes, {"x": (np.float32, [4, 5, 6])}, ["c", "y"], weights)
    check(proto, {"x": numbers(4, 5, 6)})


@SETTINGS
@given(st.data())
def test_resizing(data: Any) -> None:
    mode = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    place = data.draw(st.sampled_from(["half_pixel", "align_corners", "asymmetric",
                                       "pytorch_half_pixel"]))  # fmt: skip
    sizes = [1, 1, data.draw(st.integers(2, 13)), data.draw(st.integers(2, 13))]
    nearest = data.draw(st.sampled_from(["floor", "ceil"]))
    resize = node("Resize", "x - - s", "y", mode=mode, coordinate_transformation_mode=place,
                  nearest_mode=nearest)  # fmt: skip
    if mode == "nearest" and place == "align_corners":
        return  # whole coordinates come out of float32 and float64 on different sides
    proto = model([resize], {"x": (np.float32, [1, 1, 5, 7])}, ["y"], {"s": np.array(sizes)})
    if mode != "nearest":
        check(proto, {"x": numbers(1, 1, 5, 7)})
        return
    found = networks(proto)({"x": numbers(1, 1, 5, 7)})["y"]
    (expected,) = by_onnxruntime(proto, {"x": numbers(1, 1, 5, 7)})
    assert (found == expected).mean() > 0.6  # see above: 5/3 and the like


@pytest.mark.parametrize("scales", [(0.6, 0.6), (2, 0.7), (1, 1.5)])
def test_the_nearest_element_of_operator_set_10(scales: tuple[float, float]) -> None:
    proto = model(
        [node("Resize", "x s", "y", mode="nearest")], {"x": (np.float32, (1, 2, 3, 4))}, ["y"],
        {"s": np.array([1, 1, *scales], np.float32)}, opset=10,
    )  # fmt: skip
    check(proto, {"x": numbers(1, 2, 3, 4)})
