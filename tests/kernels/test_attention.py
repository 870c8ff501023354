"""Attention in native code: any shape, mask, layout and vector width, against float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention

from sol.compiler import Compiled, compile_graph, lower
from sol.core.device import CpuDevice, detect
from sol.core.dims import Dim, Size, concrete
from sol.core.dtypes import BOOL, F32, F64, DType
from sol.core.errors import ConfigError, UnsupportedError
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.kernels.cut import cut_attention
from sol.ops.reference import evaluate
from sol.ops.registry import OPS, builder
from sol.plan.attention import takes_attention
from sol.plan.planner import Planned, make_plan

Array = NDArray[Any]
B = Dim(1)
DEVICE = detect()
TOLERANCE = 3e-6  # of the largest element: float32 sums in another order


@dataclass(frozen=True)
class Case:
    """One attention of random inputs."""

    lead: tuple[Size, ...]
    queries: Size
    keys: Size
    depth: int
    columns: int
    mask: tuple[Size, ...] | None = None
    dtype: DType = F32
    causal: bool = False
    groups: int = 1

    def add(self, b: Builder, name: str) -> Node:
        """The attention and its inputs."""
        shared = self.lead
        if self.groups > 1:
            heads = self.lead[-1]
            assert isinstance(heads, int)
            shared = (*self.lead[:-1], heads // self.groups)
        q = b.input(f"{name}q", TensorType((*self.lead, self.queries, self.depth), F32))
        k = b.input(f"{name}k", TensorType((*shared, self.keys, self.depth), F32))
        v = b.input(f"{name}v", TensorType((*shared, self.keys, self.columns), F32))
        types = [] if self.mask is None else [TensorType(self.mask, self.dtype)]
        masks = [b.input(f"{name}m", t) for t in types]
        attrs = {"scale": self.depth**-0.5, "causal": self.causal, "groups": self.groups}
        return b.add("attention", q, k, v, *masks, name=name, **attrs)


def graph_of(*cases: Case) -> Graph:
    """Several attentions side by side: one program, so that compilers run at once."""
    b = builder()
    return b.finish([case.add(b, f"a{k}") for k, case in enumerate(cases)])


def values(graph: Graph, batch: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs by name; of masks about a third hides."""
    rng = np.random.default_rng([seed, batch])
    found: dict[str, Array] = {}
    for node in (*graph.inputs, *graph.parameters):
        shape = concrete(node.shape, batch)
        hides = rng.random(shape) < 0.35
        numbers = rng.standard_normal(shape).astype(np.float32)
        if node.op == "parameter":  # keeps what a layer makes as large as what it is given
            numbers *= np.float32(shape[-1] ** -0.5)
        found[node.name] = ~hides if node.dtype == BOOL else numbers
    return found


def run(compiled: Compiled, inputs: Mapping[str, Array], batch: int) -> list[Array]:
    """The results of a call with two threads; what it does not write stays NaN."""
    graph = compiled.graph
    given = [np.ascontiguousarray(inputs[n.name]) for n in graph.inputs]
    outputs = [np.full(concrete(graph[o].shape, batch), np.nan, np.float32) for o in graph.outputs]
    compiled.run([x.ctypes.data for x in given], [o.ctypes.data for o in outputs], batch, 2)
    return outputs


def check(graph: Graph, batches: Sequence[int] = (1, 2, 5), device: CpuDevice = DEVICE) -> None:
    """One program for all batches, compared with the reference in float64."""
    compiled = compile_graph(graph, device=device)
    for batch in batches:
        given = values(graph, batch)
        parameters = {n["key"]: given[n.name] for n in graph.parameters}
        compiled.prepare(parameters)
        inputs = {n.name: given[n.name] for n in graph.inputs}
        expected = evaluate(graph, inputs, parameters, batch, F64)
        for name, found, wanted in zip(graph.outputs, run(compiled, inputs, batch), expected):
            scale = max(1.0, float(np.abs(wanted).max(initial=0)))
            error = float(np.abs(found - wanted).max(initial=0)) / scale
            assert error <= TOLERANCE, f"{name} is off by {error} with batch {batch}"


def kinds(planned: Planned) -> list[str]:
    """The kinds of a plan's clusters, in order."""
    return [cluster.kind for cluster in planned.plan.clusters]


