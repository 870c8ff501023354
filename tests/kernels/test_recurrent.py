"""Recurrent layers in native code: against float64, in both forms, any batch, any vectors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from sol.compiler import Compiled, compile_graph
from sol.core.device import CpuDevice, detect
from sol.core.dims import Dim, concrete
from sol.core.dtypes import F32, F64
from sol.core.errors import UnsupportedError
from sol.ir.graph import Graph, Node, TensorType
from sol.kernels import recurrent, scan
from sol.ops.cells import CELLS, cell_name
from sol.ops.reference import evaluate
from sol.ops.registry import OPS, Sample, builder
from sol.ops.sampling import f32, sample_arrays, sample_graph
from sol.plan.planner import make_plan
from sol.plan.recurrent import split_recurrent
from sol.pytorch.capture import capture

Array = NDArray[Any]
B = Dim(1)
SHARING = replace(detect(), l2=1)  # every W_hh of more than one block is shared by the threads
FORMS = pytest.mark.parametrize("device", [detect(), SHARING], ids=["whole", "shared"])
SAMPLES = [
    pytest.param(name, sample, id=f"{name}-{k}")
    for name in (
        "lstm",
        "gru",
        "rnn",
        "recurrence",
        "recurrence_gradient",
        "scan",
        "scan_gradient",
        "packed_gates",
    )
    for k, sample in enumerate(OPS[name].samples)
]


def run(
    compiled: Compiled, inputs: Sequence[Array], batch: int = 1, threads: int = 2
) -> list[Array]:
    """The results of a call; what it does not write stays NaN."""
    graph = compiled.graph
    outputs = [np.full(concrete(graph[o].shape, batch), np.nan, np.float32) for o in graph.outputs]
    given = [np.ascontiguousarray(x) for x in inputs]
    pointers = [x.ctypes.data for x in given], [o.ctypes.data for o in outputs]
    compiled.run(*pointers, batch, threads)
    return outputs


def recurrence(
    op: str, shape: tuple[Any, ...], hidden: int, layers: int = 1, bidirectional: bool = False,
    bias: bool = True, batch_first: bool = True, **attrs: str,
) -> Graph:  # fmt: skip
    """A graph of one recurrent operator on an input; states are inputs, weights parameters."""
    b = builder()
    x = b.input("x", TensorType(shape, F32))
    images, directions = shape[0 if batch_first else 1], 1 + bidirectional
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[op]
    state = TensorType((layers * directions, images, hidden), F32)
    states = [b.input(f"state{k}", state) for k in range(2 if op == "lstm" else 1)]
    weights: list[Node] = []
    for layer in range(layers):
        size = hidden * directions if layer else shape[2]
        each = [f32(gates * hidden, size), f32(gates * hidden, hidden), *[f32(gates * hidden)] * 2]
        for _ in range(directions):
            weights += [
                b.parameter(f"w{len(weights) + k}", t) for k, t in enumerate(each[: 2 + 2 * bias])
            ]
    node = b.add(
        op, x, *states, *weights,
        layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first, **attrs,
    )  # fmt: skip
    return b.finish([b.add("item", node, index=k) for k in range(1 + len(states))])


def values(nodes: Sequence[Node], batch: int, seed: int) -> dict[str, Array]:
    """Random values of inputs or parameters, by name."""
    rng = np.random.default_rng(seed)
    return {
        n.name: rng.uniform(-0.5, 0.5, concrete(n.shape, batch)).astype(np.float32) for n in nodes
    }


def by_key(graph: Graph, seed: int = 1) -> dict[str, Array]:
    """Random parameters, as large as PyTorch's: larger ones let rounding errors grow with time."""
    found = values(graph.parameters, 1, seed)
    return {n["key"]: found[n.name] * 2 / n.shape[-1] ** 0.5 for n in graph.parameters}


def native(graph: Graph, parameters: Mapping[str, Array], device: CpuDevice) -> Compiled:
    """The graph, compiled and ready."""
    compiled = compile_graph(graph, device=device)
    compiled.prepare(parameters)
    return compiled


