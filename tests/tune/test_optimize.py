"""`optimize(model, x, tune=…)`: what is tuned, on what, and what happens if that fails."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

from sol.cli import parser
from sol.core.errors import ConfigError, InputError
from sol.pytorch import connect, optimize
from sol.pytorch.tuning import tune


class Net(nn.Module):
    """Two parts for Sol, and an operator between them that it has no row for."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x).relu()
        return self.two(torch.hypot(y, y + 1))  # type: ignore[no-any-return]


@pytest.fixture
def example() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 8)


class Tuned:
    """Stands for sol.tune: remembers what it was given; its executables count their runs."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.given: list[tuple[Any, ...]] = []
        self.runs, self.error = 0, error

    def __call__(self, executable: Any, *given: Any) -> Any:
        self.given.append(given)
        if self.error is not None and len(self.given) == 2:
            raise self.error
        return _Other(executable, self)


class _Other:
    def __init__(self, executable: Any, tuned: Tuned) -> None:
        self._executable, self._tuned = executable, tuned

    def run(self, *given: Any) -> object:
        self._tuned.runs += 1
        return self._executable.run(*given)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executable, name)


def test_each_part_is_tuned_on_what_reaches_it(
    example: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = Tuned()
    monkeypatch.setattr(connect, "tuned", tuned)
    model = Net().eval()
    fast = optimize(model, example, tune=8, threads=1)
    assert len(tuned.given) == 2
    for parameters, inputs, batch, threads, seconds, _ in tuned.given:
        assert len(parameters) == 2
        assert (batch, threads, seconds) == (3, 1, 4.0)
        assert inputs[0].shape[0] == 3
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(tuned.given[1][1][0]), _between(model, example))
        torch.testing.assert_close(fast(example), model(example))
    assert tuned.runs == 2


def _between(model: Net, x: torch.Tensor) -> torch.Tensor:
    y = model.one(x).relu()
    return torch.hypot(y, y + 1)


@pytest.mark.parametrize("seconds", [None, 0])
def test_nothing_is_tuned_by_default(
    example: torch.Tensor, monkeypatch: pytest.MonkeyPatch, seconds: float | None
) -> None:
    tuned = Tuned()
    monkeypatch.setattr(connect, "tuned", tuned)
    optimize(Net().eval(), example, tune=seconds)
    assert not tuned.given


def test_an_interrupt_leaves_the_default_programs(
    example: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second part, when the first one is done."""
    tuned = Tuned(KeyboardInterrupt())
    model = Net().eval()
    fast = optimize(model, example)
    monkeypatch.setattr(connect, "tuned", tuned)
    session = fast.__dict__["_sol_session"]
    with pytest.raises(KeyboardInterrupt):
        tune(session, session.entries[0], (example,), {}, 5, lambda *what: None)
    with torch.no_grad():
        torch.testing.assert_close(fast(example), model(example))
    assert tuned.runs == 0


def test_an_error_leaves_the_default_programs(
    example: torch.Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tuned = Tuned(RuntimeError("no luck"))
    monkeypatch.setattr(connect, "tuned", tuned)
    model = Net().eval()
    with caplog.at_level(logging.WARNING):
        fast = optimize(model, example, tune=5)
    assert "no luck" in caplog.text
    with torch.no_grad():
        torch.testing.assert_close(fast(example), model(example))
    assert tuned.runs == 0


def test_a_network_is_tuned() -> None:
    """With real times: whatever wins is right."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3)).eval()
    x = torch.rand(2, 3, 20, 20)
    told: list[str] = []
    fast: Any = optimize(model, x, tune=2, progress=lambda text, done, total: told.append(text))
    assert "tuning" in told
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
        model[0].weight += 0.1  # the tuned program follows its parameters, too
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)


def test_it_needs_an_example() -> None:
    with pytest.raises(InputError, match="tune=5 and no example"):
        optimize(Net().eval(), tune=5)


def test_wrong_values_are_refused(example: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="is no number of seconds"):
        optimize(Net().eval(), example, tune=-1)
    with pytest.raises(ConfigError, match="precision='half'"):
        optimize(Net().eval(), example, precision="half")


@pytest.mark.parametrize("command", ["optimize", "explain", "bench"])
def test_the_command_line(command: str) -> None:
    assert parser().parse_args([command, "resnet18", "--tune", "2.5"]).tune == 2.5
    assert parser().parse_args([command, "resnet18"]).tune == 0
    with pytest.raises(SystemExit):
        parser().parse_args([command, "resnet18", "--tune", "-1"])
