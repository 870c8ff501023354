"""Every row of an operation of TensorFlow's graphs against TensorFlow, evaluated in NumPy, at
batches 3 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from sol.tensorflow import optimize
from sol.tensorflow.operations import OPERATIONS
from tests.tensorflow.models import assert_same, example

pytestmark = pytest.mark.usefixtures("by_reference")

IMAGE = (7, 6, 4)
RNG = np.random.default_rng(7)
W = RNG.standard_normal((6, 5)).astype("f")
KERNEL = RNG.standard_normal((3, 3, 4, 5)).astype("f")
DEEP = RNG.standard_normal((3, 3, 4, 2)).astype("f")
VOLUME = RNG.standard_normal((2, 2, 2, 3, 4)).astype("f")
TURNED = np.swapaxes(KERNEL, 2, 3)
raw = tf.raw_ops


def plain(name: str, low: float = -2.0, high: float = 2.0) -> tuple[Any, ...]:
    """An operation of one value, on numbers within bounds."""
    middle, half = (low + high) / 2, (high - low) / 2
    argument = "features" if name in FEATURES else "x"
    operation = getattr(raw, name)
    return lambda x: operation(**{argument: tf.sin(x) * half + middle}), (5,)


FEATURES = ("Relu", "Relu6", "Elu", "Selu", "Softplus", "Softsign", "LeakyRelu")


def both(name: str) -> tuple[Any, ...]:
    """An operation of two values that broadcast."""
    operation = getattr(raw, name)
    return lambda x, y: operation(x=x, y=tf.abs(y) + 0.3), (4, 5), (1, 5)


def whole(name: str) -> tuple[Any, ...]:
    """An operation of two values of whole numbers."""
    operation = getattr(raw, name)
    return lambda x, y: operation(x=x - 2, y=y + 1), ("i", 5), ("i", 5)


def logical(name: str) -> tuple[Any, ...]:
    """An operation of truth values."""
    operation = getattr(raw, name)
    return lambda x, y: operation(x=x, y=y), ("b", 5), ("b", 5)


def batch(x: Any) -> Any:
    return tf.shape(x)[0]


FIXED = ("StridedSlice batch",)  # for one image it is another network
ONE = {
    "Abs": (-2, 2), "Acos": (-0.9, 0.9), "Asin": (-0.9, 0.9), "Atan": (-3, 3), "Ceil": (-3, 3),
    "Cos": (-9, 9), "Cosh": (-2, 2), "Erf": (-3, 3), "Erfc": (-2, 2), "Exp": (-3, 3),
    "Expm1": (-1, 1), "Floor": (-3, 3), "Inv": (0.3, 2), "IsFinite": (-1, 1), "IsInf": (-1, 1),
    "IsNan": (-1, 1), "Log": (0.1, 4), "Log1p": (-0.5, 4), "Neg": (-2, 2),
    "Reciprocal": (0.3, 2), "Relu": (-2, 2), "Relu6": (-3, 9), "Rint": (-3, 3), "Round": (-3, 3),
    "Rsqrt": (0.2, 4), "Sigmoid": (-9, 9), "Sign": (-2, 2), "Sin": (-9, 9), "Sinh": (-2, 2),
    "Softplus": (-30, 30), "Softsign": (-2, 2), "Sqrt": (0.1, 4), "Square": (-2, 2),
    "Tan": (-1, 1), "Tanh": (-3, 3), "Elu": (-2, 2), "Selu": (-2, 2),
}  # fmt: skip

CASES: dict[str, tuple[Any, ...]] = {
    **{name: plain(name, *bounds) for name, bounds in ONE.items()},
    **{
        name: both(name)
        for name in (
            "Add",
            "AddV2",
            "Atan2",
            "Div",
            "DivNoNan",
            "Equal",
            "FloorDiv",
            "FloorMod",
            "Greater",
            "GreaterEqual",
            "Less",
            "LessEqual",
            "Maximum",
            "Minimum",
            "Mod",
            "Mul",
            "NotEqual",
            "RealDiv",
            "SquaredDifference",
            "Sub",
            "Xlogy",
        )
    },
    **{name: whole(name) for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "TruncateMod")},
    **{name: logical(name) for name in ("LogicalAnd", "LogicalOr")},
    "whole division": whole("FloorDiv"),
    "LogicalNot": (tf.logical_not, ("b", 5)),
    "Invert": (lambda x: raw.Invert(x=x), ("i", 5)),
    "LeakyRelu": (lambda x: tf.nn.leaky_relu(x, 0.3), (5,)),
    "Pow": (lambda x: tf.pow(tf.abs(x), 1.7), (5,)),
    "AddN": (lambda x, y: tf.add_n([x, y, x]), (5,), (5,)),
    "ClipByValue": (lambda x: raw.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.7), (5,)),
    "Select": (lambda c, x: raw.Select(condition=c, x=x, y=-x), ("b", 5), (5,)),
    "Select rows": (lambda c, x: raw.Select(condition=c, x=x, y=-x), ("b",), (5,)),
    "SelectV2": (lambda c, x: tf.where(c, x, 0.0), ("b", 1, 5), (4, 5)),
    "Cast": (lambda x: tf.cast(x * 3, tf.int32), (5,)),
    "Cast bool": (lambda x: tf.cast(x > 0, tf.float32), (5,)),
    "Identity": (lambda x: tf.identity(tf.stop_gradient(x)) + 1, (5,)),
    "IdentityN": (lambda x, y: tf.identity_n([x + y, x]), (5,), (5,)),
    "EnsureShape": (lambda x: tf.ensure_shape(x, (None, 5)) + 1, (5,)),
    "Snapshot": (lambda x: raw.Snapshot(input=x) + 1, (5,)),
    "PreventGradient": (lambda x: raw.PreventGradient(input=x) + 1, (5,)),
    "BiasAdd": (lambda x: tf.nn.bias_add(x, W[0][:4]), IMAGE),
    "BiasAdd first": (lambda x: tf.nn.bias_add(x, W[0][:4], "NCHW"), (4, 3, 2)),
    "BiasAddV1": (lambda x: raw.BiasAddV1(value=x, bias=W[0][:4]), (3, 4)),
    "ZerosLike": (lambda x: tf.zeros_like(x) + tf.ones_like(x) * 2 + x, (5,)),
    "OnesLike": (lambda x: raw.OnesLike(x=x) + x, (5,)),
    "swish": (tf.nn.silu, (5,)),
    "gelu": (tf.nn.gelu, (5,)),
    # products
    "MatMul": (lambda x: tf.matmul(x, W), (6,)),
    "MatMul turned": (lambda x: tf.matmul(x, W.T, transpose_b=True), (6,)),
    "BatchMatMul": (lambda x, y: raw.BatchMatMul(x=x, y=y, adj_y=True), (4, 6), (5, 6)),
    "BatchMatMulV2": (lambda x, y: tf.matmul(x, y), (2, 4, 6), (1, 6, 5)),
    "BatchMatMulV3": (lambda x, y: raw.BatchMatMulV3(x=x, y=y, Tout=tf.float32), (4, 6), (6, 5)),
    "Einsum": (lambda x, y: tf.einsum("bqhd,bkhd->bhqk", x, y), (4, 2, 3), (5, 2, 3)),
    "Einsum weights": (lambda x: tf.einsum("abc,cd->abd", x, W), (4, 6)),
    "Einsum sums": (lambda x, y: tf.einsum("bij,bkl->bik", x, y), (4, 5), (2, 3)),
    "Einsum outer": (lambda x, y: tf.einsum("bi,bj->bji", x, y), (4,), (5,)),
    "Einsum alone": (lambda x: tf.einsum("bij->jb", x), (4, 5)),
    # reductions
    "Sum": (lambda x: tf.reduce_sum(x, [1, 3]), IMAGE),
    "Sum of ints": (lambda x: tf.reduce_sum(x, -1, keepdims=True), ("i", 5)),
    "Mean": (lambda x: tf.reduce_mean(x, [1, 2], keepdims=True), IMAGE),
    "Max": (lambda x: tf.reduce_max(x, -1), IMAGE),
    "Min": (lambda x: tf.reduce_min(x, 1), IMAGE),
    "Prod": (lambda x: tf.reduce_prod(x, 1), (5,)),
    "All": (lambda x: tf.reduce_all(x, 1), ("b", 5)),
    "Any": (lambda x: tf.reduce_any(x, 1), ("b", 5)),
    "ArgMax": (lambda x: tf.argmax(x, -1), IMAGE),
    "ArgMin": (lambda x: tf.argmin(x, 1, output_type=tf.int32), IMAGE),
    "Softmax": (lambda x: tf.nn.softmax(x), IMAGE),
    "Softmax of rows": (lambda x: tf.nn.softmax(x, 1), IMAGE),
    "LogSoftmax": (tf.nn.log_softmax, (5,)),
    "Cumsum": (lambda x: tf.cumsum(x, 1), IMAGE),
    "L2Loss": (lambda x: tf.nn.l2_loss(x) + x, (5,)),
    # shapes
    "Reshape": (lambda x: tf.reshape(x, (batch(x), 2, -1)), (6,)),
    "Reshape all": (lambda x: tf.reshape(x, (-1, 3)), (6,)),
    "Reshape computed": (lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:2], [-1]], 0)), IMAGE),
    "Squeeze": (lambda x: tf.squeeze(x, [1, -1]), (1, 5, 1)),
    "ExpandDims": (lambda x: tf.expand_dims(x, -2), (5,)),
    "Transpose": (lambda x: tf.transpose(x, (0, 3, 1, 2)), IMAGE),
    "ConcatV2": (lambda x, y: tf.concat([x, y, W[:1, :4] + x[:, :1]], 1), (2, 4), (3, 4)),
    "Pack": (lambda x, y: tf.stack([x, y], -1), (5,), (5,)),
    "Unpack": (lambda x: tf.unstack(x, axis=-1), (5, 3)),
    "Split": (lambda x: tf.split(x, 3, -1), (4, 6)),
    "SplitV": (lambda x: tf.split(x, [1, -1, 2], 1), (6, 2)),
    "Slice": (lambda x: tf.slice(x, (0, 1, 2, 0), (-1, 3, -1, 2)), IMAGE),
    "StridedSlice": (lambda x: x[:, 1:-1:2, ..., None, 0], IMAGE),
    "StridedSlice back": (lambda x: x[:, ::-1, 4:1:-2], IMAGE),
    "StridedSlice batch": (lambda x: x[0:1] + x[-1:], IMAGE),
    "StridedSlice wide": (lambda x: x[:, 2:99, -99:3], IMAGE),
    "Pad": (lambda x: tf.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))), IMAGE),
    "PadV2": (lambda x: tf.pad(x, ((0, 0), (1, 2)), constant_values=2.5), (5,)),
    "MirrorPad": (lambda x: tf.pad(x, ((0, 0), (1, 2), (2, 0), (0, 0)), "REFLECT"), IMAGE),
    "BroadcastTo": (lambda x: tf.broadcast_to(x, (batch(x), 3, 5)), (1, 5)),
    "BroadcastArgs": (
        lambda x: tf.broadcast_to(x, tf.broadcast_dynamic_shape(tf.shape(x), (3, 1))),
        (1, 5),
    ),
    "Tile": (lambda x: tf.tile(x, (1, 2, 3)), (4, 2)),
    "Tile ones": (lambda x: tf.tile(x, (1, 3, 1)), (1, 4)),
    "Fill": (lambda x: tf.fill((batch(x), 5), 2.0) * x, (5,)),
    "Range": (lambda x: tf.cast(tf.range(batch(x)), tf.float32)[:, None] + x, (5,)),
    "ReverseV2": (lambda x: tf.reverse(x, [1, -1]), IMAGE),
    "Roll": (lambda x: tf.roll(x, [1, -2], [1, 2]), IMAGE),
    "DepthToSpace": (lambda x: tf.nn.depth_to_space(x, 2), (3, 2, 8)),
    "SpaceToDepth": (lambda x: tf.nn.space_to_depth(x, 2), (4, 6, 3)),
    "Shape": (lambda x: tf.reshape(x, (tf.size(x) // 5, tf.rank(x) + 3)), (5,)),
    "ShapeN": (lambda x: tf.reshape(x, raw.ShapeN(input=[x, x])[1]) + 1, (5,)),
    "Rank": (lambda x: x * tf.cast(tf.rank(x), tf.float32), (5,)),
    "Size": (lambda x: tf.reshape(x, (tf.size(x),)), (5,)),
    # gathering
    "GatherV2": (lambda x: tf.gather(W, x), ("i", 5)),
    "GatherV2 axis": (lambda x: tf.gather(x, [3, 0, 3], axis=-1), IMAGE),
    "Gather": (lambda x: raw.Gather(params=W, indices=x), ("i", 5)),
    "OneHot": (lambda x: tf.one_hot(x, 4), ("i", 5)),
    "MatrixBandPart": (lambda x: tf.linalg.band_part(x, 1, 2), (5, 6)),
    # images
    "Conv2D": (lambda x: tf.nn.conv2d(x, KERNEL, 2, "SAME"), IMAGE),
    "Conv2D padded": (
        lambda x: tf.nn.conv2d(x, KERNEL, 1, [[0, 0], [1, 2], [0, 1], [0, 0]], dilations=2),
        IMAGE,
    ),
    "Conv1D": (lambda x: tf.nn.conv1d(x, KERNEL[0], 1, "VALID"), (7, 4)),
    "Conv3D": (lambda x: tf.nn.conv3d(x, VOLUME, (1, 1, 2, 1, 1), "SAME"), (3, 4, 5, 3)),
    "DepthwiseConv2dNative": (
        lambda x: tf.nn.depthwise_conv2d(x, DEEP, (1, 2, 2, 1), "SAME"),
        IMAGE,
    ),
    "Conv2DBackpropInput": (
        lambda x: tf.nn.conv2d_transpose(x, TURNED, (batch(x), 14, 11, 5), 2, "SAME"),
        IMAGE,
    ),
    "Conv3DBackpropInputV2": (
        lambda x: tf.nn.conv3d_transpose(x, VOLUME, (batch(x), 6, 8, 10, 3), 2, "SAME"),
        (3, 4, 5, 4),
    ),
    "MaxPool": (lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), IMAGE),
    "MaxPool3D": (lambda x: tf.nn.max_pool3d(x, 2, 2, "VALID"), (3, 4, 5, 3)),
    "AvgPool": (lambda x: tf.nn.avg_pool2d(x, 3, 1, "SAME"), IMAGE),
    "AvgPool3D": (lambda x: tf.nn.avg_pool3d(x, 2, 2, "SAME"), (3, 4, 5, 3)),
    "FusedBatchNormV3": (
        lambda x: tf.compat.v1.nn.fused_batch_norm(
            x, W[0][:4], W[1][:4], W[2][:4], W[3][:4] ** 2, is_training=False
        )[0],
        IMAGE,
    ),
    "LRN": (lambda x: tf.nn.lrn(x, 2, 1.5, 0.3, 0.6), IMAGE),
    "ResizeBilinear": (lambda x: tf.image.resize(x, (9, 4)), IMAGE),
    "ResizeBilinear corners": (
        lambda x: tf.compat.v1.image.resize_bilinear(x, (9, 4), align_corners=True),
        IMAGE,
    ),
    "ResizeBilinear points": (
        lambda x: raw.ResizeBilinear(images=x, size=(9, 4), half_pixel_centers=False),
        IMAGE,
    ),
    "ResizeBicubic": (lambda x: tf.image.resize(x, (9, 4), "bicubic"), IMAGE),
    "ResizeNearestNeighbor corners": (
        lambda x: raw.ResizeNearestNeighbor(images=x, size=(5, 11), align_corners=True),
        IMAGE,
    ),
    "ResizeNearestNeighbor points": (
        lambda x: raw.ResizeNearestNeighbor(images=x, size=(5, 11), half_pixel_centers=False),
        IMAGE,
    ),
    "SpaceToBatchND": (
        lambda x: tf.nn.depthwise_conv2d(x, DEEP, (1, 1, 1, 1), "SAME", dilations=(2, 2)),
        IMAGE,
    ),
    "BatchToSpaceND": (
        lambda x: raw.BatchToSpaceND(
            input=raw.SpaceToBatchND(input=x, block_shape=[2, 3], paddings=[[0, 1], [2, 1]]),
            block_shape=[2, 3],
            crops=[[1, 0], [0, 2]],
        ),
        IMAGE,
    ),
    "ResizeNearestNeighbor": (lambda x: tf.image.resize(x, (14, 12), "nearest"), IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation_computes_what_tensorflow_does(name: str) -> None:
    call, *specs = CASES[name]
    function = tf.function(call, autograph=False)
    fast = optimize(function)
    for size in (3, 1):
        arrays = [example(spec, size, seed) for seed, spec in enumerate(specs)]
        assert_same(fast(*arrays), function(*arrays))
    assert fast.sol.left == ()
    assert fast.sol.fallbacks == {}
    reasons = [p.why_fixed for report in fast.sol.report for p in report.programs]
    assert not any(reasons) or name in FIXED


def test_every_row_has_a_case() -> None:
    others = {
        "Asinh", "Acosh", "Atanh",  # which are refused
        "CheckNumerics", "StopGradient", "PlaceholderWithDefault", "LogicalXor", "ResourceGather",
        "FusedBatchNorm", "FusedBatchNormV2",
    }  # fmt: skip
    assert set(OPERATIONS) - set(CASES) - others == set()
