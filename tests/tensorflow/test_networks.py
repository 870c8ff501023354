"""Whole networks, compiled: errors beside TensorFlow's own, and what becomes of channels last."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as k

from sol.tensorflow import optimize
from tests.tensorflow.models import example, in_float64, randomise

IMAGE = (12, 12, 3)


def block(x: Any, filters: int) -> Any:
    y = k.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    y = k.ReLU()(k.BatchNormalization()(y))
    y = k.DepthwiseConv2D(3, padding="same")(y)
    s = k.Dense(filters, activation="sigmoid")(k.GlobalAveragePooling2D(keepdims=True)(y))
    return k.Add()([k.Conv2D(filters, 1)(x), k.Multiply()([y, s])])


def image_to_image() -> Any:
    x = keras.Input(IMAGE)
    skip = block(x, 8)
    y = block(k.MaxPooling2D(3, 2, padding="same")(skip), 16)
    y = k.Conv2DTranspose(8, 3, strides=2, padding="same", activation="silu")(y)
    y = k.Concatenate()(
        [skip, k.UpSampling2D(2, interpolation="bilinear")(k.AveragePooling2D(2)(y))]
    )
    return keras.Model(x, k.Conv2D(4, 1)(y))


def sequence() -> Any:
    x = keras.Input((7,), dtype="int32")
    y = k.Embedding(4, 8)(x)
    y = k.Bidirectional(k.LSTM(6, return_sequences=True))(y)
    z = k.LayerNormalization()(y + k.MultiHeadAttention(2, 4)(y, y))
    z = k.Dense(12)(k.Dense(16, activation="gelu")(z)) + z
    return keras.Model(x, [k.GRU(5)(z), k.Dense(3, activation="softmax")(z)])


NETWORKS = {"image to image": (image_to_image, IMAGE), "sequence": (sequence, ("i", 7))}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_as_right_as_in_tensorflow(name: str) -> None:
    make, spec = NETWORKS[name]
    model = randomise(make())
    fast = optimize(model)
    for batch in (3, 1):
        x = example(spec, batch)
        found, plain, exact = (keras.tree.flatten(m(x)) for m in (fast, model, in_float64(model)))
        for a, b, e in zip(found, plain, exact):
            error = np.abs(a.numpy() - e.numpy()).max()
            own = np.abs(b.numpy() - e.numpy()).max()
            assert error <= 3 * own + 1e-7
    assert fast.sol.left == ()
    assert fast.sol.fallbacks == {}


def test_channels_last_costs_no_copies() -> None:
    model = randomise(image_to_image())
    fast = optimize(model)
    fast(example(IMAGE, 2))
    ((program,),) = (report.programs for report in fast.sol.report)
    (part,) = program.parts
    moves = {"permute", "reshape", "copy", "expand"}
    assert [c for c in part.clusters if set(c.operators) <= moves] == []
