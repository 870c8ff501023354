"""Segments in native code: each image has the results that it has alone, and those of the
reference, for any batch, threads and segments; a large batch takes no more memory than a pass.
"""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest

from sol.core.device import detect
from sol.core.dims import B, Dim, concrete
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Node, TensorType
from sol.plan import segments
from sol.runtime.arena import arenas
from sol.runtime.program import Program
from tests.compiler.programs import (
    Array,
    Case,
    Joined,
    build_joined,
    compare,
    conditioned,
    network,
    planned_steps,
    same_bits,
    wrong,
)
from tests.compiler.test_random import in_groups
from tests.compiler.test_random import networks as random_networks

_QUICK = ("-O1",)  # the C compiler's time is most of what these tests take
_BATCHES = (1, 2, 3, 5, 67)  # fewer than threads, with and without a rest, more than a pass

# ---- networks ------------------------------------------------------------------------------------


def _conv(b: Builder, x: Node, channels: int, stride: int = 1) -> Node:
    inputs = x.shape[1]
    assert isinstance(inputs, int)
    w = _parameter(b, channels, inputs, 3, 3)
    around, steps = ((1, 1), (1, 1)), (stride, stride)
    attrs = {"padding": around, "dilation": (1, 1), "groups": 1}
    return b.add("conv", x, w, _parameter(b, channels), stride=steps, **attrs)


def _parameter(b: Builder, *shape: int, name: str = "w") -> Node:
    return b.parameter(b.fresh(name), TensorType(shape, F32))


def _images(b: Builder, *shape: int, name: str = "x") -> Node:
    return b.input(name, TensorType((B, *shape), F32))


def _linear(b: Builder, x: Node, outputs: int) -> Node:
    inputs = x.shape[-1]
    assert isinstance(inputs, int)
    return b.add("linear", x, _parameter(b, outputs, inputs), _parameter(b, outputs))


def _classifier(b: Builder) -> Node:
    """Convolution, normalisation, activation, pooling, and linear layers."""
    x = _conv(b, _images(b, 5, 9, 9), 16)
    names = ("mean", "var", "weight", "bias")
    x = b.add("batch_norm", x, *(_parameter(b, 16, name=n) for n in names), eps=1e-3, affine=True)
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    x = b.add("max_pool", b.add("relu", x), ceil=False, **window)
    x = b.add("relu", _conv(b, x, 16))
    return _linear(b, b.add("relu", _linear(b, b.add("reshape", x, shape=(B, 256)), 300)), 70)


def _attention(b: Builder) -> Node:
    x = _images(b, 12, 16)
    heads = []
    for _ in range(3):
        y = b.add("reshape", _linear(b, x, 16), shape=(B, 12, 2, 8))
        heads.append(b.add("permute", y, axes=(0, 2, 1, 3)))
    y = b.add("attention", *heads, scale=0.3, causal=True, groups=1)
    y = b.add("reshape", b.add("permute", y, axes=(0, 2, 1, 3)), shape=(B, 12, 16))
    y = b.add("add", _linear(b, y, 16), x)
    return b.add("softmax", _linear(b, b.add("mean", y, axes=(1,), keepdims=False), 9), axis=1)


def _squeezed(b: Builder) -> Node:
    x = b.add("silu", _conv(b, _images(b, 8, 7, 6), 24))
    y = b.add("reshape", b.add("mean", x, axes=(2, 3), keepdims=False), shape=(B, 24))
    y = b.add("sigmoid", _linear(b, b.add("relu", _linear(b, y, 4)), 24))
    return _conv(b, b.add("mul", x, b.add("reshape", y, shape=(B, 24, 1, 1))), 6)


def _joined(b: Builder) -> Node:
    """As in DenseNet: each convolution reads all values before it."""
    x = _images(b, 6, 8, 8)
    for _ in range(3):
        x = b.add("concat", x, b.add("relu", _conv(b, x, 5)), axis=1)
    return _conv(b, x, 8, stride=2)


def _recurrent(b: Builder) -> Node:
    """Lines of a map are steps of time."""
    x = b.add("relu", _conv(b, _images(b, 4, 6, 5), 8))
    x = b.add("reshape", b.add("permute", x, axes=(0, 2, 1, 3)), shape=(B, 6, 40))
    x = _lstm(b, x)
    last = b.add("slice", x, axis=1, start=5, stop=6, step=1)
    return _linear(b, b.add("reshape", last, shape=(B, 20)), 11)


def _lstm(b: Builder, x: Node) -> Node:
    zero = b.constant([[[0.0] * 20]], F32)
    states = [b.add("expand", zero, shape=(1, B, 20)) for _ in range(2)]
    weights = [_parameter(b, 80, size) for size in (40, 20)]
    attrs = {"layers": 1, "bidirectional": False, "bias": False, "batch_first": True}
    return b.add("item", b.add("lstm", x, *states, *weights, **attrs), index=0)


def _several(b: Builder) -> list[Node]:
    """Several inputs and results; one input and one value are the same for all images."""
    x, y = _images(b, 6, 8, 8), _images(b, 32, name="y")
    scale = b.add("cumsum", b.input("scale", TensorType((12, 1, 1), F32)), axis=0)
    x = b.add("relu", _conv(b, x, 12))
    gate = b.add("reshape", b.add("tanh", _linear(b, y, 12)), shape=(B, 12, 1, 1))
    z = b.add("mul", b.add("add", x, gate), scale)
    return [x, _conv(b, z, 4), b.add("mean", z, axes=(1, 2, 3), keepdims=False), y]


