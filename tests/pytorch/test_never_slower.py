"""Never slower, and never off unnoticed: with a clock that only the two ways move."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sol import accuracy
from sol.accuracy import Accuracy
from sol.core.errors import ConfigError, MemoryBudgetError
from sol.pytorch import optimize
from sol.pytorch.accuracy import difference
from sol.pytorch.judge import Judge
from sol.pytorch.session import Session
from sol.race import Trial, Verdict, race, verdict_of
from sol.runtime.cache import cache
from tests.pytorch.conftest import Compiler, Reference
from tests.pytorch.networks import Branching, Counting

X = (4, 6)


class World:
    """A clock, what a call costs by either way, and how often each ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sol, self.pytorch = 1.0, 2.0
        self.sol_calls = self.pytorch_calls = 0
        self.off = 0.0  # relative error of Sol's results, without a better precision
        self.off_careful = self.off_strict = 0.0
        self.options: list[dict[str, Any]] = []

    def clock(self) -> float:
        return self.now

    @property
    def calls(self) -> tuple[int, int]:
        return self.sol_calls, self.pytorch_calls


class Timed(Reference):
    """Sol, in this world."""

    world: World
    off = 0.0

    def run(self, inputs: Any, outputs: Any, batch: int, threads: int) -> None:
        self.world.now += self.world.sol
        self.world.sol_calls += 1
        self.parameters = {k: v * (1 + self.off) for k, v in self.parameters.items()}
        super().run(inputs, outputs, batch, threads)
        self.parameters = {k: v / (1 + self.off) for k, v in self.parameters.items()}


