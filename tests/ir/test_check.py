"""The verifier: each rule, broken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sol.core.dims import B
from sol.core.dtypes import F32, I64
from sol.core.errors import UnsupportedError, VerifyError
from sol.ir.check import verify
from sol.ir.graph import Graph, Literal, Node, TensorType

T = TensorType((B, 3), F32)
X = Node("x", "input", (), (), T)


def infer(op: str, inputs: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    """Two operators: `same` and, of two results, `two`."""
    match op:
        case "same":
            return inputs[0]
        case "two":
            return (inputs[0], inputs[0])
        case "item":
            return inputs[0][attrs["index"]]
        case _:
            raise UnsupportedError(op, "Sol has no operator of this name")


def test_a_right_graph_passes() -> None:
    value = Literal.of([1.0, 2.0, 3.0], F32)
    nodes = (
        X,
        Node("w", "parameter", (), (("key", "a.b"),), T),
        Node("c", "constant", (), (("value", value),), TensorType((3,), F32)),
        Node("y", "same", ("x",), (("a", (None, True, 1, 0.5, "s", F32, B, value, ())),), T),
        Node("t", "two", ("y",), (), (T, T)),
        Node("z", "item", ("t",), (("index", 1),), T),
    )
    verify(Graph(nodes, ("z", "x")), infer)


def same(name: str = "y", inputs: tuple[str, ...] = ("x",), attrs: Any = (), type: Any = T) -> Node:
    return Node(name, "same", inputs, attrs, type)


LITERAL = Literal.of([1.0], F32)
BROKEN: dict[str, tuple[tuple[Node, ...], str]] = {
    "name": ((X, same("a b")), "legal names"),
    "name, not ASCII": ((X, same("größe")), "legal names"),
    "name twice": ((X, same("x")), "unique names"),
    "order": ((same(), X), "topological order"),
    "itself": ((X, same(inputs=("y",))), "topological order"),
    "operator": ((X, Node("y", "sawme", ("x",), (), T)), "no operator of this name"),
    "number of inputs": ((X, same(inputs=())), "its type rule fails: IndexError"),
    "missing attribute": (
        (X, Node("t", "two", ("x",), (), (T, T)), Node("y", "item", ("t",), (), T)),
        "its type rule fails: KeyError",
    ),
    "type": ((X, same(type=TensorType((B, 4), F32))), "`types`"),
    "element type": ((X, same(type=TensorType((B, 3), I64))), "`types`"),
    "attribute twice": ((X, same(attrs=(("a", 1), ("a", 1)))), "alphabetical"),
    "attribute order": ((X, same(attrs=(("b", 1), ("a", 1)))), "alphabetical"),
    "attribute kind": ((X, same(attrs=(("a", [1]),))), "a is a list"),
    "NumPy number": (
        (
            X,
            same(
                attrs=(
                    (
                        "a",
                        (np.float64(1)),
                    ),
                )
            ),
        ),
        "a is a float64",
    ),
    "NumPy number inside": ((X, same(attrs=(("a", (1, (np.int64(1),))),))), "a is a tuple"),
    "several results": (
        (X, Node("t", "two", ("x",), (), (T, T)), same(inputs=("t",))),
        "one tensor",
    ),
    "input with inputs": ((X, Node("y", "input", ("x",), (), T)), "`sources`"),
    "parameter without key": ((Node("y", "parameter", (), (), T),), "`sources`"),
    "parameter with a number": ((Node("y", "parameter", (), (("key", 1),), T),), "`sources`"),
    "constant of a number": ((Node("y", "constant", (), (("value", 1),), T),), "`constants`"),
    "constant of another type": (
        (Node("y", "constant", (), (("value", LITERAL),), T),),
        "`types`",
    ),
    "constant of few bytes": (
        (Node("y", "constant", (), (("value", Literal(F32, (2,), b"")),), TensorType((2,), F32)),),
        "0 bytes",
    ),
    "key twice": (
        tuple(Node(n, "parameter", (), (("key", "k"),), T) for n in "ay"),
        "`parameters`",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_named(name: str) -> None:
    nodes, rule = BROKEN[name]
    with pytest.raises(VerifyError) as caught:
        verify(Graph(nodes, ()), infer)
    assert rule in str(caught.value)
    assert caught.value.expected
    assert caught.value.do


def test_results_exist_and_are_tensors() -> None:
    with pytest.raises(VerifyError, match="returns y, which no node defines"):
        verify(Graph((X,), ("y",)), infer)
    with pytest.raises(VerifyError, match="one tensor"):
        verify(Graph((X, Node("t", "two", ("x",), (), (T, T))), ("t",)), infer)
