"""Values of a step of training live for a short time."""

from __future__ import annotations

from sol.core.dtypes import F32
from sol.ir.graph import TensorType
from sol.ops.registry import builder
from sol.passes.order import early, late


def test_what_is_computed_again_comes_when_it_is_needed() -> None:
    b = builder()
    x, dy = (b.input(name, TensorType((3,), F32)) for name in ("x", "dy"))
    first = b.add("relu", x, name="first")
    unused = b.add("exp", first, name="last")
    change = b.add("mul", dy, first, name="change")
    graph = b.finish([b.add("mul", change, unused, name="result"), unused])
    assert [n.name for n in graph] == ["x", "dy", "first", "last", "change", "result"]
    moved = late(graph, ["dy"])
    assert [n.name for n in moved] == ["x", "dy", "first", "change", "last", "result"]
    assert set(moved) == set(graph)
    assert moved.outputs == graph.outputs
    assert late(moved, ["dy"]) == moved


def test_what_is_only_kept_comes_behind_what_it_reads() -> None:
    b = builder()
    x = b.input("x", TensorType((3,), F32))
    first = b.add("relu", x, name="first")
    result = b.add("exp", b.add("tanh", first, name="second"), name="result")
    number = b.constant(2.0, F32, name="number")  # made late, but there from the begin
    kept = b.add("mul", b.add("neg", first, name="minus"), number, name="kept")
    moved = early(b.finish([result, kept]), ["result"])
    assert [n.name for n in moved] == ["x", "number", "first", "minus", "kept", "second", "result"]
    assert early(moved, ["result"]) == moved
