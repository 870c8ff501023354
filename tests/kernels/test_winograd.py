"""Winograd's convolution: the matrices are exact, and the kernel is right for every kind of layer,
tile and blocking, whatever the estimates would choose.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import sol.steps
from sol.backends.c import print_kernel
from sol.compiler import Options, compile_graph, default_steps, lower, plan_layers
from sol.core.device import CpuDevice, detect
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.core.errors import ConfigError
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.kernels import choice
from sol.kernels.blocks import Blocking
from sol.kernels.choice import Winograd
from sol.kernels.transform import Transform
from sol.kernels.winograd_layer import layer_of
from sol.ops.reference import evaluate
from sol.ops.registry import builder
from sol.plan.planner import Planned, make_plan
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

SIZES = ((2, 2), (4, 2), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (2, 5), (3, 5), (4, 5), (2, 7))


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_the_matrices_are_exact(m: int, r: int) -> None:
    """In fractions, without rounding: A^T [(G g) * (B^T d)] is the sum over taps."""
    t = Transform(m, r)
    d = [Fraction(7 * k % 11 - 4, 3) for k in range(t.n)]
    g = [Fraction(5 * k % 7 - 2, 5) for k in range(r)]
    products = [
        sum(a * b for a, b in zip(f, g)) * sum(a * b for a, b in zip(row, d))
        for f, row in zip(t.filter_rows(), t.input_rows())
    ]
    assert np.array_equal(t.filter(), np.array(t.filter_rows(), np.float64))
    for i, row in enumerate(t.output_rows()):
        assert sum(a * b for a, b in zip(row, products)) == sum(d[i + k] * g[k] for k in range(r))


def test_without_taps_there_is_no_transform() -> None:
    assert Transform(1, 1).exists
    assert not Transform(1, 3).exists
    assert not Transform(7, 3).exists


# ---- layers --------------------------------------------------------------------------------------

End = Callable[[Builder, Node], list[Node]]


def _plain(b: Builder, y: Node) -> list[Node]:
    return [y]


def _relu(b: Builder, y: Node) -> list[Node]:
    return [b.add("relu", y)]


def _residual(b: Builder, y: Node) -> list[Node]:
    return [b.add("relu", b.add("add", b.input("residual", y.tensor), y))]


def _stored_twice(b: Builder, y: Node) -> list[Node]:
    return [b.add("sigmoid", y), b.add("mean", y, axes=(1,), keepdims=True)]


def _inside(b: Builder, y: Node) -> list[Node]:
    """A part of a concatenation that is read by another layer."""
    other = b.add("relu", b.input("other", y.tensor))
    both = b.add("concat", b.add("relu", y), other, axis=1)
    channels = both.shape[1]
    assert isinstance(channels, int)
    w = b.parameter(b.fresh("after"), TensorType((8, channels, *(1,) * (len(y.shape) - 2)), F32))
    return [b.add("conv", both, w, **_attributes(len(y.shape) - 2))]


def _turned(b: Builder, y: Node) -> list[Node]:
    return [b.add("permute", b.add("relu", y), axes=(0, *range(2, len(y.shape)), 1))]


def _gated(b: Builder, y: Node) -> list[Node]:
    gate = b.input("gate", TensorType((B, y.shape[1], *(1,) * (len(y.shape) - 2)), F32))
    return [b.add("mul", b.add("silu", y), b.add("sigmoid", gate))]


def _pool(
    b: Builder, y: Node, op: str = "max_pool", kernel: tuple[int, ...] = (), **attrs: Any
) -> Node:
    kernel = kernel or (2,) * (len(y.shape) - 2)
    usual: dict[str, Any] = {"dilation": (1,) * len(kernel)}
    if op == "avg_pool":
        usual = {"count_include_pad": True, "divisor": None}
    usual |= {"stride": kernel, "padding": (0,) * len(kernel), "ceil": False, **attrs}
    return b.add(op, y, kernel=kernel, **usual)


def _read(b: Builder, x: Node) -> Node:
    """x as the input of another layer, so that it has the channels innermost."""
    assert isinstance(x.shape[1], int)
    rank = len(x.shape) - 2
    w = b.parameter(b.fresh("after"), TensorType((8, x.shape[1], *(1,) * rank), F32))
    return b.add("conv", x, w, **_attributes(rank))


def _pooled(b: Builder, y: Node) -> list[Node]:
    return [_read(b, _pool(b, b.add("relu", y)))]


def _pooled_by_three(b: Builder, y: Node) -> list[Node]:
    return [_read(b, _pool(b, b.add("relu", y), kernel=(3, 3)))]


def _averaged(b: Builder, y: Node) -> list[Node]:
    """Behind a residual sum, and with a function of the windows."""
    sum_ = b.add("add", b.input("residual", y.tensor), y)
    return [_read(b, b.add("sigmoid", _pool(b, b.add("silu", sum_), "avg_pool")))]


def _pooled_and_read(b: Builder, y: Node) -> list[Node]:
    y = b.add("relu", y)
    return [_read(b, _pool(b, y)), _read(b, y)]


def _pooled_lines(b: Builder, y: Node) -> list[Node]:
    return [_read(b, _pool(b, b.add("relu", y), kernel=(1, 2)))]


def _attributes(
    rank: int,
    padding: tuple[int, ...] = (),
    groups: int = 1,
    stride: tuple[int, ...] = (),
    dilation: tuple[int, ...] = (),
) -> dict[str, Any]:
    one = (1,) * rank
    pads = tuple((p, p) for p in padding) or ((0, 0),) * rank
    steps = {"stride": stride or one, "dilation": dilation or one}
    return {**steps, "padding": pads, "groups": groups}


def layer(
    name: str, inputs: int, outputs: int, size: tuple[int, ...], taps: tuple[int, ...],
    padding: tuple[int, ...] | None = None, groups: int = 1, end: End = _relu, bias: bool = True,
    stride: tuple[int, ...] = (), dilation: tuple[int, ...] = (),
) -> Case:  # fmt: skip
    """A convolution whose input another layer leaves with channels innermost."""
    b, rank = builder(), len(size)
    x = b.input("x", TensorType((B, 3, *size), F32))
    before = b.parameter("before", TensorType((inputs, 3, *(1,) * rank), F32))
    x = b.add("relu", b.add("conv", x, before, **_attributes(rank)))
    w = b.parameter("weight", TensorType((outputs, inputs // groups, *taps), F32))
    more = [b.parameter("bias", TensorType((outputs,), F32))] if bias else []
    padding = tuple(t // 2 for t in taps) if padding is None else padding
    y = b.add("conv", x, w, *more, **_attributes(rank, padding, groups, stride, dilation))
    return Case(name, b.finish(end(b, y)), -1, 1, tolerance=3.0)


LAYERS = (
    layer("even", 16, 32, (12, 12), (3, 3)),
    layer("odd", 24, 40, (13, 11), (3, 3), end=_residual),
    layer("channels of no vector", 5, 7, (9, 10), (3, 3), end=_gated),
    layer("channels of a few vectors", 70, 83, (8, 7), (3, 3), bias=False, end=_plain),
    layer("small map", 33, 64, (3, 3), (3, 3)),
    layer("one place", 16, 16, (1, 1), (3, 3)),
    layer("no padding", 16, 48, (10, 9), (3, 3), padding=(0, 0)),
    layer("much padding", 16, 16, (6, 7), (3, 3), padding=(2, 3)),
    layer("5x5", 16, 32, (11, 14), (5, 5)),
    layer("1x7", 24, 32, (7, 17), (1, 7), end=_stored_twice),
    layer("7x1", 24, 32, (17, 7), (7, 1)),
    layer("3x5", 24, 32, (9, 9), (3, 5)),
    layer("one axis", 32, 32, (37,), (3,)),
    layer("one axis, 5 taps", 20, 17, (40,), (5,), end=_turned),
    layer("groups", 64, 96, (10, 10), (3, 3), groups=2),
    layer("in a concatenation", 16, 24, (9, 9), (3, 3), end=_inside),
    layer("turned", 16, 24, (9, 6), (3, 3), end=_turned),
    layer("dilation", 16, 24, (13, 14), (3, 3), padding=(2, 3), dilation=(2, 3), end=_residual),
    layer("dilation beyond the map", 16, 24, (5, 9), (3, 3), padding=(6, 6), dilation=(6, 4)),
    layer("stride along one axis", 16, 24, (13, 11), (3, 3), stride=(2, 1)),
    layer("stride", 16, 24, (13, 12), (3, 3), stride=(2, 2), end=_residual),
    layer("stride, few channels", 5, 7, (9, 16), (4, 5), padding=(1, 2), stride=(2, 2)),
    layer("stride, no padding", 24, 40, (17, 15), (3, 3), padding=(0, 0), stride=(2, 2)),
    layer("stride of 3", 16, 24, (17, 20), (5, 7), stride=(3, 3), bias=False, end=_plain),
    layer("stride, groups", 32, 64, (10, 14), (3, 3), groups=2, stride=(2, 2)),
    layer("stride of lines", 16, 24, (9, 31), (1, 3), stride=(1, 2)),
    layer("three axes", 16, 24, (4, 7, 6), (3, 3, 3), end=_residual),
    layer("three axes, stride", 16, 24, (7, 7, 6), (3, 3, 5), stride=(2, 1, 1)),
    layer("three axes, strides", 16, 24, (5, 7, 6), (3, 3, 3), stride=(2, 2, 2)),
    layer("time alone", 24, 20, (9, 4, 5), (3, 1, 1)),
    layer("dilation along one axis", 16, 32, (50,), (3,), padding=(8,), dilation=(8,)),
    layer("long sum", 1300, 20, (4, 4), (3, 3)),
    layer("many channels out", 16, 600, (7, 7), (3, 3), end=_stored_twice),
)

POOLED = (
    layer("pooling", 16, 32, (12, 12), (3, 3), end=_pooled),
    layer("pooling of an odd map", 16, 40, (13, 11), (3, 3), end=_pooled),
    layer("pooling with a rest of a tile", 24, 32, (14, 10), (3, 3), end=_pooled),
    layer("mean of a sum", 16, 25, (11, 14), (3, 3), end=_averaged),
    layer("pooling, also read", 16, 32, (13, 18), (3, 3), end=_pooled_and_read),
    layer("pooling in threes", 16, 32, (12, 14), (3, 3), end=_pooled_by_three),
    layer("pooling along one axis", 32, 32, (37,), (3,), end=_pooled),
    layer("pooling of 5x5", 16, 32, (11, 14), (5, 5), end=_pooled),
    layer("pooling behind a stride", 24, 32, (25, 27), (3, 3), stride=(2, 2), end=_pooled),
    layer("pooling of lines", 24, 32, (7, 17), (1, 7), end=_pooled_lines),
    layer("pooling of groups", 64, 96, (10, 10), (3, 3), groups=2, end=_pooled),
)


def _forced(
    rows: int, tiles: int, m: tuple[int, int], vectors: int, share: int, uneven: bool = False
) -> Callable[..., Winograd | None]:
    """A choice that takes the algorithm wherever it can. uneven: blocks and shares that register
    tiles do not divide."""

    def choose(plan: Any, cluster: Any, device: CpuDevice, *_: Any) -> Winograd | None:
        lanes = device.vector_lanes(4)
        found = layer_of(plan, cluster)
        if isinstance(found, str):
            return None
        sized = found.with_results(m)
        sized = found if sized is None else sized
        wide = -(-sized.columns // lanes)
        v = min(vectors, wide)
        r = min(rows, sized.tiles)
        whole = -(-wide // v) * v
        cut = Blocking(r, v, lanes, -(-tiles // r) * r, min(share * v, whole))
        if uneven:
            parts = next(n for n in (3, 2, 1) if wide % n == 0 and wide // n >= v)
            cut = replace(cut, tiles=tiles, share=wide // parts)
        return Winograd(sized, cut, 1e9, 2e9)  # slower than what has room for windows

    return choose


BLOCKINGS = {
    "one block": _forced(4, 1000, (5, 3), 2, 1000),
    "small blocks": _forced(3, 6, (4, 4), 2, 1),
    "odd tiles": _forced(5, 5, (3, 5), 3, 2),
    "mixed, wide": _forced(2, 8, (4, 2), 4, 1),
    "nothing divides": _forced(4, 7, (4, 4), 2, 1, uneven=True),
    "a rest of each": _forced(3, 10, (2, 2), 3, 1, uneven=True),
}


def layers_of(blocking: str) -> tuple[Case, ...]:
    """Windows in tiles follow the sizes of tiles alone, so that half of the blockings show all; a
    pair of blockings shares out the layers."""
    if blocking in ("one block", "odd tiles", "nothing divides"):
        return LAYERS
    if blocking == "small blocks":
        return LAYERS + POOLED
    half = ("mixed, wide", "a rest of each").index(blocking)
    return LAYERS[half::2] + POOLED[half::2]


@functools.cache
def program(blocking: str, isa: str) -> Joined:
    """All layers as one program, by the algorithm wherever it can be used."""
    return built(layers_of(blocking), blocking, isa)


def built(cases: Sequence[Case], blocking: str, isa: str) -> Joined:
    """Cases as one program, by the algorithm wherever it can be used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sol.steps, "choose_fast", BLOCKINGS[blocking])
        patch.setattr(sol.steps, "less_work", lambda *_: 0.0)  # regions would take dilated ones
        return build_joined(cases, detect(isa), flags=("-O1",))


