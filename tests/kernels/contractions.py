"""Networks around one contraction: every kind and size of it, with what stands before and behind.

The lists are made by a seeded generator: sizes that are no multiple of a vector, attributes that
change from case to case. Used by test_contractions.py and by the sanitizers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sol.core.dims import B, Size
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.registry import builder
from tests.compiler.programs import Case

Draw = Callable[[int, int], int]
_CHANNELS = (1, 2, 3, 5, 7, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 70)


def _parameter(b: Builder, name: str, *shape: int) -> Node:
    return b.parameter(b.fresh(name), TensorType(shape, F32))


def _draw(seed: int) -> Draw:
    """draw(low, high): a number from low to high."""
    rng = np.random.default_rng(seed)
    return lambda low, high: int(rng.integers(low, high + 1))


def _channels(draw: Draw) -> int:
    return _CHANNELS[draw(0, len(_CHANNELS) - 1)]


# ---- what stands around --------------------------------------------------------------------------


def _epilogue(b: Builder, draw: Draw, y: Node) -> list[Node]:
    """Nothing, element-wise operators, a residual, a move behind it, or several users."""
    kind = draw(0, 9)
    if kind == 0:
        return [y]
    if kind == 1:
        return [b.add("relu", y)]
    if kind == 2:
        residual = b.input("residual", y.tensor)
        return [b.add("relu", b.add("add", residual, y))]
    if kind == 3:
        return [b.add("mul", b.add("silu", y), b.constant(0.5, F32))]
    if kind == 4:
        axes = (0, *reversed(range(1, y.tensor.rank)))
        return [b.add("sigmoid", b.add("permute", b.add("relu", y), axes=axes))]
    if kind == 5:
        flat: Size = 1
        for s in y.shape[1:]:
            flat = flat * s
        return [b.add("neg", b.add("reshape", b.add("relu", y), shape=(y.shape[0], flat)))]
    if kind == 6:
        return [b.add("relu", y), b.add("tanh", y)]
    if kind == 7:
        scaled = b.add("mul", y, _parameter(b, "scale", *_along_channels(y)))
        return [b.add("hardswish", b.add("add", scaled, _parameter(b, "shift", 1)))]
    if kind == 8:
        mask = b.add("gt", b.input("mask", y.tensor), b.constant(0.0, F32))
        return [b.add("where", mask, y, b.constant(-1.0, F32))]
    axis = y.tensor.rank - 1
    return [b.add("softmax", y, axis=axis), b.add("mean", y, axes=(axis,), keepdims=True)]


def _along_channels(y: Node) -> tuple[int, ...]:
    """The shape of a scale along axis 1, the last one, or of all elements of an image."""
    sizes = [s if isinstance(s, int) else 1 for s in y.shape]
    return tuple(sizes[1:])


def _prologue(b: Builder, draw: Draw, shape: tuple[Size, ...]) -> Node:
    """An input, or one that comes through operators or in another layout."""
    kind = draw(0, 8)
    rank = len(shape)
    if kind == 1:
        x = b.input("x", TensorType(shape, F32))
        statistics = [_parameter(b, n, int(str(shape[1]))) for n in ("mean", "var", "w", "b")]
        return b.add("relu", b.add("batch_norm", x, *statistics, eps=1e-3, affine=True))
    if kind == 2:
        turned = (shape[0], *shape[2:], shape[1])
        x = b.input("x", TensorType(turned, F32))
        return b.add("permute", x, axes=(0, rank - 1, *range(1, rank - 1)))
    if kind == 3:
        more = (*shape[:1], int(str(shape[1])) + 3, *shape[2:])
        x = b.input("x", TensorType(more, F32))
        return b.add("slice", x, axis=1, start=2, stop=more[1] - 1, step=1)
    if kind == 4 and int(str(shape[1])) > 1:
        half = int(str(shape[1])) // 2
        parts = [(shape[0], n, *shape[2:]) for n in (half, int(str(shape[1])) - half)]
        inputs = [b.input(f"x{k}", TensorType(p, F32)) for k, p in enumerate(parts)]
        return b.add("concat", b.add("relu", inputs[0]), inputs[1], axis=1)
    if kind == 5:
        x = b.input("x", TensorType((shape[0], 1, *shape[2:]), F32))
        return b.add("mul", x, _parameter(b, "spread", 1, int(str(shape[1])), *(1,) * (rank - 2)))
    if kind > 6 and rank > 2:  # what another convolution leaves: channels innermost
        x = b.input("x", TensorType((shape[0], 3, *shape[2:]), F32))
        weight = _parameter(b, "before", int(str(shape[1])), 3, *(1,) * (rank - 2))
        return b.add("relu", b.add("conv", x, weight, **_plain(rank - 2)))
    return b.input("x", TensorType(shape, F32))


def _plain(rank: int, groups: int = 1, padding: int = 0) -> dict[str, Any]:
    """Attributes of a convolution with nothing special."""
    one = (1,) * rank
    return {
        "stride": one,
        "padding": ((padding, padding),) * rank,
        "dilation": one,
        "groups": groups,
    }


# ---- convolutions --------------------------------------------------------------------------------


def _conv(seed: int) -> Case:
    draw = _draw(seed)
    b = builder()
    rank = (1, 2, 2, 2, 3)[draw(0, 4)]
    spatial = tuple(draw(5, {1: 60, 2: 14, 3: 7}[rank]) for _ in range(rank))
    inputs, outputs, groups = _grouped(draw)
    kernel = tuple(draw(1, 5) for _ in range(rank)) if draw(0, 2) else (1,) * rank
    x = _prologue(b, draw, (B, inputs, *spatial))
    weight = _parameter(b, "weight", outputs, inputs // groups, *kernel)
    bias = [_parameter(b, "bias", outputs)] if draw(0, 1) else []
    y = b.add(
        "conv",
        x,
        weight,
        *bias,
        stride=tuple(draw(1, 3) for _ in range(rank)) if draw(0, 1) else (1,) * rank,
        padding=tuple((k // 2 + draw(0, 1), k // 2 + draw(0, 2)) for k in kernel),
        dilation=tuple(draw(1, 2) for _ in range(rank)),
        groups=groups,
    )
    return Case(f"conv {seed}", b.finish(_epilogue(b, draw, y)), -1, 1)


def _grouped(draw: Draw) -> tuple[int, int, int]:
    """Input channels, output channels, groups: one, a few, many narrow ones, depthwise."""
    kind = draw(0, 5)
    if kind == 3:
        groups = draw(2, 8)
        return groups * draw(2, 8), groups * draw(2, 8), groups
    if kind == 4:
        groups = (4, 8, 16, 32)[draw(0, 3)]
        return groups * draw(1, 3), groups * draw(1, 3), groups
    if kind == 5:
        channels = _channels(draw)
        return channels, channels * draw(1, 3), channels
    return _channels(draw), _channels(draw), 1


def _conv_transpose(seed: int) -> Case:
    draw = _draw(seed)
    b = builder()
    rank = draw(1, 3)
    spatial = tuple(draw(1, {1: 30, 2: 8, 3: 4}[rank]) for _ in range(rank))
    inputs, outputs, groups = _grouped(draw)
    stride = tuple(draw(1, 3) for _ in range(rank))
    kernel = tuple(draw(1, 4) for _ in range(rank))
    x = _prologue(b, draw, (B, inputs, *spatial))
    weight = _parameter(b, "weight", inputs, outputs // groups, *kernel)
    bias = [_parameter(b, "bias", outputs)] if draw(0, 1) else []
    y = b.add(
        "conv_transpose",
        x,
        weight,
        *bias,
        stride=stride,
        padding=tuple(draw(0, (k - 1) // 2) for k in kernel),
        output_padding=tuple(draw(0, s - 1) for s in stride),
        dilation=tuple(draw(1, 2) for _ in range(rank)),
        groups=groups,
    )
    return Case(f"conv_transpose {seed}", b.finish(_epilogue(b, draw, y)), -1, 1)


# ---- first layers --------------------------------------------------------------------------------


def _stem(seed: int) -> Case:
    """A first layer: few channels in row-major maps of odd sizes, windows wider than one place."""
    draw = _draw(seed)
    b = builder()
    rank = (2, 1, 2, 3, 2)[seed % 5]
    low, high = {1: (40, 900), 2: (17, 61), 3: (6, 13)}[rank]
    kernel = tuple(
        (1, 2, 3, 3, 4, 5, 7, 11)[draw(0, {1: 7, 2: 7, 3: 3}[rank])] for _ in range(rank)
    )
    inputs, outputs = draw(1, 4), _channels(draw)
    shape: tuple[Size, ...] = (B, inputs, *(draw(low, high) for _ in range(rank)))
    kind = draw(0, 5)
    x = b.input("x", TensorType(shape, F32))
    if kind == 0:  # normalised
        x = b.add("div", b.add("sub", x, b.constant(0.4, F32)), b.constant(0.2, F32))
    if kind == 1:
        x = _prologue(b, draw, shape)
    bias = [_parameter(b, "bias", outputs)] if draw(0, 1) else []
    y = b.add(
        "conv",
        x,
        _parameter(b, "weight", outputs, inputs, *kernel),
        *bias,
        stride=tuple(draw(1, 4) for _ in range(rank)),
        padding=tuple((draw(0, k // 2), draw(0, k // 2 + 1)) for k in kernel),
        dilation=tuple(draw(1, 2) if kind == 2 else 1 for _ in range(rank)),
        groups=1,
    )
    return Case(f"stem {seed}", b.finish(_after(b, draw, y, outputs)), -1, 1)


def _after(b: Builder, draw: Draw, y: Node, outputs: int) -> list[Node]:
    """What follows a first layer: in registers, or too much for them; a layer, or the result."""
    kind = draw(0, 5)
    if kind == 0:
        return _epilogue(b, draw, y)
    if kind == 1:
        y = b.add("min", b.add("relu", y), b.constant(0.7, F32))
    if kind == 2:
        y = b.add("relu", b.add("add", y, b.add("mul", y, b.constant(0.3, F32))))
    if kind > 2:
        y = b.add(
            "relu" if kind < 5 else "gelu", y, **({} if kind < 5 else {"approximate": "none"})
        )
    rank = y.tensor.rank - 2
    weight = _parameter(b, "after", 19, outputs, *(1,) * rank)
    return [b.add("conv", y, weight, **_plain(rank))]


# ---- products ------------------------------------------------------------------------------------


def _linear(seed: int) -> Case:
    draw = _draw(seed)
    b = builder()
    rows: tuple[Size, ...] = ((B,), (B, draw(1, 200)), (B, draw(2, 9), draw(2, 9)), (draw(1, 99),))[
        draw(0, 3)
    ]
    depth, outputs = draw(1, 150), draw(1, 130)
    if len(rows) > 1:
        x = _prologue(b, draw, (*rows, depth))
    else:
        x = b.input("x", TensorType((*rows, depth), F32))
    bias = [_parameter(b, "bias", outputs)] if draw(0, 1) else []
    if draw(0, 1):  # a gradient: the transposed weight
        weight = b.add("permute", _parameter(b, "weight", depth, outputs), axes=(1, 0))
    else:
        weight = _parameter(b, "weight", outputs, depth)
    y = b.add("linear", x, weight, *bias)
    results = _epilogue(b, draw, y) if len(rows) > 1 else [b.add("relu", y)]
    return Case(f"linear {seed}", b.finish(results), -1, 1)


_LEADING: tuple[tuple[tuple[Size, ...], tuple[Size, ...]], ...] = (
    ((B,), (B,)),
    ((B, 3), (B, 3)),
    ((B, 4), (B, 1)),
    ((B, 1), (B, 3)),
    ((B,), ()),
    ((), (B,)),
    ((B, 2), (2,)),
    ((3,), (B, 3)),
    ((B, 2, 3), (1, 3)),
    ((), ()),
    ((2,), (2,)),
)


def _matmul(seed: int) -> Case:
    draw = _draw(seed)
    b = builder()
    left, right = _LEADING[draw(0, len(_LEADING) - 1)]
    rows, depth, columns = draw(1, 40), draw(1, 70), draw(1, 70)
    x = b.input("x", TensorType((*left, rows, depth), F32))
    if draw(0, 2):
        y = b.input("y", TensorType((*right, depth, columns), F32))
    else:  # as in attention: the right side is turned
        turned = b.input("y", TensorType((*right, columns, depth), F32))
        rank = len(turned.shape)
        y = b.add("permute", turned, axes=(*range(rank - 2), rank - 1, rank - 2))
    z = b.add("matmul", b.add("tanh", x) if draw(0, 1) else x, y)
    results = _epilogue(b, draw, z) if z.tensor.rank > 2 else [b.add("relu", z)]
    return Case(f"matmul {seed}", b.finish(results), -1, 1)


# ---- sizes at which the kernels change their ways ------------------------------------------------


def _large() -> tuple[Case, ...]:
    """Sums cut into blocks, many panels of rows, shares of columns, rows that share L1 sets."""
    cases = []

    def conv(name: str, size: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        b = builder()
        x = b.input("x", TensorType((B, 3, size, size), F32))
        before = b.add("conv", x, _parameter(b, "before", inputs, 3, 1, 1), **_plain(2))
        weight = _parameter(b, "weight", outputs, inputs // groups, kernel, kernel)
        y = b.add("conv", before, weight, **_plain(2, groups, kernel // 2))
        cases.append(Case(name, b.finish([b.add("relu", y)]), -1, 1))

    def linear(name: str, rows: int, depth: int, outputs: int) -> None:
        b = builder()
        x = b.input("x", TensorType((B, rows, depth), F32))
        y = b.add(
            "linear", x, _parameter(b, "weight", outputs, depth), _parameter(b, "bias", outputs)
        )
        cases.append(Case(name, b.finish([b.add("gelu", y, approximate="none")]), -1, 1))

    def matmul(name: str, rows: int, depth: int, columns: int) -> None:
        b = builder()
        x = b.input("x", TensorType((B, 2, rows, depth), F32))
        y = b.input("y", TensorType((B, 2, depth, columns), F32))
        cases.append(Case(name, b.finish([b.add("matmul", x, y)]), -1, 1))

    conv("long sum", 5, 300, 40, 3)
    conv("long sum, groups", 4, 616, 22, 3, 2)
    conv("many panels", 57, 20, 17, 3)
    conv("shares of columns", 7, 40, 650, 1)
    conv("shares of columns, taps", 5, 24, 333, 3)
    linear("long sum of a linear layer", 9, 3001, 35)
    linear("rows at 4 KiB", 19, 1024, 70)
    linear("rows at 4 KiB, few columns", 19, 1024, 30)
    linear("many rows", 700, 24, 50)
    linear("many columns", 8, 30, 1500)
    matmul("long sum of a product", 17, 2500, 33)
    matmul("many columns of a product", 9, 20, 700)
    return tuple(cases)


_KINDS = {
    "conv": _conv,
    "stem": _stem,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
}


@functools.cache
def contractions(kind: str, count: int, first: int = 0) -> tuple[Case, ...]:
    """Cases of one kind: conv, stem, conv_transpose, linear, matmul; large: all of `_large`."""
    if kind == "large":
        return _large()
    return tuple(_KINDS[kind](seed) for seed in range(first, first + count))