# ---- shapes --------------------------------------------------------------------------------------

SHAPES = [
    Case((B, 2), 7, 7, 16, 16),
    Case((B, 3), 49, 49, 32, 32),
    Case((B, 2), 197, 197, 64, 64),
    Case((B, 2), 50, 7, 24, 40),
    Case((B,), 17, 33, 5, 3),
    Case((), 20, 30, 8, 16),
    Case((Dim(4), 2), 49, 49, 32, 32),
    Case((2, B), 20, 30, 8, 16),
    Case((B, 2, 3), 33, 12, 1, 1),
    Case((B, 1), 100, 1, 128, 128),
    Case((B, 1), 1, 50, 64, 64),
    Case((B, 2), 4, 4, 72, 48),
]


def test_shapes() -> None:
    check(graph_of(*SHAPES))


CAUSAL = [
    Case((B, 2), 130, 130, 16, 16, causal=True),
    Case((B, 2), 17, 33, 8, 8, causal=True),
    Case((B, 2), 200, 70, 8, 20, causal=True),
    Case((B, 4), 20, 20, 8, 8, causal=True, groups=2, mask=(B, 1, 1, 20), dtype=BOOL),
]


def test_causal() -> None:
    check(graph_of(*CAUSAL))


def test_heads_that_share_keys() -> None:
    each = Case((B, 6), 20, 37, 8, 16)
    check(graph_of(*(replace(each, groups=n, mask=(6, 20, 37)) for n in (2, 3, 6))), (2,))


MASKS = [
    ((20, 30), F32), ((30,), F32), ((20, 1), F32), ((1, 1), F32), ((), F32),
    ((4, 20, 30), F32), ((1, 4, 1, 30), F32), ((B, 1, 20, 30), F32), ((B, 4, 20, 30), F32),
    ((B, 1, 1, 30), BOOL), ((B, 1, 20, 30), BOOL), ((20, 30), BOOL), ((B, 4, 20, 1), BOOL),
]  # fmt: skip


def test_masks() -> None:
    check(graph_of(*(Case((B, 4), 20, 30, 8, 16, mask=m, dtype=t) for m, t in MASKS)))


def test_windows_with_two_masks() -> None:
    """As in Swin: a bias of each head, and a mask of each window of an image."""
    b = builder()
    q, k, v = (b.input(n, TensorType((B, 4, 3, 49, 32), F32)) for n in "qkv")
    bias = b.parameter("bias", TensorType((3, 49, 49), F32))
    hidden = b.parameter("hidden", TensorType((4, 1, 49, 49), F32))
    mask = b.add("add", bias, hidden)
    graph = b.finish([b.add("attention", q, k, v, mask, scale=0.2, causal=False, groups=1)])
    planned = make_plan(graph)
    assert kinds(planned) == ["attention"], "masks of parameters are turned beforehand"
    buffers = [n for made in lower(planned, DEVICE) for call in made.calls for n in call.buffers]
    assert "bias_turned" in buffers
    assert "hidden_turned" in buffers, "the sum is larger than both"
    check(graph)


# ---- vectors, and where things lie ---------------------------------------------------------------


@pytest.mark.parametrize("isa", ["sse2", "avx2"])
def test_other_vectors(isa: str) -> None:
    try:
        device = detect(isa)
    except ConfigError:
        pytest.skip(f"this processor has no {isa}")
    long = Case((1, 1), 9, 9000, 8, 8, causal=False, mask=(1, 9000))
    check(graph_of(SHAPES[1], SHAPES[4], CAUSAL[1], CAUSAL[3], long), (2,), device)


def _layer(heads: int, length: int, width: int) -> Graph:
    """Queries, keys and values of one linear layer, attention, and the linear layer behind it."""
    b = builder()
    inner = heads * width
    x = b.input("x", TensorType((B, length, inner), F32))
    weight = b.parameter("w", TensorType((3 * inner, inner), F32))
    y = b.add("reshape", b.add("linear", x, weight), shape=(B, length, 3, heads, width))
    y = b.add("permute", y, axes=(2, 0, 3, 1, 4))
    parts = [b.add("slice", y, axis=0, start=i, stop=i + 1, step=1) for i in range(3)]
    q, k, v = (b.add("reshape", p, shape=(B, heads, length, width)) for p in parts)
    y = b.add("attention", q, k, v, scale=width**-0.5, causal=False, groups=1)
    y = b.add("permute", y, axes=(0, 2, 1, 3))
    y = b.add("reshape", y, shape=(B, length, inner))
    return b.finish([b.add("linear", y, b.parameter("o", TensorType((inner, inner), F32)))])


