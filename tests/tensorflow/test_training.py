"""Training models of Keras through Sol: gradients beside TensorFlow's in float64, what layers keep,
random numbers, tapes, `fit`, and what TensorFlow trains."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as k

from sol.core.errors import UnsupportedError
from sol.race import Verdict
from sol.tensorflow import optimize
from tests.tensorflow.models import example, in_float64, randomise


def image_model() -> Any:
    """Convolutions of each kind, batch normalisation, pooling, a residual sum."""
    x = keras.Input((10, 10, 3))
    y = k.Conv2D(8, 3, padding="same", use_bias=False, name="c1")(x)
    y = k.ReLU()(k.BatchNormalization(name="b1")(y))
    z = k.ZeroPadding2D(1)(y)
    z = k.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False, name="d")(z)
    z = k.BatchNormalization(momentum=0.9, scale=False, name="b2")(z)
    y = k.MaxPooling2D(3, 1, "valid")(k.ZeroPadding2D(2)(y))
    # no 1x1: their gradients overwrite memory in TensorFlow 2.21, with oneDNN and a stride
    z = k.Add()([z, k.Conv2D(8, 3, strides=2, padding="same", name="c2")(y)])
    z = k.Activation("silu")(z)
    z = k.GlobalAveragePooling2D()(z)
    return keras.Model(x, k.Dense(4, name="top")(z))


def sequence_model() -> Any:
    """An embedding, attention, normalisation, dense layers; two results."""
    x = keras.Input((6,), dtype="int32")
    y = k.Embedding(9, 8)(x)
    y = k.LayerNormalization()(y + k.MultiHeadAttention(2, 4)(y, y))
    z = k.Dense(8)(k.Dense(16, activation="gelu")(y)) + y
    return keras.Model(x, [k.Dense(3, activation="softmax")(z), k.GlobalMaxPooling1D()(z)])


def trained(model: Any, x: Any, training: bool = True) -> tuple[list[Any], list[Any]]:
    """Results of a call, and gradients of some loss: of the input, if it is real, and weights."""
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        if x.dtype.is_floating:
            tape.watch(x)
        ys = tf.nest.flatten(model(x, training=training))
        loss = tf.add_n([tf.reduce_sum(tf.sin(y) * y) for y in ys])
    sources = [*([x] if x.dtype.is_floating else []), *model.trainable_variables]
    found = tape.gradient(loss, sources)
    return ys, [tf.convert_to_tensor(g) for g in found]


def largest(found: list[Any], exact: list[Any]) -> float:
    """The largest difference, of the largest element of its tensor."""
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(found, exact)]
    return max(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3) for a, b in pairs)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [image_model, sequence_model])
def test_gradients_are_as_right_as_tensorflows(make: Any, training: bool) -> None:
    model = randomise(make())
    exact = in_float64(model)
    fast = optimize(randomise(make()))
    spec = (10, 10, 3) if make is image_model else ("i", 6)
    for batch in (3, 1):
        x = example(spec, batch)
        found, own = trained(fast, x, training), trained(model, x, training)
        wide = x.astype(np.float64) if x.dtype == np.float32 else x
        wanted = trained(exact, wide, training)
        for a, b, e in zip(found, own, wanted):
            assert largest(a, e) <= 3 * largest(b, e) + 1e-6
        for a, b in zip(fast.original.non_trainable_variables, exact.non_trainable_variables):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    assert fast.sol.fallbacks == {}
    assert "forward in training" in fast.sol.explain()


def test_what_is_frozen_stays() -> None:
    model = randomise(image_model())
    fast = optimize(randomise(image_model()))
    for each in (model, fast.original):
        each.get_layer("b1").trainable = each.get_layer("c1").trainable = False
    x = example((10, 10, 3), 4)
    assert len(fast.trainable_variables) == len(model.trainable_variables) == 6
    assert largest(trained(fast, x)[1], trained(model, x)[1]) < 1e-4
    for a, b in zip(fast.original.variables, model.variables):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)
    (network,) = fast._session.trainer._networks.values()
    ((wanted, pair),) = network.pairs.items()
    assert len(wanted) == 7  # the input, too
    fixed = pair.fixed[id(pair.first)]
    assert len([k for k in fixed.arrays if k in network.variables]) == 5
    assert fixed.values
    kept = pair.first._steady
    assert kept
    trained(fast, x)
    assert pair.fixed[id(pair.first)] is fixed  # folded once
    assert pair.first._steady is kept  # and packed once
    weights = model.get_weights()
    for each in (model, fast.original):
        each.set_weights(weights)
        for name in ("c1", "b1"):
            weight = each.get_layer(name).weights[0]
            weight.assign(1.5 * weight)
    assert largest(trained(fast, x)[1], trained(model, x)[1]) < 1e-4
    assert pair.fixed[id(pair.first)] is not fixed


def test_fit_takes_the_same_steps() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 10, 10, 3)).astype(np.float32)
    y = rng.integers(0, 4, 20)
    losses = []
    models = [randomise(image_model()), optimize(randomise(image_model()))]
    for model in models:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), loss=loss)
        history = model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert models[1].sol.fallbacks == {}
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert losses[0][1] < losses[0][0]
    plain, fast = (m.predict(x, verbose=0) for m in models)
    np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-4)


def test_a_part_of_a_model_trains() -> None:
    def outer(part: Any) -> Any:
        x = keras.Input((10, 10, 3))
        return keras.Model(x, k.Dense(2, name="last")(part(k.Conv2D(3, 1, name="first")(x))))

    model, fast = outer(image_model()), outer(optimize(image_model()))
    fast.set_weights([w.numpy() for w in randomise(model).variables])
    x = example((10, 10, 3), 4)

    def step(network: Any) -> list[Any]:
        return tf.function(lambda t: trained(network, t)[1])(tf.constant(x))

    assert largest(step(fast), step(model)) < 1e-4


def dropping(rate: float = 0.4, kind: Any = k.Dropout) -> Any:
    x = keras.Input((8, 8, 16))
    return keras.Model(x, kind(rate, seed=3)(x * 1.0))


def test_dropout_draws_from_the_generator_of_its_layer() -> None:
    x = np.ones((16, 8, 8, 16), np.float32)

    def masks() -> list[Any]:
        fast = optimize(dropping())
        return [fast(x, training=True).numpy() for _ in range(2)]

    first, second = masks()
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.6)}
    assert abs((first > 0).mean() - 0.6) < 0.02
    assert (first != second).mean() > 0.3
    again = masks()
    assert (again[0] == first).all()
    assert (again[1] == second).all()


def test_spatial_dropout_drops_channels_and_gradients_with_them() -> None:
    fast = optimize(dropping(0.5, k.SpatialDropout2D))
    x = tf.ones((4, 8, 8, 16))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fast(x, training=True)
    assert (tape.gradient(y, x).numpy() == y.numpy()).all()
    assert (y.numpy() == y.numpy()[:, :1, :1]).all()
    assert 0 < (y.numpy() > 0).mean() < 1


def test_what_cannot_be_trained_is_named() -> None:
    x = keras.Input((5, 4))
    fast = optimize(keras.Model(x, k.Dense(3)(k.GaussianNoise(1e-30)(x))))
    model, data = fast.original, example((5, 4), 2)
    assert largest(trained(fast, data)[1], trained(model, data)[1]) == 0
    (reason,) = fast.sol.fallbacks
    assert reason.startswith("training: ")
    assert "noise" in reason


def test_recurrent_layers_are_trained() -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((5, 4))
    model = keras.Model(x, k.LSTM(3)(k.Bidirectional(k.GRU(6, return_sequences=True))(x)))
    fast, data = optimize(model), example((5, 4), 2)
    assert largest(trained(fast, data)[1], trained(fast.original, data)[1]) < 1e-5
    assert not fast.sol.fallbacks


def test_a_layer_that_is_always_in_training_mode_stays_so() -> None:
    x = keras.Input((64,))
    fast = optimize(keras.Model(x, k.Dropout(0.5)(x * 1.0, training=True)))
    assert 0 < (fast(np.ones((2, 64), np.float32)).numpy() == 0).mean() < 1


def test_gradients_of_gradients_are_refused() -> None:
    fast = optimize(keras.Sequential([keras.Input((3,)), k.Dense(2, activation="tanh")]))
    x = tf.ones((2, 3))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = fast(x)
        gradient = inner.gradient(y, x)
    with pytest.raises(UnsupportedError, match="gradients of gradients"):
        outer.gradient(gradient, x)


def test_a_function_is_differentiated_from_outside() -> None:
    x = tf.constant(example((10, 10, 3), 2))
    found = []
    for network in (optimize(randomise(image_model())), randomise(image_model())):
        function = tf.function(lambda t, n=network: n(t, training=False) + n(t, training=True))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        found.append(tape.gradient(y, [x, *network.trainable_variables]))
    assert largest(*found) < 1e-4


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_the_faster_way_trains(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def verdict(*ways: Any, **_: Any) -> Verdict:
        calls.append([way() for way in ways])
        return Verdict(seconds, 2.0, seconds, 2.0, 3)

    monkeypatch.setenv("SOL_NEVER_SLOWER", "1")
    monkeypatch.setattr("sol.race.race", verdict)
    model = keras.Sequential(
        [keras.Input((6,)), k.Dense(8), k.BatchNormalization(), k.Dropout(0.5), k.Dense(2)]
    )
    fast = optimize(randomise(model))
    before = [v.numpy() for v in model.variables]
    x = example((6,), 12)
    fast.compile("sgd", "mse")
    fast.optimizer.learning_rate = 0.0
    fast.fit(x, example((2,), 12), batch_size=8, verbose=0)
    assert len(calls) == 1  # the smaller last batch is one of the same function
    for sol, own in calls:  # the result, too, or a graph of TensorFlow would not compute it
        shapes = [(32, 2), *(v.shape for v in model.trainable_variables)]
        assert [g.shape for g in sol] == [g.shape for g in own] == shapes
    kept = [a for v, a in zip(model.variables, before) if v.trainable]
    for v, a in zip(model.trainable_variables, kept):
        np.testing.assert_array_equal(v.numpy(), a)
    with tf.GradientTape():
        fast(x, training=False)
    assert len(calls) == 2
    assert not np.allclose(model.layers[1].moving_mean, before[4])  # by fit, not by measuring
    moving = [v.numpy() for v in model.non_trainable_variables]
    with tf.GradientTape():
        fast(x[:3], training=False)
    for v, a in zip(model.non_trainable_variables, moving):
        np.testing.assert_array_equal(v.numpy(), a)
    text = "a step of training, batch 12: Sol 1.00 s" if seconds == 1 else "Sol takes 1.50 times"
    assert text in fast.sol.explain()
    lost = {} if seconds == 1 else {"training: TensorFlow is faster": 3}
    assert fast.sol.fallbacks == lost
