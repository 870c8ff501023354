"""Every row against PyTorch.

Calls are gathered in groups: one network makes all calls of a group, is captured for any batch and
evaluated in NumPy at batches 3 and 1. A call is (name, function or module, sizes of inputs…).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sol.ops.reference import evaluate
from sol.pytorch.capture import capture
from sol.pytorch.steps import Captured, SolStep, Value
from sol.pytorch.tree import flatten
from tests.pytorch import calls_data, calls_math

GROUPS = {**calls_math.GROUPS, **calls_data.GROUPS}


class Group(nn.Module):
    """All calls of a group, each on inputs of its own."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        super().__init__()
        self.calls = calls
        self.inner = nn.ModuleList(c[1] for c in calls if isinstance(c[1], nn.Module))

    def forward(self, *inputs: torch.Tensor) -> list[Any]:
        given = iter(inputs)
        results = []
        for call in self.calls:
            made = call[1](*(next(given) for _ in call[2:]))
            results.append([computed(t) for t in flatten(made)[0]])
        return results


def computed(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor through one operator, so that it is no view."""
    return ~tensor if tensor.dtype == torch.bool else -tensor


def example(spec: Any, batch: int) -> torch.Tensor:
    """A tensor of `batch` samples: of sizes (float32), or (kind, *sizes)."""
    kind, sizes = (spec[0], spec[1:]) if isinstance(spec[0], str) else ("f", spec)
    shape = (batch, *sizes)
    match kind:
        case "f":
            return torch.randn(shape)
        case "pos":
            return torch.rand(shape) + 0.1
        case "unit":
            return torch.rand(shape) * 1.8 - 0.9
        case "i":
            return torch.randint(-5, 6, shape)
        case "index":
            return torch.randint(0, 4, shape)
        case "b":
            return torch.rand(shape) > 0.5
    raise AssertionError(kind)


def evaluated(captured: Captured, model: nn.Module, tensors: list[torch.Tensor]) -> list[Any]:
    """The results of a network that Sol takes whole."""
    assert not captured.left, captured.left
    (step,) = (s for s in captured.steps if isinstance(s, SolStep))
    given = dict(zip(captured.inputs, tensors))
    arrays = {
        n.name: given[r.name].numpy()
        for n, r in zip(step.graph.inputs, step.inputs)
        if isinstance(r, Value)
    }
    state = {k: v.detach().numpy() for k, v in model.state_dict(keep_vars=True).items()}
    results = evaluate(step.graph, arrays, state, len(tensors[0]))
    made = dict(zip(step.outputs, results))
    return [made[r.name] for r in captured.results if isinstance(r, Value)]


def compare(calls: list[tuple[Any, ...]]) -> None:
    """Captured at batch 2, right at batches 3 and 1."""
    model = Group(calls).eval()
    specs = [spec for call in calls for spec in call[2:]]
    captured = capture(model, tuple(example(s, 2) for s in specs))
    assert captured.signature.symbolic, captured.why_fixed
    for batch in (3, 1):
        tensors = [example(s, batch) for s in specs]
        with torch.no_grad():
            expected = model(*tensors)
        found = iter(evaluated(captured, model, tensors))
        for call, results in zip(calls, expected):
            for wanted in results:
                same(call[0], next(found), wanted.numpy())


def same(name: str, found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape, name
    assert found.dtype == wanted.dtype, name
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("group", GROUPS)
def test_rows(group: str) -> None:
    compare(GROUPS[group])
