"""Compiled steps of training: gradients against float64, memory that the backward half takes,
frozen weights that stay packed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from sol import compiled, pieces, training
from sol.options import Options, no_coarser
from sol.plan import runs
from sol.pytorch import connect, optimize


@pytest.fixture(scope="module", autouse=True)
def small_maps() -> Iterator[None]:
    """Maps of these networks are worth a run, too."""
    with patch.object(runs, "_SHARED", 1):
        yield


@pytest.fixture(scope="module")
def networks() -> tuple[Any, nn.Module]:
    """A network by Sol, and the same in float64."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU()),
        *(nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16), nn.BatchNorm2d(16), nn.SiLU()),
        *(nn.MaxPool2d(3, 2), nn.Conv2d(16, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(24, 10),
    )
    exact = copy.deepcopy(net).double()
    fast = optimize(net.train(), never_slower=False, progress=False)
    return fast, exact


def same_gradients(networks: tuple[Any, nn.Module], step: Callable[[Any], None]) -> None:
    """After a step with the loss of each network."""
    x = torch.randn(5, 3, 16, 16)
    for model, given in zip(networks, (x, x.double())):
        model.zero_grad()
        step(model(given).square().sum())
    for (name, a), b in zip(networks[0].named_parameters(), networks[1].parameters()):
        if not a.requires_grad:
            continue
        torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-3, msg=name)


def pair_of(fast: Any) -> Any:
    """The two programs of the network."""
    ((entry,),) = (fast.__dict__["_sol_session"].trainer.entries,)
    (pair,) = entry.program.pairs
    return pair


def moved() -> AbstractContextManager[object]:
    """What is kept lies elsewhere when it is read."""
    return torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t)


@pytest.mark.parametrize("context", [nullcontext, moved])
def test_a_step(networks: tuple[Any, nn.Module], context: Callable[[], Any]) -> None:
    with context():
        same_gradients(networks, lambda loss: loss.backward())


def test_what_is_kept_may_be_read_twice(networks: tuple[Any, nn.Module]) -> None:
    def twice(loss: torch.Tensor) -> None:
        loss.backward(retain_graph=True)
        loss.backward()

    same_gradients(networks, twice)


def test_both_halves_compute_in_the_memory_of_what_is_kept(
    networks: tuple[Any, nn.Module],
) -> None:
    same_gradients(networks, lambda loss: loss.backward())
    pair = pair_of(networks[0])
    held = pair.layout(5, torch.get_num_threads())
    assert held.forward == 0
    assert held.backward
    places = pair.backward.executable.planned.plan.places
    assert any(
        place.buffer in pair.kept and name not in pair.kept for name, place in places.items()
    )
    assert pair.memory.bytes >= held.layout.size


def test_weights_are_packed_piece_by_piece(
    networks: tuple[Any, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_gradients(networks, lambda loss: loss.backward())
    pair = pair_of(networks[0])
    whole = [connect.reserved_weights(e) for e, _ in pair.parts]
    networks[0].sol.give_memory_back()
    monkeypatch.setattr(pieces, "_BYTES", 1)
    for executable, _ in pair.parts:
        executable.__dict__.pop("pieces", None)
    same_gradients(networks, lambda loss: loss.backward())
    assert max(len(executable.pieces) for executable, _ in pair.parts) > 1
    assert sum(connect.reserved_weights(e) for e, _ in pair.parts) < sum(whole)
    assert "packed weights" in networks[0].sol.explain()


def test_memory_is_given_back(networks: tuple[Any, nn.Module]) -> None:
    same_gradients(networks, lambda loss: loss.backward())
    pair = pair_of(networks[0])
    networks[0].sol.give_memory_back()
    assert pair.memory.bytes == 0
    assert all(executable.packed_bytes == 0 for executable, _ in pair.parts)
    same_gradients(networks, lambda loss: loss.backward())


def test_the_forward_half_rounds_little(networks: tuple[Any, nn.Module]) -> None:
    pair = pair_of(networks[0])
    assert [e.options.precision for e, _ in pair.parts] == ["careful", "float32"]
    other = training.Pair.of(pair.source, [n.name for n in pair.source.parameters], Options())
    assert [p.options.precision for p in other.programs] == ["careful", "float32"]
    assert no_coarser("strict", "careful") == "strict"


def test_parts_run_apart(networks: tuple[Any, nn.Module]) -> None:
    same_gradients(networks, lambda loss: loss.backward())
    for executable, _ in pair_of(networks[0]).parts:
        assert sum(s.apart for s in executable.planned.plan.segments) > 1


def test_frozen_weights_stay_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    packings: list[tuple[int, ...]] = []
    pack = compiled._packed

    def counted(weight: Any, *rest: Any) -> Any:
        packings.append(weight.shape)
        return pack(weight, *rest)

    monkeypatch.setattr(compiled, "_packed", counted)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.SiLU(), nn.Conv2d(16, 24, 3), nn.SiLU())
    net.append(nn.Conv2d(24, 16, 1))
    net[2].weight.requires_grad_(False)
    exact = copy.deepcopy(net).double()
    both = optimize(net.train(), never_slower=False, progress=False), exact
    counts = []
    for step in range(4):
        if step == 2:
            for model in both:
                model[2].weight.data.mul_(0.5)
        packings.clear()
        same_gradients(both, lambda loss: loss.backward())
        counts.append(len(packings))
    assert counts[0] == counts[2] == counts[1] + 2 == counts[3] + 2  # forward and backward
    both[0].sol.give_memory_back()
    assert all(executable.packed_bytes == 0 for executable, _ in pair_of(both[0]).parts)
    same_gradients(both, lambda loss: loss.backward())
