"""Index maps with random attributes: reshapes against NumPy, windows against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as nn

import sol.ops  # noqa: F401  fills the table
from sol.core.errors import InputError
from sol.ir.expr import axis, bounds, walk
from sol.ir.graph import Node
from sol.ops.maps import reshape_index
from sol.ops.reference import by_compute, evaluate_node, type_of
from sol.ops.registry import builder

few = settings(max_examples=40, deadline=None)


def node_of(op: str, *arrays: Any, **attrs: Any) -> Node:
    graph = builder()
    inputs = [graph.input(f"x{n}", type_of(a)) for n, a in enumerate(arrays)]
    return graph.add(op, *inputs, **attrs)


def values(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(-2, 2, shape)


@st.composite
def two_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of equally many elements: the same prime factors, grouped differently."""
    primes = draw(st.lists(st.sampled_from([1, 2, 3, 5]), min_size=1, max_size=6))

    def grouped() -> tuple[int, ...]:
        order = draw(st.permutations(primes))
        cuts = sorted(draw(st.sets(st.integers(0, len(order)), max_size=4)))
        parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)])]
        return tuple(int(np.prod(p)) for p in parts)

    return grouped(), grouped()


@few
@given(two_shapes())
def test_reshape(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    source, target = shapes
    x = np.arange(np.prod(source, dtype=int), dtype="int64").reshape(source)
    node = node_of("reshape", x, shape=target)
    assert np.array_equal(by_compute(node, x), x.reshape(target))


@few
@given(two_shapes())
def test_a_reshaped_index_stays_in_its_axis(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    source, target = shapes
    index = reshape_index([axis(f"i{k}", n) for k, n in enumerate(target)], target, source)
    for position, extent in zip(index, source):
        low, high = bounds(position)
        assert low is not None
        assert high is not None
        assert 0 <= low <= high < extent
    if source == target:
        assert not any(p.op in ("floordiv", "mod") for i in index for p in walk(i))


windows = st.fixed_dictionaries(
    {
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 5), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 1)),
        "ceil": st.booleans(),
    }
)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def pooled(op: str, x: Any, attrs: dict[str, Any]) -> list[Any]:
    """What both definitions give; nothing for a call that Sol refuses."""
    try:
        node = node_of(op, x, **attrs)
    except InputError:
        return []
    return [evaluate_node(node, x), by_compute(node, x)]


@few
@given(windows, sizes, st.integers(1, 2))
def test_max_pool(window: dict[str, Any], size: tuple[int, int], dilation: int) -> None:
    x = values(2, 3, *size)
    names = (window["kernel"], window["stride"], window["padding"], dilation, window["ceil"])
    found = pooled("max_pool", x, {**window, "dilation": (dilation, dilation)})
    try:
        expected = nn.max_pool2d(torch.from_numpy(x), *names).numpy()
    except RuntimeError:  # it does not count dilation when it checks the padding
        return
    assert found
    for y in found:
        np.testing.assert_array_equal(y, expected)


@few
@given(windows, sizes, st.booleans(), st.none() | st.integers(1, 7))
def test_avg_pool(
    window: dict[str, Any], size: tuple[int, int], count_include_pad: bool, divisor: int | None
) -> None:
    x = values(2, 3, *size)
    found = pooled(
        "avg_pool", x, {**window, "count_include_pad": count_include_pad, "divisor": divisor}
    )
    names = (window["kernel"], window["stride"], window["padding"], window["ceil"])
    try:
        expected = nn.avg_pool2d(torch.from_numpy(x), *names, count_include_pad, divisor).numpy()
    except RuntimeError:
        assert not found
        return
    assert found
    for y in found:
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


@few
@given(sizes, sizes)
def test_adaptive_pools(size: tuple[int, int], results: tuple[int, int]) -> None:
    x = values(1, 2, *size)
    for op, function in (
        ("adaptive_avg_pool", nn.adaptive_avg_pool2d),
        ("adaptive_max_pool", nn.adaptive_max_pool2d),
    ):
        expected = function(torch.from_numpy(x), results).numpy()
        for y in pooled(op, x, {"size": results}):
            np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


@few
@given(
    sizes,
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 3), st.integers(0, 2)),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
)
def test_conv(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    groups: int,
) -> None:
    x, w = values(2, 4, *size), values(6, 4 // groups, *kernel)
    attrs = {
        "stride": stride,
        "padding": tuple((p, p) for p in padding),
        "dilation": (dilation, dilation),
        "groups": groups,
    }
    tensors = torch.from_numpy(x), torch.from_numpy(w)
    try:
        expected = nn.conv2d(*tensors, None, stride, padding, dilation, groups).numpy()
    except RuntimeError:
        return
    node = node_of("conv", x, w, **attrs)
    for y in (evaluate_node(node, x, w), by_compute(node, x, w)):
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)


@few
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(0, 1),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
)
def test_conv_transpose(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    dilation: int,
    groups: int,
) -> None:
    x, w = values(1, 4, *size), values(4, 3, *kernel)
    more = (stride[0] - 1, 0)
    pads, steps = (padding, padding), (dilation, dilation)
    tensors = torch.from_numpy(x), torch.from_numpy(w)
    try:
        expected = nn.conv_transpose2d(*tensors, None, stride, pads, more, groups, steps).numpy()
    except RuntimeError:
        return
    attrs = {"stride": stride, "padding": pads, "output_padding": more, "dilation": steps}
    node = node_of("conv_transpose", x, w, **attrs, groups=groups)
    for y in (evaluate_node(node, x, w), by_compute(node, x, w)):
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)


@few
@given(
    sizes,
    sizes,
    st.sampled_from(["nearest", "nearest_exact", "linear", "cubic"]),
    st.booleans(),
)
def test_interpolate(
    size: tuple[int, int], results: tuple[int, int], mode: str, align: bool
) -> None:
    x = values(1, 2, *size)
    attrs = {"size": results, "mode": mode, "align_corners": align, "scales": None}
    name = {"nearest_exact": "nearest-exact", "linear": "bilinear", "cubic": "bicubic"}
    corners = align if mode in ("linear", "cubic") else None
    expected = nn.interpolate(
        torch.from_numpy(x), results, mode=name.get(mode, mode), align_corners=corners
    )
    found = by_compute(node_of("interpolate", x, **attrs), x)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)


@few
@given(
    st.lists(st.integers(-3, 3), min_size=6, max_size=6),
    st.sampled_from(["constant", "reflect", "replicate", "circular"]),
)
def test_pad(widths: list[int], mode: str) -> None:
    """Cropping and padding at once, in every mode."""
    x = values(4, 5, 6)
    low, high = tuple(widths[:3]), tuple(widths[3:])
    assume(all(n + a + b > 0 and n + min(a, b) > 0 for n, a, b in zip(x.shape, low, high)))
    node = node_of("pad", x, low=low, high=high, mode=mode, value=0.5)
    assert np.array_equal(by_compute(node, x), np.asarray(evaluate_node(node, x)))
