"""How wrong stages are found: each stage can be written down, checked, and undone in part.

SOL_DUMP writes all of them, SOL_CHECK names the first that changes a result, SOL_FUEL ends
rewriting so that the wrong rewrite is found by halving, and `report.check.first_difference` names
the first cluster whose kernel is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sol.backends.toolchain import build
from sol.compiler import Compiled, Options, compile_graph, print_program
from sol.core.device import detect
from sol.core.dims import B
from sol.core.dtypes import F32, F64
from sol.core.errors import VerifyError
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ir.loop import For, If, Kernel, Stmt, Store
from sol.ir.rewrite import Fuel, Rule, rule
from sol.ir.show import parse_graph, print_graph
from sol.observe import observers
from sol.ops.reference import evaluate
from sol.passes import simplify
from sol.passes.pipeline import run as run_passes
from sol.report.check import Difference, first_difference
from sol.runtime.cache import cache
from sol.runtime.program import Program
from tests.compiler.programs import Array, Case, network

WRONG = rule("tanh(x) -> sigmoid(x)")


def _small(b: Builder) -> Node:
    x = b.input("x", TensorType((B, 4, 6), F32))
    scale = b.parameter("scale", TensorType((6,), F32))
    y = b.add("neg", b.add("neg", b.add("mul", x, scale)))
    z = b.add("relu", b.add("relu", b.add("tanh", y)))
    return b.add("softmax", b.add("add", z, b.constant(0.0, F32)), axis=2)


@pytest.fixture
def graph() -> Graph:
    """A network in which several passes find something to do."""
    return network(_small)


@pytest.fixture
def wrong_rule(monkeypatch: pytest.MonkeyPatch) -> Rule:
    """`simplify` with a rule that changes results, behind all others."""
    monkeypatch.setattr(simplify, "RULES", (*simplify.RULES, WRONG))
    return WRONG


def values(case: Case, batch: int = 2) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs by name, parameters by key."""
    return (
        {n.name: case.array(n, batch) for n in case.graph.inputs},
        {n["key"]: case.array(n, batch) for n in case.graph.parameters},
    )


# ---- SOL_DUMP ------------------------------------------------------------------------------------


@pytest.fixture
def dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that SOL_DUMP names; it does not exist yet."""
    monkeypatch.setenv("SOL_DUMP", str(tmp_path / "dump"))
    return tmp_path / "dump"


def test_nothing_is_written_unasked(graph: Graph, tmp_path: Path) -> None:
    assert not observers()
    compile_graph(graph)
    assert not list(tmp_path.iterdir())


def test_a_dump_has_every_stage(graph: Graph, dump: Path) -> None:
    compiled = compile_graph(graph)
    (folder,) = dump.iterdir()
    stages = [p.stem.split("-", 1)[1] for p in sorted(folder.glob("*.txt"))]
    assert stages[0] == "captured"
    assert stages[-1] == "planned"
    assert "simplify" in stages
    graphs = [parse_graph(p.read_text("utf-8")) for p in sorted(folder.glob("*.txt"))]
    assert graphs[0] == graph
    assert graphs[-2] == run_passes(graph)
    assert graphs[-1] == compiled.planned.plan.graph
    units = [p.read_text("utf-8") for p in sorted((folder / "program").glob("*.c"))]
    assert tuple(units) == compiled.source.units
    clusters = (folder / "program" / "clusters.txt").read_text("utf-8").splitlines()
    assert len(clusters) == len(compiled.steps)


def test_every_stage_of_a_dump_computes_the_same(graph: Graph, dump: Path) -> None:
    compile_graph(graph)
    case = Case("dump", graph)
    inputs, parameters = values(case)
    expected = evaluate(graph, inputs, parameters, batch=2, dtype=F64)[0]
    for path in sorted((dump / "0").glob("*.txt")):
        stage = parse_graph(path.read_text("utf-8"))
        found = evaluate(stage, inputs, parameters, batch=2, dtype=F64)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=path.name)


def test_each_network_has_a_folder_of_its_own(graph: Graph, dump: Path) -> None:
    for _ in range(2):
        compile_graph(graph)
    assert sorted(p.name for p in dump.iterdir()) == ["0", "1"]
    first, second = ({p.name for p in (dump / n).rglob("*")} for n in "01")
    assert first == second


# ---- SOL_CHECK -----------------------------------------------------------------------------------


def test_a_right_compiler_passes_the_check(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_CHECK", "1")
    compile_graph(graph)


def test_the_check_names_the_wrong_stage(
    graph: Graph, wrong_rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_graph(graph)  # unchecked, it is not noticed
    monkeypatch.setenv("SOL_CHECK", "1")
    with pytest.raises(VerifyError, match="stage simplify changes result 0") as caught:
        compile_graph(graph)
    assert "SOL_FUEL" in str(caught.value)


def test_the_check_sees_the_planner(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_CHECK", "1")
    monkeypatch.setattr("sol.plan.planner.prepare_graph", _with_a_wrong_end)
    with pytest.raises(VerifyError, match="stage planned changes result 0"):
        compile_graph(graph)


def _with_a_wrong_end(graph: Graph, _lanes: int, *_: object) -> Graph:
    end = graph[graph.outputs[0]]
    wrong = Node("wrong", "neg", (end.name,), (), end.type)
    return Graph((*graph.nodes, wrong), ("wrong",))


def test_the_check_refuses_an_invalid_graph(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_CHECK", "1")
    (watching,) = observers()
    broken = tuple(
        replace(n, type=TensorType((B, 9), F32)) if n.op == "softmax" else n for n in graph
    )
    with pytest.raises(VerifyError, match="softmax"):
        watching.graph("broken", Graph(broken, graph.outputs))


def test_dump_and_check_at_once(
    graph: Graph, wrong_rule: Rule, dump: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOL_CHECK", "1")
    with pytest.raises(VerifyError, match="stage simplify"):
        compile_graph(graph)
    last = max((dump / "0").glob("*.txt"))
    assert "simplify" in last.name
    assert "sigmoid" in last.read_text("utf-8")


# ---- SOL_FUEL ------------------------------------------------------------------------------------


def is_right(graph: Graph, fuel: int) -> bool:
    """Whether so many rewrites leave the results as they are, by SOL_CHECK."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOL_CHECK", "1")
        patch.setenv("SOL_FUEL", str(fuel))
        (watching,) = observers()
        watching.graph("captured", graph)
        try:
            run_passes(graph, fuel=fuel, observe=watching.graph)
        except VerifyError:
            return False
    return True


