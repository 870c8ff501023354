"""Clusters as plain convolutions: sizes, bands of rows, and what is no plain convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.kernels.operands import ACCUMULATED
from sol.libraries.bands import cut_bands
from sol.libraries.convolution import Convolution, Task, describe_task
from sol.ops.registry import builder
from sol.passes.pipeline import run as run_passes
from sol.plan.planner import make_plan
from tests.libraries.networks import Array, convolve

PAD = {"mode": "constant", "value": 0.0}
ONE = ((1, 1), (1, 1))


# ---- sizes and bands -----------------------------------------------------------------------------


def correlate(x: Array, weight: Array, c: Convolution) -> Array:
    """One channel, one axis."""
    padded = np.pad(x, (c.low[0], c.high[0]))
    taps = np.arange(c.window[0]) * c.dilation[0]
    return np.array([padded[i * c.stride[0] + taps] @ weight for i in range(c.result[0])])


sizes = st.builds(
    lambda size, window, stride, dilation, low, high: Convolution(
        1, 1, 1, (size,), (window,), (stride,), (dilation,), (low,), (high,)
    ),
    size=st.integers(1, 30),
    window=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    low=st.integers(0, 4),
    high=st.integers(0, 4),
)


@settings(max_examples=200, deadline=None)
@given(sizes, st.integers(1, 9))
def test_bands_compute_the_rows_of_the_whole(c: Convolution, cores: int) -> None:
    if c.size[0] + c.low[0] + c.high[0] < (c.window[0] - 1) * c.dilation[0] + 1:
        return  # no result at all
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal(c.size), rng.standard_normal(c.window)
    bands = cut_bands(c, replace(detect(), cores=cores))
    assert len(bands.part_of) == bands.count
    rows = []
    for number, part in enumerate(bands.part_of):
        band = bands.parts[part]
        start = max(0, number * bands.rows * c.stride[0] - c.low[0])  # as the kernel has it
        rows.append(correlate(x[start : start + band.size[0]], weight, band))
    np.testing.assert_allclose(np.concatenate(rows), correlate(x, weight, c), atol=1e-12)


def test_every_core_has_a_band_and_bands_fit_the_cache() -> None:
    c = Convolution(1, 64, 256, (56, 56), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    small = replace(detect(), cores=1, l2=1 << 40)
    assert cut_bands(c, small).count == 1
    assert cut_bands(c, replace(small, cores=4)).count == 4
    bands = cut_bands(c, replace(small, l2=1 << 20))
    assert bands.rows * 56 * 256 * 4 <= 1 << 19
    assert len(bands.parts) == 3, "top, middle, bottom"
    assert bands.parts[0].low == (0, 1), "the most frequent one first"


def test_rows_of_padding_alone_are_not_cut_off() -> None:
    c = Convolution(1, 1, 1, (2,), (1,), (1,), (1,), (4,), (4,))
    assert cut_bands(c, replace(detect(), cores=5)).count == 1


def test_pixels_of_a_1x1_convolution_are_one_axis() -> None:
    c = Convolution(2, 8, 4, (5, 6), (1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    assert c.flat().size == c.flat().result == (30,)
    for other in (
        replace(c, stride=(2, 1)),
        replace(c, low=(1, 0)),
        replace(c, high=(0, 1)),
        replace(c, window=(1, 3)),
    ):
        assert other.flat() == other


# ---- clusters ------------------------------------------------------------------------------------


def image(b: Builder, *channels: int) -> list[Node]:
    """Intermediate values of 9x8 pixels."""
    found = []
    for k, count in enumerate(channels):
        x = b.input(f"x{k}", TensorType((B, 3, 9, 8), F32))
        found.append(b.add("sigmoid", convolve(b, f"stem{k}", x, count, (1, 1))))
    return found


def padded(b: Builder, x: Node, value: float = 0.0) -> Node:
    border = {"low": (0, 0, 1, 1), "high": (0, 0, 1, 1), "mode": "constant"}
    return b.add("pad", x, **border, value=value)


def task_of(network: Callable[[Builder], Node], name: str = "layer") -> Task | str:
    """What becomes of the layer `name`."""
    b = builder()
    plan = make_plan(run_passes(b.finish([network(b)]))).plan
    (cluster,) = (c for c in plan.clusters if c.root == name)
    return describe_task(plan, cluster, 16)


def plain(b: Builder) -> Node:
    (x,) = image(b, 32)
    return padded(b, convolve(b, "layer", x, 48, (3, 3), padding=ONE))


def with_padding_before(b: Builder) -> Node:
    (x,) = image(b, 4)  # so few channels that the padding is an operator of its own
    return padded(b, convolve(b, "layer", x, 48, (3, 3), padding=((1, 2), (0, 1))))


def with_residual(b: Builder) -> Node:
    (x,) = image(b, 32)
    y = convolve(b, "layer", x, 32, (3, 3), padding=ONE)
    return padded(b, b.add("relu", b.add("add", y, x)))


def test_bias_and_residual_are_the_library_s() -> None:
    task = task_of(plain)
    assert isinstance(task, Task)
    assert task.convolution == Convolution(
        1, 32, 48, (9, 8), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1)
    )
    assert task.bias is not None
    assert task.add is None
    assert task.rest is ACCUMULATED
    task = task_of(with_residual)
    assert isinstance(task, Task)
    assert task.bias is not None
    assert task.add is not None
    assert task.rest.op == "relu"
    assert task.rest.args == (ACCUMULATED,)


def test_a_padding_of_zeros_belongs_to_the_convolution() -> None:
    task = task_of(with_padding_before)
    assert isinstance(task, Task)
    assert (task.convolution.size, task.convolution.low, task.convolution.high) == (
        (9, 8),
        (1, 0),
        (2, 1),
    )


def tokens_of_an_image(b: Builder) -> Node:
    (x,) = image(b, 32)
    y = convolve(b, "layer", x, 64, (1, 1))
    tokens = b.add("permute", b.add("reshape", y, shape=(B, 64, 72)), axes=(0, 2, 1))
    return b.add("relu", tokens)


def test_a_view_of_the_result_is_no_obstacle() -> None:
    task = task_of(tokens_of_an_image)
    assert isinstance(task, Task), task
    assert task.rest.op == "relu"


def view_of_an_image(b: Builder) -> Node:
    (x,) = image(b, 32)
    weight = b.parameter("w", TensorType((64, 32), F32))
    tokens = b.add("permute", b.add("reshape", x, shape=(B, 32, 72)), axes=(0, 2, 1))
    return b.add("linear", tokens, weight, name="layer")


def test_a_view_of_the_input_is_no_obstacle() -> None:
    task = task_of(view_of_an_image, "layer_linear")
    assert isinstance(task, Task), task
    assert (task.convolution.size, task.source) == ((72,), "sigmoid")


def first_layer(b: Builder) -> Node:
    x = b.input("x", TensorType((B, 16, 9, 8), F32))
    return padded(b, convolve(b, "layer", x, 48, (3, 3)))


def last_layer(b: Builder) -> Node:
    (x,) = image(b, 32)
    return convolve(b, "layer", x, 48, (3, 3))


def part_of_a_concatenation(b: Builder) -> Node:
    x, y = image(b, 32, 32)
    parts = (convolve(b, "layer", x, 32, (3, 3)), convolve(b, "other", y, 32, (3, 3)))
    return padded(b, b.add("concat", *parts, axis=1))


def half_of_the_channels(b: Builder) -> Node:
    (x,) = image(b, 64)
    half = b.add("slice", x, axis=1, start=0, stop=32, step=1)
    return padded(b, convolve(b, "layer", half, 32, (1, 1)))


def padding_of_ones(b: Builder) -> Node:
    (x,) = image(b, 32)
    return padded(b, convolve(b, "layer", padded(b, x, 1.0), 32, (1, 1)))


def transposed(b: Builder) -> Node:
    (x,) = image(b, 32)
    weight = b.parameter("w", TensorType((32, 16, 2, 2), F32))
    shape = {"stride": (2, 2), "padding": (0, 0), "output_padding": (0, 0), "dilation": (2, 2)}
    return padded(b, b.add("conv_transpose", x, weight, name="layer", groups=1, **shape))


INPUT = "its input does not lie in memory row by row with channels innermost"
RESULTS = "its results do not lie in memory row by row with channels innermost"


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (first_layer, INPUT),
        (half_of_the_channels, INPUT),
        (last_layer, RESULTS),
        (part_of_a_concatenation, RESULTS),
        (padding_of_ones, "its input is computed while it is read (pad)"),
        (transposed, "conv_transpose is not handed to it"),
    ],
)
def test_what_is_not_taken_has_a_reason(network: Callable[[Builder], Node], reason: str) -> None:
    assert task_of(network) == reason