@pytest.mark.parametrize("blocking", BLOCKINGS)
def test_every_layer(blocking: str) -> None:
    joined = program(blocking, detect().isa)
    used = sum("Winograd" in m.why for m in joined.compiled.steps)
    cases = layers_of(blocking)
    assert used == len(cases)
    pooled = sum(m.cluster.kind == "pooled" for m in joined.compiled.steps)
    assert pooled == sum(case in POOLED for case in cases)
    for batch in (1, 3):
        compare(joined, batch)
    assert same_bits(joined.run(2, threads=1), joined.run(2, threads=2))


def test_what_the_next_tile_reads_and_stores_is_fetched() -> None:
    joined = built(
        [layer("residual", 16, 32, (12, 12), (3, 3), end=_residual)], "one block", detect().isa
    )
    (made,) = [m for m in joined.compiled.steps if "Winograd" in m.why]
    text, _ = print_kernel(made.calls[0].kernel, "layer")
    fetched = re.findall(r"prefetch\(\(const void \*\)\(\(uintptr_t\)(\w+)", text)
    assert len(set(fetched)) == 4  # weights, inputs, what is added, results


def test_narrower_vectors() -> None:
    if detect().isa != "avx512":
        pytest.skip("this processor has no second vector width")
    compare(program("a rest of each", "avx2"), 2)


