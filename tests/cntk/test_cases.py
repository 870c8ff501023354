"""Models that CNTK saved give what CNTK computed, in the NumPy reference and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sol.arrays.network import Network, Part
from sol.arrays.signature import checked, signature_of
from sol.cntk import Function, loops, optimize
from sol.cntk.model import load
from sol.core.errors import UnsupportedError
from sol.ops.reference import evaluate
from tests.cntk.cases import Array, Case, cases

FIXTURES = Path(__file__).parent / "fixtures"

# what Sol refuses, and the reason that it gives
REFUSED = {
    "cast": "Sol computes in f32",
    "double": "it is float64",
    "crop_automatic": "where it begins is not in the file",
    "unpooling_overlapping": "windows that overlap",
}

# Compiled, too: whole networks, and operations that a kernel or a pass may get wrong. All others
# run in the reference, which tests/compiler holds against the compiler.
COMPILED = (
    "network_mnist", "network_tagger", "network_autoencoder", "special_values", "embedding",
    "avg_pool_even", "seq_unpack_mask", "lstm_back", "rnn", "running_two_steps", "attention_layer",
)  # fmt: skip


def by_reference(self: Network, arrays: Mapping[str, Any]) -> dict[str, Array]:
    """A call that NumPy computes by the definitions of the operators."""
    given = checked(self.inputs, arrays)
    signature, batch = signature_of(self.inputs, given)
    captured = self._captured(signature)
    values = dict(given)
    for step in captured.steps:
        assert isinstance(step, Part)
        graph = step.graph.at_batch(batch)
        inputs = {n.name: values[name] for n, name in zip(graph.inputs, step.inputs)}
        values |= zip(step.outputs, evaluate(graph, inputs, captured.parameters))
    return {name: values[name] for name in captured.results}


def compare(case: Case, model: Function) -> None:
    results = model.eval(case.inputs)
    found = list(results.values()) if isinstance(results, dict) else [results]
    assert len(found) == len(case.outputs)
    for output, ours, theirs in zip(model.outputs, found, case.outputs):
        assert isinstance(ours, list) == isinstance(theirs, list)
        for a, b in (
            zip(ours, theirs, strict=True) if isinstance(theirs, list) else [(ours, theirs)]
        ):
            if case.name == "special_values" and output.name == "relu":
                a, b = a[:, 1:], b[:, 1:]  # CNTK makes NaN of relu(-∞)
            assert a.shape == b.shape
            assert a.dtype == np.float32
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", [n for n in cases() if n not in REFUSED])
def test_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cases()[name]
    monkeypatch.setattr(Network, "__call__", by_reference)
    compare(case, Function(load(case.data)))


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name: str) -> None:
    case = cases()[name]
    compare(case, optimize(case.data))


@pytest.mark.parametrize("name", ["lstm_states", "recurrence_from", "running_two_steps"])
def test_step_by_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that are not written out: a program for a step."""
    monkeypatch.setattr(loops, "_MOST_OPERATIONS", 0)
    monkeypatch.setattr(loops, "recognised", lambda reader, loop: False)
    case = cases()[name]
    compare(case, optimize(case.data))


def test_a_long_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 and 17 steps of a GRU, each sequence alone as well, as if Sol had no kernel for it."""
    monkeypatch.setattr(loops, "recognised", lambda reader, loop: False)
    case = cases()["gru_long"]
    model = optimize(case.data)
    compare(case, model)
    for steps, expected in zip(case.inputs["s"], case.outputs[0], strict=True):
        np.testing.assert_allclose(model(steps)[0], expected, rtol=2e-5, atol=2e-6)
    assert "step by step" in model.explain()
    assert len(model._steps._made) == 2  # for one image, and for any number of them


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What Sol does not take is refused at the first call, by the name of the operation."""
    case = cases()[name]
    with pytest.raises(UnsupportedError) as refused:
        optimize(case.data).eval(case.inputs)
    assert REFUSED[name] in refused.value.reason


def test_a_file() -> None:
    """A residual network from a file, for every batch by one program."""
    model = optimize(FIXTURES / "residual_cnn.model")
    with np.load(FIXTURES / "residual_cnn.npz") as known:
        x, y = known["x"], known["y"]
    np.testing.assert_allclose(model.eval(x), y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(x[:1]), y[:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(x[1]), y[1:2], rtol=1e-5, atol=1e-6)
    assert "1 program" in model.explain()
