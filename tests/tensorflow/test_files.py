"""Models from files: SavedModels, frozen graphs, files of Keras, and files that are broken."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as k
from tensorflow.core.framework import graph_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from sol.core.errors import InputError, SolError
from sol.ir.check import verify
from sol.ops.registry import infer
from sol.tensorflow import optimize
from tests.tensorflow import broken as damaged
from tests.tensorflow.models import example, randomise

pytestmark = pytest.mark.usefixtures("by_reference")
IMAGE = (6, 6, 3)
X = example(IMAGE, 4)


def net() -> Any:
    return keras.Sequential(
        [
            keras.Input(IMAGE), k.Conv2D(4, 3), k.BatchNormalization(), k.ReLU(),
            k.GlobalAveragePooling2D(), k.Dense(2),
        ]
    )  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    return randomise(net())


@pytest.fixture(scope="module")
def files(model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    model.export(folder / "saved", verbose=False)
    model.save(folder / "net.keras")
    function = tf.function(lambda image: model(image), autograph=False)
    concrete = function.get_concrete_function(tf.TensorSpec((None, *IMAGE)))
    frozen = convert_variables_to_constants_v2(concrete).graph.as_graph_def()
    (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
    return {p.name: p for p in folder.iterdir()}


def same(found: Any, model: Any) -> None:
    (value,) = tf.nest.flatten(found)
    np.testing.assert_allclose(value.numpy(), model(X).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["saved", "net.keras", "frozen.pb"])
def test_a_model_from_a_file(name: str, model: Any, files: dict[str, Path]) -> None:
    for path in (files[name], str(files[name])):
        fast = optimize(path)
        same(fast(X), model)
        assert fast.sol.left == ()
        assert fast.sol.fallbacks == {}


def test_signatures_of_a_saved_model(model: Any, files: dict[str, Path]) -> None:
    loaded = tf.saved_model.load(str(files["saved"]))
    by_name = optimize(loaded.signatures["serving_default"])
    (argument,) = loaded.signatures["serving_default"].structured_input_signature[1]
    found = by_name(**{argument: tf.constant(X)})
    assert list(found) == list(loaded.signatures["serving_default"].structured_outputs)
    same(found, model)
    served = optimize(loaded.serve)
    same(served(X), model)
    for variable in loaded.variables:
        variable.assign(variable * 0.5)
    np.testing.assert_allclose(served(X), loaded.serve(X), rtol=1e-5, atol=1e-6)
    assert served.sol.fallbacks == {}


def test_a_function_with_structures_numbers_and_variables() -> None:
    w = tf.Variable(example((5,), 3))

    @tf.function(autograph=False)
    def inner(x: Any) -> Any:
        return tf.matmul(x, w, transpose_b=True)

    @tf.function(autograph=False)
    def outer(inputs: Any, scale: float = 1.0, back: bool = False) -> Any:
        y = inner(inputs["x"]) * scale
        return {"y": y[:, ::-1] if back else y, "both": (y, inputs["x"] + inputs["b"])}

    fast = optimize(outer)
    inputs = {"x": example((5,), 4), "b": example((5,), 1)[0]}
    for kwargs in ({}, {"scale": 2.0}, {"scale": 2.0, "back": True}):
        found, wanted = fast(inputs, **kwargs), outer(inputs, **kwargs)
        tf.nest.assert_same_structure(found, wanted)
        for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(wanted)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    w.assign(w * 2.0)
    np.testing.assert_allclose(fast(inputs)["y"], outer(inputs)["y"], rtol=1e-5, atol=1e-6)
    assert fast.sol.fallbacks == {}


def test_a_loop_runs_in_tensorflow_between_parts_of_sol() -> None:
    @tf.function(autograph=False)
    def looped(x: Any) -> Any:
        y = tf.nn.relu(x)
        _, z = tf.while_loop(lambda n, z: n < 3, lambda n, z: (n + 1, z * 2.0), (0, y))
        return tf.nn.softmax(z + y)

    fast = optimize(looped)
    np.testing.assert_allclose(fast(example((5,), 3)), looped(example((5,), 3)), rtol=1e-5)
    assert [line.partition(",")[0] for line in fast.sol.left] == ["StatelessWhile"]


def test_a_function_that_changes_a_variable_is_left_to_tensorflow() -> None:
    count = tf.Variable(0.0)

    @tf.function(autograph=False)
    def counting(x: Any) -> Any:
        count.assign_add(1.0)
        return x * count

    fast = optimize(counting)
    for n in (1, 2, 3):
        np.testing.assert_allclose(fast(example((5,), 3)), example((5,), 3) * n, rtol=1e-6)
    assert "changes something" in next(iter(fast.sol.fallbacks))


def test_random_numbers_are_drawn_at_each_call() -> None:
    fast = optimize(tf.function(lambda x: x + tf.random.normal((5,)), autograph=False))
    a, b = fast(example((5,), 3)).numpy(), fast(example((5,), 3)).numpy()
    assert np.abs(a - b).max() > 1e-3


# ---- broken files --------------------------------------------------------------------------------


def broken(data: bytes, seed: int) -> bytes:
    """A file cut off, or with other bytes somewhere."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return data[: int(rng.integers(0, len(data)))]
    changed = bytearray(data)
    for place in rng.integers(0, len(data), 4):
        changed[place] = int(rng.integers(0, 256))
    return bytes(changed)


