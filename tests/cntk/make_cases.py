"""Makes cases.npz: small models that CNTK 2.7 saved, with inputs and the outputs that it computes.

Needs CNTK, so Python 3.6: `python tests/cntk/make_cases.py`. The tests need only the file.
`tests/cntk/cases.py` reads it: an index in JSON, all models and all numbers one after the other.
"""

import json
import sys
import tempfile
from pathlib import Path

import cntk as C  # noqa: N812
import numpy as np

CASES = {}
RNG = np.random.RandomState(7)
F = C.FreeDimension


def case(function):
    """A function that returns a model, or (model, number of images)."""
    CASES[function.__name__] = function
    return function


def several(**models):
    """Cases of one line each; the inputs are made when the case is."""
    CASES.update(models)


def rand(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def param(*shape):
    return C.Parameter(shape, init=init())


def const(*shape):
    return C.Constant(rand(*shape))


def x(*shape):
    return C.input_variable(shape, name="x")


def y(*shape):
    return C.input_variable(shape, name="y")


def s(*shape):
    return C.sequence.input_variable(shape, name="s")


def t(*shape):
    return C.sequence.input_variable(
        shape, name="t", sequence_axis=C.Axis.new_unique_dynamic_axis("other")
    )


def s2(*shape):
    return C.sequence.input_variable(shape, name="s2")


def positive(v):
    return C.abs(v) + 0.1


# ---- element by element --------------------------------------------------------------------------

UNARY = """
    negate sigmoid tanh relu exp floor ceil round abs sin cos tan asin acos atan sinh cosh asinh
    selu elu softplus softsign square leaky_relu reciprocal element_not
"""
BINARY = """
    plus minus element_times element_divide element_max element_min log_add_exp equal not_equal less
    less_equal greater greater_equal
"""
REDUCTIONS = "sum mean max min prod log_sum_exp l1 l2 sum_square"


def unary(name):
    return lambda: getattr(C, name)(x(3, 5))


def binary(name):
    return lambda: getattr(C, name)(C.round(4 * x(3, 5)), C.round(4 * y(5)) + 0.5)


def reduction(name):
    return lambda: getattr(C, "reduce_" + name)(x(3, 4, 5), axis=1)


several(**{"unary_" + name: unary(name) for name in UNARY.split()})
several(**{"binary_" + name: binary(name) for name in BINARY.split()})
several(
    special_values=lambda: special(),
    log_add_special=lambda: log_add_special(),
    hardmax_map=lambda: C.hardmax(x(3, 4)),
    unary_log=lambda: C.log(positive(x(3, 5))),
    unary_sqrt=lambda: C.sqrt(positive(x(3, 5))),
    unary_atanh=lambda: C.atanh(0.9 * x(3, 5)),
    elu_alpha=lambda: C.elu(x(7), alpha=0.3),
    leaky_alpha=lambda: C.leaky_relu(x(7), alpha=0.3),
    param_relu=lambda: C.param_relu(param(4), x(3, 4)),
    power=lambda: C.pow(positive(x(3, 5)), y(5)),
    logical_and=lambda: C.element_and(C.greater(x(6), 0), C.greater(y(6), 0)),
    logical_or=lambda: C.element_or(C.greater(x(6), 0), C.greater(y(6), 0)),
    logical_xor=lambda: C.element_xor(C.greater(x(6), 0), C.greater(y(6), 0)),
    equal_numbers=lambda: C.equal(C.round(x(30)), C.round(y(30))),
    clip=lambda: C.clip(x(3, 5), -0.3, 0.4),
    clip_tensors=lambda: C.clip(x(3, 5), param(5), 0.9),
    select=lambda: C.element_select(C.greater(x(3, 5), 0), y(5), 2.0),
    select_sequence=lambda: C.element_select(C.greater(s(3), 0), s2(3), const(3)),
    stop_gradient=lambda: C.stop_gradient(x(3)) * 2,
    cast=lambda: C.cast(C.cast(x(3), np.float64), np.float32),
    ranks=lambda: x(2, 3, 4) * param(3, 1) + y(4),
    three_terms=lambda: C.plus(x(4), y(4), const(4)),
    mean_of=lambda: C.mean(x(4), y(4)),
    sum_of=lambda: C.sum(x(4), y(4)),
    dropout=lambda: C.dropout(x(5), 0.5) * 2,
    alias=lambda: C.alias(x(3), "other") + 1,
    image_scaler=lambda: C.image_scaler(x(3, 4, 4), 0.5, [0.1, 0.2, 0.3]),
    squared_error=lambda: C.squared_error(x(4), y(4)),
    cross_entropy=lambda: C.cross_entropy_with_softmax(
        x(5), C.one_hot(C.floor(positive(y()) * 2), 5)
    ),
    classification_error=lambda: C.classification_error(
        x(5), C.one_hot(C.floor(positive(y()) * 4), 5)
    ),
    binary_cross_entropy=lambda: C.binary_cross_entropy(C.sigmoid(x(5)), C.greater(y(5), 0)),
    zeros_like=lambda: C.zeros_like(x(3)) + y(3),
    ones_like=lambda: C.ones_like(x(3)) + y(3),
    straight_through=lambda: C.straight_through_impl(x(7), name="st"),
    cosine=lambda: C.cosine_distance(x(6), y(6)),
    hardmax=lambda: C.hardmax(x(6)),
    lambda_constant=lambda: x(3) * 0 + C.Constant(3.5),
    eye_like=lambda: C.times(x(3), C.eye_like(param(3, 3), sparse_output=False)),
    double=lambda: C.input_variable(4, np.float64, name="x") * C.Constant(2.0, dtype=np.float64),
)

SPECIAL = np.array(
    [-np.inf, -100, -2, -1, -0.5, -1e-30, 0, 1e-30, 1e-38, 0.5, 1, 2, 100, np.inf], np.float32
)


SPECIAL_FUNCTIONS = """
    log sqrt reciprocal exp relu tanh sigmoid floor abs softplus square elu selu leaky_relu
"""


def special():
    """What CNTK makes of numbers at which functions end."""
    v = x(len(SPECIAL))
    names = SPECIAL_FUNCTIONS.split()
    results = [getattr(C, name)(v, name=name) for name in names]
    results += [
        C.pow(v, 2.0),
        C.pow(v, 0.5),
        C.pow(v, -1.0),
        C.pow(2.0, v),
        C.clip(v, -1, 1),
        C.greater(v, 0),
    ]
    return C.combine(results), {"x": SPECIAL[None]}


def log_add_special():
    v, w = x(len(SPECIAL)), y(len(SPECIAL))
    return C.log_add_exp(v, w), {"x": SPECIAL[None], "y": SPECIAL[None, ::-1].copy()}


# ---- reductions ----------------------------------------------------------------------------------

several(**{"reduce_" + name: reduction(name) for name in REDUCTIONS.split()})
several(
    reduce_all=lambda: C.reduce_sum(x(3, 4)),
    reduce_two=lambda: C.reduce_mean(x(3, 4, 5), axis=(0, 2)),
    reduce_two_mixed=lambda: C.reduce_max(x(3, 4, 5), axis=(1, -1)),
    reduce_dropped=lambda: C.reduce_sum(x(3, 4, 5), axis=1, keepdims=False),
    argmax=lambda: C.argmax(x(3, 7), axis=1),
    argmin=lambda: C.argmin(x(3, 7), axis=0),
    argmax_all=lambda: C.argmax(x(3, 7)),
    softmax=lambda: C.softmax(x(3, 7)),
    softmax_axis=lambda: C.softmax(x(3, 7), axis=0),
    softmax_first=lambda: C.softmax(x(3, 7), axis=1),
    log_softmax=lambda: C.log_softmax(x(3, 7)),
    log_softmax_axis=lambda: C.log_softmax(x(3, 7), axis=0),
    reduce_batch=lambda: C.reduce_sum(x(3), axis=C.Axis.default_batch_axis()),
    unpack_batch=lambda: C.to_batch(C.unpack_batch(x(3)) * 2) + 1,
    unpack_batch_sum=lambda: C.reduce_sum(C.unpack_batch(x(3)), axis=0),
    reduce_everything=lambda: C.reduce_sum(x(3), axis=C.Axis.all_axes()),
    mean_variance=lambda: C.mean_variance_normalization(x(3, 4, 5)),
    mean_variance_channels=lambda: C.mean_variance_normalization(
        x(3, 4, 5), use_stats_across_channels=True, do_variance_scaling=True
    ),
    mean_only=lambda: C.mean_variance_normalization(x(3, 4, 5), do_variance_scaling=False),
    lrn=lambda: C.local_response_normalization(x(7, 3, 3), 2, 1.0, 0.3, 0.75),
    top_k=lambda: C.top_k(x(3, 7), 3),
    top_k_axis=lambda: C.top_k(x(5, 4), 2, axis=0),
)

# ---- moving --------------------------------------------------------------------------------------

several(
    reshape=lambda: C.reshape(x(3, 4), (2, 6)),
    reshape_infer=lambda: C.reshape(x(3, 4), (2, -1)),
    reshape_part=lambda: C.reshape(x(2, 3, 4, 5), (12,), 1, 3),
    reshape_scalar=lambda: C.reshape(x(1), ()),
    flatten=lambda: C.flatten(x(2, 3, 4)),
    flatten_axis=lambda: C.flatten(x(2, 3, 4), 2),
    transpose=lambda: C.transpose(x(2, 3, 4), (2, 0, 1)),
    swapaxes=lambda: C.swapaxes(x(2, 3, 4), 0, 2),
    slice=lambda: C.slice(x(5, 6), 0, 1, 4),
    slice_negative=lambda: C.slice(x(5, 6), 1, -4, -1),
    slice_end=lambda: C.slice(x(5, 6), -1, 2, 0),
    slice_stride=lambda: C.slice(x(5, 9), [0, 1], [1, 0], [5, 8], [2, 3]),
    slice_back=lambda: C.slice(x(5, 9), 1, 1, 8, -2),
    splice=lambda: C.splice(x(3, 4), y(3, 2)),
    splice_first=lambda: C.splice(x(3, 4), y(1, 4), axis=0),
    splice_constant=lambda: C.splice(x(4), const(2), y(3)),
    splice_new=lambda: C.splice(x(4), y(4), axis=-2),
    splice_sequence=lambda: C.splice(s(3), s2(2)),
    gather=lambda: C.gather(const(7, 3), C.floor(positive(x(4)) * 5)),
    gather_axis=lambda: C.gather(param(4, 7), C.floor(positive(x(4)) * 5), axis=1),
    gather_data=lambda: C.gather(y(7, 3), C.floor(positive(x(4)) * 5)),
    one_hot=lambda: C.one_hot(C.floor(positive(x(4)) * 5), 7),
    one_hot_axis=lambda: C.one_hot(C.floor(positive(x(4)) * 5), 7, axis=0),
    pad=lambda: C.pad(x(3, 4), [(0, 1), (2, 3)], mode=C.CONSTANT_PAD, constant_value=0.5),
    pad_reflect=lambda: C.pad(x(3, 5), [(1, 2), (3, 1)], mode=C.REFLECT_PAD),
    pad_symmetric=lambda: C.pad(x(3, 5), [(1, 2), (3, 1)], mode=C.SYMMETRIC_PAD),
    expand_dims=lambda: C.expand_dims(x(3, 4), 1),
    squeeze=lambda: C.squeeze(x(3, 1, 4, 1)),
    squeeze_axis=lambda: C.squeeze(x(3, 1, 4, 1), 1),
    depth_to_space=lambda: C.depth_to_space(x(8, 3, 2), 2),
    space_to_depth=lambda: C.space_to_depth(x(2, 4, 6), 2),
    crop=lambda: C.crop_manual(x(2, 7, 8), y(2, 3, 4), 1, 2),
    crop_automatic=lambda: crop_automatic(),
    pack_parts=lambda: parts(x(3), y(4)),
    combine=lambda: combined(),
    slices=lambda: parts_of(x(4)),
)


def parts(v, w):
    return C.combine([v * 2, C.reduce_sum(w), C.splice(v, v)])


def parts_of(v):
    return C.splice(v[0:2], v[3])


def combined():
    v = x(4)
    first = C.sigmoid(v, name="first")
    return C.combine([first, C.reduce_sum(first, name="total"), y(3) + 1])


def crop_automatic():
    v = x(1, 9, 9)
    node = C.convolution(param(1, 1, 3, 3), v, auto_padding=[False, False, False])
    return C.crop_automatic(v, node)


# ---- products ------------------------------------------------------------------------------------

several(
    times=lambda: C.times(x(5), param(5, 3)),
    times_matrix=lambda: C.times(x(4, 5), param(5, 3)),
    times_data=lambda: C.times(x(4, 5), y(5, 3)),
    times_rank=lambda: C.times(x(5), param(5, 2, 3), output_rank=2),
    times_two=lambda: C.times(x(4, 5), param(4, 5, 3)),
    times_transpose=lambda: C.times_transpose(x(5), param(3, 5)),
    times_transpose_data=lambda: C.times_transpose(x(4, 5), y(3, 5)),
    times_left=lambda: C.times(param(3, 5), x(5, 2)),
    times_left_vector=lambda: C.times(param(3, 5), x(5)),
    dense=lambda: C.layers.Dense(4, activation=C.tanh, init=init(), init_bias=0.3)(x(5)),
    dense_map=lambda: C.layers.Dense((2, 3), init=init(), init_bias=0.3)(x(3, 4)),
    dense_rank=lambda: C.layers.Dense(6, map_rank=1, init=init())(x(3, 4)),
    embedding=lambda: C.layers.Embedding(weights=rand(7, 3))(
        C.one_hot(C.floor(positive(x(1)) * 5), 7)
    ),
    embedding_outside=lambda: C.times(C.one_hot(C.floor(x(4) * 8), 5), param(5, 2, 3), 2),
    embedding_learnt=lambda: C.layers.Embedding(3, init=init())(s(7)),
    sequence_dense=lambda: C.layers.Dense(4, init=init())(s(3)),
)

# ---- normalisation -------------------------------------------------------------------------------


def batch_norm(v, size, spatial, epsilon=1e-3):
    shape = size if isinstance(size, tuple) else (size,)
    mean, variance = C.Constant(rand(*shape)), C.Constant(np.abs(rand(*shape)) + 0.2)
    return C.batch_normalization(
        v,
        param(*shape),
        param(*shape),
        mean,
        variance,
        spatial=spatial,
        epsilon=epsilon,
        running_count=C.Constant(0.0),
    )


several(
    batch_norm_spatial=lambda: batch_norm(x(3, 4, 5), 3, True),
    batch_norm_line=lambda: batch_norm(x(3, 9), 3, True),
    batch_norm_vector=lambda: batch_norm(x(6), 6, False),
    batch_norm_each=lambda: batch_norm(x(2, 3), (2, 3), False),
    layer_norm=lambda: C.layers.LayerNormalization(initial_scale=1.5, initial_bias=0.2)(x(6)),
    layer_norm_image=lambda: C.layers.LayerNormalization()(x(3, 4, 5)),
    stabilizer=lambda: C.layers.Stabilizer()(x(6)),
)

# ---- convolution and pooling ---------------------------------------------------------------------


def conv(v, *kernel, **options):
    options.setdefault("auto_padding", [False] + [True] * (len(kernel) - 2))
    return C.convolution(param(*kernel), v, **options)


several(
    conv_2d=lambda: conv(x(3, 8, 7), 4, 3, 3, 3),
    conv_valid=lambda: conv(x(3, 8, 7), 4, 3, 3, 2, auto_padding=[False, False, False]),
    conv_even=lambda: conv(x(2, 8, 7), 3, 2, 4, 2),
    conv_stride=lambda: conv(x(2, 9, 8), 3, 2, 3, 3, strides=(2, 3)),
    conv_stride_kernel=lambda: conv(x(2, 8, 9), 3, 2, 1, 1, strides=(4, 2)),
    conv_dilation=lambda: conv(
        x(2, 9, 9), 3, 2, 3, 3, dilation=(2, 1), auto_padding=[False, False, False]
    ),
    conv_dilation_padded=lambda: conv(x(2, 9, 9), 3, 2, 3, 3, dilation=(2, 2)),
    conv_groups=lambda: conv(x(4, 6, 6), 6, 2, 3, 3, groups=2),
    conv_depthwise=lambda: conv(x(4, 6, 6), 4, 1, 3, 3, groups=4),
    conv_1d=lambda: conv(x(3, 9), 4, 3, 3),
    conv_1d_stride=lambda: conv(x(3, 9), 4, 3, 4, strides=2, auto_padding=[False, True]),
    conv_3d=lambda: conv(x(2, 5, 6, 4), 3, 2, 2, 3, 3),
    conv_channels=lambda: C.layers.Convolution2D(
        (3, 3), 4, pad=True, init=init(), init_bias=0.3, activation=C.relu
    )(x(3, 6, 6)),
    conv_no_reduction=lambda: C.layers.Convolution2D(
        (3, 3), 4, reduction_rank=0, init=init(), pad=True
    )(x(6, 6)),
    conv_pad_given=lambda: C.layers.Convolution2D((3, 3), 4, pad=False, strides=2, init=init())(
        C.pad(x(3, 6, 6), [(0, 0), (1, 1), (0, 1)], C.CONSTANT_PAD)
    ),
    conv_sequence=lambda: conv(s(2, 5, 5), 3, 2, 3, 3),
    conv_sequential=lambda: C.layers.SequentialConvolution((3,), 4, pad=True, init=init())(s(3)),
    conv_sequential_valid=lambda: C.layers.SequentialConvolution(
        (2,), 4, pad=False, reduction_rank=1, init=init()
    )(s(3)),
    conv_free=lambda: free(lambda v: conv(v, 4, 3, 3, 3, strides=(2, 2))),
    transposed=lambda: C.convolution_transpose(
        param(3, 2, 3, 3), x(3, 4, 5), strides=(2, 2), auto_padding=[False, True, True]
    ),
    transposed_valid=lambda: C.convolution_transpose(
        param(3, 2, 3, 2), x(3, 4, 5), strides=(2, 3), auto_padding=[False, False, False]
    ),
    transposed_shape=lambda: C.convolution_transpose(
        param(3, 2, 3, 3),
        x(3, 4, 5),
        strides=(2, 2),
        auto_padding=[False, True, True],
        output_shape=(2, 8, 10),
    ),
    transposed_1d=lambda: C.convolution_transpose(
        param(3, 2, 4), x(3, 5), strides=(2,), auto_padding=[False, False]
    ),
    transposed_3d=lambda: C.convolution_transpose(
        param(2, 2, 2, 3, 2),
        x(2, 3, 3, 2),
        strides=(2, 1, 2),
        auto_padding=[False, False, False, False],
    ),
    transposed_layer=lambda: C.layers.ConvolutionTranspose2D(
        (3, 3), 4, strides=2, pad=True, output_shape=(8, 8), init=init(), init_bias=0.3
    )(x(3, 4, 4)),
    max_pool=lambda: C.pooling(x(3, 8, 7), C.MAX_POOLING, (2, 2), (2, 2)),
    max_pool_padded=lambda: C.pooling(x(3, 8, 7), C.MAX_POOLING, (3, 3), (2, 2), [True, True]),
    max_pool_ceil=lambda: C.pooling(x(3, 8, 7), C.MAX_POOLING, (3, 2), (2, 3), ceil_out_dim=True),
    max_pool_1d=lambda: C.pooling(x(3, 9), C.MAX_POOLING, (3,), (2,)),
    max_pool_3d=lambda: C.pooling(x(2, 5, 6, 4), C.MAX_POOLING, (2, 3, 2), (2, 2, 1), [True]),
    max_pool_channels=lambda: C.pooling(x(4, 5, 5), C.MAX_POOLING, (2, 2, 2), (2, 1, 1)),
    max_pool_lower=lambda: C.layers.MaxPooling((3, 3), 2, pad=True)(x(2, 6, 6)),
    avg_pool=lambda: C.pooling(x(3, 8, 7), C.AVG_POOLING, (2, 3), (2, 2)),
    avg_pool_padded=lambda: C.pooling(x(3, 8, 7), C.AVG_POOLING, (3, 3), (2, 2), [True, True]),
    avg_pool_included=lambda: C.pooling(
        x(3, 8, 7), C.AVG_POOLING, (3, 3), (2, 2), [True, True], include_pad=True
    ),
    avg_pool_even=lambda: C.pooling(x(3, 8, 7), C.AVG_POOLING, (2, 4), (1, 1), [True, True]),
    avg_pool_ceil=lambda: C.pooling(x(3, 8, 7), C.AVG_POOLING, (3, 2), (2, 3), ceil_out_dim=True),
    avg_pool_3d=lambda: C.pooling(x(2, 5, 6, 4), C.AVG_POOLING, (2, 3, 2), (2, 2, 1), [True]),
    global_max=lambda: C.layers.GlobalMaxPooling()(x(3, 5, 6)),
    global_average=lambda: C.layers.GlobalAveragePooling()(x(3, 5, 6)),
    roi_pooling=lambda: C.roipooling(
        x(2, 8, 8),
        C.reshape(
            const(3, 4) * 0 + np.array([[0, 0, 4, 4], [1, 2, 7, 6], [2, 2, 3, 3]], np.float32),
            (3, 4),
        ),
        C.MAX_POOLING,
        (2, 2),
        1.0,
    ),
)


@case
def unpooling():
    v = x(2, 6, 6)
    pooled = C.pooling(v, C.MAX_POOLING, (2, 2), (2, 2))
    return C.unpooling(pooled * 2, v, C.MAX_UNPOOLING, (2, 2), (2, 2))


@case
def unpooling_overlapping():
    v = x(1, 7, 7)
    pooled = C.pooling(v, C.MAX_POOLING, (3, 3), (2, 2))
    return C.unpooling(pooled, v, C.MAX_UNPOOLING, (3, 3), (2, 2))


def free(body):
    v = C.input_variable((3, F, F), name="x")
    return body(v), {"x": rand(2, 3, 7, 9)}


several(
    free_pool=lambda: free(lambda v: C.pooling(v, C.MAX_POOLING, (3, 3), (2, 2), [True])),
    free_global=lambda: free(lambda v: C.reduce_mean(v, axis=(1, 2))),
)

# ---- sequences -----------------------------------------------------------------------------------


def flat(v):
    return np.random.RandomState(len(v)).uniform(-1, 1, v)


def init():
    """Random weights that are not the same at each call."""
    return C.glorot_uniform(seed=int(RNG.randint(1 << 30)))


def cell(kind, size, **options):
    return kind(size, init=init(), init_bias=0.3, **options)


L = C.layers
several(
    past=lambda: C.sequence.past_value(s(3)),
    future=lambda: C.sequence.future_value(s(3), initial_state=0.5),
    past_far=lambda: C.sequence.past_value(s(3), time_step=2, initial_state=const(3)),
    delay=lambda: C.sequence.delay(s(3), initial_state=0, time_step=-2),
    past_state=lambda: C.sequence.past_value(s(3), initial_state=y(3)),
    seq_last=lambda: C.sequence.last(s(3)),
    seq_first=lambda: C.sequence.first(s(3)),
    seq_slice=lambda: C.sequence.slice(s(3), 1, 0) * 1,
    seq_slice_negative=lambda: C.sequence.slice(s(3), -2, 0),
    hard_sigmoid=lambda: C.hard_sigmoid(x(5), 0.3, 0.4),
    seq_slice_front=lambda: C.sequence.slice(s(3), 0, 2),
    seq_is_first=lambda: s(3) + C.sequence.is_first(s2(3)),
    seq_is_last=lambda: s(3) * C.sequence.is_last(s2(1)),
    seq_sum=lambda: C.sequence.reduce_sum(s(3)),
    seq_max=lambda: C.sequence.reduce_max(s(3)),
    seq_softmax=lambda: C.sequence.softmax(s(3)),
    seq_broadcast=lambda: C.sequence.broadcast_as(y(2), s(3)),
    seq_broadcast_add=lambda: C.plus(C.sequence.broadcast_as(y(3), s(3)), s2(3)),
    seq_gather=lambda: C.sequence.gather(s(3), C.sequence.is_first(s2(1))),
    seq_scatter=lambda: scattered(s(3), s2(3)),
    seq_scatter_middle=lambda: scattered(s(3), s2(2), C.sequence.is_first),
    seq_unpack=lambda: C.sequence.unpack(s(3), 0.5, True),
    seq_unpack_mask=lambda: C.combine(C.sequence.unpack(s(3), 0.0).outputs),
    seq_unpack_max=lambda: C.reduce_max(C.sequence.unpack(s(3), 0, True), axis=0),
    to_sequence=lambda: C.to_sequence(x(4, 3)) * 2,
    to_sequence_like=lambda: C.to_sequence_like(C.sequence.unpack(s(3), 0, True), s2(2)),
    seq_reduce_steps=lambda: C.reduce_sum(s(3, 4), axis=0),
    seq_elementwise=lambda: C.tanh(s(3)) * const(3) + 1,
    seq_two_axes=lambda: C.sequence.last(s(3)) + C.sequence.first(t(3)),
    lstm=lambda: L.Recurrence(cell(L.LSTM, 4))(s(3)),
    lstm_back=lambda: L.Recurrence(cell(L.LSTM, 4), go_backwards=True)(s(3)),
    lstm_last=lambda: C.sequence.last(L.Recurrence(cell(L.LSTM, 4))(s(3))),
    lstm_stacked=lambda: L.Sequential(
        [L.Recurrence(cell(L.LSTM, 4)), L.Recurrence(cell(L.LSTM, 5)), L.Dense(2, init=init())]
    )(s(3)),
    lstm_states=lambda: C.combine(
        L.Recurrence(cell(L.LSTM, 4), return_full_state=True)(s(3)).outputs
    ),
    lstm_initial=lambda: L.Recurrence(cell(L.LSTM, 4), initial_state=0.3)(s(3)),
    lstm_peepholes=lambda: L.Recurrence(cell(L.LSTM, 4, use_peepholes=True))(s(3)),
    lstm_stabilised=lambda: L.Recurrence(cell(L.LSTM, 4, enable_self_stabilization=True))(s(3)),
    lstm_projection=lambda: L.Recurrence(L.LSTM(3, cell_shape=5, init=init()))(s(2)),
    lstm_activation=lambda: L.Recurrence(cell(L.LSTM, 4, activation=C.relu))(s(3)),
    lstm_matrix=lambda: L.Recurrence(L.LSTM(3, init=init()))(s(2, 2)),
    gru=lambda: L.Recurrence(cell(L.GRU, 4))(s(3)),
    gru_long=lambda: (L.Recurrence(cell(L.GRU, 3))(s(2)), {"s": [rand(n, 2) for n in (30, 17)]}),
    gru_back=lambda: L.Recurrence(cell(L.GRU, 4), go_backwards=True)(s(3)),
    gru_stabilised=lambda: L.Recurrence(cell(L.GRU, 4, enable_self_stabilization=True))(s(3)),
    rnn=lambda: L.Recurrence(cell(L.RNNStep, 4))(s(3)),
    rnn_relu=lambda: L.Recurrence(cell(L.RNNStep, 4, activation=C.relu))(s(3)),
    rnn_tanh=lambda: L.Recurrence(cell(L.RNNStep, 4, activation=C.tanh))(s(3)),
    fold=lambda: L.Fold(cell(L.LSTM, 4))(s(3)),
    fold_back=lambda: L.Fold(cell(L.GRU, 4), go_backwards=True)(s(3)),
    recurrence_from=lambda: recurrence_from(),
    running_sum=lambda: running(lambda last, v: last + v),
    running_product=lambda: running(lambda last, v: 0.5 * last * v + v, initial=1),
    running_max=lambda: running(lambda last, v: C.element_max(last, v), initial=-1),
    running_back=lambda: L.Recurrence(
        C.layers.Function(lambda last, v: 0.5 * last + v), go_backwards=True
    )(s(3)),
    running_two_steps=lambda: two_steps(),
    bidirectional=lambda: bidirectional(L.LSTM),
    bidirectional_gru=lambda: bidirectional(L.GRU),
    delay_layer=lambda: L.Delay(2)(s(3)),
    past_window=lambda: L.PastValueWindow(3, axis=-2)(s(2)),
    attention=lambda: attention(),
    attention_layer=lambda: attention_layer(),
    unfold_from=lambda: C.sequence.last(s(3)) * 1,
)


def scattered(v, w, where=C.sequence.is_last):
    condition = where(w)
    return C.sequence.scatter(C.sequence.gather(v, condition), condition)


def running(step, initial=0):
    return L.Recurrence(C.layers.Function(step), initial_state=initial)(s(3))


def two_steps():
    """A value that depends on two steps before."""
    v = s(3)
    later = C.placeholder(shape=(3,), dynamic_axes=v.dynamic_axes)
    sum_ = v + 0.5 * C.sequence.past_value(later, time_step=2) - 0.25 * C.sequence.past_value(later)
    sum_.replace_placeholders({later: sum_.output})
    return sum_


def bidirectional(kind):
    v = s(3)
    forth = L.Recurrence(cell(kind, 4))(v)
    back = L.Recurrence(cell(kind, 4), go_backwards=True)(v)
    return C.splice(forth, back)


def recurrence_from():
    """A decoder that begins with what an encoder ended with."""
    v, w = s(3), s2(2)
    last = L.Fold(cell(L.LSTM, 4), return_full_state=True)(v)
    return L.RecurrenceFrom(cell(L.LSTM, 4))(*last.outputs, w)


def attention():
    """softmax(q kᵀ) v over the steps of a sequence."""
    v = s(4)
    query, key, value = (L.Dense(3, init=init(), bias=False)(v) for _ in range(3))
    keys, mask = C.sequence.unpack(key, 0).outputs
    values = C.sequence.unpack(value, 0, True)
    keys, mask = (C.sequence.broadcast_as(k, query) for k in (keys, mask))
    values = C.sequence.broadcast_as(values, query)
    scores = C.times_transpose(C.reshape(query, (1, 3)), keys) * 0.5
    scores = C.element_select(C.reshape(mask, (1, -1)), scores, C.Constant(-1e30))
    return C.reshape(C.times(C.softmax(scores, axis=-1), values), (3,))


def attention_layer():
    """CNTK's own layer: additive attention of a decoder over an encoder."""
    v, w = s(3), t(2)
    attend = L.AttentionModel(4, init=init(), enable_self_stabilization=False)
    return attend(L.Dense(4, init=init())(v), L.Dense(5, init=init())(w))


# ---- whole networks ------------------------------------------------------------------------------


@case
def network_residual():
    def block(v, channels, strides=1):
        h = L.Convolution2D((3, 3), channels, pad=True, strides=strides, bias=False, init=init())(v)
        h = C.relu(L.BatchNormalization(map_rank=1)(h))
        h = L.Convolution2D((3, 3), channels, pad=True, bias=False, init=init())(h)
        h = L.BatchNormalization(map_rank=1)(h)
        if strides != 1:
            v = L.Convolution2D(
                (1, 1), channels, strides=strides, pad=True, bias=False, init=init()
            )(v)
        return C.relu(h + v)

    v = x(3, 12, 12)
    h = block(block(L.Convolution2D((3, 3), 6, pad=True, init=init())(v), 6), 8, 2)
    return C.softmax(L.Dense(5, init=init())(L.GlobalAveragePooling()(h)))


@case
def network_mnist():
    return L.Sequential(
        [
            L.Convolution2D((5, 5), 4, activation=C.relu, pad=True, init=init()),
            L.MaxPooling((3, 3), 2, pad=True),
            L.Convolution2D((3, 3), 6, activation=C.relu, init=init()),
            L.AveragePooling((2, 2), 2),
            L.Dropout(0.5),
            L.Dense(8, activation=C.relu, init=init()),
            L.LayerNormalization(),
            L.Dense(3, init=init()),
        ]
    )(x(1, 14, 14) / 255)


@case
def network_tagger():
    return L.Sequential(
        [
            L.Embedding(5, init=init()),
            L.Stabilizer(),
            L.Recurrence(cell(L.LSTM, 6)),
            L.BatchNormalization(),
            L.Dense(4, init=init()),
        ]
    )(s(9))


@case
def network_autoencoder():
    v = x(1, 8, 8)
    h = L.Convolution2D((3, 3), 4, strides=2, pad=True, activation=C.relu, init=init())(v)
    h = L.ConvolutionTranspose2D(
        (3, 3), 1, strides=2, pad=True, output_shape=(8, 8), activation=C.sigmoid, init=init()
    )(h)
    return C.combine([h, C.reduce_mean(C.square(h - v), name="error")])


# ---- making them ---------------------------------------------------------------------------------

LENGTHS, OTHER = (4, 2, 4), (3, 3, 1)


def values_for(argument, batch=3):
    """Random numbers for an input: an array, or one for each sequence."""
    shape = tuple(argument.shape)
    kind = np.float64 if argument.dtype == np.float64 else np.float32
    if len(argument.dynamic_axes) == 2:
        return [rand(n, *shape).astype(kind) for n in (OTHER if argument.name == "t" else LENGTHS)]
    return rand(batch, *shape).astype(kind)


def make(build):
    """A model as bytes, its inputs by name and its outputs in order."""
    found = build()
    model, given = found if isinstance(found, tuple) else (found, {})
    several = len(model.outputs) > 1
    model = C.combine(model.outputs) if several else model
    values = {a: given[a.name] if a.name in given else values_for(a) for a in model.arguments}
    results = model.eval(values)
    results = [results[o] for o in model.outputs] if several else [results]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.model"
        model.save(str(path))
        data = path.read_bytes()
        order = [a.name for a in C.load_model(str(path)).arguments]
    values = {a.name: value for a, value in values.items()}
    values = {name: values[name] for name in order}
    return data, values, results


def main(folder):
    """Writes all cases as one file: an index, the models, the numbers."""
    index, models, numbers, refused = {}, [], [], []
    for name, build in CASES.items():
        try:
            data, inputs, outputs = make(build)
        except Exception as error:
            refused.append(name)
            print(name, type(error).__name__, str(error).strip().splitlines()[0][:150])
            continue

        def put(value):
            if isinstance(value, list):
                return [put(each) for each in value]
            array = np.asarray(value)
            assert array.dtype in (np.float32, np.float64), array.dtype
            numbers.append(array.ravel().astype(np.float32))
            return {"shape": array.shape, "dtype": array.dtype.name}

        models.append(np.frombuffer(data, np.uint8))
        index[name] = {
            "bytes": len(data),
            "inputs": {k: put(v) for k, v in inputs.items()},
            "outputs": [put(v) for v in outputs],
        }
    np.savez_compressed(
        str(Path(folder) / "cases.npz"),
        index=np.frombuffer(json.dumps(index).encode(), np.uint8),
        models=np.concatenate(models),
        numbers=np.concatenate(numbers),
    )
    print(len(index), "cases;", "CNTK itself refuses", refused)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "fixtures")
