"""Conventions of MXNet on calls that hypothesis makes up: pooling, padding, reshape codes, slices,
broadcasting. Where MXNet refuses a call, Sol has to refuse it, too.

Reshapes are right ones only, and none that both splits an axis and infers a size: wrong ones end
the process in MXNet 1.9.1, and those lose elements or do so, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sol.core.errors import SolError
from tests.mxnet.calls import C, Call
from tests.mxnet.evaluated import evaluated
from tests.mxnet.framework import mxnet, results, symbol_text

EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True, database=None)
small = st.integers(1, 4)


def agree(call: Call) -> None:
    """Sol computes what MXNet computes, or both refuse the call."""
    mx = mxnet()
    arrays = call.arrays
    text = symbol_text(call.op, call.attrs, list(arrays), call.numpy)
    try:
        (wanted,) = results(text, arrays, call.numpy)
    except mx.MXNetError:
        wanted = None
    try:
        (got,) = evaluated(text, arrays)
    except SolError:
        assert wanted is None, f"MXNet computes {call} of {call.inputs}"
        return
    assert wanted is not None, f"MXNet refuses {call} of {call.inputs}"
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), call
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5, err_msg=str(call))


@EXAMPLES
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    kind=st.sampled_from(["max", "avg", "sum", "lp"]),
    convention=st.sampled_from(["valid", "full"]),
    count=st.booleans(),
)
def test_pooling(
    size: Any, kernel: Any, stride: Any, pad: Any, kind: str, convention: str, count: bool
) -> None:
    pad = tuple(min(p, k - 1) for p, k in zip(pad, kernel))  # more, MXNet does for sums only
    attrs: dict[str, Any] = {"kernel": kernel, "stride": stride, "pad": pad, "pool_type": kind}
    if kind == "lp":
        attrs["p_value"] = 2
    agree(
        C("Pooling", (1, 2, *size), pooling_convention=convention, count_include_pad=count, **attrs)
    )


@EXAMPLES
@given(
    size=st.tuples(st.integers(3, 8), st.integers(3, 8)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(small, small),
    dilate=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    groups=st.sampled_from([1, 2]),
    adj=st.none() | st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_convolution_and_its_transpose(
    size: Any, kernel: Any, stride: Any, dilate: Any, pad: Any, groups: int, adj: Any
) -> None:
    attrs = {"kernel": kernel, "stride": stride, "pad": pad, "num_filter": 4, "num_group": groups}
    if adj is None:
        weight = (4, 2 // groups, *kernel)
        agree(C("Convolution", (1, 2, *size), weight, no_bias=True, dilate=dilate, **attrs))
    elif all(a < s for a, s in zip(adj, stride)):
        weight = (2, 4 // groups, *kernel)
        agree(C("Deconvolution", (1, 2, *size), weight, adj=adj, **attrs))


@st.composite
def reshapes(draw: st.DrawFn, codes: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and codes of a new shape that MXNet takes for it, under its numbers."""
    made: list[int] = []
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3))
    places = iter(range(len(shape)))
    left_out = draw(st.sampled_from(["split", "infer"]))
    codes = {name: code for name, code in codes.items() if name != left_out}
    inferred = False
    for place in places:
        names = [n for n in codes if n != "join" or place + 1 < len(shape)]
        names = [n for n in names if n != "drop" or shape[place] == 1]
        match draw(st.sampled_from(["size", *names])):
            case "rest":
                made.append(codes["rest"])
                break
            case "join":
                next(places)
                made.append(codes["join"])
            case "split":
                left = draw(st.sampled_from([n for n in (1, 2, 3) if shape[place] % n == 0]))
                made += [codes["split"], left, shape[place] // left]
            case "infer" if not inferred:
                inferred = True
                made.append(-1)
            case "keep" | "drop" as name:
                made.append(codes[name])
            case _:
                made.append(shape[place])
    return tuple(shape), tuple(made)


LEGACY = {"keep": 0, "infer": -1, "rest": -2, "join": -3, "split": -4}
EXTENSION = {"infer": -1, "keep": -2, "drop": -3, "rest": -4, "join": -5, "split": -6}


@EXAMPLES
@given(reshapes(LEGACY))
def test_reshape(case: Any) -> None:
    shape, codes = case
    agree(C("Reshape", shape, shape=codes))
    if -4 not in codes and -2 not in codes:
        agree(C("Reshape", shape[::-1], shape=codes[::-1], reverse=True))


@EXAMPLES
@given(reshapes(EXTENSION))
def test_reshape_of_the_numpy_extension(case: Any) -> None:
    shape, codes = case
    agree(C("_npx_reshape", shape, newshape=codes, numpy=True))


@EXAMPLES
@given(
    size=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    widths=st.tuples(*[st.integers(0, 4)] * 4),
    mode=st.sampled_from(["constant", "edge", "reflect"]),
)
def test_padding(size: Any, widths: Any, mode: str) -> None:
    rest = [n - 1 for n in size for _ in range(2)]
    if mode == "reflect" and any(w > r for w, r in zip(widths, rest)):
        return  # MXNet reads beyond the image
    agree(C("Pad", (1, 2, *size), mode=mode, pad_width=(0, 0, 0, 0, *widths), constant_value=3))


bound = st.none() | st.integers(-5, 7)  # below, MXNet refuses or clips, by the case


@EXAMPLES
@given(begin=bound, end=bound, step=st.none() | st.sampled_from([-3, -1, 1, 2]))
def test_slices(begin: int | None, end: int | None, step: int | None) -> None:
    places = range(5)[begin:end:step]
    bounds = {
        "begin": f"({begin},)", "end": f"({end},)", "step": f"({1 if step is None else step},)"
    }  # fmt: skip
    if len(places) > 0:
        agree(C("slice", (5, 2), **bounds))


@EXAMPLES
@given(
    pairs=st.lists(st.sampled_from([(1, 1), (1, 3), (3, 1), (2, 2), (2, 3)]), max_size=4),
    drop=st.integers(0, 2),
    op=st.sampled_from(["add", "maximum", "less"]),
)
def test_broadcasting(pairs: list[tuple[int, int]], drop: int, op: str) -> None:
    a, b = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    agree(C(f"_npi_{op}", a, b[drop:], numpy=True))
    if pairs and op != "less":
        agree(C(f"broadcast_{op}", a, b[drop:] or (1,)))
        agree(C(f"broadcast_{op}", a, b))
