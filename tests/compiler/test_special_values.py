"""NaN, infinities, zeros with a sign and denormal numbers come out of native code as out of
PyTorch: in the same elements, and in no other row, channel or image.

PyTorch's own kernels for float32 and float64 differ in a few corners (a coordinate that is rounded
to a pixel, ±inf in GELU); agreeing with one of them is enough.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from sol.compiler import Options
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import OPS
from tests.compiler.programs import Case, Joined, build_joined, network
from tests.compiler.test_samples import some_samples
from tests.kernels import test_attention as attention
from tests.kernels import test_recurrent as recurrent
from tests.kernels.contractions import contractions
from tests.ops.test_against_torch import MEANING

Array = NDArray[Any]
_VALUES = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "-0": -0.0}
_DENORMAL = 1e-40  # float32 is denormal below 1.2e-38
_STEP = 2.0**-149  # between denormal numbers
# sums in which nothing stands that PyTorch leaves out: Winograd's tiles have neighbours in them
_STRICT = Options(precision="strict")
VALUES = pytest.mark.parametrize("value", _VALUES.values(), ids=list(_VALUES))

# The sign of zero is not defined here: PyTorch's own kernels differ, or it is that of max(-0, 0),
# or that of NumPy's remainder, or of a sum that begins with nothing.
_ANY_ZERO = {"softshrink", "clamp", "min", "max", "mod", "scatter_add", "gather_add"}
# A key that is hidden hides its NaN and infinity too: PyTorch adds -inf to its score, NaN remains.
# Windows are spread by adding, which PyTorch says as a convolution with zeros; a derivative at
# infinity or of denormal numbers depends on the formula that is written for it.
_OTHERWISE = {"attention", "spread", "derivative"}


# ---- PyTorch on a graph --------------------------------------------------------------------------


def torch_results(case: Case, batch: int, dtype: torch.dtype) -> list[Array]:
    """The results of a network whose operators are PyTorch's functions."""
    graph = case.graph.at_batch(batch)
    values: dict[str, Any] = {}
    for node in graph:
        if node.op in ("input", "parameter"):
            tensor = torch.from_numpy(np.array(case.array(node, batch)))
            values[node.name] = tensor.to(dtype) if node.dtype.kind == "float" else tensor
        elif node.op == "item":
            values[node.name] = values[node.inputs[0]][node["index"]]
        else:
            inputs = [values[i] for i in node.inputs]
            values[node.name] = MEANING[node.op](dict(node.attrs), *inputs)
    return [_as_given(values[o], graph[o]) for o in graph.outputs]


def _as_given(value: torch.Tensor, node: Node) -> Array:
    with np.errstate(over="ignore"):
        return value.numpy().astype(node.dtype.numpy)


# ---- comparing -----------------------------------------------------------------------------------


def faults(cases: Sequence[Case], results: Sequence[Sequence[Array]], batch: int) -> list[str]:
    """Cases that are neither as PyTorch's float64 nor as its float32."""
    found = []
    for case, result in zip(cases, results, strict=True):
        with sdpa_kernel(SDPBackend.MATH):
            fault = _differs(case, result, torch_results(case, batch, torch.float64))
        if fault and _differs(case, result, torch_results(case, batch, torch.float32)):
            found.append(fault)
    return found


def _differs(case: Case, found: Sequence[Array], wanted: Sequence[Array]) -> str:
    exact = {n.op for n in case.graph if n.op != "input"}
    signs = len(exact) == 1 and not exact & _ANY_ZERO
    signs = signs and OPS[exact.pop()].kind in ("move", "elementwise")
    for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
        wrong = a != b if a.dtype.kind != "f" else _wrong(case, a, b, signs)
        if wrong.any():
            at = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(wrong)))
            values = f"{np.atleast_1d(a)[at]!r}, not {np.atleast_1d(b)[at]!r}"
            return f"{case.name}: result {k} has {wrong.sum()} wrong of {a.size}, at {at} {values}"
    return ""


