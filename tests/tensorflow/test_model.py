"""What a model by Sol can be asked: calls, changed variables, training, other models, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as k

import sol
from sol.core.errors import ConfigError, InputError
from sol.race import Verdict
from sol.tensorflow import optimize
from tests.tensorflow.models import assert_same, example, randomise

pytestmark = pytest.mark.usefixtures("by_reference")
IMAGE = (6, 6, 3)


def images() -> Any:
    return keras.Sequential(
        [
            keras.Input(IMAGE), k.Conv2D(4, 3, padding="same"), k.BatchNormalization(), k.ReLU(),
            k.MaxPooling2D(), k.Flatten(), k.Dense(5, activation="softmax"),
        ],
        name="images",
    )  # fmt: skip


@pytest.fixture
def model() -> Any:
    return randomise(images())


X = example(IMAGE, 4)


def test_calls_with_tensors_arrays_and_other_types(model: Any) -> None:
    fast = optimize(model)
    expected = model(X)
    for x in (X, tf.constant(X), X.astype(np.float64)):
        assert_same(fast(x), expected)
    assert fast.sol.fallbacks == {}
    assert len(fast.sol.report[0].programs) == 1  # one for all batches


def test_a_wrong_call_gets_the_error_of_keras(model: Any) -> None:
    fast = optimize(model)
    with pytest.raises(ValueError, match="incompatible"):
        fast(np.zeros((2, 5, 6, 3), "f"))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.assign(v * 2.0),
        lambda v: v.assign_add(tf.ones_like(v)),
        lambda v: v.value.assign_sub(tf.ones(v.shape)),
        lambda v: tf.function(lambda: v.value.assign(v.value * 3.0), autograph=False)(),
        lambda v: v.value.scatter_nd_update([[0]], [tf.ones(v.shape[1:])]),
        lambda v: tf.raw_ops.ResourceApplyGradientDescent(
            var=v.value.handle, alpha=0.5, delta=tf.ones(v.shape)
        ),
    ],
    ids=["assign", "assign_add", "assign_sub", "in a function", "scatter", "optimizer"],
)
def test_an_assigned_variable_is_seen(model: Any, change: Any) -> None:
    fast = optimize(model)
    before = fast(X).numpy()
    for number in (0, 2, -1):
        change(model.weights[number])
        assert_same(fast(X), model(X))
    assert np.abs(fast(X).numpy() - before).max() > 1e-3
    for _ in range(2):  # nothing is read again that has not changed
        assert fast._session.variables.changed() == {}


def test_set_weights_of_the_fast_model_are_those_of_the_original(model: Any) -> None:
    fast = optimize(model)
    fast(X)
    fast.set_weights([w * 0.5 for w in fast.get_weights()])
    assert_same(fast(X), model(X))
    assert [v is w for v, w in zip(fast.weights, model.weights)] == [True] * len(model.weights)


def test_training_changes_the_original_s_variables(model: Any) -> None:
    fast = optimize(model)
    y = np.eye(5, dtype="f")[:4]
    before = [w.copy() for w in fast.get_weights()]
    fast.compile("sgd", "categorical_crossentropy")
    fast.fit(X, y, verbose=0)
    changed = [np.abs(a - b).max() > 0 for a, b in zip(before, fast.get_weights())]
    assert sum(changed) >= 7  # the bias before the normalisation has no gradient
    assert_same(fast(X), model(X))
    assert_same(fast(X, training=True), model(X, training=True))
    assert fast.sol.fallbacks == {}
    assert np.isfinite(fast.evaluate(X, y, verbose=0))


def test_gradients_are_tensorflow_s(model: Any) -> None:
    fast = optimize(model)
    found, expected = ([], [])
    for each, results in ((fast, found), (model, expected)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(each(X) ** 2)
        results += tape.gradient(loss, model.trainable_variables)
    assert len(found) == len(model.trainable_variables)
    for a, b in zip(found, expected):
        assert_same(a, b)
    assert fast.sol.fallbacks == {}


def test_gradients_through_a_function_that_is_traced_without_a_tape(model: Any) -> None:
    fast = optimize(model)
    call = tf.function(lambda x: fast(x), autograph=False)
    call(X)
    gradients = []
    for each in (call, model):
        with tf.GradientTape() as tape:
            x = tf.constant(X)
            tape.watch(x)
            loss = tf.reduce_sum(each(x) ** 2)
        gradients.append(tape.gradient(loss, [x, *model.trainable_variables]))
    for a, b in zip(*gradients):
        assert_same(a, b)


def test_predict_computes_by_sol(model: Any) -> None:
    fast = optimize(model)
    np.testing.assert_allclose(
        fast.predict(X, batch_size=3, verbose=0), model.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )
    assert fast.sol.fallbacks == {}
    assert len(fast.sol.report) == 1


def test_within_a_function(model: Any) -> None:
    fast = optimize(model)
    call = tf.function(lambda x: fast(x) * 2.0, autograph=False)
    assert_same(call(tf.constant(X)), model(X) * 2.0)
    model.weights[0].assign(model.weights[0] * 2.0)
    assert_same(call(tf.constant(X)), model(X) * 2.0)
    assert fast.sol.fallbacks == {}


def test_within_another_model(model: Any) -> None:
    fast = optimize(model)
    x = keras.Input(IMAGE)
    outer = keras.Model(x, k.Dense(2)(fast(x * 2.0)))
    plain = keras.Model(x, outer.layers[-1](model(x * 2.0)))
    assert_same(outer(X), plain(X))
    assert fast.sol.fallbacks == {}
    again = optimize(outer)  # which reads through it
    assert_same(again(X), plain(X))
    assert again.sol.left == ()


def test_models_within_models() -> None:
    inner = keras.Sequential([k.Conv2D(3, 1), k.ReLU()])
    x, y = keras.Input(IMAGE, name="x"), keras.Input(IMAGE, name="y")
    twice = inner(inner(x))
    both = keras.Model([x, y], {"sum": twice + inner(y), "first": keras.ops.exp(twice)})
    a, b = keras.Input(IMAGE, name="a"), keras.Input(IMAGE, name="b")
    model = randomise(keras.Model({"b": b, "a": a}, both([a, b])))
    arrays = {"a": example(IMAGE, 2), "b": example(IMAGE, 2, 5)}
    fast = optimize(model)
    assert_same(fast(arrays), model(arrays))
    assert fast.sol.left == ()


class Own(keras.Model):
    """A model that is more than its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.dense = k.Conv2D(4, 3), k.Dense(3)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x: Any, flip: bool = False, training: bool = False) -> Any:
        y = tf.nn.relu(self.conv(x)) * self.scale
        y = tf.reduce_mean(y[:, ::-1] if flip else y[:, 1:], [1, 2])
        return {"logits": self.dense(y), "mean": y}


