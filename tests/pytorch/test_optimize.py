"""optimize and what `.sol` tells."""

from __future__ import annotations

import io
import math
import sys
from typing import Any

import pytest
import torch
from torch import nn

from sol.core.errors import InputError
from sol.ir.graph import Graph
from sol.pytorch import optimize
from sol.pytorch.progress import shown
from tests.pytorch.conftest import Compiler, Reference
from tests.pytorch.networks import Apply, Branching, Net

X = (3, 3, 6, 6)


@pytest.mark.parametrize(
    "example", [torch.Size(X), X, list(X), torch.randn(X), torch.randn(2, 3, 6, 6)]
)
def test_examples(example: Any, compiler: Compiler) -> None:
    net = Net().eval()
    fast = optimize(net, example)
    x = torch.randn(X)
    torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
    assert compiler.runs == 1


def test_without_example(compiler: Compiler) -> None:
    net = Net().eval()
    fast: Any = optimize(net)
    assert not compiler.made
    assert "first call" in fast.sol.explain()
    x = torch.randn(X)
    for _ in range(2):
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
    assert compiler.runs == 1


def test_an_example_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="cannot be called with these examples"):
        optimize(Net().eval(), (3, 4, 6, 6))
    with pytest.raises(InputError, match="cannot be called with these examples"):
        optimize(Net().eval(), X, X)
    with pytest.raises(InputError, match="size"):
        optimize(Net().eval(), (0, 3, 6, 6))


def test_an_error_of_the_model_without_words_has_a_name() -> None:
    def refuse(m: Any, x: torch.Tensor) -> torch.Tensor:
        raise ValueError

    with pytest.raises(InputError, match="ValueError"):
        optimize(Apply(refuse).eval(), X)


def test_a_keyword_that_nobody_knows() -> None:
    with pytest.raises(InputError, match="an option"):
        optimize(Net().eval(), X, thraeds=3)


def test_options_and_keywords_of_one_name() -> None:
    net = Apply(lambda m, x, threads: x + threads).eval()
    fast = optimize(net, (2, 3), threads=2, example_kwargs={"threads": (2, 3)})
    x = torch.ones(2, 3)
    assert torch.equal(fast(x, threads=x), x + x)


def test_threads(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    run = Reference.run
    monkeypatch.setattr(Reference, "run", lambda *a: (seen.append(a[-1]), run(*a))[1])
    fast, fixed = optimize(Net().eval(), X), optimize(Net().eval(), X, threads=1)
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            fast(torch.ones(X))
            fixed(torch.ones(X))
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 2, 1]


def test_progress() -> None:
    told: list[str] = []
    optimize(Net().eval(), X, progress=lambda text, done, total: told.append(text))
    assert told == ["reading the network"]


def test_a_bar_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for made, wanted in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", made)
        with shown(None) as tell:
            tell("working", 1, 2)
        assert bool(made.getvalue()) is wanted


# ---- .sol


def test_explain() -> None:
    fast: Any = optimize(Net().eval(), X)
    text = fast.sol.explain()
    assert "Net by Sol: 1 program" in text
    assert "program for (float32[B, 3, 6, 6])" in text
    assert "graph of" in text


def test_graphs_name_the_users_layers() -> None:
    fast: Any = optimize(Net().eval(), X)
    (graph,) = fast.sol.graphs
    assert {"conv", "bn", "fc"} <= {n.origin for n in graph}
    assert [n.name for n in graph.inputs] == ["tensors_0"]


def test_memory() -> None:
    fast: Any = optimize(Net().eval(), X)
    memory = fast.sol.memory
    assert (memory.batch, memory.arena, memory.packed, memory.total) == (3, 2000, 1000, 3000)
    assert "batch 3" in str(memory)


def test_check_of_a_right_network() -> None:
    fast: Any = optimize(Net().eval(), X)
    report = fast.sol.check(torch.randn(X))
    assert report.ok
    assert report.by_sol
    assert report.pytorch is not None
    assert report.first is None
    assert "against float64" in str(report)


def test_check_names_the_first_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    fast: Any = optimize(Net().eval(), X)
    run = Reference.run

    def wrong(self: Reference, inputs: Any, outputs: Any, batch: int, threads: int) -> None:
        self.parameters["fc.weight"][0] += 1
        run(self, inputs, outputs, batch, threads)

    def difference(graph: Any, parameters: Any, inputs: Any, batch: int) -> str:
        assert batch == 3
        assert inputs[0].shape == X
        assert "fc.weight" in parameters
        return "cluster 1 (fc)"

    monkeypatch.setattr(Reference, "run", wrong)
    monkeypatch.setattr("sol.pytorch.connect.first_difference", difference)
    report = fast.sol.check(torch.randn(X))
    assert not report.ok
    assert "first cluster that is off: cluster 1 (fc)" in str(report)


def test_check_of_what_runs_in_pytorch() -> None:
    fast: Any = optimize(Apply(lambda m, x: torch.erfc(x)).eval(), (2, 4))
    assert "runs in PyTorch" in str(fast.sol.check(torch.ones(2, 4)))


def test_check_of_parts() -> None:
    fast: Any = optimize(Branching().eval(), (2, 4))
    report = fast.sol.check(torch.randn(2, 4))
    assert report.by_sol
    assert report.ok


def test_check_does_not_write_arguments() -> None:
    fast: Any = optimize(nn.ReLU(inplace=True).eval(), (2, 4))
    x = -torch.ones(2, 4)
    assert fast.sol.check(x).ok
    assert x.sum() == -8


def test_ten_thousand_calls_without_growth() -> None:
    import gc
    import resource

    fast = optimize(Apply(lambda m, x: x + 1).eval(), (2, 4))
    x = torch.ones(2, 4)
    for _ in range(200):
        fast(x)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10_000):
        fast(x)
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_a_table_of_each_sample_with_each_other(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many numbers as the square of the batch: a program for each batch size."""

    def as_compiled(graph: Graph, *rest: Any) -> Any:
        for name in graph.outputs:
            math.prod(graph[name].shape)  # as the compiler does; B * B is refused
        return compiler(graph, *rest)

    monkeypatch.setattr("sol.pytorch.connect.compile_with", as_compiled)
    net = Apply(lambda m, x: (m.fc(x) @ m.fc(x).T, x + 1), fc=nn.Linear(5, 4)).eval()
    fast: Any = optimize(net, (3, 5), never_slower=False)
    for batch in (3, 2, 2):
        x = torch.randn(batch, 5)
        torch.testing.assert_close(fast(x), net(x), rtol=1e-4, atol=1e-5)
    assert compiler.runs == 2
    assert not fast.sol.report.refused
    assert "not linear in the batch size" in " ".join(str(fast.sol.report).split())
