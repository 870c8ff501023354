"""All passes in their order, run until none changes anything: `run(graph)`.

`PASSES` is the table: each pass with what it requires of the graph and what it ensures. A pass is a
pure function `Graph -> Graph` that keeps what the graph computes (but for rounding), the names and
order of its inputs, and the number and order of its results. Called by sol/compiler.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sol.core.errors import VerifyError
from sol.ir.check import verify
from sol.ir.graph import Graph
from sol.ir.rewrite import Fuel
from sol.ops.registry import infer
from sol.passes.batchnorm import batchnorm
from sol.passes.canonical import canonical
from sol.passes.duplicates import dead, duplicates
from sol.passes.fold import fold
from sol.passes.phases import phases
from sol.passes.simplify import simplify

_MOST_ROUNDS = 20

Observe = Callable[[str, Graph], None]


@dataclass(frozen=True, slots=True)
class Pass:
    """A pass: its function, the properties it requires and those that hold after it.

    A property is a name of `PROPERTIES`. A later pass may end what an earlier one ensured; what the
    last round leaves has them all.
    """

    name: str
    apply: Callable[[Graph, Fuel | None], Graph]
    requires: tuple[str, ...]
    ensures: tuple[str, ...]


def _no_dead(graph: Graph) -> bool:
    return dead(graph) is graph


def _unique(graph: Graph) -> bool:
    return duplicates(graph) is graph


def _folded(graph: Graph) -> bool:
    return fold(graph) is graph


def _no_batchnorm(graph: Graph) -> bool:
    found = (n for n in graph.nodes if n.op == "batch_norm")
    return not any(all(i in graph.static for i in n.inputs[1:]) for n in found)


PROPERTIES: dict[str, Callable[[Graph], bool]] = {
    "no dead nodes": _no_dead,
    "no two equal nodes": _unique,
    "constants folded": _folded,
    "no batch_norm of parameters": _no_batchnorm,
}

PASSES: tuple[Pass, ...] = (
    # what is dead need not be looked at
    Pass("dead", dead, (), ("no dead nodes",)),
    # numbers that models compute are numbers, as the rules of all others want them
    Pass("fold", fold, (), ("constants folded",)),
    # patterns name a value twice, so equal values must be one
    Pass("duplicates", duplicates, (), ("no two equal nodes",)),
    Pass("canonical", canonical, ("no two equal nodes",), ()),
    # after attention has been found, which reads scales that this would put into weights
    Pass("batchnorm", batchnorm, (), ("no batch_norm of parameters",)),
    # after scales and shifts have been put into weights, which are then taken apart
    Pass("phases", phases, ("no batch_norm of parameters",), ()),
    Pass("simplify", simplify, (), ()),
)


def run(
    graph: Graph,
    check: bool = False,
    fuel: Fuel | int | None = None,
    observe: Observe | None = None,
) -> Graph:
    """The graph after all passes, again and again until none changes it.

    check: verify the graph before and after each pass, and what passes require and ensure.
    fuel: at most this many rewrites in all (SOL_FUEL); bisect it to find the one that is wrong.
    observe: called with the name of each pass that changed the graph, and the new graph.
    VerifyError if a check fails or the passes do not come to an end.
    """
    fuel = fuel if isinstance(fuel, Fuel) else Fuel(fuel)
    if check:
        verify(graph, infer)
    for _ in range(_MOST_ROUNDS):
        before = graph
        for step in PASSES:
            graph = _apply(step, graph, check, fuel, observe)
        if graph is before:
            return graph
    raise VerifyError(
        f"the passes still change the graph after {_MOST_ROUNDS} rounds",
        expected="passes that do not undo each other",
        do="look at what changes with observe=, or with SOL_DUMP",
    )


def _apply(step: Pass, graph: Graph, check: bool, fuel: Fuel, observe: Observe | None) -> Graph:
    complete = check and fuel.limit is None  # a pass that runs out of fuel ensures nothing
    if complete:
        _check_properties(step, "requires", step.requires, graph)
    after = step.apply(graph, fuel)
    if after is graph:
        return graph
    if check:
        verify(after, infer)
        _check_interface(step, graph, after)
    if complete:
        _check_properties(step, "ensures", step.ensures, after)
    if observe is not None:
        observe(step.name, after)
    return after


def _check_properties(step: Pass, how: str, names: tuple[str, ...], graph: Graph) -> None:
    for name in names:
        if not PROPERTIES[name](graph):
            raise VerifyError(
                f"the pass {step.name} {how} `{name}`, which does not hold",
                expected=name,
                do="correct the pass, or the order of PASSES",
            )


def _check_interface(step: Pass, before: Graph, after: Graph) -> None:
    inputs = [(n.name, n.type) for n in before.inputs] == [(n.name, n.type) for n in after.inputs]
    results = [before[o].type for o in before.outputs] == [after[o].type for o in after.outputs]
    if not inputs or not results:
        raise VerifyError(
            f"the pass {step.name} changed the inputs or the types of the results",
            expected="the same inputs in the same order, results of the same types",
            do="correct the pass",
        )