def test_a_model_that_is_more_than_its_layers() -> None:
    model = Own()
    fast = optimize(model)
    assert_same(fast(X), model(X))  # the first call builds it
    randomise(model)
    for flip in (False, True):
        assert_same(fast(X, flip=flip), model(X, flip=flip))
    model.scale.assign(3.0)
    assert_same(fast(X), model(X))
    assert fast.sol.left == ()
    assert list(fast.sol.fallbacks.values()) == [1]


def test_other_sizes_than_the_batch_may_change() -> None:
    model = Own()
    model(X)
    fast = optimize(randomise(model))
    for sizes in (IMAGE, (9, 7, *IMAGE[2:]), IMAGE):
        assert_same(fast(example(sizes, 2)), model(example(sizes, 2)))
    assert fast.sol.fallbacks == {}


def test_results_of_another_structure_are_left_to_tensorflow() -> None:
    function = tf.function(lambda x: tf.unstack(x * 2.0, axis=1))
    fast = optimize(function)
    for count in (3, 5, 3):
        assert_same(fast(example((count,), 2)), function(example((count,), 2)))
    assert list(fast.sol.fallbacks.values()) == [1]


def test_a_changed_layer_is_read_again(model: Any) -> None:
    fast = optimize(model)
    assert_same(fast(X), model(X))
    model.layers[-1].activation = keras.activations.linear
    assert_same(fast(X), model(X))
    model.add(k.Rescaling(3.0))
    assert_same(fast(X), model(X))
    model.pop()
    assert_same(fast(X), model(X))
    model.layers[-1].enable_lora(2)
    model.layers[-1].lora_kernel_b.assign(tf.ones((2, 5)))
    assert_same(fast(X), model(X))
    assert fast.sol.fallbacks == {}