def stem(
    name: str, channels: int, size: tuple[int, int], taps: tuple[int, int], stride: int,
    end: End = _relu,
) -> Case:  # fmt: skip
    """A first layer: its input is row-major and has few channels."""
    b = builder()
    x = b.input("x", TensorType((B, channels, *size), F32))
    x = b.add("mul", x, b.constant(0.5, F32))
    w = b.parameter("weight", TensorType((64, channels, *taps), F32))
    bias = b.parameter("bias", TensorType((64,), F32))
    padding = (taps[0] // 2, taps[1] // 2)
    y = b.add("conv", x, w, bias, **_attributes(2, padding, 1, (stride, stride)))
    return Case(name, b.finish([_read(b, r) for r in end(b, y)]), -1, 1, tolerance=3.0)


STEMS = (
    stem("7x7", 3, (64, 64), (7, 7), 2),
    stem("odd", 3, (57, 63), (7, 7), 2, end=_gated),
    stem("11x11", 3, (63, 63), (11, 11), 4),
)


def test_first_layers_read_a_copy_with_channels_for_a_vector() -> None:
    joined = build_joined(STEMS, replace(detect(), cores=1))
    whys = [m.why for m in joined.compiled.steps if m.packed]
    assert sum("Winograd" in w for w in whys) == len(STEMS)
    for batch in (1, 3):
        compare(joined, batch)


def test_a_copy_pays_only_where_it_saves_more() -> None:
    device = replace(detect(), cores=1)

    def copied(case: Case, **options: Any) -> bool:
        planned = plan_layers(case.graph, device, Options(**options))
        return any(n.op == "pad" and n.shape[1] == 4 for n in planned.plan.graph)

    first = stem("7x7", 3, (224, 224), (7, 7), 2)
    assert copied(first)
    assert not copied(first, precision="strict")
    assert not copied(first, memory="1GB")
    assert not copied(stem("3x3", 3, (224, 224), (3, 3), 2))
    assert not copied(stem("large results", 3, (224, 224), (3, 3), 1))


def test_windows_that_are_not_pooled() -> None:
    """Those that overlap, reach beyond the map or meet across tiles; behind dilated layers; results
    of the network, which have other orders of axes."""

    def pooled(**attrs: Any) -> End:
        return lambda b, y: [_read(b, _pool(b, y, **attrs))]

    cases = [
        layer("7 x 7", 32, 32, (14, 14), (3, 3), end=pooled(kernel=(7, 7))),
        layer("padded", 32, 32, (12, 12), (3, 3), end=pooled(padding=(1, 1))),
        layer("overlapping", 32, 32, (12, 12), (3, 3), end=pooled(kernel=(3, 3), stride=(2, 2))),
        layer("beyond the map", 32, 32, (13, 13), (3, 3), end=pooled(ceil=True)),
        layer("dilated", 32, 32, (16, 16), (3, 3), (2, 2), dilation=(2, 2), end=_pooled),
        layer("a result", 32, 32, (12, 12), (3, 3), end=lambda b, y: [_pool(b, y)]),
    ]
    joined = built(cases, "nothing divides", detect().isa)
    assert not any(m.cluster.kind == "pooled" for m in joined.compiled.steps)
    compare(joined, 2)


def test_a_pooled_layer_is_no_tensor() -> None:
    """The value between the layer and its windows takes no memory; within a budget, and where
    plain sums are asked for, layers are chosen alone."""
    case = layer("wide", 64, 64, (56, 56), (3, 3), end=_pooled)
    device = replace(detect(), cores=2)

    def planned(**options: Any) -> Planned:
        return plan_layers(case.graph, device, Options(**options))

    (found,) = planned().pooled.values()
    assert found.hidden not in planned().plan.places
    assert found.hidden in planned(precision="strict").plan.places
    assert found.hidden in planned(memory="1GB").plan.places


def test_libraries_are_not_asked_for_pooled_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They compute convolutions, and what follows element by element."""
    asked: dict[int, Any] = {}
    monkeypatch.setattr(
        sol.steps.libraries, "choose", lambda _, layers, *__: asked.update(layers) or {}
    )
    case = layer("wide", 64, 64, (56, 56), (3, 3), end=_pooled)
    made = default_steps(plan_layers(case.graph, detect()), detect(), Options())
    assert [m.cluster.kind for m in made] == ["contraction", "pooled", "contraction"]
    assert {made[k].cluster.kind for k in asked} == {"contraction"}


# ---- the choice ----------------------------------------------------------------------------------


def _whys(graph: Graph, precision: Any = "float32") -> list[str]:
    device = replace(detect(), cores=2)
    planned = make_plan(graph, False, device.vector_lanes(4))
    return [m.why for m in lower(planned, device, Options(precision=precision)) if m.packed]


@pytest.mark.parametrize("case", [c for c in LAYERS if c.name in ("even", "5x5", "small map")])
def test_a_strict_network_has_no_such_layer(case: Case) -> None:
    assert not any("Winograd" in w for w in _whys(case.graph, "strict"))


def test_a_large_layer_is_worth_it() -> None:
    case = layer("large", 128, 128, (56, 56), (3, 3))
    assert "Winograd F(4x4, 3x3)" in _whys(case.graph)[-1]
    case = layer("in fives", 128, 128, (15, 15), (3, 3))
    assert "Winograd F(5x5, 3x3)" in _whys(case.graph)[-1]
    case = layer("stride", 128, 128, (56, 56), (3, 3), stride=(2, 2))
    assert "Winograd F(4x4, 2x2), stride 2x2" in _whys(case.graph)[-1]


def test_a_careful_network_has_the_smallest_tiles() -> None:
    case = layer("large", 128, 128, (56, 56), (3, 3))
    assert "Winograd F(2x2, 3x3)" in _whys(case.graph, "careful")[-1]
    case = layer("large", 128, 128, (56, 56), (5, 5))
    assert "Winograd F" in _whys(case.graph)[-1]
    assert "Winograd" not in _whys(case.graph, "careful")[-1]


def test_few_channels_are_not_worth_it() -> None:
    case = layer("narrow", 2, 3, (20, 20), (3, 3))
    assert "Winograd" not in _whys(case.graph)[-1]


def test_channels_must_be_innermost() -> None:
    b = builder()
    x = b.input("x", TensorType((B, 64, 28, 28), F32))
    w = b.parameter("w", TensorType((64, 64, 3, 3), F32))
    y = b.add("conv", x, w, **_attributes(2, (1, 1)))
    planned = make_plan(b.finish([y]), False, 16)
    assert "innermost" in str(layer_of(planned.plan, planned.plan.clusters[0]))


def test_precision_is_a_known_word() -> None:
    with pytest.raises(ConfigError, match="float32"):
        Options(precision="exact")  # type: ignore[arg-type]


def test_rounding_errors_are_small() -> None:
    """On a deep network: near the direct kernel's, far below 1e-4 of the largest result."""
    b = builder()
    x = b.input("x", TensorType((B, 3, 24, 24), F32))
    for depth in range(8):
        inputs = x.shape[1]
        assert isinstance(inputs, int)
        w = b.parameter(f"w{depth}", TensorType((64, inputs, 3, 3), F32))
        x = b.add("relu", b.add("conv", x, w, **_attributes(2, (1, 1))))
    graph = b.finish([b.add("mean", x, axes=(2, 3), keepdims=False)])
    assert sum("Winograd" in w for w in _whys(graph)) >= 7
    compiled = compile_graph(graph)
    rng = np.random.default_rng(0)
    given = {
        n["key"]: (rng.standard_normal(n.shape) * np.sqrt(2 / np.prod(n.shape[1:]))).astype("f4")  # type: ignore[arg-type]
        for n in graph.parameters
    }
    compiled.prepare(given)
    image = rng.standard_normal((1, 3, 24, 24)).astype("f4")
    found = np.empty((1, 64), "f4")
    compiled.run([image.ctypes.data], [found.ctypes.data], 1, 1)
    exact = evaluate(
        graph, {"x": image.astype("f8")}, {k: v.astype("f8") for k, v in given.items()}, batch=1
    )[0]
    assert np.max(np.abs(found - exact)) < 3e-6 * np.max(np.abs(exact))


def test_estimates_are_positive_and_shorter_for_more_cores() -> None:
    case = layer("large", 64, 64, (56, 56), (3, 3))
    planned = make_plan(case.graph, False, 16)
    cluster = planned.plan.clusters[-1]
    one, two = (
        choice.choose_fast(planned.plan, cluster, replace(detect(), cores=n), True) for n in (1, 2)
    )
    assert one is not None
    assert two is not None
    assert 0 < two.cycles < one.cycles < one.direct
