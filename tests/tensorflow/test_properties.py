"""Rules that TensorFlow has for padding, places of channels and broadcasting, on random sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sol.core.dtypes import F32
from sol.ir.graph import TensorType
from sol.ops.reference import evaluate
from sol.tensorflow import windows
from sol.tensorflow.context import Context, Reading
from sol.tensorflow.layout import concat, pad, permute, pointwise, reduce, slice_axes
from sol.tensorflow.padding import same, transposed

EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
small = st.integers(1, 9)


def computed(make: Any, *arrays: Any) -> Any:
    """What NumPy makes of the nodes that a function of a context and nodes adds."""
    reading = Reading()
    c = Context(reading, "test")
    nodes = [reading.builder.input(f"x{n}", TensorType(a.shape, F32)) for n, a in enumerate(arrays)]
    graph = reading.builder.finish([make(c, *nodes)])
    return evaluate(graph, {n.name: a for n, a in zip(nodes, arrays)})[0]


def numbers(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("f")


def close(found: Any, wanted: Any) -> None:
    assert found.shape == tuple(wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


# ---- padding -------------------------------------------------------------------------------------


@EXAMPLES
@given(size=st.integers(1, 40), window=small, stride=small, dilation=st.integers(1, 4))
def test_same_padding_gives_as_many_results_as_strides_fit(
    size: int, window: int, stride: int, dilation: int
) -> None:
    low, high = same(size, window, stride, dilation)
    results = (size + low + high - dilation * (window - 1) - 1) // stride + 1
    assert results == -(-size // stride)
    assert 0 <= high - low <= 1


@EXAMPLES
@given(
    sizes=st.tuples(small, small), window=st.tuples(small, small), stride=st.tuples(small, small),
    kind=st.sampled_from(["SAME", "VALID"]), last=st.booleans(), maximum=st.booleans(),
)  # fmt: skip
def test_pooling(
    sizes: Any, window: Any, stride: Any, kind: str, last: bool, maximum: bool
) -> None:
    if kind == "VALID" and any(w > s for w, s in zip(window, sizes)):
        return
    x = numbers(2, *sizes, 3)
    pool = windows.max_pool if maximum else windows.avg_pool
    wanted = (tf.nn.max_pool2d if maximum else tf.nn.avg_pool2d)(x, window, stride, kind).numpy()
    given_x = x if last else x.transpose(0, 3, 1, 2)
    found = computed(
        lambda c, y: pool(c, y, window=window, stride=stride, padding=kind, last=last), given_x
    )
    close(found if last else found.transpose(0, 2, 3, 1), wanted)


@EXAMPLES
@given(
    sizes=st.tuples(small, small), window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    step=st.integers(1, 3), spread=st.integers(1, 3), kind=st.sampled_from(["SAME", "VALID"]),
    depthwise=st.booleans(),
)  # fmt: skip
def test_convolution(
    sizes: Any, window: Any, step: int, spread: int, kind: str, depthwise: bool
) -> None:
    step = 1 if spread > 1 else step  # TensorFlow has no strides with dilation
    if kind == "VALID" and any(spread * (w - 1) >= s for w, s in zip(window, sizes)):
        return
    x, kernel = numbers(2, *sizes, 3), numbers(*window, 3, 2)
    attrs = {"stride": (step, step), "dilation": (spread, spread), "padding": kind}
    if depthwise:
        wanted = tf.nn.depthwise_conv2d(
            x, kernel, (1, step, step, 1), kind, dilations=(spread, spread)
        )
        close(computed(lambda c, y, w: windows.depthwise(c, y, w, **attrs), x, kernel), wanted)
        return
    wanted = tf.nn.convolution(x, kernel, step, kind, dilations=spread)
    close(computed(lambda c, y, w: windows.conv(c, y, w, **attrs), x, kernel), wanted)


@EXAMPLES
@given(
    size=small, window=st.integers(1, 5), stride=st.integers(1, 4), more=st.integers(0, 3),
    kind=st.sampled_from(["SAME", "VALID"]),
)  # fmt: skip
def test_transposed_convolution(size: int, window: int, stride: int, more: int, kind: str) -> None:
    least = (size - 1) * stride + (1 if kind == "SAME" else window)
    results = least + min(more, stride - 1)
    x, kernel = numbers(2, size, 3), numbers(window, 2, 3)
    wanted = tf.nn.conv1d_transpose(x, kernel, (2, results, 2), stride, kind)
    low, extra, dropped = transposed(size, results, window, stride, 1, kind)
    assert min(low, extra, dropped) >= 0
    found = computed(
        lambda c, y, w: windows.conv_transpose(
            c, y, w, None, (results,), stride=(stride,), padding=kind, dilation=(1,)
        ),
        x,
        kernel,
    )
    close(found, wanted)


# ---- layout and broadcasting ---------------------------------------------------------------------

orders = st.permutations(range(4))
SHAPE = (2, 3, 4, 5)


def moved(c: Context, x: Any, order: Any) -> Any:
    """A node whose axes stand in another order, seen as [2, 3, 4, 5]."""
    return permute(c, x, order)


def under(order: Any, shape: Any) -> Any:
    """The array that is of this shape when its axes are put in an order."""
    back = np.argsort(order)
    return numbers(*shape).transpose(back)


@EXAMPLES
@given(
    order=orders, other=orders,
    ones=st.tuples(*[st.booleans()] * 4), rank=st.integers(0, 4),
)  # fmt: skip
def test_element_wise_operators_under_turns(order: Any, other: Any, ones: Any, rank: int) -> None:
    shape = tuple(1 if one else s for one, s in zip(ones, SHAPE))[4 - rank :]
    x = under(order, SHAPE)
    if rank == 4:
        y = under(other, shape)
        found = computed(
            lambda c, a, b: pointwise(c, "sub", moved(c, b, other), moved(c, a, order)), x, y
        )
        close(found, y.transpose(other) - x.transpose(order))
        return
    y = numbers(*shape)
    found = computed(lambda c, a, b: pointwise(c, "sub", moved(c, a, order), b), x, y)
    close(found, x.transpose(order) - y)


@EXAMPLES
@given(order=orders, axes=st.sets(st.integers(0, 3), min_size=1), keep=st.booleans())
def test_reductions_under_turns(order: Any, axes: Any, keep: bool) -> None:
    x = under(order, SHAPE)
    found = computed(lambda c, a: reduce(c, "sum", moved(c, a, order), sorted(axes), keep), x)
    close(found, x.transpose(order).sum(tuple(axes), keepdims=keep))


@EXAMPLES
@given(order=orders, other=orders, axis=st.integers(0, 3))
def test_moves_under_turns(order: Any, other: Any, axis: int) -> None:
    x, y = under(order, SHAPE), under(other, SHAPE)
    a, b = x.transpose(order), y.transpose(other)
    found = computed(
        lambda c, m, n: concat(c, [moved(c, m, order), moved(c, n, other)], axis), x, y
    )
    close(found, np.concatenate([a, b], axis))
    low, high = np.eye(4, dtype=int)[axis] * 2, np.eye(4, dtype=int)[axis - 1]
    found = computed(lambda c, m: pad(c, moved(c, m, order), low, high, 1.5), x)
    close(found, np.pad(a, list(zip(low, high)), constant_values=1.5))
    found = computed(lambda c, m: slice_axes(c, moved(c, m, order), [(axis, 1, 2, 1)]), x)
    close(found, np.take(a, [1], axis))


@pytest.mark.parametrize("key", [
    np.s_[1:], np.s_[:, ::-1], np.s_[..., 1], np.s_[:, None, 1:3], np.s_[0], np.s_[:, -2:, ::2],
    np.s_[:, 5:1:-2], np.s_[..., None], np.s_[:, 3:1], np.s_[-1, :, 9:],
])  # fmt: skip
def test_subscripts(key: Any) -> None:
    from sol.tensorflow import optimize

    x = tf.constant(numbers(4, 7, 5))
    function = tf.function(lambda t: t[key] + 0.0, autograph=False)
    fast = optimize(function)
    close(fast(x).numpy(), function(x).numpy())