def _films(b: Builder, in_order: bool = True) -> Node:
    """Images of films, one after the other or all of one time."""
    x = _images(b, 3, 4, 5, 5)
    if not in_order:
        x = b.add("permute", x, axes=(1, 0, 2, 3, 4))
    x = b.add("relu", _conv(b, b.add("reshape", x, shape=(B * 3, 4, 5, 5)), 6))
    x = b.add("reshape", _conv(b, x, 6), shape=(B, 3, 150) if in_order else (3, B, 150))
    return _linear(b, x if in_order else b.add("permute", x, axes=(1, 0, 2)), 7)


def _by_time(b: Builder) -> Node:
    return _films(b, in_order=False)


_MAKERS = (_classifier, _attention, _squeezed, _joined, _recurrent, _several, _films, _by_time)
NAMES = [make.__name__.strip("_") for make in _MAKERS]


@functools.cache
def program(name: str) -> Joined:
    """One of the networks, with the segments that Sol chooses."""
    return build_joined([case_of(name)], flags=_QUICK)


@functools.cache
def case_of(name: str) -> Case:
    """One of the networks."""
    return Case(name, network(_MAKERS[NAMES.index(name)]), -1.0, 1.0)


def call(joined: Joined, images: slice, threads: int) -> list[Array]:
    """The results of some of the largest batch's images."""
    (case,), graph = joined.cases, joined.compiled.planned.plan.graph
    batch = len(range(*images.indices(_BATCHES[-1])))
    inputs = [
        np.ascontiguousarray(x[images] if _is_batched(n) else x)
        for n, x in zip(case.graph.inputs, joined.arrays(_BATCHES[-1])[0], strict=True)
    ]
    types = [graph[o].tensor for o in graph.outputs]
    results = [np.full(concrete(t.shape, batch), np.nan, t.dtype.numpy) for t in types]
    pointers = [x.ctypes.data for x in inputs], [x.ctypes.data for x in results]
    joined.compiled.run(*pointers, batch, threads)
    return results


def _is_batched(node: Node) -> bool:
    return any(isinstance(s, Dim) for s in node.shape)


# ---- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_the_results_that_it_has_alone(name: str) -> None:
    joined = program(name)
    assert joined.compiled.program.splittable
    joined.compiled.prepare(joined.arrays(1)[1])
    alone = [call(joined, slice(k, k + 1), 1) for k in range(_BATCHES[-1])]
    for batch in _BATCHES:
        wanted = [np.concatenate(each) for each in zip(*alone[:batch])]
        for threads in (1, 2, 3):
            found = call(joined, slice(batch), threads)
            assert same_bits([found], [wanted]), (batch, threads)


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_the_reference(name: str) -> None:
    for batch in _BATCHES:
        for threads in (1, 2, 3):
            compare(program(name), batch, threads)


def test_there_are_segments_of_both_kinds() -> None:
    """Else the tests above say little."""
    modes = {
        name: [s.apart for s in program(name).compiled.planned.plan.segments] for name in NAMES
    }
    assert [name for name, each in modes.items() if len(each) > 1]
    assert [name for name, each in modes.items() if each == [True]]


# ---- any segments --------------------------------------------------------------------------------


@pytest.fixture(params=range(4))
def wishes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters run in any mode, as far as values allow that."""
    rng = random.Random(request.param)
    monkeypatch.setattr(segments, "_costs", lambda *_: (rng.random() * 1e9, rng.random() * 1e9))


@pytest.mark.usefixtures("wishes")
def test_segments_change_no_result() -> None:
    graphs = (*(case_of(name) for name in NAMES), *random_networks())
    cases = [c for c in graphs if planned_steps(c.graph, detect(), False)[0].plan.splittable]
    joined = build_joined(cases, flags=_QUICK, group=0)
    assert len(cases) > 20
    assert len(joined.compiled.planned.plan.segments) > 20
    faults = []
    for batch in (1, 2, 5):
        alone = joined.run(batch, threads=1)
        for case, found in zip(cases, alone, strict=True):
            fault = wrong(case, found, *conditioned(case, batch))
            faults += [f"batch {batch}, {fault}"] if fault else []
        for threads in (2, 3):
            assert same_bits(alone, joined.run(batch, threads)), (batch, threads)
        assert same_bits(alone, in_groups(joined, 2, batch)), batch
    assert not faults, "\n".join(faults)


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_large_batch_takes_no_more_memory_than_a_pass(name: str, threads: int) -> None:
    joined = program(name)
    images = joined.compiled.program.group
    assert 0 < images <= 64
    sizes = set()
    for batch in (images, 1000):
        arenas.trim()
        joined.run(batch, threads)
        sizes.add(arenas.bytes)
    assert len(sizes) == 1


def test_where_images_run_apart_threads_decide_and_not_the_batch() -> None:
    joined = program("joined")
    whole = Program(joined.compiled.program.path)  # all images in one pass
    assert [s.apart for s in joined.compiled.planned.plan.segments] == [True]
    for threads in (1, 2, 3):
        sizes = {whole.arena_bytes(batch, threads) for batch in (3, 4, 64, 1000)}
        assert len(sizes) == 1
    assert whole.arena_bytes(1, 3) < whole.arena_bytes(3, 3)
