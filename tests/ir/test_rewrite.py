"""Rewriting: fixpoints, names, users, fuel, and rules that never come to an end."""

from __future__ import annotations

from typing import Any

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32, I64
from sol.core.errors import InputError, VerifyError
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ir.rewrite import Fuel, Match, rewrite, rule
from sol.ir.rewriter import Rewriter

T = TensorType((B, 3), F32)
W = TensorType((3,), F32)


def infer(op: str, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    if op == "refused":
        raise InputError("refused")
    if op == "to_int":
        return TensorType(inputs[0].shape, I64)
    if op == "full":
        return TensorType(attrs["shape"], attrs["dtype"])
    return max(inputs, key=lambda t: t.rank)


@pytest.fixture
def b() -> Builder:
    return Builder(infer)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def chain(b: Builder, op: str, count: int) -> tuple[Node, Node]:
    x = b.input("x", T)
    y = x
    for _ in range(count):
        y = b.add(op, y)
    return x, y


NEG = rule("neg(neg(x)) -> x")


def test_to_a_fixpoint(b: Builder) -> None:
    _, y = chain(b, "neg", 7)
    graph = rewrite(b.finish([y]), [NEG], infer)
    assert ops(graph) == ["input", "neg"]
    assert rewrite(graph, [NEG], infer) is graph


def test_a_result_may_become_an_input(b: Builder) -> None:
    _, y = chain(b, "neg", 2)
    graph = rewrite(b.finish([y, y]), [NEG], infer)
    assert graph.outputs == ("x", "x")
    assert ops(graph) == ["input"]


def test_the_name_and_the_origin_stay(b: Builder) -> None:
    x = b.input("x", T)
    y = b.add("mul", x, b.add("sigmoid", x), name="act", origin="layer1")
    z = b.add("exp", y)
    graph = rewrite(b.finish([z, y]), [rule("mul(x, sigmoid(x)) -> silu(x)")], infer)
    assert [(n.name, n.op, n.inputs, n.origin) for n in graph.nodes[1:]] == [
        ("act", "silu", ("x",), "layer1"),
        ("exp", "exp", ("act",), ""),
    ]
    assert graph.outputs == ("exp", "act")


def test_attributes_of_a_label(b: Builder) -> None:
    x = b.input("x", T)
    y = b.add("outer", b.add("inner", x, k=1), k=2, s="t")
    graph = rewrite(b.finish([y]), [rule("outer:o(inner:i(x)) -> outer:o(other:i(x))")], infer)
    assert [(n.op, dict(n.attrs)) for n in graph.nodes[1:]] == [
        ("other", {"k": 1}),
        ("outer", {"k": 2, "s": "t"}),
    ]


def test_numbers_on_the_right(b: Builder) -> None:
    x = b.input("x", T)
    graph = rewrite(b.finish([b.add("twice", x)]), [rule("twice(x) -> mul(x, 2)")], infer)
    (two,) = (n for n in graph.nodes if n.op == "constant")
    assert (two["value"].array, two.dtype) == (2.0, F32)
    zero = rewrite(b.finish([b.add("none", x)]), [rule("none(x) -> 0")], infer)
    assert dict(zero["none"].attrs) == {"dtype": F32, "shape": (B, 3), "value": 0}


def test_another_type_is_not_taken(b: Builder) -> None:
    x = b.input("x", T)
    before = b.finish([b.add("neg", x)])
    fuel = Fuel()
    rules = [rule("neg(x) -> to_int(x)"), rule("neg(x) -> refused(x)")]
    assert rewrite(before, rules, infer, fuel) is before
    assert fuel.spent == 0


def test_what_a_rule_made_in_vain_is_removed(b: Builder) -> None:
    def build(rw: Rewriter, m: Match) -> Node | None:
        rw.add("exp", rw.add("sin", m["x"]))
        return None

    x = b.input("x", T)
    before = b.finish([b.add("neg", x)])
    assert rewrite(before, [rule("neg(x)", build)], infer) is before


def test_users_and_static_values_are_known_at_once(b: Builder) -> None:
    seen: list[tuple[str, ...]] = []

    def build(rw: Rewriter, m: Match) -> Node | None:
        users = tuple(u.name for u in rw.users_of(m["x"]))
        seen.append((*users, str(rw.is_single(m["x"])), str(rw.is_static(m["x"]))))
        return None

    w = b.parameter("w", W)
    y = b.add("exp", b.add("neg", b.add("neg", w)))
    rewrite(b.finish([y]), [NEG, rule("exp(x)", build)], infer)
    assert seen[-1] == ("exp", "True", "True")


def test_static_is_what_the_graph_says(b: Builder) -> None:
    x, w = b.input("x", T), b.parameter("w", W)
    c = b.constant([1.0, 2.0, 3.0], F32)
    one = b.add("full", shape=(3,), dtype=F32, value=1)
    static = [b.add("mul", w, c), b.add("mul", w, one)]
    graph = b.finish([*static, b.add("mul", x, w), b.add("neg", one)])
    assert graph.static == {w.name, c.name, *(n.name for n in static)}
    rewriter = Rewriter(graph, infer)
    assert {n.name for n in graph.nodes if rewriter.is_static(n)} == graph.static


def test_what_becomes_static_makes_its_users_static(b: Builder) -> None:
    x, w = b.input("x", W), b.parameter("w", W)
    y = b.add("outer", b.add("exp", b.add("first", w, x)), x)
    seen: list[bool] = []

    def build(rw: Rewriter, m: Match) -> Node | None:
        seen.append(rw.is_static(m["e"]))
        return None

    rules = [rule("outer(exp:e(y), x)", build), rule("first(a, b) -> sin(a)")]
    rewrite(b.finish([y]), rules, infer)
    assert seen[-1] is True


def test_dead_nodes_go_and_inputs_stay(b: Builder) -> None:
    x, y, w = b.input("x", T), b.input("y", T), b.parameter("w", W)
    z = b.add("first", x, b.add("exp", b.add("mul", y, w)))
    graph = rewrite(b.finish([z]), [rule("first(x, y) -> x")], infer)
    assert [n.name for n in graph.nodes] == ["x", "y"]


def test_topological_order_is_kept(b: Builder) -> None:
    _, y = chain(b, "neg", 1)
    z = b.add("add", y, b.add("exp", y))
    graph = rewrite(b.finish([z]), [rule("neg(x) -> sin(cos(x))")], infer)
    assert ops(graph) == ["input", "cos", "sin", "exp", "add"]


def test_fuel_stops_after_so_many(b: Builder) -> None:
    _, y = chain(b, "neg", 9)
    for limit in range(6):
        fuel = Fuel(limit)
        graph = rewrite(b.finish([y]), [NEG], infer, fuel)
        assert len(graph) == 1 + 9 - 2 * min(limit, 4)
        assert fuel.spent == min(limit, 4)
    assert fuel.last.startswith("neg(neg(x)) -> x at neg")


def test_an_endless_pair_is_shown(b: Builder) -> None:
    _, y = chain(b, "neg", 1)
    rules = [rule("neg(x) -> sin(x)"), rule("sin(x) -> neg(x)"), rule("exp(x) -> x")]
    with pytest.raises(VerifyError) as caught:
        rewrite(b.finish([y]), rules, infer)
    text = str(caught.value)
    assert "neg(x) -> sin(x)" in text
    assert "sin(x) -> neg(x)" in text
    assert "exp(x)" not in text
    assert text.count("neg: f32[B, 3]") == 4  # each of the two once, before and after


def test_endless_growth_is_found(b: Builder) -> None:
    _, y = chain(b, "neg", 1)
    with pytest.raises(VerifyError, match="does not come to an end"):
        rewrite(b.finish([y]), [rule("neg(x) -> neg(exp(x))")], infer)


def test_a_rule_that_keeps_its_node_is_a_bug(b: Builder) -> None:
    def build(rw: Rewriter, m: Match) -> Node:
        return rw.add("exp", m.root)

    _, y = chain(b, "neg", 1)
    with pytest.raises(AssertionError, match="would be replaced by a user of itself"):
        rewrite(b.finish([y]), [rule("neg(x)", build)], infer)


def test_long_graphs_take_linear_time(b: Builder) -> None:
    """Each node is looked at a few times, however long the graph is."""
    looked = 0

    def build(rw: Rewriter, m: Match) -> Node | None:
        nonlocal looked
        looked += 1
        return None

    x = b.input("x", T)
    y = x
    for _ in range(500):
        y = b.add("mul", y, b.add("sigmoid", b.add("neg", b.add("neg", y))))
    look = rule("mul|sigmoid|neg|silu(*)", build)
    silu = rule("mul(x, sigmoid(x)) -> silu(x)")
    graph = rewrite(b.finish([y]), [look, NEG, silu], infer)
    assert ops(graph) == ["input"] + ["silu"] * 500
    assert looked <= 6 * 2000