@pytest.mark.parametrize("name", ["saved", "net.keras", "frozen.pb"])
def test_a_broken_file_is_an_error_that_says_so(
    name: str, files: dict[str, Path], tmp_path: Path
) -> None:
    source = files[name] / "saved_model.pb" if name == "saved" else files[name]
    target = tmp_path / source.name
    errors: list[SolError] = []
    for seed in range(12):
        target.write_bytes(broken(source.read_bytes(), seed))
        try:
            fast = optimize(tmp_path if name == "saved" else target)
        except SolError as error:
            errors.append(error)
            continue
        with contextlib.suppress(SolError, tf.errors.OpError, ValueError):
            fast(X)  # a graph still, if another one
    assert len(errors) >= 8
    assert all(str(tmp_path) in str(e) and e.expected for e in errors)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gone.pb", None, "there is no"),
        ("empty.pb", b"", "has no nodes"),
        ("text.pb", b"no graph at all", "cannot be parsed"),
        ("model.txt", b"", "none of the files"),
        ("net.keras", b"PK", "cannot be read"),
        ("folder", None, "has no saved_model.pb"),
        ("saved_model.pb", b"", "has no graph"),
    ],
)
def test_what_is_no_model(name: str, data: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=message) as raised:
        optimize(path)
    assert raised.value.expected


def test_a_frozen_graph_is_called_by_the_names_of_its_inputs(
    model: Any, files: dict[str, Path]
) -> None:
    fast = optimize(files["frozen.pb"])
    same(fast(image=X), model)
    with pytest.raises(InputError, match="got picture"):
        fast(picture=X)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), k.Lambda(lambda x: x * 2)])
    for name in ("net.keras", "net.h5"):
        model.save(tmp_path / name)
        with pytest.raises(InputError, match="Lambda"):
            optimize(tmp_path / name)


def test_a_constant_of_another_type_than_it_is_said_to_be(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """TensorFlow itself ends the process."""
    graph = graph_pb2.GraphDef.FromString(files["frozen.pb"].read_bytes())
    constant = next(n for n in graph.node if n.op == "Const")
    constant.attr["value"].tensor.dtype = 11
    (tmp_path / "net.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(InputError, match=rf"the constant {constant.name} is of another type"):
        optimize(tmp_path / "net.pb")


def test_damaged_graphs_are_read_or_refused(tmp_path: Path) -> None:
    """200 of the thousands of `python -m tests.fuzz graphdef`."""
    rng = random.Random(3)
    read = 0
    for _ in range(200):
        (tmp_path / "net.pb").write_bytes(damaged.mutated(rng))
        with contextlib.suppress(SolError):
            captured = damaged.captured(tmp_path / "net.pb")
            for graph in captured.graphs:
                verify(graph, infer)
            read += 1
    assert 5 < read < 100