def check(graph: Graph, device: CpuDevice, batches: Sequence[int] = (1, 2, 5)) -> Compiled:
    """Compile a graph and compare it with float64 for several batches."""
    parameters = by_key(graph)
    compiled = native(graph, parameters, device)
    for batch in batches:
        given = values(graph.inputs, batch, batch)
        expected = evaluate(graph, given, parameters, batch, F64)
        for found, wanted in zip(run(compiled, list(given.values()), batch), expected):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
    return compiled


def calls(compiled: Compiled) -> list[int]:
    """Steps of the program for each scan."""
    return [len(s.calls) for s in compiled.steps if s.cluster.kind == "recurrent"]


# ---- operators -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sample"), SAMPLES)
def test_samples(name: str, sample: Sample) -> None:
    graph = sample_graph(OPS[name], sample)
    arrays = sample_arrays(sample)
    expected = evaluate(graph, arrays, dtype=F64)
    for found, wanted in zip(run(native(graph, {}, detect()), list(arrays.values())), expected):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize(("name", "sample"), [s for s in SAMPLES if s.values[0] in CELLS])
def test_split_layers_mean_the_same(name: str, sample: Sample, lanes: int) -> None:
    graph = sample_graph(OPS[name], sample)
    split = split_recurrent(graph, lanes)
    assert {n.op for n in split}.isdisjoint(("lstm", "gru", "rnn"))
    arrays = sample_arrays(sample)
    for found, wanted in zip(
        evaluate(split, arrays, dtype=F64), evaluate(graph, arrays, dtype=F64)
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_graph_without_recurrent_layers_stays_as_it_is() -> None:
    graph = sample_graph(OPS["relu"], OPS["relu"].samples[0])
    assert split_recurrent(graph, 16) is graph


def test_a_cell_is_named_by_its_operator_and_nonlinearity() -> None:
    assert cell_name(Node("y", "gru", (), (), f32(1))) == "gru"
    assert cell_name(Node("y", "rnn", (), (("nonlinearity", "relu"),), f32(1))) == "relu"


# ---- forms, sizes, layouts -----------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("hidden", [1, 17, 100])
@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
def test_two_layers_in_two_directions(op: str, hidden: int, device: CpuDevice) -> None:
    more = {"nonlinearity": "tanh"} if op == "rnn" else {}
    graph = recurrence(op, (B, 4, 3), hidden, layers=2, bidirectional=True, **more)
    compiled = check(graph, device)
    blocks = -(-hidden // (64 if op == "rnn" else 16))
    lanes = detect().vector_lanes(4)
    if lanes == 16:
        assert calls(compiled) == [4 if device is SHARING and blocks > 1 else 1] * 4


@FORMS
@pytest.mark.parametrize("reverse", [False, True])
def test_batch_in_the_middle(reverse: bool, device: CpuDevice) -> None:
    graph = recurrence("gru", (5, B, 3), 33, bidirectional=reverse, batch_first=False, bias=False)
    check(graph, device)


@FORMS
def test_relu_cells(device: CpuDevice) -> None:
    check(recurrence("rnn", (B, 3, 5), 70, nonlinearity="relu"), device)


@pytest.mark.parametrize("steps", [1, 2])
@FORMS
def test_few_steps(steps: int, device: CpuDevice) -> None:
    compiled = check(recurrence("lstm", (B, steps, 2), 20, bidirectional=True), device)
    assert calls(compiled) == [steps if device is SHARING else 1] * 2


@FORMS
@pytest.mark.parametrize("images", [1, 9])
def test_fixed_batch(images: int, device: CpuDevice) -> None:
    check(recurrence("lstm", (images, 3, 2), 18), device, batches=(1,))


@pytest.mark.parametrize("reverse", [False, True])
def test_any_number_of_steps(reverse: bool) -> None:
    """The one symbolic size counts steps of time; such scans are not cut into steps."""
    graph = recurrence("lstm", (B, 3, 4), 18, batch_first=False, bidirectional=reverse)
    compiled = check(graph, SHARING, batches=(1, 2, 40))
    assert calls(compiled) == [1] * (1 + reverse)
    assert not compiled.planned.plan.splittable


def test_very_long_sequences_are_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_MOST_STEPS", 3)
    graphs = [recurrence("gru", (B, steps, 2), 20) for steps in (3, 4)]
    assert [calls(check(g, SHARING)) for g in graphs] == [[3], [1]]


@pytest.mark.parametrize(("lane_bytes", "registers"), [(32, 16), (16, 16), (16, 32)])
@pytest.mark.parametrize("op", ["lstm", "gru"])
def test_other_vector_widths(op: str, lane_bytes: int, registers: int) -> None:
    device = replace(detect(), vector_bytes=lane_bytes, vector_registers=registers)
    check(recurrence(op, (B, 3, 4), 21, bidirectional=True), device)


def test_large_weights_are_shared_and_small_ones_are_not() -> None:
    device = replace(detect(), l2=1 << 20)
    graphs = [recurrence("lstm", (B, 9, 8), hidden) for hidden in (128, 256)]
    found = []
    for graph in graphs:
        planned = make_plan(graph, lanes=device.vector_lanes(4))
        (cluster,) = [c for c in planned.plan.clusters if c.kind == "recurrent"]
        found.append(recurrent.lower_scan(planned.plan, cluster, device, (16, 8, 4)))
    assert [len(r.calls) for r in found] == [1, 9]
    assert len({c.kernel for c in found[1].calls}) == 2
    assert ["share" in r.why for r in found] == [False, True]


# ---- in networks ---------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bits_for_every_batch_and_number_of_threads(
    threads: int, device: CpuDevice
) -> None:
    graph = recurrence("lstm", (B, 6, 5), 40)
    compiled = native(graph, by_key(graph), device)
    given = list(values(graph.inputs, 23, 0).values())
    whole = run(compiled, given, 23, threads)[0]
    alone = run(compiled, [given[0][8:9], *(s[:, 8:9] for s in given[1:])], 1, 1)[0]
    np.testing.assert_array_equal(whole[8:9], alone)


def test_the_batch_is_cut_into_groups_of_images() -> None:
    b = builder()
    graph = recurrence("gru", (B, 3, 4), 5)
    x, start = b.input("x", graph["x"].tensor), b.constant(np.zeros((1, 1, 5), np.float32))
    state = b.add("expand", start, shape=(1, B, 5))
    weights = [b.parameter(n["key"], n.tensor) for n in graph.parameters]
    attrs = dict(next(n for n in graph if n.op == "gru").attrs)
    node = b.add("gru", x, state, *weights, **attrs)
    compiled = check(b.finish([b.add("item", node, index=0)]), detect(), batches=(1, 5, 37))
    assert compiled.planned.plan.splittable


def test_directions_are_written_where_their_concatenation_lies() -> None:
    graph = recurrence("lstm", (B, 4, 3), 8, bidirectional=True)
    compiled = check(graph, detect())
    result, _, last_c = compiled.planned.plan.graph.outputs
    places = compiled.planned.plan.places
    scans = [c.values for c in compiled.planned.plan.clusters if c.kind == "recurrent"]
    assert [[places[v].buffer for v in values] for values in scans] == [[result, last_c]] * 2


@FORMS
def test_states_may_share_a_buffer_with_the_sequence(device: CpuDevice) -> None:
    """concat(h0, sequence): both lie in one buffer, in which only the sequence moves with time."""
    b = builder()
    graph = recurrence("gru", (4, B, 3), 20, batch_first=False)
    x, start = b.input("x", graph["x"].tensor), b.input("h", graph["state0"].tensor)
    state = b.add("tanh", start)
    weights = [b.parameter(n["key"], n.tensor) for n in graph.parameters]
    attrs = dict(next(n for n in graph if n.op == "gru").attrs)
    node = b.add("gru", x, state, *weights, **attrs)
    both = b.add("concat", state, b.add("item", node, index=0), axis=0)
    compiled = check(b.finish([b.add("relu", both), both]), device)
    assert calls(compiled) == [4 if device is SHARING else 1]


@FORMS
def test_what_is_not_a_number_stays_in_its_sequence(device: CpuDevice) -> None:
    graph = recurrence("lstm", (B, 5, 3), 33, batch_first=True)
    compiled = native(graph, by_key(graph), device)
    given = values(graph.inputs, 5, 0)
    clean = run(compiled, list(given.values()), 5)[0]
    given["x"][2, 1, 0] = np.nan
    given["x"][4, 3, 2] = np.inf
    found = run(compiled, list(given.values()), 5)[0]
    assert np.isnan(found[2, 1:]).all()
    np.testing.assert_array_equal(found[[0, 1, 3]], clean[[0, 1, 3]])
    np.testing.assert_array_equal(found[2, :1], clean[2, :1])
    np.testing.assert_array_equal(found[4, :3], clean[4, :3])
    assert np.isfinite(found[4]).all()  # an infinite gate is a closed or an open one


def test_only_float32_is_computed() -> None:
    sample = OPS["scan"].samples[0]
    b = builder()
    inputs = [
        b.input(f"x{k}", TensorType((*t.shape[:1], *t.shape[1:]), F64))
        for k, t in enumerate(sample.inputs)
    ]
    scan = b.add("scan", *inputs, **sample.attrs)
    graph = b.finish([b.add("item", scan, index=k) for k in range(2)])
    with pytest.raises(UnsupportedError, match="computes in f64") as caught:
        compile_graph(graph)
    assert caught.value.expected == "float32"


# ---- PyTorch's modules ---------------------------------------------------------------------------


class _Model(nn.Module):
    """A recurrent module on [N, T, I] and states [N, layers, H], whatever order it wants itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, *states: torch.Tensor) -> Any:
        x = x if self.module.batch_first else x.transpose(0, 1)
        own = tuple(s.transpose(0, 1) for s in states)
        return self.module(x, *(own if len(own) < 2 else (own,)))


def _flat(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [t for r in result for t in _flat(r)]


BOTH = {"num_layers": 2, "bidirectional": True}
MODULES = [
    pytest.param(nn.LSTM, {"hidden_size": 33, "batch_first": True, **BOTH}, 2, id="lstm33"),
    pytest.param(nn.LSTM, {"hidden_size": 5, "bias": False}, 0, id="lstm5"),
    pytest.param(nn.LSTM, {"hidden_size": 100, "num_layers": 2}, 0, id="lstm100"),
    pytest.param(nn.GRU, {"hidden_size": 17, "batch_first": True, **BOTH}, 1, id="gru17"),
    pytest.param(nn.GRU, {"hidden_size": 100, "bias": False}, 0, id="gru100"),
    pytest.param(nn.RNN, {"hidden_size": 1, "bidirectional": True}, 0, id="rnn1"),
    pytest.param(nn.RNN, {"hidden_size": 33, "nonlinearity": "relu", **BOTH}, 1, id="rnn33"),
]


@pytest.mark.parametrize(("kind", "options", "states"), MODULES)
def test_modules(kind: Any, options: dict[str, Any], states: int) -> None:
    torch.manual_seed(0)
    model = _Model(kind(7, **options)).eval()
    runs = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    shapes = [(9, 7), *[(runs, options["hidden_size"])] * states]
    captured = capture(model, [torch.rand(3, *s) for s in shapes])
    assert not captured.left
    weights = {key: w.detach().numpy() for key, w in model.named_parameters()}
    forms = [native(captured.graph, weights, device) for device in (detect(), SHARING)]
    exact = copy.deepcopy(model).double()
    order = [int(n.name.removeprefix("tensors_")) for n in captured.graph.inputs]
    for batch in (1, 2, 5):
        given = [torch.rand(batch, *s) - 0.5 for s in shapes]
        with torch.no_grad():
            expected = _flat(exact(*(t.double() for t in given)))
        for compiled in forms:
            results = run(compiled, [given[k].numpy() for k in order], batch)
            for found, wanted in zip(results, expected, strict=True):
                np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-6)
