"""Convolutions in narrow groups: right for every width of groups, attribute, epilogue and vector
width; a group's NaN stays in it.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from sol.compiler import Options
from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.core.errors import ConfigError
from sol.ir.graph import Builder, Node, TensorType
from sol.kernels.grouped import GroupedPacking
from sol.ops.registry import builder
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

Ints = tuple[int, ...]
_STRICT = Options(precision="strict")
_SIDE_BY_SIDE = "groups side by side"


def _conv(b: Builder, x: Node, weight: Ints, groups: int, **attrs: Any) -> Node:
    rank = len(weight) - 2
    one = (1,) * rank
    w = b.parameter(b.fresh("weight"), TensorType(weight, F32))
    bias = b.parameter(b.fresh("bias"), TensorType(weight[:1], F32))
    usual = {"stride": one, "padding": ((0, 0),) * rank, "dilation": one}
    return b.add("conv", x, w, bias, groups=groups, **{**usual, **attrs})


def layer(
    name: str, groups: int, inputs: int, outputs: int, size: Ints, taps: Ints,
    end: str = "relu", last: bool = True, **attrs: Any,
) -> Case:  # fmt: skip
    """A convolution of so many channels per group, and what follows; last: whether its input is
    what another layer leaves, channels innermost."""
    b = builder()
    if last:
        x = b.input("x", TensorType((B, 3, *size), F32))
        x = b.add("relu", _conv(b, x, (groups * inputs, 3, *(1,) * len(size)), 1))
    else:
        x = b.input("x", TensorType((B, groups * inputs, *size), F32))
    attrs.setdefault("padding", tuple((t // 2, t // 2) for t in taps))
    y = _conv(b, x, (groups * outputs, inputs, *taps), groups, **attrs)
    return Case(name, b.finish(_END[end](b, y)), -1, 1)


_END = {
    "relu": lambda b, y: [b.add("relu", y)],
    "residual": lambda b, y: [b.add("relu", b.add("add", b.input("residual", y.tensor), y))],
    "turned": lambda b, y: [
        b.add("permute", b.add("silu", y), axes=(0, *range(2, len(y.shape)), 1))
    ],
    "twice": lambda b, y: [b.add("tanh", y), b.add("mean", y, axes=(1,), keepdims=True)],
}
WIDTHS = tuple(
    layer(f"{groups} groups of {width}", groups, width, width, (9, 11), (3, 3))
    for width in (2, 3, 4, 5, 6, 7, 8, 12, 16, 24)
    for groups in (2, 5, 8)
)
OTHERS = (
    *(
        layer(f"{i} to {o}", 7, i, o, (6, 5), (3, 2), end="residual")
        for i, o in ((2, 1), (3, 1), (4, 8), (8, 4), (1, 4), (5, 2), (2, 7), (16, 4), (4, 20))
    ),
    layer("one tap", 6, 4, 4, (9, 7), (1, 1), end="twice"),
    layer("one place", 8, 4, 4, (1, 1), (3, 3)),
    layer("one row", 8, 4, 4, (1, 40), (1, 3)),
    layer("bands", 6, 8, 8, (61, 57), (3, 3), end="residual"),
    layer("stride", 10, 4, 4, (15, 18), (3, 3), stride=(2, 2)),
    layer("large stride", 10, 4, 4, (15, 18), (2, 3), stride=(3, 5), end="turned"),
    layer("dilation", 10, 4, 4, (15, 18), (3, 3), dilation=(2, 3), padding=((2, 2), (3, 3))),
    layer("uneven padding", 4, 8, 8, (7, 8), (3, 3), padding=((0, 2), (3, 1))),
    layer("row-major", 10, 4, 4, (9, 10), (3, 3), last=False),
    layer("one axis", 9, 4, 4, (900,), (5,)),
    layer("one axis, many taps", 9, 4, 4, (300,), (65,), end="turned"),
    layer("long sum", 3, 8, 8, (11, 10), (9, 10)),
    layer("long sum, unrolled", 3, 8, 8, (15, 10), (13, 7)),
    layer("three axes", 5, 4, 4, (4, 5, 6), (3, 2, 3), end="residual"),
    layer("three axes, cut sum", 3, 8, 8, (5, 5, 6), (5, 5, 5), stride=(2, 1, 1)),
)
_CASES = {"widths": WIDTHS, "others": OTHERS}


@functools.cache
def program(kind: str, isa: str | None = None) -> Joined:
    """All cases of a kind as one program."""
    return build_joined(_CASES[kind], detect(isa), flags=("-O1",), options=_STRICT)


@pytest.mark.parametrize("kind", _CASES)
@pytest.mark.parametrize("isa", [None, "avx2", "sse2"])
def test_layers_agree_with_the_reference(kind: str, isa: str | None) -> None:
    try:
        joined = program(kind, isa)
    except ConfigError as error:
        pytest.skip(str(error))
    compare(joined, 2)
    assert same_bits(joined.run(3, threads=1), joined.run(3, threads=2))


def test_which_widths_the_kernel_takes() -> None:
    """Those of which a vector holds several groups."""
    lanes = detect().vector_lanes(4)
    joined = program("widths")
    made = [m for m in joined.compiled.steps if m.cluster.root and "x" in m.why]
    taken = {m.cluster.root for m in made if m.why.endswith(_SIDE_BY_SIDE)}
    graph = joined.compiled.planned.plan.graph
    for node in graph:
        if node.op == "conv" and node["groups"] > 1:
            assert (node.name in taken) == (2 * node.shape[1] // node["groups"] <= lanes)


def _transposed(width: int) -> Case:
    """A transposed convolution in narrow groups."""
    b = builder()
    x = b.input("x", TensorType((B, 5 * width, 6, 7), F32))
    w = b.parameter("weight", TensorType((5 * width, width, 3, 3), F32))
    two = {"stride": (2, 2), "padding": (1, 1), "output_padding": (0, 0), "dilation": (1, 1)}
    y = b.add("conv_transpose", x, w, groups=5, **two)
    return Case(f"transposed, 5 groups of {width}", b.finish([y]), -1, 1)


ALONE = (
    *(
        layer(f"5 groups of {w}", 5, w, w, (9, 11), (3, 3), last=False)
        for w in (2, 3, 4, 6, 8, 12, 16, 24)
    ),
    *(_transposed(width) for width in (2, 4, 8)),
)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("precision", ["strict", "float32"])
def test_a_group_keeps_its_values(precision: Literal["strict", "float32"], value: float) -> None:
    """What is not finite in one group's inputs reaches the results of that group only."""
    cases = []
    for case in ALONE:
        (x,) = case.graph.inputs
        array = np.array(case.array(x, 1))
        array[:, array.shape[1] // 5] = value  # the second group's first channel
        cases.append(replace(case, given={x.name: array}))
    joined = build_joined(cases, flags=("-O1",), options=Options(precision=precision))
    for case, (found,) in zip(cases, joined.run(1, threads=1), strict=True):
        groups = found.reshape(5, -1)
        assert not np.isfinite(groups[1]).all(), case.name
        assert np.isfinite(groups[[0, 2, 3, 4]]).all(), case.name


def test_packed_weights() -> None:
    """Of two blocks of two groups, of which the last one lacks a group."""
    weight = np.arange(3 * 2 * 2 * 3, dtype=np.float32).reshape(6, 2, 3)
    packed = GroupedPacking(2, 2, 4, shared=True).apply(weight).reshape(2, 2, 3, 4)
    for block, i, tap, lane in np.ndindex(packed.shape):
        output = block * 4 + lane
        assert packed[block, i, tap, lane] == (weight[output, i, tap] if output < 6 else 0)
    rolled = GroupedPacking(2, 2, 4, shared=False).apply(weight).reshape(2, 3, 2, 4)
    assert np.array_equal(rolled.transpose(0, 2, 1, 3), packed)
