"""What a user does with a model: names, shapes, calls, files, errors."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import sol.onnx
from sol.core.errors import InputError, UnsupportedError
from tests.onnx.models import by_onnxruntime, model, node, numbers

NODES = [
    node("Conv", "x w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="conv"),
    node("Relu", "c", "r", name="act"),
    node("GlobalAveragePool", "r", "p"),
    node("Flatten", "p", "f"),
    node("Gemm", "f v", "y", transB=1, name="head"),
]
WEIGHTS = {"w": numbers(8, 3, 3, 3), "b": numbers(8), "v": numbers(5, 8)}
NETWORK = model(NODES, {"x": (np.float32, ["batch", 3, 9, 9])}, ["y", "r"], WEIGHTS)


@pytest.fixture(scope="module")
def session() -> Any:
    return sol.onnx.optimize(NETWORK)


def test_it_is_called_as_onnx_runtime(session: Any) -> None:
    (given,) = session.get_inputs()
    assert (given.name, given.shape, given.type) == ("x", ("batch", 3, 9, 9), "tensor(float)")
    assert [o.name for o in session.get_outputs()] == ["y", "r"]
    for batch in (1, 3):
        x = numbers(batch, 3, 9, 9)
        for found, expected in zip(session.run(None, {"x": x}), by_onnxruntime(NETWORK, {"x": x})):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(session.entries) == 1
    (y,) = session.run(["y"], {"x": x})
    np.testing.assert_array_equal(y, session(x)[0])
    np.testing.assert_array_equal(y, session(x=x)[0])


def test_it_explains_itself(session: Any) -> None:
    text = session.explain()
    assert "program for (x: f32[B, 3, 9, 9])" in text
    assert "conv + 1" in text
    assert "head" in text
    assert session.check({"x": numbers(2, 3, 9, 9)}).worst < 1e-5
    assert session.left == ()


def test_examples_say_what_is_compiled() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (np.float32, ["n", "k"])}, ["y"])
    assert not sol.onnx.optimize(proto).entries
    for example in ((2, 5), numbers(2, 5), {"x": numbers(2, 5)}):
        (entry,) = sol.onnx.optimize(proto, example).entries
        assert str(entry.signature) == "x: f32[B, 5]"
    with pytest.raises(InputError, match="2 examples"):
        sol.onnx.optimize(proto, (2, 5), (2, 5))


WRONG = {
    "an array alone": (lambda s: s.run(None, numbers(1, 3, 9, 9)), "the inputs are a ndarray"),
    "a name alone": (lambda s: s.run("y", {"x": numbers(1, 3, 9, 9)}), "output_names is 'y'"),
    "an unknown input": (lambda s: s.run(None, {"z": numbers(1)}), "no input is called z"),
    "an unknown output": (
        lambda s: s.run(["q"], {"x": numbers(1, 3, 9, 9)}),
        "no output is called q",
    ),
    "a wrong shape": (lambda s: s(numbers(1, 3, 9, 8)), "x: f32[batch, 3, 9, 9]"),
    "a wrong type": (lambda s: s(np.zeros((1, 3, 9, 9))), 'array.astype("float32")'),
    "too many inputs": (lambda s: s(1, 2), "expected: 1: x"),
    "an input twice": (lambda s: s(numbers(1, 3, 9, 9), x=1), "given twice"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_says_what_was_expected(session: Any, case: str) -> None:
    call, text = WRONG[case]
    with pytest.raises(InputError) as error:
        call(session)
    assert text in str(error.value)


def test_threads_share_a_session(session: Any) -> None:
    inputs = [numbers(1 + n, 3, 9, 9, seed=n) for n in range(4)]
    expected = [session(x)[0] for x in inputs]
    found: list[Any] = [None] * 4

    def work(n: int) -> None:
        for _ in range(5):
            found[n] = session(inputs[n])[0]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


# ---- files


def test_weights_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save_model(
        onnx.ModelProto.FromString(NETWORK.SerializeToString()),
        path,
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    x = numbers(2, 3, 9, 9)
    y, _ = sol.onnx.optimize(str(path))(x)
    np.testing.assert_allclose(y, by_onnxruntime(NETWORK, {"x": x})[0], rtol=1e-4, atol=1e-5)


SOURCES = {
    "no such file": ("/nowhere/net.onnx", "No such file"),
    "no model": (b"\x08\x01garbage", "no ONNX model"),
    "nothing": (b"", "has no graph"),
    "something else": (7, "a int is no ONNX model"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_what_is_no_model_is_refused(case: str) -> None:
    source, text = SOURCES[case]
    with pytest.raises(InputError) as error:
        sol.onnx.optimize(source)
    assert text in str(error.value)


def test_an_operator_without_a_row_is_named_with_its_node() -> None:
    proto = model([node("Multinomial", "x", "y", name="draw")], {"x": (np.float32, [2, 3])}, ["y"])
    with pytest.raises(UnsupportedError, match="Multinomial, node draw") as error:
        sol.onnx.optimize(proto)
    assert error.value.do


def test_random_numbers_are_drawn_in_each_call() -> None:
    proto = model(
        [
            node("RandomNormalLike", "x", "n", mean=3.0, scale=0.5),
            node("Add", "x n", "y"),
            node("RandomUniform", "", "u", shape=[50], low=2.0, high=3.0, seed=1.0),
            node("RandomUniformLike", "k", "v"),
            node("Bernoulli", "x", "b"),
        ],
        {"x": (np.float32, ["batch", 50])},
        ["y", "u", "v", "b"],
        {"k": np.zeros(7, np.float32)},
    )
    session = sol.onnx.optimize(proto)
    x = np.full((20, 50), 0.25, np.float32)
    y, u, v, b = session(x)
    again = session(x)
    assert abs(y.mean() - 3.25) < 0.1
    assert abs(y.std() - 0.5) < 0.1
    assert 2 <= u.min() <= u.max() <= 3
    assert 0 <= v.min() < v.max() <= 1
    assert set(np.unique(b)) == {0.0, 1.0}
    assert abs(b.mean() - 0.25) < 0.1
    assert not (y == again[0]).all()
    assert not (v == again[2]).all()
    np.testing.assert_array_equal(u, again[1])  # it has a seed
    assert any("draws random numbers" in line for line in session.left)


def test_a_newer_operator_set_is_refused() -> None:
    proto = model([node("Relu", "x", "y")], {"x": (np.float32, [2])}, ["y"], opset=999)
    with pytest.raises(UnsupportedError, match="opset 999"):
        sol.onnx.optimize(proto)
