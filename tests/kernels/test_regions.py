"""Convolutions some of whose taps meet nothing but padding: in regions of equal taps they give what
the reference gives, and no multiplication by padding is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sol.backends.c import print_kernel
from sol.compiler import Options
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.kernels import regions
from sol.kernels.regions import intervals
from sol.ops.registry import builder
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

Ints = tuple[int, ...]
_DIRECT = Options(precision="strict")


def _dilated(
    name: str, size: Ints, channels: tuple[int, int], taps: Ints, dilation: Ints,
    end: Callable[[Builder, Node], Node] = lambda b, y: b.add("relu", y), **attrs: Any,
) -> Case:  # fmt: skip
    """A pointwise layer, and a window as wide as padding allows, dilated."""
    b, rank = builder(), len(size)
    inputs, outputs = channels
    first = b.parameter("first", TensorType((inputs, 3, *(1,) * rank), F32))
    groups = attrs.get("groups", 1)
    weight = b.parameter("weight", TensorType((outputs, inputs // groups, *taps), F32))
    bias = b.parameter("bias", TensorType((outputs,), F32))
    ones = (1,) * rank
    plain: dict[str, Any] = {
        "stride": ones,
        "padding": ((0, 0),) * rank,
        "dilation": ones,
        "groups": 1,
    }
    x = b.add("relu", b.add("conv", b.input("x", TensorType((B, 3, *size), F32)), first, **plain))
    padding = tuple((d * (t - 1) // 2,) * 2 for t, d in zip(taps, dilation))
    usual = {"stride": ones, "padding": padding, "dilation": dilation, "groups": 1}
    return Case(
        name, b.finish([end(b, b.add("conv", x, weight, bias, **{**usual, **attrs}))]), -1, 1
    )


def _residual(b: Builder, y: Node) -> Node:
    return b.add("relu", b.add("add", b.input("residual", y.tensor), y))


def _turned(b: Builder, y: Node) -> Node:
    return b.add("sigmoid", b.add("permute", b.add("relu", y), axes=(0, 3, 2, 1)))


CASES = (
    _dilated("middle tap for most", (14, 13), (32, 40), (3, 3), (12, 11)),
    _dilated("all taps in the middle", (12, 10), (16, 16), (3, 3), (5, 4), _residual),
    _dilated("groups", (8, 9), (32, 70), (3, 3), (6, 6), groups=2),
    _dilated("stride", (15, 14), (16, 33), (3, 3), (12, 12), stride=(2, 3)),
    _dilated("one axis", (9, 20), (24, 32), (1, 3), (1, 18), _turned),
    _dilated("too many for both axes", (13, 12), (16, 32), (5, 5), (6, 5)),
    _dilated("a sequence", (60,), (16, 32), (3,), (50,)),
    _dilated("three axes", (5, 6, 7), (16, 32), (3, 3, 3), (4, 5, 6)),
    _dilated("uneven", (14, 14), (16, 32), (3, 3), (9, 9), padding=((12, 6), (9, 9))),
)  # fmt: skip


def _cut(joined: Joined) -> list[str]:
    return [m.why for m in joined.compiled.steps if "regions" in m.why]


@pytest.mark.parametrize(("size", "results", "taps", "step"), [
    (14, 14, 3, (1, 12, 12)), (14, 7, 3, (2, 12, 12)), (5, 9, 4, (1, 2, 5)), (1, 1, 3, (1, 1, 1)),
])  # fmt: skip
def test_intervals_have_the_taps_that_meet_the_map(
    size: int, results: int, taps: int, step: tuple[int, int, int]
) -> None:
    stride, dilation, padding = step
    found: list[range] = []
    for i in intervals(size, results, taps, step):
        assert i.first == len(found)
        found += [range(i.tap, i.tap + i.taps)] * i.results
    met = [
        [t for t in range(taps) if 0 <= r * stride + t * dilation - padding < size]
        for r in range(results)
    ]
    assert [list(r) for r in found] == met


def test_regions_agree_with_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_STREAMED", 1e9)  # few channels: weights cost nothing
    joined = build_joined(CASES, flags=("-O1",), options=_DIRECT)
    assert len(_cut(joined)) == len(CASES)
    compare(joined, 1)
    compare(joined, 3, threads=2)
    assert same_bits(joined.run(3, threads=1), joined.run(3, threads=2))


def test_no_padding_is_read() -> None:
    """Neither are conditions left, nor is the weight packed twice."""
    joined = build_joined(CASES[:1], flags=("-O1",), options=_DIRECT)
    (made,) = (m for m in joined.compiled.steps if "regions" in m.why)
    assert "9 regions" in made.why
    assert made.packed is not None
    columns = {16: 48, 8: 40}[made.packed[2].lanes]
    assert made.packed[2].size((40, 32, 3, 3)) == columns * 32 * 9
    text, _ = print_kernel(made.calls[0].kernel, "regions")
    assert "?" not in text


def test_ordinary_windows_stay_whole() -> None:
    cases = [
        _dilated("3x3", (14, 14), (32, 32), (3, 3), (1, 1)),
        _dilated("5x5", (14, 14), (16, 16), (5, 5), (1, 1)),
    ]
    assert not _cut(build_joined(cases, flags=("-O1",), options=_DIRECT))
