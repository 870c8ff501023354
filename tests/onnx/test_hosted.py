"""What NumPy computes where ONNX's own reference has no operator, or another one than the standard:
beside ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sol.core.errors import InputError
from tests.onnx.models import by_onnxruntime, model, networks, node

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_TIME, _IMAGES, _INPUTS, _HIDDEN = 6, 4, 3, 5
_RNG = np.random.default_rng(0)


def _numbers(*shape: int) -> Any:
    return _RNG.standard_normal(shape, dtype=np.float32)


def _agree(proto: Any, arrays: dict[str, Any]) -> None:
    made = networks(proto)
    found, expected = made(arrays), by_onnxruntime(proto, arrays)
    for name, value in zip(made.outputs, expected, strict=True):
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("op", "runs", "peepholes", "attributes"),
    [
        ("LSTM", 2, True, {"direction": "bidirectional", "clip": 0.7}),
        ("LSTM", 1, False, {"direction": "reverse", "input_forget": 1}),
        ("GRU", 2, False, {"direction": "bidirectional", "clip": 0.9, "linear_before_reset": 1}),
        ("GRU", 1, False, {"activations": ["HardSigmoid", "Softsign"], "activation_alpha": [0.3]}),
        ("RNN", 2, False, {"activations": ["Affine", "Elu"], "direction": "bidirectional",
                           "activation_alpha": [0.8, 0.5], "activation_beta": [0.1]}),
    ],
)  # fmt: skip
def test_recurrent_layers(op: str, runs: int, peepholes: bool, attributes: dict[str, Any]) -> None:
    width = _GATES[op] * _HIDDEN
    weights = {
        "w": _numbers(runs, width, _INPUTS),
        "r": 0.5 * _numbers(runs, width, _HIDDEN),
        "b": _numbers(runs, 2 * width),
        "h": _numbers(runs, _IMAGES, _HIDDEN),
    }
    names = "x w r b n h"
    if op == "LSTM":
        weights["c"] = _numbers(runs, _IMAGES, _HIDDEN)
        names += " c"
    if peepholes:
        weights["p"] = _numbers(runs, 3 * _HIDDEN)
        names += " p"
    outputs = ["y", "yh"] + ["yc"] * (op == "LSTM")
    proto = model(
        [node(op, names, " ".join(outputs), hidden_size=_HIDDEN, **attributes)],
        {"x": (np.float32, (_TIME, _IMAGES, _INPUTS)), "n": (np.int32, (_IMAGES,))},
        outputs,
        weights,
        opset=14,
    )
    lengths = np.array([6, 2, 6, 1], np.int32)
    _agree(proto, {"x": _numbers(_TIME, _IMAGES, _INPUTS), "n": lengths})


@pytest.mark.parametrize("by_centre", [0, 1])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_boxes_that_do_not_overlap(shape: tuple[int, ...], by_centre: int) -> None:
    numbers = {"most": np.int64(4), "overlap": np.float32(0.3), "least": np.float32(0.2)}
    proto = model(
        [node("NonMaxSuppression", "boxes scores most overlap least", "y",
              center_point_box=by_centre)],
        {"boxes": (np.float32, (2, 30, 4)), "scores": (np.float32, (2, 3, 30))},
        ["y"],
        {name: np.full(shape, value) for name, value in numbers.items()},
        opset=11,
    )  # fmt: skip
    proto.graph.output[0].type.tensor_type.elem_type = 7
    corners = _RNG.random((2, 30, 2), dtype=np.float32)
    other = 0.3 + 0.2 * _RNG.random((2, 30, 2), dtype=np.float32)
    boxes = np.concatenate([corners, other if by_centre else corners + other], -1)
    _agree(proto, {"boxes": boxes, "scores": _RNG.random((2, 3, 30), dtype=np.float32)})


def test_maxima_of_regions() -> None:
    proto = model(
        [node("MaxRoiPool", "x regions", "y", pooled_shape=[2, 3], spatial_scale=0.5)],
        {"x": (np.float32, (2, 3, 8, 9)), "regions": (np.float32, (3, 5))},
        ["y"],
    )
    regions = np.array([[0, 0, 0, 9, 7], [1, 5, 3, 17, 15], [1, 4, 4, 4, 30]], np.float32)
    _agree(proto, {"x": _numbers(2, 3, 8, 9), "regions": regions})


@pytest.mark.parametrize("opset", [10, 15])
def test_regions_before_half_a_pixel_was_an_attribute(opset: int) -> None:
    proto = model(
        [node("RoiAlign", "x regions image", "y", output_height=2, output_width=3)],
        {"x": (np.float32, (2, 3, 8, 9)), "regions": (np.float32, (2, 4)),
         "image": (np.int64, (2,))},
        ["y"], opset=opset,
    )  # fmt: skip
    regions = np.array([[0, 0, 6, 7], [1.5, 2, 5, 6]], np.float32)
    _agree(proto, {"x": _numbers(2, 3, 8, 9), "regions": regions, "image": np.array([0, 1])})


@pytest.mark.parametrize("attributes", [{}, {"axis": 1}])
@pytest.mark.parametrize("in_order", [0, 1])
def test_different_elements(in_order: int, attributes: dict[str, int]) -> None:
    proto = model(
        [node("Unique", "x", "y first inverse counts", sorted=in_order, **attributes)],
        {"x": (np.float32, (3, 6))},
        ["y", "first", "inverse", "counts"],
    )
    for output in proto.graph.output[1:]:
        output.type.tensor_type.elem_type = 7
    _agree(proto, {"x": np.array([[3, 1, 3, 2, 1, 0], [2, 1, 2, 2, 1, 3], [0] * 6], np.float32)})


def test_constants_that_only_a_row_computes() -> None:
    proto = model(
        [
            node("DequantizeLinear", "w s z", "d", axis=0),
            node("GlobalLpPool", "d", "p"),
            node("Mul", "x p", "y"),
        ],
        {"x": (np.float32, ("batch", 4, 1, 1))},
        ["y"],
        {
            "w": _RNG.integers(-99, 99, (4, 4, 5, 5)).astype(np.int8),
            "s": _RNG.random(4, dtype=np.float32),
            "z": np.arange(4, dtype=np.int8),
        },
        opset=13,
    )
    _agree(proto, {"x": _numbers(4, 4, 1, 1)})


def test_what_numbers_make_impossible_is_named() -> None:
    proto = model(
        [node("ScatterND", "x i u", "y", name="put")],
        {"x": (np.float32, (4,)), "i": (np.int64, (2, 1)), "u": (np.float32, (2,))},
        ["y"],
        opset=16,
    )
    with pytest.raises(InputError, match=r"ScatterND, node put, .*index 9 is out"):
        networks(proto)({"x": _numbers(4), "i": np.array([[1], [9]]), "u": _numbers(2)})


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_sequences_of_different_lengths_with_time_in_front(op: str) -> None:
    """Sol's own program: its batch is the second size, because steps cannot be open. The GRU's
    reset gate comes before the product."""
    width, outputs = _GATES[op] * _HIDDEN, ["y", "yh"] + ["yc"] * (op == "LSTM")
    attributes = {"hidden_size": _HIDDEN, "direction": "bidirectional"}
    proto = model(
        [node(op, "x w r b n", " ".join(outputs), **attributes)],
        {"x": (np.float32, ("time", "batch", _INPUTS)), "n": (np.int32, ("batch",))},
        outputs,
        {
            "w": _numbers(2, width, _INPUTS),
            "r": 0.5 * _numbers(2, width, _HIDDEN),
            "b": _numbers(2, 2 * width),
        },
        opset=14,
    )
    made = networks(proto)
    for lengths in ([4, 1, 3], [2, 4], [4, 4, 4, 4]):
        arrays = {"x": _numbers(4, len(lengths), _INPUTS), "n": np.array(lengths, np.int32)}
        found, expected = made(arrays), by_onnxruntime(proto, arrays)
        for name, value in zip(made.outputs, expected, strict=True):
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    ((entry,),) = (n.entries for n in made.networks)
    assert str(entry.signature) == f"x: f32[4, B, {_INPUTS}], n: i32[B]"