class Plain(nn.Module):
    """A network of one product."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.weight = nn.Parameter(torch.randn(6, 5) + bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, compiler: Compiler) -> World:
    made = World()
    cache.clear()

    def compile_with(graph: Any, options: dict[str, Any], progress: Any) -> Timed:
        executable = Timed(graph)
        executable.world = made
        better = {"careful": made.off_careful, "strict": made.off_strict}
        executable.off = better.get(options.get("precision", ""), made.off)
        made.options.append(options)
        return executable

    monkeypatch.setenv("SOL_NEVER_SLOWER", "1")
    monkeypatch.setattr("sol.pytorch.connect.compile_with", compile_with)
    judge = functools.partial(Judge, clock=made.clock, seconds=10.0)
    monkeypatch.setattr("sol.pytorch.connector.Judge", judge)
    by_original = Session.silently

    def counted(session: Session, args: Any, kwargs: Any) -> Any:
        made.now += made.pytorch
        made.pytorch_calls += 1
        return by_original(session, args, kwargs)

    monkeypatch.setattr(Session, "silently", counted)
    return made


def explained(fast: Any) -> str:
    return str(fast.sol.explain())


def call(fast: nn.Module, batch: int = 4, times: int = 1) -> None:
    x = torch.randn(batch, 6)
    with torch.no_grad():
        for _ in range(times):
            fast(x)


# ---- who wins


def test_the_faster_way_runs(world: World) -> None:
    for sol, winner in ((1.0, "sol"), (4.0, "framework"), (2.09, "sol"), (2.11, "framework")):
        world.sol = sol
        cache.clear()
        fast: Any = optimize(Plain().eval(), X)
        before = world.calls
        call(fast, times=3)
        ran = world.sol_calls - before[0], world.pytorch_calls - before[1]
        assert ran == ((3, 0) if winner == "sol" else (0, 3))
        (measured,) = fast.sol.report.programs[0].measured
        assert (measured.least, measured.most) == (4, 7)
        assert measured.verdict.winner == winner


def test_explain_says_who_won_and_by_how_much(world: World) -> None:
    text = explained(optimize(Plain().eval(), X))
    assert "batch 4 to 7: Sol 1.00 s, PyTorch 2.00 s" in text
    assert "Sol runs, 2.00 times as fast" in text
    assert "largest difference from PyTorch: " in text
    world.sol = 3e-3
    world.pytorch = 2e-3
    cache.clear()
    text = explained(optimize(Plain().eval(), X))
    assert "Sol 3.00 ms, PyTorch 2.00 ms" in text
    assert "PyTorch runs, Sol takes 1.50 times as long" in text


def test_a_second_module_does_not_measure_again(world: World) -> None:
    world.sol = 4.0
    optimize(Plain().eval(), X)
    before = world.calls
    again: Any = optimize(Plain().eval(), X)
    assert world.calls == before
    call(again)
    assert world.calls == (before[0], before[1] + 1)
    assert again.sol.report.programs[0].measured
    assert again.sol.report.programs[0].accuracy is not None


def test_another_number_of_threads_measures_again(world: World) -> None:
    optimize(Plain().eval(), X, threads=1)
    before = world.calls
    optimize(Plain().eval(), X, threads=1)
    assert world.calls == before
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        optimize(Plain().eval(), X)
    finally:
        torch.set_num_threads(threads)
    assert world.calls != before


def test_a_network_for_one_batch_size(world: World) -> None:
    class Square(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (super().forward(x) @ self.weight.T @ x.T).reshape(x.shape[0] * x.shape[0])

    fast: Any = optimize(Square().eval(), X)
    (measured,) = fast.sol.report.programs[0].measured
    assert str(measured).startswith("Sol 1.00 s")


# ---- batches of another class


def test_batches_of_another_class_are_tried_call_by_call(world: World) -> None:
    world.pytorch = 1.1
    fast: Any = optimize(Plain().eval(), X)
    world.pytorch = 0.5
    for number in range(1, 9):
        total = sum(world.calls)
        call(fast, batch=8)
        assert sum(world.calls) == total + 1  # never both
        assert len(fast.sol.report.programs[0].measured) == (1 if number < 8 else 2)
    before = world.calls
    call(fast, batch=15, times=3)
    assert world.calls == (before[0], before[1] + 3)
    call(fast, batch=4)
    assert world.calls == (before[0] + 1, before[1] + 3)
    again: Any = optimize(Plain().eval(), X)  # it is remembered
    before = world.calls
    call(again, batch=9)
    assert world.calls == (before[0], before[1] + 1)


def test_a_clear_victory_holds_for_all_batches(world: World) -> None:
    fast = optimize(Plain().eval(), X)
    before = world.calls
    call(fast, batch=64, times=5)
    assert world.calls == (before[0] + 5, before[1])


def test_without_example_calls_are_tried(world: World) -> None:
    world.sol = 4.0
    fast: Any = optimize(Plain().eval())
    call(fast)
    assert world.calls == (1, 1)  # the original ran, and Sol's result was compared with it
    assert fast.sol.report.programs[0].accuracy is not None
    call(fast, times=8)
    before = world.calls
    call(fast, times=2)
    assert world.calls == (before[0], before[1] + 2)


def test_gradients_are_no_trial(world: World) -> None:
    world.sol = 4.0
    fast = optimize(Plain().eval())
    x = torch.randn(X)
    before = world.calls
    for _ in range(20):
        fast(x)
    assert world.calls == (before[0] + 20, 1)


# ---- what is not measured


@pytest.mark.parametrize("options", [{"never_slower": False}, {"memory": "1GB"}])
def test_on_request_nothing_is_measured(world: World, options: Any) -> None:
    world.sol = 4.0
    fast: Any = optimize(Plain().eval(), X, **options)
    call(fast, times=3)
    assert world.calls == (3, 0)
    assert fast.sol.report.programs[0].measured == ()


def test_the_setting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_NEVER_SLOWER", "0")
    call(optimize(Plain().eval(), X))
    assert world.calls == (1, 0)


def test_networks_that_write_memory_run_once_a_call(world: World) -> None:
    net = Counting().eval()
    fast: Any = optimize(net, (2, 4))
    for n in range(1, 20):
        with torch.no_grad():
            fast(torch.ones(2, 4))
        assert int(net.count.sum()) == n * net.count.numel()
    assert fast.sol.report.programs[0].measured == ()


def test_networks_in_parts(world: World) -> None:
    fast = optimize(Branching().eval(), (2, 4))
    with torch.no_grad():
        fast(torch.ones(2, 4))


def test_what_runs_in_pytorch_anyway_is_not_measured(world: World) -> None:
    net = nn.Sequential(Plain()).eval()
    net[0].register_forward_hook(lambda module, args, result: result + 1)
    fast: Any = optimize(net, X)
    assert world.sol_calls == 0
    assert all(not p.measured and p.accuracy is None for p in fast.sol.report.programs)


def test_a_failure_while_measuring_leaves_the_program(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> float:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("sol.pytorch.judge.difference", broken)
    call(optimize(Plain().eval(), X))
    assert "could not be compared" in caplog.text


# ---- results


def test_strict_precision_where_the_default_is_off(world: World) -> None:
    world.off = world.off_careful = 2e-4
    fast: Any = optimize(Plain().eval(), X)
    assert [o.get("precision") for o in world.options] == [None, "strict", "careful"]
    found = fast.sol.report.programs[0].accuracy
    assert found.error == pytest.approx(2e-4, rel=0.1)
    assert found.strict < 1e-6
    assert "which is used" in fast.sol.explain()
    x = torch.randn(X)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), Plain()(x))
    before = world.calls
    again: Any = optimize(Plain().eval(), X)  # remembered: nothing runs
    assert world.calls == before
    assert again.sol.report.programs[0].accuracy == found
    with torch.no_grad():
        torch.testing.assert_close(again(x), Plain()(x))


def test_other_weights_are_compared_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = iter(range(1, 100))
    optimize(Plain().eval(), X)
    before = world.calls
    monkeypatch.setattr("sol.pytorch.connect.fingerprint", lambda a, s: next(contents))
    optimize(Plain(1.0).eval(), X)
    assert world.calls == (before[0] + 1, before[1] + 1)  # compared, not timed


def test_the_better_of_two(world: World) -> None:
    world.off, world.off_strict = 1e-4, 3e-4
    fast: Any = optimize(Plain().eval(), X)
    found = fast.sol.report.programs[0].accuracy
    assert found.precision == "default"
    assert "which is no better" in found.text("PyTorch")
    world.sol_calls = 0
    with torch.no_grad():
        error = difference([fast(torch.ones(X))], [Plain()(torch.ones(X))])
    assert error == pytest.approx(1e-4, rel=0.1)


def test_the_careful_precision_where_it_is_enough(world: World) -> None:
    world.off, world.off_careful, world.off_strict = 2e-4, 1e-5, -3e-5
    fast: Any = optimize(Plain().eval(), X)
    assert [o.get("precision") for o in world.options] == [None, "strict", "careful"]
    found = fast.sol.report.programs[0].accuracy
    assert found.precision == "careful"
    assert 'hardly better than "careful", which is used' in found.text("PyTorch")
    with torch.no_grad():
        error = difference([fast(torch.ones(X))], [Plain()(torch.ones(X))])
    assert error == pytest.approx(1e-5, rel=0.1)
    again: Any = optimize(Plain().eval(), X)
    assert again.sol.report.programs[0].accuracy == found  # remembered
    assert [o.get("precision") for o in world.options[3:]] == [None, "careful"]


def test_far_off_is_said(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.off = world.off_strict = 1e-2
    with caplog.at_level(logging.WARNING):
        fast: Any = optimize(Plain().eval(), X)
    assert "1.0e-02" in caplog.text
    assert "small errors grow" in fast.sol.explain()
    before = world.calls
    call(fast)
    assert world.calls == (before[0] + 1, before[1])


def test_no_numbers_instead_of_numbers(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.off = world.off_strict = float("nan")
    fast: Any = optimize(Plain().eval(), X)
    before = world.calls
    call(fast)
    call(fast, batch=32)
    assert world.calls == (before[0], before[1] + 2)
    assert "PyTorch runs" in fast.sol.explain()


def test_strict_users_are_not_compiled_for_twice(world: World) -> None:
    world.off_strict = 2e-4
    optimize(Plain().eval(), X, precision="strict")
    assert len(world.options) == 1


def test_differences() -> None:
    nan, inf = float("nan"), float("inf")
    own = torch.tensor([1.0, -4.0, nan, inf])
    assert difference([torch.tensor([1.0, -4.0, nan, inf])], [own]) == 0
    assert difference([torch.tensor([1.0, -3.0, 5.0, nan])], [own]) == 0.25
    assert difference([torch.tensor([nan, -4.0, nan, inf])], [own]) == inf
    assert difference([torch.tensor([inf, -4.0, nan, inf])], [own]) == inf
    assert difference([torch.tensor([1, 2])], [torch.tensor([1, 3])]) == 0  # whole numbers
    assert difference([torch.zeros(0)], [torch.zeros(0)]) == 0
    assert difference([torch.tensor([nan])], [torch.tensor([nan])]) == 0
    assert difference([torch.zeros(2)], [torch.zeros(2)]) == 0
    assert difference([torch.zeros(2)], [torch.zeros(3)]) == inf
    assert difference([], []) == 0


def test_own_errors_are_told_from_differences() -> None:
    noise = np.random.default_rng(0).standard_normal((3, 1, 1000))
    exact = np.linspace(-1, 1, 1000)
    found, one, other = exact + noise * np.reshape((3e-5, 1e-5, 2e-5), (3, 1, 1))
    largest = float(np.abs(found - exact).max())
    assert accuracy.own_error([found], [one], [other]) == pytest.approx(largest, rel=0.15)
    assert accuracy.own_error([found], [found], [other]) == 0
    assert accuracy.own_error([found], [one], [found]) > 2e-5  # at least half a mean square
    assert accuracy.own_error([found * np.nan], [one], [other]) == float("inf")
    assert accuracy.own_error([found], [one], [other * np.nan]) == difference(
        [torch.from_numpy(found)], [torch.from_numpy(one)]
    )
    assert accuracy.own_error([], [], []) == 0


def test_what_accuracy_says() -> None:
    assert not Accuracy(accuracy.ROUNDING).suspect
    assert Accuracy(6e-5).suspect
    assert not Accuracy(6e-5).far
    assert Accuracy(6e-5, 3e-5, 5e-5).precision == "default"
    assert "hardly better" in Accuracy(6e-5, 3e-5, 5e-5).text("PyTorch")
    assert Accuracy(1e-4, 5e-5, 8.1e-5).precision == "strict"
    assert Accuracy(1e-4, 5e-5, 8.1e-5, 4e-5).precision == "careful"
    assert Accuracy(1e-4, 5e-5, 8.1e-5, 4e-5).best == 4e-5
    assert Accuracy(1e-4, 5e-5, 8.1e-5, 8.1e-5).precision == "strict"
    assert Accuracy(1e-4, 5e-5, 8.1e-5, 8.1e-5, exact=5e-5).precision == "strict"
    assert Accuracy(5e-4, 3e-4, 4e-4, 2.3e-4, exact=2e-4).precision == "careful"
    assert Accuracy(5e-4, 3e-4, 4e-4, 2.5e-4, exact=2e-4).precision == "strict"
    assert Accuracy(1e-2, 1e-7, 1e-2).best == 1e-7
    assert not Accuracy(1e-2, 1e-7, 1e-2).far
    assert Accuracy(1e-2, 2e-2).far
    assert Accuracy(float("inf"), 1e-7, float("inf")).precision == "strict"
    assert not Accuracy(float("inf"), 1e-7, float("inf")).wrong
    assert Accuracy(float("inf"), float("inf")).wrong


# ---- the race itself


def test_noise_changes_nothing() -> None:
    assert verdict_of([3.0, 1.0, 3.0], [2.0, 2.0, 2.0]).winner == "sol"  # least
    assert verdict_of([2.0, 2.0, 2.0], [1.0, 3.0, 3.0]).winner == "sol"  # median
    assert verdict_of([2.0, 2.0], [1.0, 1.0]).winner == "sol"  # two rounds
    assert verdict_of([2.0, 2.0, 2.0], [1.0, 1.0, 3.0]).winner == "framework"


@pytest.mark.parametrize(
    ("sol", "pytorch", "rounds", "calls"),
    [
        (1.0, 2.0, 1, 2),  # long calls, Sol ahead: one round is over the time
        (2.0, 1.0, 3, 4),  # a defeat takes three
        (0.1, 0.2, 2, 3),  # beyond doubt after two
        (0.1, 0.1, 5, 6),  # as long as there is time
        (1e-6, 1.02e-6, 25, 25_001),  # short calls are repeated
    ],
)
def test_rounds(sol: float, pytorch: float, rounds: int, calls: int) -> None:
    world = World()
    counts = {"sol": 0, "framework": 0}

    def way(name: str, cost: float) -> None:
        counts[name] += 1
        world.now += cost

    one, other = functools.partial(way, "sol", sol), functools.partial(way, "framework", pytorch)
    pauses: list[float] = []
    verdict = race(one, other, clock=world.clock, pause=pauses.append, seconds=1.1)
    assert verdict.rounds == rounds
    assert counts["sol"] == calls
    assert len(pauses) == 2 * rounds
    assert verdict.sol == pytest.approx(sol)
    assert verdict.framework == pytest.approx(pytorch)


def test_a_trial_takes_turns_and_forgets_first_calls() -> None:
    trial = Trial()
    taken = []
    while trial.verdict is None:
        way = trial.next()
        taken.append(way)
        trial.add(way, 9.0 if len(taken) <= 2 else {"sol": 2.0, "framework": 1.0}[way])
    assert taken == ["sol", "framework"] * 4
    assert trial.verdict == Verdict(2.0, 1.0, 2.0, 1.0, 3)
    short = Trial()
    for _ in range(20):
        short.add("sol", 1e-6)
        short.add("framework", 1e-6)
    assert short.verdict is None  # too short to be sure
    short.add("sol", 1e-6)
    short.add("framework", 1e-6)
    assert short.verdict is not None


# ---- memory


def test_a_budget_that_is_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compile_with(graph: Any, options: dict[str, Any], progress: Any) -> Any:
        calls.append(options)
        raise MemoryBudgetError("too little", expected="more")

    monkeypatch.setattr("sol.pytorch.connect.compile_with", compile_with)
    with pytest.raises(MemoryBudgetError, match="too little"):
        optimize(Plain().eval(), X, memory=1000)
    fast = optimize(Plain().eval(), memory=1000)
    for _ in range(3):
        with pytest.raises(MemoryBudgetError, match="too little"):
            fast(torch.ones(X))
    assert len(calls) == 2


@pytest.mark.parametrize("memory", ["lots", "0", 0, -1, True, 1.5, []])
def test_no_number_of_bytes(memory: Any) -> None:
    from sol.compiler import Options

    with pytest.raises(ConfigError, match="no number of bytes"):
        Options(memory=memory)


def test_numbers_of_bytes() -> None:
    from sol.compiler import Options

    assert Options(memory="200MB").budget == 200 * 2**20
    assert Options(memory=12345).budget == 12345
    assert Options().budget is None