def test_nothing_is_copied_around_a_layer() -> None:
    planned = make_plan(_layer(4, 50, 16))
    assert kinds(planned) == ["contraction", "attention", "contraction"]
    made = lower(planned, DEVICE)
    assert "copied" not in made[1].why
    assert "in place" in made[2].why, "rows of the result lie as the next layer reads them"
    check(_layer(4, 50, 16))


def test_keys_along_memory_are_copied() -> None:
    """Attention over channels: rows of k are strided, and so are those of v."""
    b = builder()
    q, k, v = (
        b.add("permute", b.input(n, TensorType((B, 60, 2, 20), F32)), axes=(0, 2, 3, 1))
        for n in "qkv"
    )
    graph = b.finish([b.add("attention", q, k, v, scale=0.1, causal=False, groups=1)])
    assert "k and v copied" in lower(make_plan(graph), DEVICE)[0].why
    check(graph)


# ---- many keys -----------------------------------------------------------------------------------

LONG = [
    Case((B, 1), 40, 5000, 16, 16),
    Case((B, 1), 9, 4001, 8, 20, mask=(B, 1, 1, 4001), dtype=BOOL),
    Case((1, 1), 2500, 2500, 8, 8, causal=True),
    Case((1, 1), 2500, 2100, 8, 8, causal=True, mask=(2100,)),
]


def test_many_keys() -> None:
    check(graph_of(*LONG), (2,))


def test_scratch_does_not_grow_with_keys() -> None:
    def scratch(keys: int) -> int:
        planned = make_plan(graph_of(Case((B, 1), 64, keys, 64, 72)))
        (made,) = lower(planned, DEVICE)
        return made.calls[0].kernel.scratch

    assert scratch(100_000) <= 1.5 * scratch(5000), "blocks are shares of all keys"
    assert scratch(100_000) < 1 << 20


