"""Graphs as text: everything that a graph may hold comes back, and wrong text says where."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sol.core.dims import B, Dim
from sol.core.dtypes import BOOL, DTYPES, F32, F64, I64
from sol.core.errors import InputError
from sol.ir.graph import Graph, Literal, Node, TensorType
from sol.ir.show import parse_graph, print_graph, to_dot

VECTOR = TensorType((B, 3), F32)


def graph_of(value: Any, origin: str = "") -> Graph:
    """A graph of one node with one attribute."""
    return Graph((Node("x", "op", (), (("a", value),), VECTOR, origin),), ("x",))


def came_back(value: Any) -> Any:
    graph = parse_graph(print_graph(graph_of(value)))
    return graph["x"]["a"]


sizes = st.one_of(
    st.integers(-(10**6), 10**6),
    st.builds(Dim, st.integers(-99, 99).filter(bool), st.integers(-99, 99)),
)
literals = st.builds(
    lambda dtype, seed, shape: Literal.of(
        np.random.default_rng(seed).normal(0, 50, shape).astype(dtype.numpy), dtype
    ),
    st.sampled_from(list(DTYPES.values())),
    st.integers(0, 9),
    st.lists(st.integers(0, 6), max_size=3).map(tuple),
)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False),
        st.text(), sizes, st.sampled_from(list(DTYPES.values())), literals,
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)  # fmt: skip


def exactly(value: Any) -> Any:
    """Equal only for equal values of equal types, -0.0 apart from 0.0."""
    if isinstance(value, tuple):
        return tuple(map(exactly, value))
    return type(value), value.hex() if isinstance(value, float) else value


@given(values, st.text())
@settings(max_examples=300, deadline=None)
def test_every_attribute_comes_back(value: Any, origin: str) -> None:
    graph = graph_of(value, origin)
    again = parse_graph(print_graph(graph))
    assert again == graph
    assert exactly(again["x"]["a"]) == exactly(value)


@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0, 1e-320, 0.1, 2**53 + 1, True, 1])
def test_numbers_come_back_exactly(value: Any) -> None:
    assert exactly(came_back(value)) == exactly(value)


def test_not_a_number_comes_back() -> None:
    assert math.isnan(came_back(math.nan))
    payload = np.array([0x7FC01234, 0xFFC00000, 0x7F800001], dtype=np.uint32).view(np.float32)
    assert came_back(Literal.of(payload)).data == payload.tobytes()


@pytest.mark.parametrize(
    "text", ['"', "\\", "\n", "\r\x0b\x1c\u2028", '} @ "', '"} @ "x', "\ud800", "\0", "a) {b=1}"]
)
def test_hostile_strings_come_back(text: str) -> None:
    graph = graph_of((text, ("b", text)), origin=text)
    assert parse_graph(print_graph(graph)) == graph
    assert len(print_graph(graph).encode().splitlines()) == 2


def test_a_whole_graph_comes_back() -> None:
    pair = (TensorType((Dim(2, 1), 3), F32), TensorType((), I64))
    nodes = (
        Node("x", "input", (), (), VECTOR, "x"),
        Node("w", "parameter", (), (("key", "fc.weight"),), VECTOR),
        Node("two", "op", ("x", "w", "x"), (("n", 1), ("size", (Dim(3), 4))), pair, "fc"),
        Node("none", "op", (), (), (), ""),
        Node("y", "item", ("two",), (("index", 0),), pair[0]),
    )
    for outputs in ((), ("y",), ("y", "x", "y")):
        graph = Graph(nodes, outputs)
        assert parse_graph(print_graph(graph)) == graph


def test_short_constants_are_readable_and_long_ones_small() -> None:
    short = print_graph(graph_of(Literal.of([0.1, -math.inf, math.nan], F32)))
    assert "a=f32[3](0.1, -inf, nan)" in short
    assert "a=bool[2](True, False)" in print_graph(graph_of(Literal.of([True, False], BOOL)))
    table = Literal.of(np.arange(10_000) % 7, I64)
    assert len(print_graph(graph_of(table))) < 2_000
    assert came_back(table) == table


def test_comments_and_blank_lines_are_skipped() -> None:
    text = print_graph(graph_of(1))
    assert parse_graph("# a graph\n\n" + text + "\n   \n") == parse_graph(text)


ROW = "x: f32[B, 3] = op()"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("nonsense", "not a node"),
        ("1x: f32[B] = op()", "not a node"),
        ("x: f32[B] = op(y", "not a node"),
        ("x: f32[9.5] = op()", "not a node"),
        ("x: f99[B] = op()", "no element type f99"),
        (f"{ROW} {{a}}", "no attribute at `a`"),
        (f"{ROW} {{a=}}", "no value"),
        (f"{ROW} {{a=1 b=2}}", "`,` is missing"),
        (f"{ROW} {{a=(1, 2}}", "`,` is missing"),
        (f"{ROW} {{a=__import__}}", "no value"),
        (f"{ROW} {{a=exec}}", "no element type exec"),
        (f"{ROW} {{a={'9' * 5000}}}", "is not a number"),
        (f"{ROW} {{a={'(' * 1000}1}}", "too many tuples"),
        (f'{ROW} {{a="\\x"}}', "is not a string"),
        (f'{ROW} {{a="\t"}}', "is not a string"),
        (f"{ROW} {{a=f32[B](1.0)}}", "unknown size"),
        (f"{ROW} {{a=f32[-1](1.0)}}", "unknown size"),
        (f"{ROW} {{a=f32[2](1.0,)}}", "without its values"),
        (f"{ROW} {{a=i8[1](300,)}}", "not i8"),
        (f'{ROW} {{a=f32[2]"AAAA"}}', "a constant of 3 bytes"),
        (f'{ROW} {{a=f32[2]"?"}}', "cannot be unpacked"),
        (f'{ROW} {{a=f32[2]"z:AAAA"}}', "cannot be unpacked"),
    ],
)
def test_a_wrong_line_is_named(line: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_graph(f"# one\n{ROW}\n{line}\nreturn x\n")
    assert what in str(caught.value)
    assert "line 3 of the graph" in str(caught.value)
    assert caught.value.expected
    assert caught.value.do


def test_the_return_line_is_needed_and_last() -> None:
    with pytest.raises(InputError, match="no `return` line"):
        parse_graph(ROW)
    with pytest.raises(InputError, match=r"(?s)line 2 .*a line after `return`"):
        parse_graph(f"return x\n{ROW}\n")


def test_a_packed_constant_never_grows_beyond_its_type() -> None:
    bomb = print_graph(graph_of(Literal.of(np.zeros(10**6), F64)))
    small = bomb.replace("f64[1000000]", "f64[2]")
    with pytest.raises(InputError, match="a constant of 17 bytes"):
        parse_graph(small)


def test_equal_texts_are_read_once() -> None:
    """What makes a large graph quick to read: nodes share the types and attributes they repeat."""
    attrs = (("padding", ((1, 1), (1, 1))), ("stride", (2, 2)))
    nodes = [Node(f"x{k}", "op", (), attrs, VECTOR) for k in range(400)]
    graph = parse_graph(print_graph(Graph(tuple(nodes), ())))
    assert graph.nodes == tuple(nodes)
    assert len({id(n.attrs) for n in graph}) == len({id(n.type) for n in graph}) == 1


def test_dot_escapes_what_users_write() -> None:
    origin = 'a"]; x -> y [label="\\" \n\\'
    nodes = (Node("x", "input", (), (), VECTOR, origin), Node("y", "neg", ("x",), (), VECTOR))
    dot = to_dot(Graph(nodes, ("y",)))
    label = r'label="x = input\nf32[B, 3]\na\"]; x -> y [label=\"\\\"  \\"'
    assert label in dot
    assert '"x" -> "y";' in dot
    assert dot.count("->") == 2  # the edge, and the text inside the label
    assert '"y" [label="y = neg\\nf32[B, 3]", penwidth=3];' in dot