def first_wrong(graph: Graph, holds: Callable[[Graph, int], bool]) -> int:
    """The number of the rewrite that is wrong: halving, as a person would."""
    right, wrong = 0, 100
    while wrong - right > 1:
        middle = (right + wrong) // 2
        right, wrong = (middle, wrong) if holds(graph, middle) else (right, middle)
    return wrong


def test_no_fuel_leaves_a_graph_as_it_is(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_FUEL", "0")
    assert run_passes(graph, fuel=0) == graph
    assert "relu_1" in print_graph(compile_graph(graph).planned.plan.graph)


def test_fuel_reaches_the_passes(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    for fuel in ("0", "1", "2", "100"):
        monkeypatch.setenv("SOL_FUEL", fuel)
        sizes.append(len(compile_graph(graph).planned.plan.graph))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_a_wrong_rewrite_is_found_by_halving(graph: Graph, wrong_rule: Rule) -> None:
    number = first_wrong(graph, is_right)
    assert 1 < number < 100
    fuel = Fuel(number)
    run_passes(graph, fuel=fuel)
    assert fuel.last.startswith(wrong_rule.text)


# ---- the first cluster that is off ---------------------------------------------------------------


def _four_clusters(b: Builder) -> Node:
    x = b.input("x", TensorType((B, 8, 6, 6), F32))
    weights = [b.parameter("filter", TensorType((8, 8, 3, 3), F32))]
    weights += [b.parameter("matrix", TensorType((5, 8), F32))]
    attrs = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    y = b.add("relu", b.add("conv", x, weights[0], **attrs))
    attrs = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    y = b.add("max_pool", y, ceil=False, **attrs)
    y = b.add("linear", b.add("reshape", y, shape=(B, 9, 8)), weights[1])
    return b.add("softmax", y, axis=2)


@functools.cache
def kept() -> Compiled:
    """A network of several clusters, all of whose values stay in memory."""
    return compile_graph(network(_four_clusters), keep=True)


def difference(compiled: Compiled, batch: int) -> Difference | None:
    """What `first_difference` finds in a run on random numbers."""
    inputs, parameters = values(Case("kept", compiled.graph), batch)
    return first_difference(compiled, parameters, list(inputs.values()), batch)


def with_wrong_step(compiled: Compiled, number: int) -> Compiled:
    """The same program, but one step's kernels store the negative of what they should."""
    made = list(compiled.steps)
    calls = tuple(replace(c, kernel=_negative(c.kernel)) for c in made[number].calls)
    made[number] = replace(made[number], calls=calls)
    tensors, source = print_program(compiled.planned, made)
    program = Program(build(source.units, detect(), cache), group=0)
    return Compiled(
        compiled.graph, compiled.planned, tuple(made), tensors, source, program, Options()
    )


def _negative(kernel: Kernel) -> Kernel:
    written = {b.name for b in kernel.buffers if b.written}

    def changed(stmt: Stmt) -> Stmt:
        match stmt:
            case Store(buffer=buffer, value=value) if buffer in written:
                return replace(stmt, value=value * -1.0)
            case For(body=body):
                return replace(stmt, body=tuple(map(changed, body)))
            case If(body=body, orelse=orelse):
                return replace(
                    stmt, body=tuple(map(changed, body)), orelse=tuple(map(changed, orelse))
                )
        return stmt

    return replace(kernel, body=tuple(map(changed, kernel.body)))


def test_a_right_program_has_no_difference() -> None:
    assert len(kept().steps) == 4
    assert [difference(kept(), batch) for batch in (1, 2, 3)] == [None] * 3


@pytest.mark.parametrize("number", range(4))
def test_the_first_wrong_cluster_is_named(number: int) -> None:
    compiled = with_wrong_step(kept(), number)
    cluster = compiled.steps[number].cluster
    found = difference(compiled, 2)
    assert found is not None
    assert (found.cluster, found.layers) == (number, cluster.layers)
    assert found.value == cluster.values[-1]
    assert found.error == pytest.approx(2 * found.largest, rel=1e-3)
    assert str(found).startswith(f"cluster {number} ({', '.join(cluster.layers)}): {found.value}")