def test_changed_numbers_of_own_layers_are_seen() -> None:
    class Scaled(k.Layer):
        factor = 2.0

        def __init__(self) -> None:
            super().__init__()
            self.shift = 1.0

        def call(self, x: Any) -> Any:
            return x * self.factor + self.shift

    class Outer(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.power = Scaled(), 2

        def call(self, x: Any) -> Any:
            return self.inner(x) ** self.power

    x = keras.Input(IMAGE)
    own = Outer()
    own(X)
    for model, layer in ((keras.Model(x, (inner := Scaled())(x)), inner), (own, own.inner)):
        fast = optimize(model)
        for shift in (1.0, 5.0, 7.0):
            layer.shift = shift
            assert_same(fast(X), model(X))
    own.power = 3
    assert_same(fast(X), own(X))
    assert fast.sol.fallbacks == {}


def test_statistics_that_are_adapted_or_loaded_later_are_seen(tmp_path: Path) -> None:
    def made() -> Any:
        return keras.Sequential([keras.Input(IMAGE), k.Normalization(), k.Conv2D(2, 1)])

    model = made()
    model.layers[0].adapt(X)
    fast = optimize(model)
    assert_same(fast(X), model(X))
    model.layers[0].adapt(X * 3.0 + 1.0)
    assert_same(fast(X), model(X))
    other = made()
    other.layers[0].adapt(X * 0.5)
    other.save_weights(tmp_path / "other.weights.h5")
    fast.original.load_weights(tmp_path / "other.weights.h5")
    assert_same(fast(X), other(X))
    assert fast.sol.fallbacks == {}


def test_what_adds_to_the_loss_is_left_to_tensorflow() -> None:
    class Adding(keras.Model):
        def call(self, x: Any) -> Any:
            self.add_loss(tf.reduce_sum(x))
            return x * 2.0

    regularised = keras.Sequential([keras.Input((5,)), k.Dense(3, activity_regularizer="l2")])
    adding = Adding()
    adding(example((5,), 4))
    for model in (regularised, adding):
        fast = optimize(model)
        x, y = example((5,), 4), np.zeros((4, 3 if model is regularised else 5), "f")
        for each in (fast, model):
            each.compile("sgd", "mse")
        assert_same(fast(x), model(x))
        np.testing.assert_allclose(
            fast.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5
        )
        assert "loss" in next(iter(fast.sol.fallbacks))


class Strange(k.Layer):
    """A layer that TensorFlow has to compute."""

    def call(self, x: Any) -> Any:
        return tf.sort(x, -1)


def test_what_sol_cannot_do_runs_in_tensorflow() -> None:
    x = keras.Input(IMAGE)
    y = k.Conv2D(4, 3)(x)
    z = Strange(name="sorted")(y)
    model = randomise(keras.Model(x, [k.Dense(3)(z + y), z, keras.ops.relu(y)]))
    fast = optimize(model)
    for batch in (4, 1):
        assert_same(fast(X[:batch]), model(X[:batch]))
    (left,) = {line.partition(",")[0] for line in fast.sol.left}
    assert left == "TopKV2"
    assert fast.sol.fallbacks == {}
    assert "TopKV2" in fast.sol.explain()
    assert "TensorFlow" in fast.sol.explain()


def test_a_layer_that_cannot_be_traced_runs_as_it_is() -> None:
    class Eager(k.Layer):
        def call(self, x: Any) -> Any:
            return x * float(tf.reduce_max(x))

        def compute_output_spec(self, x: Any) -> Any:
            return keras.KerasTensor(x.shape, x.dtype)

    x = keras.Input(IMAGE)
    model = randomise(keras.Model(x, k.Conv2D(2, 1)(Eager()(k.ReLU()(x)))))
    fast = optimize(model)
    for batch in (4, 1):
        assert_same(fast(X[:batch]), model(X[:batch]))
    assert len(fast.sol.left) == 2
    assert all(line.startswith("Eager, eager") for line in fast.sol.left)


def test_a_compiled_model_stays_compiled(tmp_path: Path) -> None:
    """On the optimizer of the original, which goes on from where it is, saved or not."""
    model = keras.Sequential([keras.Input((5,)), k.Dense(3)])
    model.compile("adam", "mse", metrics=["mae"])
    x, y = example((5,), 4), example((3,), 4)
    model.fit(x, y, verbose=0)
    fast = optimize(model)
    fast.save(tmp_path / "fast.keras")
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    for each in (fast, loaded):
        np.testing.assert_allclose(
            each.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5
        )
        assert each.optimizer.iterations == 1
        assert each.optimizer is each.sol.original.optimizer


def test_masks_are_left_to_tensorflow() -> None:
    x = keras.Input((5,), dtype="int32")
    model = randomise(keras.Model(x, k.LSTM(3)(k.Embedding(4, 6, mask_zero=True)(x))))
    fast = optimize(model)
    ids = example(("i", 5), 4)
    assert_same(fast(ids), model(ids))
    assert "mask" in next(iter(fast.sol.fallbacks))


def test_half_precision_is_left_to_tensorflow() -> None:
    x = keras.Input((5,))
    model = randomise(keras.Model(x, k.Dense(3, dtype="mixed_bfloat16")(x)))
    fast = optimize(model)
    assert_same(fast(example((5,), 4)), model(example((5,), 4)))
    assert "float32" in next(iter(fast.sol.fallbacks))


def test_saved_and_loaded(model: Any, tmp_path: Path) -> None:
    fast = optimize(model, precision="strict")
    path = tmp_path / "fast.keras"
    fast.save(path)
    again = keras.saving.load_model(path)
    assert type(again) is type(fast)
    assert_same(again(X), model(X))
    assert again.get_config()["options"] == {"precision": "strict"}
    assert_same(pickle.loads(pickle.dumps(fast))(X), model(X))
    fast.save_weights(tmp_path / "fast.weights.h5")
    plain = randomise(images(), seed=5)
    for other in (optimize(plain), randomise(plain, seed=6)):
        other.load_weights(tmp_path / "fast.weights.h5")
        assert_same(other(X), model(X))


def test_layers_are_those_of_the_original(model: Any) -> None:
    fast = optimize(model)
    layer = fast.layers[-2]
    assert fast.get_layer(layer.name) is layer
    assert_same(
        keras.Model(fast.inputs[0], layer.output)(X), keras.Model(model.inputs[0], layer.output)(X)
    )


def test_exported_without_sol(model: Any, tmp_path: Path) -> None:
    fast = optimize(model)
    fast.export(tmp_path / "exported", verbose=False)
    tf.saved_model.save(fast, str(tmp_path / "saved"))
    for name in ("exported", "saved"):
        loaded = tf.saved_model.load(str(tmp_path / name))
        found = loaded.signatures["serving_default"](tf.constant(X))
        np.testing.assert_allclose(next(iter(found.values())), model(X), rtol=1e-5, atol=1e-6)
        operations = [o.type for o in loaded.signatures["serving_default"].graph.get_operations()]
        assert "PyFunc" not in operations


def test_a_layer_alone() -> None:
    layer = k.Dense(3)
    layer(example((5,), 2))
    assert_same(optimize(layer)(example((5,), 2)), layer(example((5,), 2)))
    with pytest.raises(InputError, match="was not called yet"):
        optimize(k.Dense(3))


def test_an_example_makes_the_program(model: Any) -> None:
    told: list[str] = []
    fast = sol.optimize(model, (2, *IMAGE), progress=lambda text, done, total: told.append(text))
    assert len(fast.sol.report[0].programs) == 1
    assert_same(fast(X), model(X))
    assert len(optimize(model, X[:2]).sol.report[0].programs) == 1


def test_wrong_options_and_models(model: Any) -> None:
    with pytest.raises(ConfigError, match="there is no option thread"):
        optimize(model, thread=3)
    with pytest.raises(ConfigError, match="precision"):
        optimize(model, precision="half")
    with pytest.raises(InputError, match="optimize got a int"):
        optimize(3)
    assert optimize(fast := optimize(model)) is fast


def test_the_faster_way_is_kept(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_NEVER_SLOWER", "1")
    times = {"sol": 1.0}
    verdict = lambda *_, **__: Verdict(times["sol"], 2.0, times["sol"], 2.0, 3)  # noqa: E731
    monkeypatch.setattr("sol.race.race", verdict)
    fast = optimize(model, X)
    assert_same(fast(X), model(X))
    assert fast.sol.fallbacks == {}
    assert f"batch {len(X)}: Sol 1.00 s, TensorFlow 2.00 s" in fast.sol.explain()
    times["sol"] = 3.0
    fast.sol.measure(X)
    assert_same(fast(X), model(X))
    assert fast.sol.fallbacks == {"TensorFlow is faster": 1}
    assert "TensorFlow runs, Sol takes 1.50 times as long" in fast.sol.explain()
    found, expected = (m.predict(X, verbose=0) for m in (fast, model))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert fast.sol.fallbacks == {"TensorFlow is faster": 1}  # in a graph it is not even asked
    slow = optimize(model, X, never_slower=False)
    assert "TensorFlow" not in slow.sol.explain()
