"""Calls of operators that tests compare with MXNet: name, attributes, inputs.

An input is a shape, of random float32 numbers, or an array. `C(…, numpy=True)` is a call of the
NumPy interface, where tensors may be without axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    op: str
    attrs: dict[str, Any]
    inputs: tuple[Any, ...]
    numpy: bool = False
    low: float = -2.0
    high: float = 2.0
    results: int = 1

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(7)
        found = {}
        for number, given in enumerate(self.inputs):
            name = f"x{number}"
            if isinstance(given, np.ndarray):
                found[name] = given
            else:
                found[name] = rng.uniform(self.low, self.high, given).astype(np.float32)
        return found

    def __str__(self) -> str:
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.op}({attrs})".replace(" ", "")


_COUNTED = ("add_n", "Concat", "stack", "_npi_concatenate", "_npi_stack", "UpSampling", "Crop",
            "_rnn_param_concat")  # fmt: skip


def C(op: str, *inputs: Any, numpy: bool = False, low: float = -2.0, high: float = 2.0,
      results: int = 1, **attrs: Any) -> Call:  # fmt: skip
    if op in _COUNTED:
        attrs["num_args"] = len(inputs)
    return Call(op, attrs, inputs, numpy, low, high, results)


def ints(*values: Any, dtype: str = "int32") -> np.ndarray:
    return np.array(values if len(values) > 1 else values[0], dtype)


def floats(*values: Any) -> np.ndarray:
    return np.array(values if len(values) > 1 else values[0], np.float32)


M, V, I = (3, 4), (5,), (2, 3, 7, 6)  # noqa: E741  a matrix, a vector, images

ONE = [
    C(op, M) for op in ("exp", "expm1", "sin", "cos", "arctan", "sinh", "cosh", "tanh", "abs",
    "sign", "negative", "floor", "ceil", "trunc", "fix", "square", "rint", "relu", "sigmoid",
    "erf", "softsign", "round", "cbrt", "arcsinh", "degrees", "radians", "_copy", "BlockGrad",
    "make_loss", "logical_not", "reciprocal", "hard_sigmoid", "tan")
] + [
    C(op, M, low=0.1, high=0.9) for op in ("log", "log10", "log1p", "log2", "sqrt", "rsqrt",
    "arcsin", "arccos", "rcbrt", "arctanh")
] + [C("arccosh", M, low=1.1, high=3.0), C("round", floats(0.5, -0.5, 1.5, 2.5, -2.5)),
    C("rint", floats(0.5, -0.5, 1.5, 2.5, -2.5)), C("_npi_rint", floats(0.5, -0.5, 1.5),
    numpy=True), C("logical_not", floats(0, 1, 2)),
    C("_npi_around", floats(0.5, 1.5, 2.5), numpy=True)] + [
    C(f"_npi_{op}", M, numpy=True) for op in ("exp", "expm1", "sin", "cos", "arctan", "sinh",
    "cosh", "tanh", "absolute", "sign", "negative", "floor", "ceil", "trunc", "fix", "square",
    "rint", "cbrt", "arcsinh", "degrees", "radians", "reciprocal", "tan", "logical_not")
] + [C("_npx_relu", M, numpy=True), C("_npx_sigmoid", M, numpy=True), C("_npx_erf", M, numpy=True),
    C("_np_copy", M, numpy=True),
    C("_npi_isnan", floats(0, np.nan, np.inf), numpy=True),
    C("_npi_isinf", floats(0, np.nan, np.inf), numpy=True),
    C("_npi_nan_to_num", floats(0, np.nan, np.inf, -np.inf), numpy=True, nan=1.5),
    C("_npi_bitwise_not", ints(1, -4), numpy=True)]  # fmt: skip

_LEGACY_TWO = ("add", "sub", "mul", "div", "mod", "power", "maximum", "minimum", "equal",
               "not_equal", "greater", "greater_equal", "lesser", "lesser_equal", "logical_and",
               "logical_or", "logical_xor", "hypot")  # fmt: skip
_EQUAL = (floats(1, 2, 0, 3), floats(1, 0.5, 0, 4))
TWO = (
    [C(f"broadcast_{op}", (2, 3, 1), (1, 3, 4), low=0.2) for op in _LEGACY_TWO]
    + [C(f"broadcast_{op}", *_EQUAL) for op in _LEGACY_TWO if op not in ("div", "mod", "power")]
    + [C(f"_{op}", *_EQUAL) for op in ("equal", "not_equal", "greater", "greater_equal", "lesser",
       "lesser_equal", "logical_and", "logical_or", "logical_xor", "maximum", "minimum", "hypot")]
    + [C(f"elemwise_{op}", M, M) for op in ("add", "sub", "mul", "div")]
    + [C("_mod", M, M), C("_power", M, M, low=0.3), C("_grad_add", M, M)]
    + [C(f"_npi_{op}", (2, 3, 1), (3, 4), numpy=True, low=0.2) for op in ("add", "subtract",
       "multiply", "true_divide", "mod", "power", "maximum", "minimum", "arctan2",
       "equal", "less", "greater", "hypot", "not_equal", "less_equal", "greater_equal")]
    + [C(f"_npi_{op}", *_EQUAL, numpy=True) for op in ("equal", "not_equal")]
    + [C(f"_npi_{op}", ints(5, 12, -3), ints(3, 4, 6), numpy=True) for op in ("bitwise_and",
       "bitwise_or", "bitwise_xor", "add", "multiply", "true_divide")]
    + [C("_npi_add", ints(5, 12), floats(0.5, 1), numpy=True),
       C("_npi_multiply", M, floats(3.0).reshape(()), numpy=True)]
    + [C("add_n", M, M, M), C("add_n", M), C("broadcast_mod", floats(-5, 5, -5, 5, 0.5),
       floats(3, -3, -3, 3, 0.2)), C("where", floats(1, 0, 2), (3,), (3,)),
       C("where", floats([1, 0, 2]), (3, 2), (3, 2)), C("where", ints([[1, 0], [0, 1]]), (2, 2),
       (2, 2)), C("_npi_where", floats([[1], [0]]), (2, 3), (3,), numpy=True),
       C("_npi_where_lscalar", floats(1, 0), (2,), numpy=True, scalar=3.5),
       C("_npi_where_rscalar", floats(1, 0), (2,), numpy=True, scalar=3.5)]
)  # fmt: skip

_NUMBERS = ("plus", "minus", "rminus", "mul", "div", "rdiv", "mod", "rmod", "power", "rpower",
            "maximum", "minimum", "equal", "not_equal", "greater", "greater_equal", "lesser",
            "lesser_equal", "logical_and", "logical_or", "logical_xor", "hypot")  # fmt: skip
_NUMPY_NUMBERS = ("add", "subtract", "rsubtract", "multiply", "true_divide", "rtrue_divide", "mod",
                  "rmod", "power", "rpower", "maximum", "minimum", "equal", "not_equal", "greater",
                  "greater_equal", "less", "less_equal", "arctan2", "rarctan2",
                  "hypot")  # fmt: skip
NUMBER = (
    [C(f"_{op}_scalar", floats(0.5, 1.5, 2.5, 3), scalar=1.5, is_int=False) for op in _NUMBERS]
    + [C(f"_{op}_scalar", ints(1, 2, 3), scalar=2.0) for op in ("plus", "minus", "rminus", "mul",
       "maximum", "minimum", "equal", "greater", "lesser_equal")]
    + [C(f"_npi_{op}_scalar", floats(0.5, 1.5, 2.5, 3), scalar=1.5, is_int=False, numpy=True)
       for op in _NUMPY_NUMBERS]
    + [C(f"_npi_{op}_scalar", ints(1, 2, 3), scalar=2.0, is_int=True, numpy=True)
       for op in ("add", "subtract", "multiply", "true_divide", "maximum", "equal", "less", "mod")]
    + [C("clip", M, a_min=-0.5, a_max=1), C("clip", ints(1, -5, 9), a_min=0, a_max=4),
       C("smooth_l1", floats(-3, -0.2, 0, 0.1, 2), scalar=1.5), C("_contrib_div_sqrt_dim", M),
       C("Cast", M, dtype="int32"), C("Cast", ints(1, 2), dtype="float32"),
       C("Cast", floats(1.7, -1.7), dtype="int8"), C("Cast", ints(0, 2), dtype="bool"),
       C("amp_cast", M, dtype="float32"), C("Dropout", M, p=0.3)]
)  # fmt: skip

ACTIVATION = (
    [C("Activation", M, act_type=a) for a in ("relu", "sigmoid", "tanh", "softrelu", "softsign")]
    + [C("Activation", floats(-90, -30, 15, 25, 90), act_type="softrelu")]
    + [C("LeakyReLU", M, act_type=a, slope=0.3) for a in ("leaky", "elu", "selu", "gelu", "rrelu")]
    + [C("LeakyReLU", M), C("LeakyReLU", I, (3,), act_type="prelu"),
       C("LeakyReLU", I, (1,), act_type="prelu"), C("LeakyReLU", (2, 3), (3,), act_type="prelu"),
       C("softmax", I), C("softmax", I, axis=1, temperature=2.0), C("log_softmax", I, axis=-2),
       C("softmin", I), C("SoftmaxOutput", (3, 5), (3,)), C("SoftmaxOutput", I, (2, 7, 6),
       multi_output=True), C("SoftmaxOutput", I, (2, 3, 7), preserve_shape=True),
       C("SoftmaxOutput", (2, 3, 4), (2, 3)),
       C("SoftmaxActivation", I),
       C("SoftmaxActivation", (2, 3, 4)), C("SoftmaxActivation", I, mode="channel"),
       C("softmax", (2, 5), ints(3, 2), use_length=True),
       C("softmax", (2, 3, 4), ints([[1, 3, 2, 0], [3, 2, 1, 3]]), use_length=True, axis=1),
       C("log_softmax", (3, 4), temperature=0.5), C("LogisticRegressionOutput", M, M),
       C("LinearRegressionOutput", M, M), C("MAERegressionOutput", M, M),
       C("_npx_softmax", M, numpy=True), C("_npx_log_softmax", M, numpy=True, axis=0),
       C("_npx_activation", M, numpy=True, act_type="tanh"),
       C("_npx_leaky_relu", M, numpy=True, act_type="gelu")]
)  # fmt: skip

CONVOLUTION = [
    C("Convolution", I, (4, 3, 3, 2), (4,), kernel=(3, 2), num_filter=4),
    C("Convolution", I, (4, 3, 3, 3), kernel=(3, 3), num_filter=4, no_bias=True, pad=(1, 2),
      stride=(2, 1), dilate=(1, 2)),
    C("Convolution", (2, 4, 9), (6, 2, 3), (6,), kernel=(3,), num_filter=6, num_group=2,
      pad=(1,)),
    C("Convolution", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), (3,), kernel=(2, 3, 2), num_filter=3,
      stride=(1, 2, 1)),
    C("Convolution", (2, 6, 5, 5), (6, 1, 3, 3), (6,), kernel=(3, 3), num_filter=6, num_group=6),
    C("Convolution", I, (4, 3, 1, 1), (4,), kernel=(1, 1), num_filter=4, layout="NCHW"),
    C("Deconvolution", I, (3, 4, 3, 2), kernel=(3, 2), num_filter=4),
    C("Deconvolution", I, (3, 2, 4, 4), (2,), kernel=(4, 4), num_filter=2, no_bias=False,
      stride=(2, 2), pad=(1, 1)),
    C("Deconvolution", I, (3, 2, 3, 3), kernel=(3, 3), num_filter=2, stride=(2, 3), pad=(1, 1),
      adj=(1, 2)),
    C("Deconvolution", (2, 4, 5, 5), (4, 1, 4, 4), kernel=(4, 4), num_filter=4, num_group=4,
      stride=(2, 2), pad=(1, 1)),
    C("Deconvolution", (2, 4, 5), (4, 3, 3), kernel=(3,), num_filter=3, stride=(2,), dilate=(2,)),
    C("_npx_convolution", I, (4, 3, 3, 2), (4,), kernel=(3, 2), num_filter=4, numpy=True),
]  # fmt: skip

_IMAGES = (1, 2, 7, 8)
POOLING = (
    [C("Pooling", _IMAGES, kernel=(3, 2), stride=(2, 3), pool_type=t, pooling_convention=v)
     for t in ("max", "avg", "sum", "lp") for v in ("valid", "full")
     ] [:6]
    + [C("Pooling", _IMAGES, kernel=(3, 2), stride=(2, 3), pool_type="lp", p_value=p)
       for p in (1, 2, 3)]
    + [C("Pooling", _IMAGES, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg",
         pooling_convention=v, count_include_pad=p) for v in ("valid", "full")
       for p in (True, False)]
    + [C("Pooling", _IMAGES, kernel=(1, 1), global_pool=True, pool_type=t)
       for t in ("max", "avg", "sum")]
    + [C("Pooling", _IMAGES, global_pool=True, pool_type="lp", p_value=2),
       C("Pooling", (1, 2, 9), kernel=(3,), stride=(2,), pool_type="max"),
       C("Pooling", (1, 2, 9), kernel=(3,), stride=(2,), pad=(1,), pool_type="avg",
         pooling_convention="full"),
       C("Pooling", (1, 2, 5, 6, 7), kernel=(2, 3, 2), stride=(2, 2, 2), pool_type="max",
         pooling_convention="full"),
       C("Pooling", (1, 2, 5, 6, 7), kernel=(2, 3, 2), stride=(2, 2, 2), pool_type="avg"),
       C("Pooling", _IMAGES, kernel=(2, 2), stride=(2, 2), layout="NCHW"),
       C("_npx_pooling", _IMAGES, kernel=(2, 2), stride=(2, 2), numpy=True)]
)  # fmt: skip

_STATES = ((3,), (3,), (3,), np.array([0.5, 1, 2], np.float32))
NORMALISATION = [
    C("BatchNorm", I, *_STATES), C("BatchNorm", I, *_STATES, fix_gamma=False, eps=1e-5),
    C("BatchNorm", (2, 4, 5, 3), *_STATES, fix_gamma=False, axis=3),
    C("BatchNorm", (2, 3), *_STATES, use_global_stats=True, fix_gamma=False),
    C("_npx_batch_norm", I, *_STATES, fix_gamma=False, numpy=True),
    C("LayerNorm", (2, 3, 6), (6,), (6,)), C("LayerNorm", I, (3,), (3,), axis=1, eps=1e-3),
    C("_npx_layer_norm", (2, 6), (6,), (6,), numpy=True),
    C("GroupNorm", (2, 6, 4, 5), (3,), (3,), num_groups=3),
    C("GroupNorm", (2, 6, 4), (1,), (1,)),
    C("InstanceNorm", I, (3,), (3,)),
    *(C("L2Normalization", I, mode=m) for m in ("instance", "channel", "spatial")),
    C("LRN", (2, 7, 3, 4), nsize=5, alpha=0.1, beta=0.5, knorm=1.5),
    C("moments", I, axes=(0, 2), results=2), C("moments", I, axes=(1,), keepdims=True, results=2),
]  # fmt: skip

REDUCTION = (
    [C(op, (2, 3, 4), **a) for op in ("sum", "mean", "prod", "max", "min", "nansum", "nanprod")
     for a in ({}, {"axis": 1}, {"axis": (0, -1), "keepdims": True}, {"axis": (1,),
     "exclude": True})]
    + [C("nansum", floats([[1, np.nan], [3, 4]]), axis=1), C("norm", M), C("norm", M, axis=1),
       C("norm", M, ord=1, axis=0, keepdims=True), C("argmax", M, axis=1), C("argmax", M),
       C("argmin", M, axis=0, keepdims=True), C("argmax_channel", M), C("cumsum", M, axis=1),
       C("cumsum", M), C("softmax_cross_entropy", M, floats(0, 3, 1))]
    + [C(op, (2, 3, 4), numpy=True, **a) for op in ("_np_sum", "_np_prod", "_np_max", "_np_min",
       "_npi_mean") for a in ({}, {"axis": 1}, {"axis": (0, -1), "keepdims": True})]
    + [C("_npi_var", M, numpy=True), C("_npi_std", M, axis=1, ddof=1, numpy=True),
       C("_npi_argmax", M, axis=1, numpy=True), C("_npi_argmin", M, numpy=True),
       C("_np_cumsum", M, axis=0, numpy=True), C("_np_any", floats([[0, 1], [0, 0]]), axis=1,
       numpy=True), C("_np_all", floats([[0, 1], [1, 2]]), axis=1, numpy=True),
       C("_np_sum", ints([1, 2, 3]), numpy=True), C("sum", ints([[1, 2], [3, 4]]), axis=0)]
)  # fmt: skip

MATMUL = [
    C("FullyConnected", I, (5, 126), (5,), num_hidden=5),
    C("FullyConnected", (2, 3, 4), (5, 4), (5,), num_hidden=5, flatten=False),
    C("FullyConnected", (2, 12), (5, 12), num_hidden=5, no_bias=True),
    C("_npx_fully_connected", (2, 12), (5, 12), num_hidden=5, no_bias=True, numpy=True),
    C("dot", M, (4, 5)), C("dot", M, (3, 5), transpose_a=True), C("dot", M, (5, 4),
    transpose_b=True), C("dot", (4,), (4,)), C("dot", (2, 3, 4), (4, 5)), C("dot", (4,), (4, 2)),
    C("dot", (2, 3, 4), (4, 5, 2)), C("dot", (4, 2, 3), (4, 5), transpose_a=True),
    C("batch_dot", (2, 3, 4), (2, 4, 5)), C("batch_dot", (2, 4, 3), (2, 5, 4), transpose_a=True,
    transpose_b=True), C("_npx_batch_dot", (2, 3, 4), (2, 4, 5), numpy=True),
    C("_linalg_gemm2", (2, 3, 4), (2, 5, 4), transpose_b=True, alpha=0.5),
    C("_linalg_gemm", (2, 3, 4), (2, 4, 5), (2, 3, 5), alpha=0.5, beta=2),
    C("_np_dot", (2, 3, 4), (5, 4, 2), numpy=True), C("_np_dot", (4,), (4,), numpy=True),
    C("_npi_matmul", (2, 3, 4), (4, 5), numpy=True), C("_npi_matmul", (4,), (2, 4, 5), numpy=True),
    C("_npi_matmul", (3, 4), (4,), numpy=True),
    C("_npi_tensordot", (2, 3, 4), (4, 3, 5), a_axes_summed=(1, 2), b_axes_summed=(1, 0),
      numpy=True),
    C("_npi_tensordot_int_axes", (2, 3, 4), (3, 4, 5), axes=2, numpy=True),
    C("_contrib_interleaved_matmul_selfatt_qk", (5, 2, 24), heads=2),
    C("_contrib_interleaved_matmul_selfatt_valatt", (5, 2, 24), (4, 5, 5), heads=2),
    C("_contrib_interleaved_matmul_encdec_qk", (5, 2, 8), (7, 2, 16), heads=2),
    C("_contrib_interleaved_matmul_encdec_valatt", (7, 2, 16), (4, 5, 7), heads=2),
]  # fmt: skip

SHAPE = [
    *(C("Reshape", (2, 3, 4), shape=s) for s in ((6, 4), (-1,), (0, -1), (0, 0, 2, 2), (-2,),
      (0, -2), (-3, 4), (-3, -2), (0, -3), (-4, 1, 2, -2), (0, -4, -1, 3, 0), (2, -1, 1, 4))),
    C("Reshape", (2, 3, 4), shape=(-1, 0), reverse=True),
    C("Reshape", (8, 3, 4), shape=(-1, 2, -4, 0, 0), reverse=True),
    C("Reshape", (2, 3, 4), target_shape=(2, 0)),
    C("_np_reshape", (2, 3, 4), newshape=(4, -1), numpy=True),
    *(C("_npx_reshape", (2, 3, 4), newshape=s, numpy=True) for s in ((-2, -1), (-4,), (-5, 4),
      (-6, 1, 2, -4), (-2, -2, 2, 2))),
    C("_npx_reshape", (2, 1, 4), newshape=(-2, -3, -2), numpy=True),
    C("reshape_like", (2, 3, 4), (4, 6)),
    C("reshape_like", (30, 7), (15, 2, 4), lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2),
    C("Flatten", I), C("_npx_batch_flatten", I, numpy=True), C("expand_dims", M, axis=1),
    C("expand_dims", M, axis=-1), C("_npi_expand_dims", M, axis=0, numpy=True),
    C("squeeze", (1, 3, 1), axis=0), C("squeeze", (1, 3, 1)), C("squeeze", (1, 3, 1),
    axis=(0, 2)), C("squeeze", (1, 1)), C("_np_squeeze", (1, 3, 1), numpy=True),
    C("transpose", I), C("transpose", I, axes=(0, 2, 3, 1)), C("_np_transpose", M, numpy=True),
    C("_np_transpose", I, axes=(0, 2, 3, 1), numpy=True), C("SwapAxis", I, dim1=1, dim2=3),
    C("_npi_swapaxes", I, dim1=1, dim2=3, numpy=True), C("_np_moveaxis", I, source=(1,),
    destination=(3,), numpy=True), C("reverse", I, axis=(1, 2)), C("flip", I, axis=0),
    C("_npi_flip", M, axis=(1,), numpy=True), C("_np_roll", M, shift=(1,), axis=(1,), numpy=True),
    C("_np_roll", M, shift=(5,), numpy=True), C("Concat", M, (3, 2), dim=1), C("Concat", I, I,
    dim=-1), C("_npi_concatenate", M, (2, 4), axis=0, numpy=True),
    C("_npi_concatenate", M, (2, 4), axis="None", numpy=True), C("stack", M, M, axis=1),
    C("stack", M, M, axis=-1), C("_npi_stack", M, M, axis=0, numpy=True),
    C("tile", M, reps=(2, 3)), C("tile", M, reps=(2, 1, 3)), C("tile", M, reps=(2,)),
    C("_npi_tile", M, reps=(2, 3), numpy=True), C("repeat", M, repeats=2), C("repeat", M,
    repeats=2, axis=1), C("_np_repeat", M, repeats=2, axis=0, numpy=True),
    C("broadcast_to", (1, 3, 1), shape=(2, 3, 4)), C("broadcast_to", (1, 3, 1), shape=(2, 0, 4)),
    C("_npi_broadcast_to", (3, 1), shape=(2, 3, 4), numpy=True),
    C("broadcast_axis", (1, 3, 1), axis=(0, 2), size=(2, 5)),
    C("broadcast_like", (1, 3, 1), (2, 3, 4)), C("broadcast_like", (9,), (9,)),
    C("broadcast_like", (1, 3), (5, 7), lhs_axes=(0,), rhs_axes=(-1,)),
    C("Pad", I, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 3, 4), constant_value=1.5),
    C("Pad", I, mode="edge", pad_width=(0, 0, 0, 0, 1, 2, 3, 4)),
    C("Pad", I, mode="reflect", pad_width=(0, 0, 0, 0, 1, 2, 3, 4)),
    C("_npi_pad", M, pad_width=((1, 0), (2, 3)), numpy=True),
    C("depth_to_space", (2, 8, 3, 4), block_size=2), C("space_to_depth", (2, 3, 4, 6),
    block_size=2), C("_npi_tril", M, k=-1, numpy=True),
]  # fmt: skip

SELECT = [
    C("slice", I, begin=(0, 1), end=(2, 3)), C("slice", I, begin="(None, 0, 1)",
    end="(None, 2, None)", step="(1, 1, 2)"), C("slice", I, begin=(0, -2), end="(2, None)"),
    C("slice", (3, 8), begin="(None, 6)", end="(None, 1)", step=(1, -2)),
    C("slice", (3, 8), begin="(None, None)", end="(None, None)", step=(1, -3)),
    C("_npx_slice", I, begin=(0, 1), end=(2, 3), numpy=True),
    C("slice_axis", I, axis=2, begin=1, end=5), C("slice_axis", I, axis=-1, begin=-3, end="None"),
    C("slice_axis", I, axis=1, begin=0, end=-1), C("slice_like", I, (1, 2, 3, 4)),
    C("slice_like", I, (9, 9, 3, 4), axes=(2, -1)), C("Crop", I, (2, 3, 4, 4),
    offset=(1, 2)), C("Crop", I, h_w=(3, 2), center_crop=True),
    C("SliceChannel", I, num_outputs=3, results=3), C("SliceChannel", I, num_outputs=3, axis=1,
    squeeze_axis=True, results=3), C("SliceChannel", I, num_outputs=2, axis=-1, results=2),
    C("_split_v2", I, indices=(0, 2, 5), axis=2, results=3), C("_split_v2", I, indices="()",
    sections=2, axis=3, results=2), C("take", M, floats(0, 2, 1)), C("take", M, ints([[0, 5],
    [-1, 2]]), axis=1), C("take", M, ints(0, 5, -1), axis=1, mode="wrap"),
    C("_npi_take", M, ints([1, 0]), axis=1, numpy=True),
    C("Embedding", floats([[0, 2], [4, 1]]), (5, 3), input_dim=5, output_dim=3),
    C("Embedding", floats([0, 7, -2]), (5, 3), input_dim=5, output_dim=3),
    C("_npx_embedding", ints([[0, 2], [4, 1]]), (5, 3), input_dim=5, output_dim=3, numpy=True),
    C("pick", M, floats(0, 3, 1)), C("pick", M, floats(0, 2, 1, 9), axis=0, keepdims=True),
    C("pick", M, floats(0, 5, -1), mode="wrap"), C("batch_take", M, ints(0, 3, 1)),
    C("gather_nd", I, ints([[0, 1], [2, 0]])), C("gather_nd", M, ints([[0, 1, 2], [3, 0, 1]])),
    C("one_hot", floats(0, 2, 5), depth=4), C("one_hot", ints([[0, 2]]), depth=3, on_value=2,
    off_value=-1, dtype="int32"), C("_npx_one_hot", ints(0, 2), depth=3, numpy=True),
    C("_npx_pick", M, ints(0, 3, 1), numpy=True),
    C("SequenceMask", (4, 3, 2), floats(1, 4, 2), use_sequence_length=True, value=-1),
    C("SequenceMask", (3, 4), floats(1, 4, 2), use_sequence_length=True, axis=1),
    C("SequenceMask", (4, 3, 2)), C("SequenceLast", (4, 3, 2), floats(1, 4, 2),
    use_sequence_length=True), C("SequenceLast", (3, 4, 2), axis=1), C("SequenceLast", (3, 4),
    floats(1, 4, 2), use_sequence_length=True, axis=1),
    C("SequenceReverse", (4, 3, 2), floats(1, 4, 2), use_sequence_length=True),
    C("SequenceReverse", (4, 3)),
]  # fmt: skip

CREATE = [
    C("_zeros", shape=(2, 3)), C("_ones", shape=(2, 3), dtype="int32"), C("_full", shape=(2,),
    value=1.5), C("zeros_like", M), C("ones_like", M), C("_eye", N=3), C("_eye", N=3, M=5, k=-1),
    C("_linspace", start=0, stop=1, num=5, endpoint=True), C("_linspace", start=2, stop=-1, num=4,
    endpoint=False), C("_arange", start=2), C("_arange", start=5),
    C("_arange", start=1, stop=6, step=2),
    C("_arange", start=0, stop=3, repeat=2), C("_arange", start=1, stop=0, step=-0.25,
    dtype="float32"), C("_contrib_arange_like", M), C("_contrib_arange_like", M, axis=1,
    start=2.0, step=0.5), C("_contrib_arange_like", (4, 6), axis=1, repeat=2),
    C("_npx_arange_like", M, axis=0, numpy=True),
    C("shape_array", I), C("size_array", I), C("_npi_zeros", shape=(2, 3), numpy=True),
    C("_npi_full_like", M, fill_value=2.5, numpy=True), C("_npi_ones", shape="()", numpy=True),
    C("_npi_arange", start=0, stop=4, numpy=True),
]  # fmt: skip

RESAMPLE = [
    C("UpSampling", (1, 2, 3, 4), scale=2, sample_type="nearest"),
    C("UpSampling", (1, 2, 4, 4), (1, 3, 2, 2), scale=2, sample_type="nearest"),
    C("UpSampling", (1, 2, 4, 4), (1, 2, 2, 2), scale=2, sample_type="nearest",
      multi_input_mode="sum"),
    *(C("UpSampling", (1, 2, 3, 4), (2, 1, 2 * s - s % 2, 2 * s - s % 2), scale=s,
        sample_type="bilinear", num_filter=2) for s in (2, 3, 4)),
    C("_contrib_BilinearResize2D", (1, 2, 5, 6), height=7, width=9),
    C("_contrib_BilinearResize2D", (1, 2, 5, 6), height=7, width=9, align_corners=False),
    C("_contrib_BilinearResize2D", (1, 2, 5, 6), height=3, width=2),
    C("_contrib_BilinearResize2D", (1, 2, 5, 6), scale_height=2, scale_width=1.5),
    C("_contrib_BilinearResize2D", (1, 2, 5, 6), (1, 2, 8, 3), mode="like"),
    *(C("_contrib_BilinearResize2D", (1, 2, 5, 6), mode=m) for m in ("to_even_down",
      "to_even_up", "to_odd_down", "to_odd_up")),
    C("_contrib_BilinearResize2D", (1, 2, 5, 6), mode="odd_scale", scale_height=2,
      scale_width=3),
    C("_contrib_AdaptiveAvgPooling2D", I), C("_contrib_AdaptiveAvgPooling2D", I,
    output_size=3), C("_contrib_AdaptiveAvgPooling2D", I, output_size=(2, 4)),
    C("BilinearSampler", I, (2, 2, 4, 5), low=-1.2, high=1.2),
    C("GridGenerator", (2, 6), transform_type="affine", target_shape=(4, 5)),
    C("SpatialTransformer", I, (2, 6), target_shape=(4, 5), transform_type="affine",
      sampler_type="bilinear", low=-0.7, high=0.7),
]  # fmt: skip


def _rnn(mode: str, layers: int, both: bool, outputs: bool) -> Call:
    gates = {"lstm": 4, "gru": 3}.get(mode, 1)
    time, batch, size, hidden, ways = 4, 2, 3, 5, 1 + both
    numbers = sum(
        ways * gates * hidden * ((size if n == 0 else hidden * ways) + hidden + 2)
        for n in range(layers)
    )
    states = [(layers * ways, batch, hidden)] * (2 if mode == "lstm" else 1)
    return C(
        "RNN", (time, batch, size), (numbers,), *states, mode=mode, state_size=hidden,
        num_layers=layers, bidirectional=both, state_outputs=outputs, low=-0.7, high=0.7,
        results=1 + len(states) if outputs else 1, p=0.2,
    )  # fmt: skip


RECURRENT = [
    _rnn(mode, layers, both, both)
    for mode in ("lstm", "gru", "rnn_tanh", "rnn_relu")
    for layers, both in ((1, False), (2, True))
]

CALLS = [*ONE, *TWO, *NUMBER, *ACTIVATION, *CONVOLUTION, *POOLING, *NORMALISATION, *REDUCTION,
         *MATMUL, *SHAPE, *SELECT, *CREATE, *RESAMPLE, *RECURRENT]  # fmt: skip
