"""Linear layers over another axis than the innermost one give what the reference gives, in every
shape, and are what the tokens of an MLP-Mixer go through."""

from __future__ import annotations

from typing import Any

import pytest

from sol.compiler import plan_layers
from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.registry import builder
from sol.steps import lower
from tests.compiler.programs import Case, build_joined, compare, same_bits


def _linear(b: Builder, x: Node, columns: int, bias: bool = True) -> Node:
    weight = b.parameter(b.fresh("w"), TensorType((columns, x.shape[-1]), F32))
    more = [b.parameter(b.fresh("b"), TensorType((columns,), F32))] if bias else []
    return b.add("linear", x, weight, *more)


def _turned(b: Builder, x: Node) -> Node:
    rank = len(x.shape)
    return b.add("permute", x, axes=(*range(rank - 2), rank - 1, rank - 2))


def _normalised(b: Builder, x: Node) -> Node:
    scale, shift = (b.parameter(b.fresh("n"), TensorType(x.shape[-1:], F32)) for _ in range(2))
    attrs: dict[str, Any] = {"axes_count": 1, "has_weight": True, "has_bias": True}
    return b.add("layer_norm", x, scale, shift, eps=1e-5, **attrs)


def mixer(
    name: str, tokens: int, channels: int, hidden: int, *, lead: tuple[int, ...] = (),
    norm: bool = True, residual: bool = True, bias: bool = True, act: str = "silu",
) -> Case:  # fmt: skip
    """Channels, tokens through two layers, and channels again."""
    b = builder()
    given = b.input("x", TensorType((B, *lead, tokens, 8), F32))
    x = _linear(b, given, channels)
    y = _turned(b, _normalised(b, x) if norm else b.add("relu", x))
    y = b.add(act, _linear(b, y, hidden, bias))
    y = _turned(b, _linear(b, y, tokens, bias))
    y = b.add("add", x, y) if residual else y
    return Case(name, b.finish([_linear(b, y, 5)]), -1, 1, tolerance=3.0)


CASES = (
    mixer("as in a mixer", 49, 128, 64),
    mixer("channels of no whole vectors", 36, 75, 24),
    mixer("channels of one block and a rest", 30, 33, 40, norm=False),
    mixer("few columns", 16, 64, 3, bias=False),
    mixer("one column", 20, 48, 1, residual=False),
    mixer("long sums", 400, 64, 30),
    mixer("two leading axes", 12, 40, 20, lead=(3,)),
    mixer("another function", 25, 96, 50, act="sigmoid", residual=False),
)


def _whys(case: Case) -> list[str]:
    device = detect()
    planned = plan_layers(case.graph, device)
    return [m.why for m in lower(planned, device) if "lanes along rows" in m.why]


@pytest.mark.parametrize("isa", [None, "avx2"])
def test_every_layer(isa: str | None) -> None:
    if isa and detect().isa != "avx512":
        pytest.skip("this processor has no second vector width")
    joined = build_joined(CASES, detect(isa) if isa else None)
    used = sum("lanes along rows" in m.why for m in joined.compiled.steps)
    assert used == 2 * len(CASES) - 1  # a sum of one product is an ordinary layer
    for batch in (1, 3):
        compare(joined, batch)
    assert same_bits(joined.run(2, threads=1), joined.run(2, threads=2))


def test_after_passes() -> None:
    compare(build_joined(CASES[:3], optimise=True), 2)


@pytest.mark.parametrize(("channels", "layers"), [(31, 0), (32, 2)])
def test_few_rows_are_an_ordinary_product(channels: int, layers: int) -> None:
    assert len(_whys(mixer("narrow", 24, channels, 40))) == layers


def test_a_layer_whose_channels_stay_innermost_is_an_ordinary_product() -> None:
    """A map of the caller has its places innermost; layers over its channels are read by others
    that want channels side by side."""
    b = builder()
    x = _turned(b, b.add("relu", b.input("x", TensorType((B, 24, 64), F32))))
    y = b.add("relu", _linear(b, x, 96))
    case = Case("map", b.finish([_linear(b, b.add("relu", _linear(b, y, 24)), 5)]), -1, 1)
    assert not _whys(case)
    compare(build_joined([case]), 2)


def test_weights_whose_rows_share_sets_of_the_cache() -> None:
    assert not _whys(mixer("many tokens", 1024, 32, 40, norm=False))


def test_a_result_of_the_network_lies_row_major() -> None:
    """So that its columns are innermost, and it is no such layer."""
    b = builder()
    x = b.add("relu", _linear(b, b.input("x", TensorType((B, 24, 8), F32)), 64))
    case = Case("result", b.finish([_linear(b, _turned(b, x), 16)]), -1, 1)
    assert not _whys(case)
    compare(build_joined([case]), 2)


def test_ordinary_layers_are_not_turned() -> None:
    b = builder()
    x: Any = b.input("x", TensorType((B, 24, 64), F32))
    case = Case("plain", b.finish([_linear(b, b.add("relu", _linear(b, x, 96)), 40)]), -1, 1)
    assert not _whys(case)
