"""Patterns: what they match, in which order, and what is not one."""

from __future__ import annotations

from typing import Any

import pytest

from sol.core.dtypes import BOOL, F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ir.pattern import Call, Number, Scalar, Var, match, parse_rule, parse_term
from sol.ir.rewriter import Rewriter

T = TensorType((3,), F32)


def infer(op: str, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    return inputs[0]


class Small:
    """x, w and a few numbers to make expressions of."""

    def __init__(self) -> None:
        self.b = Builder(infer)
        self.x, self.y = self.b.input("x", T), self.b.input("y", T)
        self.w = self.b.parameter("w", T)

    def __call__(self, op: str, *inputs: Node) -> Node:
        return self.b.add(op, *inputs)

    def matches(self, pattern: str, node: Node, *outputs: Node) -> list[dict[str, str]]:
        graph = Graph(tuple(self.b._nodes.values()), tuple(o.name for o in outputs or (node,)))
        found = match(parse_term(pattern), node, Rewriter(graph, infer), {})
        return [{key: n.name for key, n in f.items()} for f in found]


def test_reading() -> None:
    assert parse_term(" add|sub:n( x , !neg(W), $c, -1.5, *)".replace(", *", "")) == Call(
        ("add", "sub"), "n",
        (Var("x", False), Call(("neg",), "", (Var("W", True),), True), Scalar("$c"), Number(-1.5)),
        False,
    )  # fmt: skip
    assert parse_term("concat:c(*)") == Call(("concat",), "c", None, False)
    assert parse_rule("neg(neg(x)) -> x")[1] == Var("x", False)
    assert parse_rule("neg(neg(x))")[1] is None
    assert parse_term("True") == Number(True)


@pytest.mark.parametrize(
    "text", ["", "add(x", "add(x,)", "add(x y)", "add(*, x)", "add(x))", "1 2", "A(x)", "-> x"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(AssertionError):
        parse_rule(text)


def test_a_letter_is_one_value() -> None:
    s = Small()
    assert s.matches("sub(a, a)", s("sub", s.x, s.x)) == [{"a": "x"}]
    assert s.matches("sub(a, a)", s("sub", s.x, s.y)) == []


def test_both_orders_where_they_are_the_same() -> None:
    s = Small()
    product = s("mul", s("neg", s.x), s.y)
    assert s.matches("mul(a, neg(b))", product) == [{"a": "y", "b": "x"}]
    assert s.matches("sub(a, neg(b))", s("sub", s("neg", s.x), s.y)) == []
    assert len(s.matches("add(a, b)", s("add", s.x, s.y))) == 2


def test_a_label_names_a_node_and_must_agree() -> None:
    s = Small()
    centred = s("sub", s.x, s.y)
    square = s("square", centred)
    assert s.matches("add(sub:d(x, y), square(d))", s("add", centred, square)) != []
    other = s("sub", s.x, s.y)
    assert s.matches("add(sub:d(x, y), square(d))", s("add", other, square)) == []
    assert s.matches("add(sub:d(x, y), sub:d(x, y))", s("add", other, centred)) == []


def test_static_values() -> None:
    s = Small()
    static = s("neg", s.w)
    assert s.matches("mul(x, W)", s("mul", static, s.x)) == [{"x": "x", "W": "neg"}]
    assert s.matches("mul(x, W)", s("mul", s.x, s.y)) == []


def test_numbers() -> None:
    s = Small()
    tenth = s.b.constant([0.1, 0.1, 0.1], F32)
    assert len(s.matches("mul(x, 0.1)", s("mul", s.x, tenth))) == 1
    assert s.matches("mul(x, 0.2)", s("mul", s.x, tenth)) == []
    assert s.matches("mul(x, $c)", s("mul", s.x, tenth)) == [{"x": "x", "$c": tenth.name}]
    mixed = s.b.constant([0.1, 0.2, 0.1], F32)
    assert s.matches("mul(x, $c)", s("mul", s.x, mixed)) == []
    one, true = s.b.constant(1.0, F32), s.b.constant(True, BOOL)
    assert s.matches("mul(x, True)", s("mul", s.x, one)) == []
    assert s.matches("mul(x, 1)", s("mul", s.x, true)) == []
    assert len(s.matches("mul(x, True)", s("mul", s.x, true))) == 1


def test_single_users() -> None:
    s = Small()
    inner = s("neg", s.x)
    root = s("exp", inner)
    assert s.matches("exp(!neg(x))", root) == [{"x": "x"}]
    assert s.matches("exp(!neg(x))", root, root, inner) == []  # it is a result too
    s("sin", inner)
    assert s.matches("exp(!neg(x))", root) == []


def test_any_inputs_and_their_number() -> None:
    s = Small()
    node = s("concat", s.x, s.y, s.x)
    assert s.matches("concat:c(*)", node) == [{"c": "concat"}]
    assert s.matches("concat(x, y)", node) == []
