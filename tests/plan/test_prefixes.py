"""A concatenation that is the begin of a longer one is a slice of it."""

from __future__ import annotations

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.check import verify
from sol.ir.graph import Graph, TensorType
from sol.ops.registry import builder, infer
from sol.plan.prefixes import share_prefixes
from tests.compiler.programs import Case, build_joined, compare


def network(given: bool) -> Graph:
    """What every second one of some layers reads, the first of them first."""
    b = builder()
    parts = []
    for k in range(4):
        x = b.input(f"x{k}", TensorType((B, 6, 5, 3 + k), F32))
        x = b.add("permute", x, axes=(0, 3, 1, 2))
        parts.append(x if given else b.add("exp", x))
    joined = [b.add("concat", *parts[:count], axis=1) for count in (2, 3, 4)]
    return b.finish([b.add("relu", x) for x in joined])


def test_what_is_given_is_copied_once() -> None:
    graph = share_prefixes(network(given=True))
    verify(graph, infer)
    assert [n.op for n in graph if n.op in ("slice", "concat")] == ["concat", "slice", "slice"]
    assert share_prefixes(graph) is graph


def test_what_is_computed_stays_apart() -> None:
    graph = network(given=False)
    assert share_prefixes(graph) is graph


def test_slices_are_right() -> None:
    compare(build_joined([Case("given", network(True)), Case("computed", network(False))]), 3)
