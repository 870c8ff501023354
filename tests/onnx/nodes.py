"""ONNX's own tests of operators and small models (onnx.backend.test), run by Sol.

`outcome` says what became of one: computed by Sol's programs ("sol"), some of it by NumPy
("numpy"), refused with a reason, or wrong. benchmarks/onnx_nodes.py prints the table.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from sol.arrays import network, program
from sol.arrays.captured import Captured
from sol.arrays.captured import Host as HostStep
from sol.core.errors import SolError
from sol.onnx.host import RANDOM
from sol.onnx.model import load
from sol.onnx.networks import Networks

# what the table leaves out: values that are no tensors of numbers, control flow that is
# tested by itself (test_control.py), random numbers, training, images as files
NOT_NUMBERS = (
    "sequence_type",
    "optional_type",
    "string",
    "Optional",
    "neither numbers nor a tensor",
)
OUT_OF_SCOPE = frozenset(
    {"If", "Loop", "Scan", "ImageDecoder", "Adagrad", "Adam", "Momentum", "Gradient"}
)


@dataclass(frozen=True)
class Case:
    """One test: a model and pairs of inputs and expected outputs."""

    name: str
    op: str
    model: Any
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """kind: sol, numpy, refused or wrong; why, for the last two."""

    kind: str
    why: str = ""


def cases(kind: str) -> Iterator[Case]:
    """All tests of a kind: node, simple, pytorch-operator, pytorch-converted."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load_model_tests(kind=kind)
    for case in found:
        model = case.model or onnx.load(Path(case.model_dir) / "model.onnx")
        data = case.data_sets or [_loaded(p, model) for p in Path(case.model_dir).glob("test_*")]
        ops = [n.op_type for n in model.graph.node]
        yield Case(case.name, ops[-1] if ops else "", model, data, case.rtol, case.atol)


def _loaded(folder: Path, model: Any) -> tuple[list[Any], list[Any]]:
    def values(kind: str, count: int) -> list[Any]:
        files = (folder / f"{kind}_{n}.pb" for n in range(count))
        return [onnx.TensorProto.FromString(f.read_bytes()) for f in files if f.exists()]

    return values("input", len(model.graph.input)), values("output", len(model.graph.output))


def interpreted(captured: Captured, options: Any, progress: Any = None) -> program.Program:
    """In place of compiling: the NumPy reference runs all parts."""
    parts = tuple(program.Empty(g, captured.parameters) for g in captured.graphs)
    return program.Program(captured, parts, options)


def outcome(case: Case, native: bool = True) -> Outcome:
    """Run a test; by the NumPy reference of Sol's operators if not native."""
    make = network.make
    network.make = make if native else interpreted
    try:
        return _outcome(case)
    finally:
        network.make = make


def _outcome(case: Case) -> Outcome:
    try:
        model = load(case.model)
        networks = Networks(model)
        for inputs, outputs in case.data:
            arrays = dict(zip((p.name for p in model.inputs), map(_array, inputs)))
            found = networks(arrays)
            for port, expected in zip(model.outputs, map(_array, outputs), strict=True):
                _compare(case, found[port.name], expected)
    except SolError as error:
        return Outcome("refused", str(error).partition("\n")[0])
    except AssertionError as error:
        return Outcome("wrong", " ".join(str(error).split())[:200])
    steps = (s for n in networks.networks for e in n.entries for s in e.program.captured.steps)
    left = [s for s in steps if isinstance(s, HostStep) and s.name != "Cast"]
    return Outcome("numpy" if left else "sol", "; ".join(f"{s.name}: {s.reason}" for s in left))


def _array(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def _compare(case: Case, found: Any, expected: Any) -> None:
    assert found.dtype == expected.dtype, (found.dtype, expected.dtype)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    if expected.dtype.kind in "biu" or "int" in expected.dtype.name:
        np.testing.assert_array_equal(found, expected)
        return
    rtol = case.rtol if expected.dtype.itemsize >= 4 else 5e-2  # halves are rounded at other places
    a, b = found.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_allclose(a, b, rtol=rtol, atol=max(case.atol, 1e-6))


def counts(case: Case, result: Outcome) -> bool:
    """Whether a test belongs to what the pass rate is of."""
    needs = result.kind == "refused" and any(text in result.why for text in NOT_NUMBERS)
    training = "training" in case.name
    left_out = needs or training or draws(case) or case.op in OUT_OF_SCOPE
    return not left_out


def draws(case: Case) -> bool:
    """Whether a test draws random numbers: what it expects are others."""
    return any(n.op_type in RANDOM for n in case.model.graph.node)
