"""Gradients of weights in native code: generated layers agree with the reference in float64, for
several batches, threads and vector widths, and however the sum is cut."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from sol.compiler import Options, compile_graph
from sol.core.device import CpuDevice, detect
from sol.core.dims import B, Size
from sol.core.dtypes import F32
from sol.core.errors import ConfigError
from sol.ir.graph import Builder, Node, TensorType
from sol.kernels.gradient_layer import describe
from sol.kernels.weight_gradient import choose_blocking
from sol.ops.registry import builder
from sol.plan.planner import make_plan
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

_CHANNELS = (1, 2, 3, 5, 8, 15, 16, 17, 24, 33, 40)
_CONVOLUTIONS, _LINEAR = 40, 15


def convolution(seed: int) -> Case:
    """A layer of one, two or three spatial axes, with what a convolution may have."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    groups = int(rng.choice([1, 1, 1, 2, 3, 40]))
    per_group = _CHANNELS if groups < 40 else (1, 1, 2)
    channels, results = (groups * int(rng.choice(per_group)) for _ in range(2))
    kernel, stride, dilation, padding, sizes, places = [], [], [], [], [], []
    for _ in range(rank):
        k, s, d = int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.integers(1, 3))
        low, high = (int(rng.integers(0, (k - 1) * d + 1)) for _ in range(2))
        size = int(rng.integers((k - 1) * d + 1, 5 + 20 // rank))
        kernel.append(k), stride.append(s), dilation.append(d), padding.append((low, high))
        sizes.append(size)
        places.append((size + low + high - (k - 1) * d - 1) // s + 1)
    b = builder()
    x = _map(b, seed, "x", (B, channels, *sizes))
    dy = _map(b, seed + 1, "dy", (B, results, *places))
    node = b.add(
        "conv_weight_gradient", x, dy, kernel=tuple(kernel), stride=tuple(stride),
        padding=tuple(padding), dilation=tuple(dilation), groups=groups,
    )  # fmt: skip
    return Case(f"convolution {seed}", b.finish([node]))


def wide(seed: int) -> Case:
    """A layer of two spatial axes with enough channels for Winograd's algorithm."""
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 1, 2]))
    channels, results = (groups * int(rng.choice([16, 17, 24, 32, 48, 64])) for _ in range(2))
    kernel = ((3, 3), (3, 3), (5, 3), (2, 5), (3, 2))[seed % 5]
    padding = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
    sizes = [int(rng.integers(k, 17)) for k in kernel]
    places = [n + low + high - k + 1 for n, k, (low, high) in zip(sizes, kernel, padding)]
    b = builder()
    x = _map(b, 1 + seed % 2, "x", (B, channels, *sizes))
    dy = _map(b, 1 + seed // 2 % 2, "dy", (B, results, *places))
    node = b.add(
        "conv_weight_gradient", x, dy, kernel=kernel, stride=(1, 1), padding=padding,
        dilation=(1, 1), groups=groups,
    )  # fmt: skip
    return Case(f"wide {seed}", b.finish([node]), -1, 1)


def linear(seed: int) -> Case:
    """A linear layer on rows, or on images of rows."""
    rng = np.random.default_rng(seed)
    leading: tuple[Size, ...] = ((B,), (B, 7), (B, 3, 40), ())[seed % 4]
    channels, results = (int(rng.choice(_CHANNELS)) for _ in range(2))
    b = builder()
    x, dy = (
        b.input("x", TensorType((*leading, channels), F32)),
        b.input("dy", TensorType((*leading, results), F32)),
    )
    return Case(f"linear {seed}", b.finish([b.add("linear_weight_gradient", x, dy)]))


def _map(b: Builder, seed: int, name: str, shape: tuple[Size, ...]) -> Node:
    """An input, row-major or with channels innermost, or a value that is computed first."""
    if seed % 3 == 0:
        return b.input(name, TensorType(shape, F32))
    rank = len(shape)
    last = b.input(name, TensorType((shape[0], *shape[2:], shape[1]), F32))
    moved = b.add("permute", last, axes=(0, rank - 1, *range(1, rank - 1)))
    return b.add("tanh", moved) if seed % 3 == 1 else moved


@functools.cache
def program() -> Joined:
    """All cases as one program."""
    cases = [*map(convolution, range(_CONVOLUTIONS)), *map(linear, range(_LINEAR))]
    return build_joined(cases, flags=("-O1",))


@pytest.mark.parametrize("batch", [1, 5])
def test_gradients_agree_with_the_reference(batch: int) -> None:
    compare(program(), batch)
    assert same_bits(program().run(batch, threads=1), program().run(batch, threads=2))


@functools.cache
def wide_program() -> Joined:
    """Layers most of which Winograd's algorithm takes."""
    return build_joined([*map(wide, range(20))], flags=("-O1",))


@pytest.mark.parametrize("batch", [1, 4])
def test_fewer_multiplications(batch: int) -> None:
    compare(wide_program(), batch)
    assert same_bits(wide_program().run(batch, threads=1), wide_program().run(batch, threads=2))


def test_which_layers_take_fewer_multiplications() -> None:
    planned = wide_program().compiled
    whys = [m.why for m in planned.steps if m.cluster.kind == "weight gradient"]
    assert sum(why.startswith("Winograd") for why in whys) >= 10
    assert {why.split(",")[0] for why in whys if why.startswith("Winograd")} > {"Winograd F(3x3"}
    strict = compile_graph(wide(0).graph, Options(precision="strict"))
    assert not any("Winograd" in m.why for m in strict.steps)


def layer(
    channels: int, results: int, kernel: int, stride: int = 1, groups: int = 1, size: int = 12
) -> Case:
    """Of a normalised map, cut off at 0, with channels innermost."""
    b = builder()
    places = (size - 1) // stride + 1
    last = TensorType((B, size, size, channels), F32)
    x = b.add("permute", b.input("x", last), axes=(0, 3, 1, 2))
    scale, shift = (b.input(n, TensorType((channels, 1, 1), F32)) for n in ("scale", "shift"))
    x = b.add("relu", b.add("add", b.add("mul", x, scale), shift))
    dy = b.input("dy", TensorType((B, places, places, results), F32))
    dy = b.add("permute", dy, axes=(0, 3, 1, 2))
    two = {"kernel": kernel, "stride": stride, "dilation": 1}
    attrs = {k: (v, v) for k, v in two.items()} | {"padding": ((kernel // 2,) * 2,) * 2}
    node = b.add("conv_weight_gradient", x, dy, groups=groups, **attrs)
    return Case(f"{channels} {results} {kernel} {stride}", b.finish([node]), -1, 1)


@functools.cache
def layers() -> Joined:
    """Layers of networks: all but two image by image, the last one by Winograd's algorithm."""
    cases = [layer(144, 144, 3, 1, 144), layer(70, 70, 3, 2, 70), layer(24, 70, 1), layer(70, 9, 1)]
    cases += [layer(3, 40, 3, 2, size=31), layer(130, 130, 1), layer(32, 32, 3)]
    return build_joined(cases, flags=("-O1",))


@pytest.mark.parametrize("batch", [1, 5])
def test_layers_of_networks(batch: int) -> None:
    compare(layers(), batch)
    assert same_bits(layers().run(batch, threads=1), layers().run(batch, threads=2))


def test_a_gradient_of_few_weights_is_summed_image_by_image() -> None:
    graph = layers().compiled.planned.plan.graph
    found = [n.op for n in graph if "weight_gradient" in n.op]
    assert found == ["conv_weight_gradients"] * 5 + ["conv_weight_gradient"] * 2


def test_a_normalised_map_takes_no_memory() -> None:
    compiled = layers().compiled
    plan = compiled.planned.plan
    assert not any(plan.graph[name].op == "relu" for name in plan.stored)
    assert any("Winograd" in m.why for m in compiled.steps)


def test_long_sums() -> None:
    """More rows than are at hand at a time."""
    compare(build_joined([linear(0), linear(4)], flags=("-O1",)), batch=300, threads=2)


def test_other_vectors() -> None:
    try:
        device = detect("avx2")
    except ConfigError as error:
        pytest.skip(str(error))
    cases = [*map(convolution, range(100, 112)), *map(linear, range(100, 104))]
    compare(build_joined(cases, device, flags=("-O1",)), batch=3, threads=2)


def test_a_last_block_that_is_not_full() -> None:
    """Small caches: layers are cut into many blocks."""
    device = replace(detect(), l2=1 << 13, cores=4)
    cases = [*map(convolution, range(200, 212)), *map(linear, range(200, 204))]
    assert any(_blocks(case, device) > 1 for case in cases)
    compare(build_joined(cases, device, flags=("-O1",)), batch=2, threads=2)


def _blocks(case: Case, device: CpuDevice) -> int:
    plan = make_plan(case.graph).plan
    (cluster,) = (c for c in plan.clusters if c.kind == "weight gradient")
    layer = describe(plan, cluster)
    blocking = choose_blocking(layer, device)
    return -(-layer.channels // blocking.channels) * -(-layer.results // blocking.results)
