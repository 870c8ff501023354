"""Every row of a Keras layer against Keras, evaluated in NumPy, at batches 3 and 1."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras import layers as k

from sol.tensorflow import optimize
from sol.tensorflow.layers import LAYERS
from tests.tensorflow.models import alone, assert_same, example, inputs_of, randomise

pytestmark = pytest.mark.usefixtures("by_reference")

IMAGE = (7, 6, 4)
LINE = (9, 4)
VOLUME = (5, 4, 6, 2)
SEQUENCE = (5, 6)
FIRST = {"data_format": "channels_first"}

# a layer, and the sizes of its inputs
CASES: dict[str, tuple[Any, ...]] = {
    "conv1d": (k.Conv1D(5, 3, padding="same", strides=2), LINE),
    "conv1d causal": (k.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="relu"), LINE),
    "conv2d": (k.Conv2D(5, 3), IMAGE),
    "conv2d same": (k.Conv2D(5, (3, 2), strides=2, padding="same", activation="tanh"), IMAGE),
    "conv2d even": (k.Conv2D(5, (2, 4), padding="same", use_bias=False), IMAGE),
    "conv2d dilated": (k.Conv2D(5, 3, dilation_rate=2, padding="same"), IMAGE),
    "conv2d groups": (k.Conv2D(6, 3, groups=2, padding="same"), IMAGE),
    "conv3d": (k.Conv3D(3, (2, 3, 3), strides=(1, 2, 2), padding="same"), VOLUME),
    "depthwise1d": (k.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), LINE),
    "depthwise2d": (k.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2), IMAGE),
    "depthwise dilated": (k.DepthwiseConv2D(3, dilation_rate=2, activation="relu6"), IMAGE),
    "separable1d": (k.SeparableConv1D(5, 3, padding="same"), LINE),
    "separable2d": (k.SeparableConv2D(5, 3, strides=2, padding="same", activation="gelu"), IMAGE),
    "transposed1d": (k.Conv1DTranspose(5, 3, strides=2, padding="same"), LINE),
    "transposed2d": (k.Conv2DTranspose(5, 3, strides=2), IMAGE),
    "transposed same": (k.Conv2DTranspose(5, 3, strides=2, padding="same"), IMAGE),
    "transposed even": (k.Conv2DTranspose(5, (4, 2), strides=(3, 1), padding="same"), IMAGE),
    "transposed more": (
        k.Conv2DTranspose(5, 3, strides=2, padding="same", output_padding=1, activation="elu"),
        IMAGE,
    ),
    "transposed wide": (k.Conv2DTranspose(3, 2, strides=4, use_bias=False), IMAGE),
    "transposed3d": (k.Conv3DTranspose(3, 2, strides=2, padding="same"), VOLUME),
    "dense": (k.Dense(5, activation="softmax"), (6,)),
    "dense of images": (k.Dense(5, use_bias=False), IMAGE),
    "embedding": (k.Embedding(4, 6), ("i", 5)),
    "embedding of floats": (k.Embedding(4, 6), (5,)),
    "activation": (k.Activation("mish"), IMAGE),
    "relu": (k.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.2), IMAGE),
    "relu least": (k.ReLU(threshold=0.3), IMAGE),
    "leaky": (k.LeakyReLU(0.2), IMAGE),
    "elu": (k.ELU(0.7), IMAGE),
    "prelu": (k.PReLU(shared_axes=[1, 2]), IMAGE),
    "softmax": (k.Softmax(axis=1), IMAGE),
    "dropout": (k.Dropout(0.5), IMAGE),
    "spatial dropout": (k.SpatialDropout2D(0.5), IMAGE),
    "noise": (k.GaussianNoise(0.5), IMAGE),
    "max1d": (k.MaxPooling1D(3, strides=1, padding="same"), LINE),
    "max2d": (k.MaxPooling2D(), IMAGE),
    "max2d same": (k.MaxPooling2D(3, strides=2, padding="same"), IMAGE),
    "max2d even": (k.MaxPooling2D(2, strides=1, padding="same"), IMAGE),
    "max3d": (k.MaxPooling3D(2, padding="same"), VOLUME),
    "average1d": (k.AveragePooling1D(2, strides=1, padding="same"), LINE),
    "average2d": (k.AveragePooling2D(2), IMAGE),
    "average2d same": (k.AveragePooling2D(3, strides=2, padding="same"), IMAGE),
    "average2d even": (k.AveragePooling2D((2, 4), strides=(2, 3), padding="same"), IMAGE),
    "average2d mixed": (k.AveragePooling2D((2, 4), strides=(2, 1), padding="same"), IMAGE),
    "average3d": (k.AveragePooling3D(2), VOLUME),
    "global average": (k.GlobalAveragePooling2D(keepdims=True), IMAGE),
    "global average1d": (k.GlobalAveragePooling1D(), LINE),
    "global max": (k.GlobalMaxPooling3D(), VOLUME),
    "batch norm": (k.BatchNormalization(), IMAGE),
    "batch norm plain": (k.BatchNormalization(scale=False, center=False), (6,)),
    "batch norm centred": (k.BatchNormalization(axis=1, scale=False), LINE),
    "layer norm": (k.LayerNormalization(), LINE),
    "layer norm axes": (k.LayerNormalization(axis=(-2, -1), center=False), IMAGE),
    "group norm": (k.GroupNormalization(2), IMAGE),
    "group norm each": (k.GroupNormalization(-1, scale=False), IMAGE),
    "rescaling": (k.Rescaling([0.5, 1.0, 2.0, 4.0], offset=-1.0), IMAGE),
    "rescaling ints": (k.Rescaling(1 / 255.0), ("i", 5, 4)),
    "normalization": (k.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 4, 9, 16]), IMAGE),
    "denormalization": (
        k.Normalization(mean=[1.0, 2, 3, 4], variance=[1.0, 4, 9, 16], invert=True),
        IMAGE,
    ),
    "add": (k.Add(), IMAGE, IMAGE, IMAGE),
    "add broadcast": (k.Add(), IMAGE, (1, 1, 4)),
    "multiply": (k.Multiply(), IMAGE, IMAGE),
    "average": (k.Average(), LINE, LINE),
    "maximum": (k.Maximum(), LINE, LINE),
    "minimum": (k.Minimum(), LINE, LINE),
    "subtract": (k.Subtract(), LINE, LINE),
    "concatenate": (k.Concatenate(), (7, 6, 4), (7, 6, 3)),
    "concatenate rows": (k.Concatenate(axis=1), (7, 4), (5, 4)),
    "flatten": (k.Flatten(), IMAGE),
    "flatten first": (k.Flatten(**FIRST), IMAGE),
    "reshape": (k.Reshape((3, -1)), IMAGE),
    "permute": (k.Permute((3, 1, 2)), IMAGE),
    "repeat": (k.RepeatVector(3), (6,)),
    "padding1d": (k.ZeroPadding1D((2, 1)), LINE),
    "padding2d": (k.ZeroPadding2D(((1, 2), (0, 3))), IMAGE),
    "padding first": (k.ZeroPadding2D((1, 2), **FIRST), IMAGE),
    "padding3d": (k.ZeroPadding3D(1), VOLUME),
    "cropping1d": (k.Cropping1D((2, 1)), LINE),
    "cropping2d": (k.Cropping2D(((1, 2), (0, 3))), IMAGE),
    "cropping3d": (k.Cropping3D(1), VOLUME),
    "up1d": (k.UpSampling1D(3), LINE),
    "up2d": (k.UpSampling2D((2, 3)), IMAGE),
    "up2d bilinear": (k.UpSampling2D(2, interpolation="bilinear"), IMAGE),
    "up3d": (k.UpSampling3D(2), VOLUME),
    "lstm": (k.LSTM(4), SEQUENCE),
    "lstm sequences": (k.LSTM(4, return_sequences=True, return_state=True), SEQUENCE),
    "lstm plain": (k.LSTM(4, use_bias=False, go_backwards=True, return_sequences=True), SEQUENCE),
    "gru": (k.GRU(4, return_sequences=True), SEQUENCE),
    "gru plain": (k.GRU(4, use_bias=False, return_state=True), SEQUENCE),
    "rnn": (k.SimpleRNN(4), SEQUENCE),
    "rnn relu": (k.SimpleRNN(4, activation="relu", go_backwards=True), SEQUENCE),
    "bidirectional": (k.Bidirectional(k.LSTM(4, return_sequences=True)), SEQUENCE),
    "bidirectional sum": (k.Bidirectional(k.GRU(4), merge_mode="sum"), SEQUENCE),
    "bidirectional states": (
        k.Bidirectional(k.LSTM(4, return_state=True), merge_mode=None),
        SEQUENCE,
    ),
    "cell": (k.RNN(k.LSTMCell(4), return_state=True), SEQUENCE),
    "cells": (
        k.RNN([k.GRUCell(4), k.SimpleRNNCell(3)], return_sequences=True, go_backwards=True),
        SEQUENCE,
    ),
    "bidirectional cell": (k.Bidirectional(k.RNN(k.GRUCell(4, reset_after=False))), SEQUENCE),
    # what has no row of its own is read as TensorFlow
    "gelu tanh": (k.Lambda(lambda x: keras.activations.gelu(x, approximate=True)), IMAGE),
    "dot": (k.Dot(axes=2), LINE, (5, 4)),
    "dot normalised": (k.Dot(axes=1, normalize=True), (6,), (6,)),
    "einsum dense": (k.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3)), SEQUENCE),
    "unit norm": (k.UnitNormalization(axis=1), LINE),
    "rms norm": (k.RMSNormalization(), LINE),
    "attention": (k.Attention(), SEQUENCE, SEQUENCE),
    "time distributed": (k.TimeDistributed(k.Dense(3, activation="relu")), SEQUENCE),
    "time distributed conv": (k.TimeDistributed(k.Conv2D(3, 3)), (2, *IMAGE)),
    "time distributed model": (
        k.TimeDistributed(keras.Sequential([k.Conv2D(3, 3), k.Flatten(), k.Dense(2)])),
        (2, *IMAGE),
    ),
    "time distributed sequences": (k.TimeDistributed(k.LSTM(3)), (2, *SEQUENCE)),
    "resizing": (k.Resizing(14, 12), IMAGE),
    "resizing cubic": (k.Resizing(9, 4, interpolation="bicubic"), IMAGE),
    "resizing nearest odd": (k.Resizing(9, 4, interpolation="nearest"), IMAGE),
    "resizing nearest": (k.Resizing(14, 12, interpolation="nearest"), IMAGE),
    "centre": (k.CenterCrop(4, 4), IMAGE),
    "lambda": (k.Lambda(lambda x: x[:, ::-1, 1:, None] * 2.0), IMAGE),
    "random flip": (k.RandomFlip(), IMAGE),
    "category": (k.CategoryEncoding(5, "one_hot"), ("i", 1)),
    "spectral": (k.SpectralNormalization(k.Conv2D(3, 3)), IMAGE),
    "dense celu": (k.Dense(5, activation="celu"), (6,)),
    "separable dilated": (k.SeparableConv2D(3, 3, strides=2, dilation_rate=2), (12, 12, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_what_keras_does(name: str) -> None:
    layer, *specs = CASES[name]
    inputs = inputs_of(specs)
    model = randomise(keras.Model(alone(inputs), layer(alone(inputs))))
    fast = optimize(model)
    for batch in (3, 1):
        arrays = alone([example(spec, batch, seed) for seed, spec in enumerate(specs)])
        assert_same(fast(arrays, training=False), model(arrays, training=False))
    assert fast.sol.left == ()
    assert fast.sol.fallbacks == {}


ACTIVATIONS = (
    "relu", "leaky_relu", "relu6", "softmax", "celu", "elu", "selu", "softplus", "softsign",
    "squareplus", "soft_shrink", "sparse_plus", "silu", "gelu", "glu", "tanh", "tanh_shrink",
    "threshold", "sigmoid", "sparse_sigmoid", "exponential", "hard_sigmoid", "hard_silu",
    "hard_tanh", "hard_shrink", "linear", "mish", "log_softmax", "log_sigmoid",
)  # fmt: skip


def test_activations_compute_what_keras_does() -> None:
    x = keras.Input((8,))
    functions = [getattr(keras.activations, n) for n in ACTIVATIONS if n != "threshold"]
    model = keras.Model(x, [k.Activation(f)(x * 3.0) for f in functions])
    fast = optimize(model)
    assert_same(fast(example((8,), 3)), model(example((8,), 3)))
    assert fast.sol.left == ()


def test_every_row_has_a_case() -> None:
    tested = {type(layer) for layer, *_ in CASES.values()}
    others = {
        k.SpatialDropout1D, k.SpatialDropout3D, k.GaussianDropout, k.AlphaDropout, k.Identity,
        k.ActivityRegularization, k.GlobalAveragePooling3D, k.GlobalMaxPooling1D,
        k.GlobalMaxPooling2D, k.MultiHeadAttention,
    }  # fmt: skip
    assert set(LAYERS) - tested - others == set()


ATTENTION = {
    "self": ({}, {}),
    "sizes": ({"value_dim": 5, "use_bias": False}, {}),
    "causal": ({}, {"use_causal_mask": True}),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_multi_head_attention(name: str) -> None:
    made, called = ATTENTION[name]
    x = keras.Input((7, 6))
    model = randomise(keras.Model(x, k.MultiHeadAttention(2, 4, **made)(x, x, **called)))
    fast = optimize(model)
    assert_same(fast(example((7, 6), 3)), model(example((7, 6), 3)))
    assert fast.sol.left == ()


def test_attention_with_a_mask_where_a_query_may_see_nothing() -> None:
    x, y, mask = keras.Input((7, 6)), keras.Input((5, 6)), keras.Input((7, 5), dtype="bool")
    attended = k.MultiHeadAttention(2, 4)(x, y, attention_mask=mask)
    model = randomise(keras.Model([x, y, mask], attended))
    arrays = [example((7, 6), 3), example((5, 6), 3, 2), example(("b", 7, 5), 3, 3)]
    arrays[2][0, 0] = False
    fast = optimize(model)
    assert_same(fast(arrays), model(arrays))
    assert fast.sol.left == ()
