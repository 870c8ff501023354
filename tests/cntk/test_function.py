"""What users of CNTK do with a function: arguments by name, lists of sequences, wrong calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sol
from sol.arrays.network import Network
from sol.cntk import Argument, Function, optimize
from sol.cntk.model import load
from sol.core.errors import ConfigError, InputError, SolError
from tests.cntk.cases import cases
from tests.cntk.test_cases import FIXTURES, by_reference


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are computed by NumPy; test_cases.py compiles."""
    monkeypatch.setattr(Network, "__call__", by_reference)


def function(name: str) -> Function:
    return Function(load(cases()[name].data))


def test_ways_to_call() -> None:
    model, case = function("binary_minus"), cases()["binary_minus"]
    x, y = case.inputs["x"], case.inputs["y"]
    uids = [a.uid for a in model.arguments]
    variable = Argument("", uids[1])  # as CNTK's variables
    for result in (
        model(x, y),
        model(x, y=y),
        model.eval({"x": x, "y": y}),
        model.eval({uids[0]: x, variable: y}),
        model.eval({"x": list(x), "y": y.tolist()}),
        model.eval({"x": x.astype("float64"), "y": y}),
    ):
        np.testing.assert_array_equal(result, model(x, y))
    assert [a.name for a in model.arguments] == ["x", "y"]
    assert model.arguments[0].shape == (3, 5)


def test_one_image() -> None:
    """CNTK adds the batch, and so does Sol."""
    model, case = function("dense"), cases()["dense"]
    x = case.inputs["x"]
    np.testing.assert_allclose(model(x[0]), case.outputs[0][:1], rtol=1e-5)
    np.testing.assert_allclose(model([x[0].tolist()]), case.outputs[0][:1], rtol=1e-5)


def test_several_outputs() -> None:
    model, case = function("combine"), cases()["combine"]
    found = model.eval(case.inputs)
    assert list(found) == [o.name for o in model.outputs]
    assert list(found)[:2] == ["first", "total"]
    only = model.eval(case.inputs, outputs=["total"])
    np.testing.assert_allclose(only, case.outputs[1], rtol=1e-5)
    assert list(model.eval(case.inputs, outputs=["total", "first"])) == ["total", "first"]


def test_sizes_of_outputs() -> None:
    """As CNTK says them; what depends on the number of steps stands open."""
    for name in ("lstm_stacked", "conv_stride", "combine", "reduce_all", "conv_free", "seq_unpack"):
        model, case = function(name), cases()[name]
        for output, expected in zip(model.outputs, case.outputs, strict=True):
            example = expected[0] if isinstance(expected, list) else expected
            assert output.shape is not None
            assert len(output.shape) == example.ndim - 1
            assert all(a in (None, b) for a, b in zip(output.shape, example.shape[1:]))
            assert len(output.dynamic_axes) == 1 + isinstance(expected, list)
    assert function("seq_unpack").outputs[0].shape == (None, 3)
    assert function("conv_stride").outputs[0].shape == (3, 5, 3)


def test_sequences() -> None:
    """Lists of any lengths, one array for equal ones, one sequence alone."""
    model, case = function("lstm"), cases()["lstm"]
    steps, expected = case.inputs["s"], case.outputs[0]
    for ours, theirs in zip(model(steps), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    together = model(np.stack([steps[0], steps[2]]))
    assert [a.shape for a in together] == [(4, 4), (4, 4)]
    np.testing.assert_allclose(together[1], expected[2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(steps[1])[0], expected[1], rtol=1e-5, atol=1e-6)


def test_the_longest_sequence_shows() -> None:
    """What is filled up is as long as the longest sequence of the call."""
    model, case = function("seq_unpack"), cases()["seq_unpack"]
    np.testing.assert_allclose(model(case.inputs["s"]), case.outputs[0])
    assert model(case.inputs["s"][1:2]).shape == (1, 2, 3)


def test_sparse() -> None:
    """Sparse matrices of SciPy are filled up; Sol does not need SciPy for that."""
    model, case = function("dense"), cases()["dense"]
    sparse = SimpleNamespace(toarray=lambda: case.inputs["x"])
    np.testing.assert_allclose(model(sparse), case.outputs[0], rtol=1e-5)


def call(name: str, *values: Any, **named: Any) -> Callable[[], Any]:
    return lambda: function(name)(*values, **named)


ONES = np.ones((2, 5), np.float32)
WRONG: list[tuple[Callable[[], Any], str]] = [
    (call("dense", np.ones((2, 6))), r"x is float32\[2, 6\](.|\n)*array \[images, 5\]"),
    (call("dense", np.ones((2, 1, 1, 5))), "x is float32"),
    (call("dense", ["a"]), "x is no array"),
    (call("dense", np.ones((2, 5), complex)), "numbers of the type complex128"),
    (call("dense", z=ONES), "no input is called z"),
    (call("dense", ONES, x=ONES), "x is given twice"),
    (call("dense", ONES, ONES), "2 inputs"),
    (call("dense", np.ones((0, 5))), "there are no images"),
    (call("binary_plus", np.ones((2, 3, 5)), np.ones((3, 5))), "different numbers of images: x 2"),
    (lambda: function("binary_plus").eval(ONES), "one value for 2 inputs"),
    (lambda: function("binary_plus").eval({"x": ONES}), "no value for y"),
    (lambda: function("dense").eval({"x": ONES}, outputs=["z"]), "no output is called z"),
    (call("lstm", [np.ones((0, 3))]), "a sequence without steps"),
    (call("lstm", [np.ones((2, 4))]), r"a list of float32 arrays \[steps, 3\]"),
    (call("reduce_batch", np.ones((2, 4))), r"x is float32\[2, 4\]"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_wrong_calls(wrong: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        wrong()


def test_images_are_mixed() -> None:
    """A sum over the batch needs sequences of one length."""
    model = function("seq_two_axes")
    model._mixed = model._mixed.__class__("it reduces over all images", "")
    with pytest.raises(InputError, match="sequences of different length"):
        model.eval(cases()["seq_two_axes"].inputs)


def test_optimize_finds_cntk(tmp_path: Path) -> None:
    path = FIXTURES / "residual_cnn.model"
    assert isinstance(sol.optimize(path, np.zeros((1, 3, 32, 32), np.float32)), Function)
    with pytest.raises(InputError, match="2 inputs"):
        sol.optimize(path, 1.0, 2.0)
    assert isinstance(sol.optimize(str(path), threads=1, precision="strict"), Function)
    assert isinstance(optimize(path.read_bytes()), Function)
    empty = tmp_path / "empty.model"
    empty.write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        sol.optimize(empty)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        (lambda: optimize("missing.model"), InputError, "cannot be read"),
        (lambda: optimize(3), InputError, "optimize got a int"),  # type: ignore[arg-type]
        (lambda: optimize(b"\x08\x03", fast=True), ConfigError, "no option fast"),
        (lambda: optimize(cases()["dense"].data, precision="half"), ConfigError, "precision"),
    ],
)
def test_wrong_ways_to_optimize(what: Callable[[], Any], error: type[SolError], words: str) -> None:
    with pytest.raises(error, match=words):
        what()