def test_blocks_of_keys_are_whole_tiles() -> None:
    """Only the last block of keys has a remainder, for whole and narrower blocks of queries."""
    for queries in (5, 40, 100, 1000):
        for keys in (700, 1000, 2500, 9001):
            cut = cut_attention((queries, keys, 64, 64), 12, DEVICE)
            wide = -(-queries // cut.lanes)
            for vectors in {cut.vectors, wide % cut.vectors} - {0}:
                whole = cut.keys % cut.score_rows(keys, vectors) == 0
                assert cut.keys == keys or whole, f"{queries} x {keys}: {cut}"


# ---- what is hidden, NaN and infinity ------------------------------------------------------------

Change = Callable[[dict[str, Array]], None]


def _put(name: str, place: tuple[Any, ...], value: float) -> Change:
    def change(given: dict[str, Array]) -> None:
        given[name][place] = value

    return change


SPECIAL = {
    "NaN in q": _put("a0q", (0, 0, 3, 5), np.nan),
    "NaN in k": _put("a0k", (0, 0, 3, 5), np.nan),
    "NaN in v": _put("a0v", (0, 0, 3, 5), np.nan),
    "inf in q": _put("a0q", (0, 0, 3, 5), np.inf),
    "inf in k": _put("a0k", (0, 0, 3, 5), np.inf),
    "inf in v": _put("a0v", (0, 0, 3, 5), -np.inf),
    "large": _put("a0q", (0, 0), 1e4),
}


@pytest.mark.parametrize("keys", [50, 5000], ids=["one block", "blocks"])
def test_special_values_as_in_pytorch(keys: int) -> None:
    graph = graph_of(Case((B, 2), 20, keys, 8, 8))
    compiled = compile_graph(graph)
    compiled.prepare({})
    for name, change in SPECIAL.items():
        given = values(graph, 1)
        change(given)
        (found,) = run(compiled, given, 1)
        wanted = scaled_dot_product_attention(*map(torch.from_numpy, given.values())).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("keys", [50, 5000], ids=["one block", "blocks"])
@pytest.mark.parametrize("dtype", [F32, BOOL], ids=str)
def test_hidden_keys(keys: int, dtype: DType) -> None:
    """A query that may attend nothing gives 0, keys that nobody attends change nothing."""
    graph = graph_of(Case((B, 2), 20, keys, 8, 8, mask=(B, 1, 20, keys), dtype=dtype))
    compiled = compile_graph(graph)
    compiled.prepare({})
    given = values(graph, 1)
    allowed = np.ones((1, 1, 20, keys), bool)
    allowed[..., 4, :] = allowed[..., keys // 2 :] = allowed[..., 9, 1:] = False
    given["a0m"] = allowed if dtype == BOOL else np.where(allowed, 0, -np.inf).astype(np.float32)
    (found,) = run(compiled, given, 1)
    wanted = scaled_dot_product_attention(*map(torch.from_numpy, given.values())).numpy()
    assert (found[0, :, 4] == 0).all()
    np.testing.assert_array_equal(found[0, :, 9], given["a0v"][0, :, 0])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)


def test_zero_images() -> None:
    graph = graph_of(Case((B, 2), 7, 7, 16, 16))
    compiled = compile_graph(graph)
    compiled.prepare({})
    assert run(compiled, values(graph, 0), 0)[0].size == 0


# ---- what the planner takes ----------------------------------------------------------------------


LEFT = {
    "few queries": Case((B, 2), 3, 50, 16, 16),
    "two sizes depend on the batch": Case((B, B), 20, 20, 16, 16),
    "keys depend on the batch": Case((2,), 20, B, 16, 16),
    "queries depend on the batch": Case((2,), B, 20, 16, 16),
}


@pytest.mark.parametrize("case", LEFT.values(), ids=LEFT)
def test_what_the_kernel_does_not_take(case: Case) -> None:
    graph = graph_of(case)
    assert not takes_attention(graph, graph["a0"])


def test_few_queries_are_expanded() -> None:
    graph = graph_of(LEFT["few queries"])
    assert "attention" not in kinds(make_plan(graph))
    check(graph)


def test_other_types_are_expanded() -> None:
    b = builder()
    q, k, v = (b.input(n, TensorType((2, 20, 16), F64)) for n in "qkv")
    attention = b.add("attention", q, k, v, scale=1.0, causal=False, groups=1)
    assert not takes_attention(b.finish([attention]), attention)


def test_a_mask_of_several_layers_is_turned_once() -> None:
    b = builder()
    x = b.input("x", TensorType((B, 2, 20, 16), F32))
    mask = b.input("mask", TensorType((B, 1, 20, 20), F32))
    y = x
    for _ in range(3):
        y = b.add("attention", y, y, y, mask, scale=1.0, causal=False, groups=1)
    graph = b.finish([y])
    assert kinds(make_plan(graph)) == ["dfp", *["attention"] * 3]
    check(graph)


def test_a_mask_that_only_hides_filling_is_read_as_one_row() -> None:
    b = builder()
    q, k, v = (b.input(n, TensorType((B, 2, 20, 16), F32)) for n in "qkv")
    real = b.input("real", TensorType((B, 20), BOOL))
    row = b.add("reshape", real, shape=(B, 1, 1, 20))
    all_queries = b.add("full", shape=(1, 1, 20, 1), value=True, dtype=BOOL)
    mask = b.add("logical_and", all_queries, row)
    graph = b.finish([b.add("attention", q, k, v, mask, scale=1.0, causal=False, groups=1)])
    ops = [n.op for n in make_plan(graph).plan.graph]
    assert "keys_first" not in ops
    check(graph)


def test_turned_masks_mean_the_same() -> None:
    graph = graph_of(Case((B, 2), 20, 30, 8, 16, mask=(B, 1, 20, 30), dtype=BOOL))
    turned = make_plan(graph).plan.graph
    assert "masked_attention" in [n.op for n in turned]
    given = values(graph, 2)
    np.testing.assert_array_equal(
        evaluate(turned, given, {}, 2, F64)[0], evaluate(graph, given, {}, 2, F64)[0]
    )


def test_a_mask_that_was_not_turned_is_refused() -> None:
    q = TensorType((2, 20, 8), F32)
    with pytest.raises(UnsupportedError, match="no turned mask"):
        OPS["masked_attention"].infer(
            q, q, q, TensorType((2, 20, 5), F32), scale=1.0, causal=False, groups=1
        )