def _wrong(case: Case, a: Array, b: Array, signs: bool) -> Array:
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0))
    relative = (1e-5 if largest > 1e-30 else 1e-4) * case.tolerance  # denormals have fewer digits
    with np.errstate(invalid="ignore"):
        near = np.abs(a.astype(np.float64) - b) <= relative * largest + 64 * _STEP
    right = near | (a == b) | (np.isnan(a) & np.isnan(b))
    if signs:
        right &= (a != 0) | (b != 0) | (np.signbit(a) == np.signbit(b))
    return ~right


# ---- putting values in ---------------------------------------------------------------------------


def planted(case: Case, value: float, batch: int, name: str = "") -> Case:
    """The case with a value in some elements of an input, by default the first of floats:

    of the second image where there are several.
    """
    node = case.graph[name] if name else _float_inputs(case.graph)[0]
    array = np.array(case.array(node, batch))
    images = node.shape[:1] == (B,) and batch > 1
    target = array[1] if images else array
    rng = np.random.default_rng(target.size)
    if target.size:
        target.reshape(-1)[rng.choice(target.size, -(-target.size // 40), replace=False)] = value
    return replace(case, given={**case.given, node.name: array})


def scaled(case: Case, batch: int, names: Sequence[str] = ()) -> Case:
    """The case with denormal numbers in these inputs of floats, by default in all."""
    given = {
        n.name: np.asarray(case.array(n, batch) * np.float32(_DENORMAL), np.float32)
        for n in _float_inputs(case.graph)
        if not names or n.name in names
    }
    return replace(case, given=given)


def _float_inputs(graph: Graph) -> list[Node]:
    return [n for n in graph.inputs if n.dtype == F32]


# ---- operators -----------------------------------------------------------------------------------


@functools.cache
def operators() -> Joined:
    """Samples of every operator that compute with float32."""
    cases = [
        case
        for case in some_samples(4)
        if _float_inputs(case.graph)
        and {n.op for n in case.graph} - {"input", "item"} <= set(MEANING) - _OTHERWISE
    ]
    return build_joined(cases, flags=("-O1",), options=_STRICT)


def run(joined: Joined, cases: Sequence[Case], batch: int) -> list[str]:
    """What is wrong if these cases, with other values, run in their program."""
    return faults(cases, replace(joined, cases=tuple(cases)).run(batch, threads=2), batch)


@VALUES
def test_operators(value: float) -> None:
    joined = operators()
    found = run(joined, [planted(case, value, 1) for case in joined.cases], 1)
    assert not found, "\n".join(found)


def test_operators_on_denormals() -> None:
    joined = operators()
    found = run(joined, [scaled(case, 1) for case in joined.cases], 1)
    assert not found, "\n".join(found)


# ---- kernels -------------------------------------------------------------------------------------


@functools.cache
def kernels() -> Joined:
    """Networks for each kind of kernel, with what stands before and behind."""
    counts = {"conv": 24, "conv_transpose": 8, "linear": 8, "matmul": 8}
    cases = [c for kind, count in counts.items() for c in contractions(kind, count, 300)]
    cases += [
        Case(f"attention {k}", attention.graph_of(case), -1.0, 1.0)
        for k, case in enumerate(attention.SHAPES[:8])
    ]
    make = recurrent.recurrence
    cases += [
        Case("lstm", make("lstm", (B, 4, 3), 17, layers=2, bidirectional=True), -0.5, 0.5),
        Case("gru", make("gru", (B, 4, 3), 33, bidirectional=True), -0.5, 0.5),
        Case("rnn", make("rnn", (B, 3, 5), 20, nonlinearity="relu"), -0.5, 0.5),
    ]
    return build_joined(cases, flags=("-O1",), options=_STRICT)


def test_every_kind_of_kernel_is_there() -> None:
    made = kernels().compiled.steps
    assert {m.cluster.kind for m in made} == {"contraction", "attention", "recurrent", "dfp"}
    contracted = [m.why for m in made if m.cluster.kind == "contraction"]
    assert {why.split(", ")[-1].lstrip("0123456789 ") for why in contracted} == {
        "regions of equal taps",
        "A in place",
        "A packed",
        "A in padded lines",
        "groups side by side",
        "once for a batch",
        "weights as they are",
    }


@VALUES
def test_kernels(value: float) -> None:
    joined = kernels()
    found = run(joined, [planted(case, value, 3) for case in joined.cases], 3)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
def test_weights(value: float) -> None:
    """A channel whose weight is not finite is the only one that is not."""
    joined = kernels()
    dense = [_has_dense_weight(case) for case in joined.cases]
    assert sum(dense) > 10
    cases = [
        planted(case, value, 2, case.graph.parameters[-1].name) if ready else case
        for case, ready in zip(joined.cases, dense)
    ]
    found = run(joined, cases, 2)
    assert not found, "\n".join(found)


def _has_dense_weight(case: Case) -> bool:
    """Whether all its contractions are dense: PyTorch's others skip what is multiplied by zero, and
    Sol's dilated ones do where taps meet padding."""
    nodes = [n for n in case.graph if n.op in ("conv", "conv_transpose", "linear")]
    dense = all(n.op != "conv_transpose" and n.get("groups", 1) == 1 for n in nodes)
    dense = dense and all(d == 1 for n in nodes for d in n.get("dilation", ()))
    return bool(nodes) and dense


# ---- denormal numbers ----------------------------------------------------------------------------


def _conv(b: Builder, op: str, inputs: int, groups: int, size: int, inner: bool = False) -> Node:
    """A convolution to 20 channels for each of its groups; inner: of channels innermost."""
    x = b.input("x", TensorType((B, 7, 6, inputs) if inner else (B, inputs, 7, 6), F32))
    x = b.add("permute", x, axes=(0, 3, 1, 2)) if inner else x
    shape = (20 * groups, inputs // groups) if op == "conv" else (inputs, 20)
    weight = b.parameter("weight", TensorType((*shape, size, size), F32))
    attrs = {"stride": (1, 1), "dilation": (1, 1), "groups": groups}
    if op == "conv":
        return b.add(op, x, weight, padding=((1, 0),) * 2, **attrs)
    return b.add(op, x, weight, padding=(1, 0), output_padding=(0, 0), **attrs)


def _linear(b: Builder) -> Node:
    x = b.input("x", TensorType((B, 9, 30), F32))
    return b.add("linear", x, b.parameter("weight", TensorType((25, 30), F32)))


def _matmul(b: Builder) -> Node:
    x = b.input("x", TensorType((B, 9, 30), F32))
    return b.add("matmul", x, b.input("y", TensorType((B, 30, 25), F32)))


def one_of_each() -> list[tuple[Case, tuple[str, ...]]]:
    """A network for each kind of kernel, and the inputs with which its results scale."""
    rnn = recurrent.recurrence("rnn", (B, 3, 5), 20, bias=False, nonlinearity="relu")
    graphs = {
        "packed": (network(_conv, op="conv", inputs=8, groups=1, size=3), ("x",)),
        "in place": (network(_conv, op="conv", inputs=8, groups=1, size=1, inner=True), ("x",)),
        "depthwise": (network(_conv, op="conv", inputs=6, groups=6, size=3), ("x",)),
        "transposed": (network(_conv, op="conv_transpose", inputs=8, groups=1, size=3), ("x",)),
        "linear": (network(_linear), ("x",)),
        "matmul": (network(_matmul), ("x",)),
        "attention": (attention.graph_of(attention.SHAPES[1]), ("a0v",)),
        "recurrent": (rnn, ("x", "state0")),
    }
    return [(Case(name, graph), names) for name, (graph, names) in graphs.items()]


@functools.cache
def homogeneous() -> Joined:
    """Their program, on denormal numbers."""
    cases = [scaled(case, 2, names) for case, names in one_of_each()]
    return build_joined(cases, flags=("-O1",), options=_STRICT)


def test_denormals_are_kept() -> None:
    joined = homogeneous()
    found = run(joined, joined.cases, 2)
    assert not found, "\n".join(found)


def test_denormals_are_flushed_where_pytorch_flushes_them() -> None:
    joined = homogeneous()
    if not torch.set_flush_denormal(True):
        pytest.skip("PyTorch cannot flush denormals on this processor")
    try:
        results = joined.run(2, threads=2)
    finally:
        torch.set_flush_denormal(False)
    left = [c.name for c, found in zip(joined.cases, results) if any(r.any() for r in found)]
    assert not left
