"""Stages: a pointwise convolution and the window behind it in one kernel give what the reference
gives, for every kind of window, band and share of channels.
"""

from __future__ import annotations

from typing import Any

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.registry import builder
from sol.plan import stages
from sol.plan.stages import Stage
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

Ints = tuple[int, ...]


def _parameter(b: Builder, name: str, *shape: int) -> Node:
    return b.parameter(b.fresh(name), TensorType(shape, F32))


def _pointwise(b: Builder, x: Node, outputs: int) -> Node:
    assert isinstance(x.shape[1], int)
    rank = len(x.shape) - 2
    one = (1,) * rank
    weight, bias = _parameter(b, "w", outputs, x.shape[1], *one), _parameter(b, "b", outputs)
    usual = {"stride": one, "padding": ((0, 0),) * rank, "dilation": one}
    return b.add("conv", x, weight, bias, groups=1, **usual)


def _depthwise(b: Builder, x: Node, taps: Ints, stride: Ints, **attrs: Any) -> Node:
    channels = x.shape[1]
    assert isinstance(channels, int)
    weight, bias = _parameter(b, "w", channels, 1, *taps), _parameter(b, "b", channels)
    usual = {"padding": tuple((t // 2, t // 2) for t in taps), "dilation": (1,) * len(taps)}
    return b.add("conv", x, weight, bias, groups=channels, stride=stride, **{**usual, **attrs})


def _max_pool(b: Builder, x: Node, taps: Ints, stride: Ints, **attrs: Any) -> Node:
    usual = {"padding": tuple(t // 2 for t in taps), "dilation": (1,) * len(taps), "ceil": False}
    return b.add("max_pool", x, kernel=taps, stride=stride, **{**usual, **attrs})


_WINDOWS = {"depthwise": _depthwise, "max_pool": _max_pool}


def layers(
    name: str, size: Ints, channels: int, taps: Ints, stride: Ints,
    window: str = "depthwise", end: str = "relu", **attrs: Any,
) -> Case:  # fmt: skip
    """Three pointwise layers, the second of which is a stage with its window."""
    b = builder()
    x = b.add("relu", _pointwise(b, b.input("x", TensorType((B, 3, *size), F32)), 12))
    y = b.add(end, _pointwise(b, x, channels))
    y = b.add("relu", _WINDOWS[window](b, y, taps, stride, **attrs))
    return Case(name, b.finish([_pointwise(b, y, 5)]), -1, 1)


CASES = (
    layers("as in MobileNet", (24, 20), 64, (3, 3), (2, 2)),
    layers("stride 1", (24, 20), 64, (3, 3), (1, 1)),
    layers("channels of no whole vectors", (18, 15), 25, (3, 3), (1, 1)),
    layers("channels of one vector and a half", (18, 15), 24, (5, 5), (2, 1)),
    layers("lines of a prime number", (23, 7), 32, (3, 3), (1, 1)),
    layers("dilation", (24, 30), 32, (3, 3), (1, 1), dilation=(2, 3), padding=((2, 2), (3, 3))),
    layers("uneven padding", (20, 9), 48, (3, 3), (1, 1), padding=((0, 2), (3, 1))),
    layers("no padding", (22, 14), 48, (3, 3), (1, 1), padding=((0, 0), (0, 0))),
    layers("large stride", (25, 14), 32, (2, 2), (5, 3), padding=((0, 0), (0, 0))),
    layers("one tap", (16, 14), 32, (1, 1), (1, 1)),
    layers("windows of lines", (16, 33), 32, (3, 1), (1, 1)),
    layers("pooling", (24, 20), 64, (3, 3), (2, 2), "max_pool"),
    layers("no overlap", (24, 20), 40, (2, 2), (2, 2), "max_pool", padding=(0, 0)),
    layers("three axes", (12, 6, 7), 32, (3, 3, 3), (1, 1, 1)),
    layers("a long epilogue", (24, 20), 64, (3, 3), (2, 2), end="silu"),
)  # fmt: skip


def _small(monkeypatch: pytest.MonkeyPatch, scratch: int) -> None:
    """Everything that can be a stage is one, in bands that fit so little memory."""
    monkeypatch.setattr(stages, "_FROM", 0)
    monkeypatch.setattr(stages, "_CHEAP", 1000)
    monkeypatch.setattr(stages, "_MOST_WASTE", 1e9)
    monkeypatch.setattr(stages, "_MOVED", 1e-9)
    monkeypatch.setattr(stages, "_SCRATCH", scratch)


def _found(joined: Joined) -> list[Stage]:
    return list(joined.compiled.planned.stages.values())


@pytest.mark.parametrize("scratch", [6 << 10, 24 << 10, 1 << 20], ids=["small", "middle", "whole"])
@pytest.mark.parametrize("optimise", [False, True], ids=["as given", "after passes"])
def test_stages_agree_with_the_reference(
    scratch: int, optimise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _small(monkeypatch, scratch)
    joined = build_joined(CASES, optimise=optimise)
    found = _found(joined)
    if scratch == 1 << 20:  # all but the window of one tap, which the layer behind it inlines
        assert len(found) == len(CASES) - 1
    if scratch < 1 << 20:  # bands of several lines, and shares of the channels
        assert any(1 < s.band < s.lines for s in found)
    compare(joined, 2)
    assert same_bits(joined.run(3, threads=1), joined.run(3, threads=2))


def test_shares_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    _small(monkeypatch, 24 << 10)
    found = _found(build_joined(CASES[:2]))
    assert {s.share for s in found} & {32}, "64 channels in two shares"


def test_what_is_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that others read, or that is a result; windows across channels."""
    _small(monkeypatch, 1 << 20)

    def stages_of(make: Any) -> int:
        b = builder()
        x = b.add("relu", _pointwise(b, b.input("x", TensorType((B, 3, 12, 10), F32)), 12))
        return len(_found(build_joined([Case("one", b.finish(make(b, x)), -1, 1)])))

    def window(b: Builder, y: Node) -> Node:
        return _pointwise(b, _depthwise(b, y, (3, 3), (1, 1)), 4)

    def plain(b: Builder, x: Node) -> list[Node]:
        return [window(b, b.add("relu", _pointwise(b, x, 32)))]

    def twice(b: Builder, x: Node) -> list[Node]:
        y = b.add("relu", _pointwise(b, x, 32))
        return [window(b, y), _pointwise(b, y, 3)]

    def result(b: Builder, x: Node) -> list[Node]:
        y = b.add("relu", _pointwise(b, x, 32))
        return [window(b, y), y]

    def shuffled(b: Builder, x: Node) -> list[Node]:
        y = b.add("channel_shuffle", b.add("relu", _pointwise(b, x, 32)), groups=4)
        return [window(b, y)]

    assert stages_of(plain) == 1
    assert [stages_of(make) for make in (twice, result, shuffled)] == [0, 0, 0]
