"""Index arithmetic: whatever is simplified has the value of the plain integers, and its bounds."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sol.core.dims import B, Dim, Size, evaluate
from sol.core.dtypes import BOOL, F32, F64, I64
from sol.ir.expr import (
    Expr,
    apply,
    axis,
    bounds,
    cast,
    const,
    free_axes,
    from_linear,
    load,
    rebuild,
    reduce,
    show,
    substitute,
    walk,
    where,
)
from sol.ops.interpret import Scope, interpret

# A tree is an int, the name of an axis, or (operation, tree, …); the extent of an axis is its last
# letter.
Tree = Any
AXES = ("i1", "i2", "j3", "j4", "k5", "k7", "m6", "m8")

PLAIN: dict[str, Callable[..., int]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul,
    "floordiv": operator.floordiv, "mod": operator.mod, "max": max, "min": min,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "eq": operator.eq, "ne": operator.ne, "neg": operator.neg,
    "where": lambda condition, yes, no: yes if condition else no,
}  # fmt: skip

constants = st.integers(-9, 40)
divisors = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 12, 24, 49])
leaves = constants | st.sampled_from(AXES)


def larger(trees: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    condition = st.tuples(st.sampled_from(["lt", "le", "gt", "ge", "eq", "ne"]), trees, trees)
    return (
        st.tuples(st.sampled_from(["add", "sub", "max", "min"]), trees, trees)
        | st.tuples(st.just("mul"), trees, constants)
        | st.tuples(st.sampled_from(["floordiv", "mod"]), trees, divisors)
        | st.tuples(st.just("neg"), trees)
        | st.tuples(st.just("where"), condition, trees, trees)
    )


trees = st.recursive(leaves, larger, max_leaves=12)


def extent(name: str) -> int:
    return int(name[-1])


def built(tree: Tree) -> Expr:
    """The expression, simplified while it is built."""
    match tree:
        case int():
            return const(tree)
        case str():
            return axis(tree, extent(tree))
        case (op, *parts):
            return apply(op, *map(built, parts))
    raise AssertionError(tree)


def plain(tree: Tree, values: dict[str, int]) -> int:
    """The value of the tree in Python's integers."""
    match tree:
        case int():
            return tree
        case str():
            return values[tree]
        case (op, *parts):
            return PLAIN[op](*(plain(p, values) for p in parts))
    raise AssertionError(tree)


def names(tree: Tree) -> set[str]:
    match tree:
        case str():
            return {tree}
        case (_, *parts):
            return set().union(*map(names, parts))
    return set()


def all_values(tree: Tree, limit: int = 200) -> list[dict[str, int]]:
    """Values of all axes of a tree: every combination, or evenly chosen ones."""
    used = sorted(names(tree))
    grid = list(product(*(range(extent(n)) for n in used)))
    return [dict(zip(used, point)) for point in grid[:: max(1, len(grid) // limit)]]


def value(x: Expr, values: dict[Expr, int], batch: int = 1) -> int:
    axes = {a: np.asarray(v) for a, v in values.items()}
    return int(interpret(x, Scope({}, axes, 0, batch)))


@settings(max_examples=300, deadline=None)
@given(trees)
def test_simplification_keeps_the_value(tree: Tree) -> None:
    x = built(tree)
    for values in all_values(tree):
        indices = {axis(n, extent(n)): v for n, v in values.items()}
        assert value(x, indices) == plain(tree, values), f"{show(x)} at {values}"


@settings(max_examples=300, deadline=None)
@given(trees)
def test_bounds_hold(tree: Tree) -> None:
    x = built(tree)
    low, high = bounds(x)
    found = [plain(tree, values) for values in all_values(tree)]
    assert low is None or low <= min(found)
    assert high is None or high >= max(found)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_rebuilding_changes_nothing(tree: Tree) -> None:
    x = built(tree)
    assert rebuild(x, [substitute(a, {}) for a in x.args]) is x
    assert pickle.loads(pickle.dumps(x)) is x
    assert len(walk(x)) == len(set(walk(x)))
    assert {a.value[0] for a in free_axes(x)} <= names(tree)


@settings(max_examples=100, deadline=None)
@given(trees, trees, st.sampled_from(AXES))
def test_substitution_is_evaluation_at_another_place(tree: Tree, place: Tree, name: str) -> None:
    inner = built(place)
    x = substitute(built(tree), {axis(name, extent(name)): inner})
    for values in all_values(("add", tree, place), 50):
        at = plain(place, values)
        if not 0 <= at < extent(name):
            continue  # an axis only ever stands for its own values
        indices = {axis(n, extent(n)): v for n, v in values.items()}
        assert value(x, indices) == plain(tree, {**values, name: at})


SHAPES = st.lists(st.integers(2, 5), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(SHAPES)
def test_merging_and_splitting_axes_gives_the_axes_back(shape: list[int]) -> None:
    """Two reshapes back to back leave no division behind."""
    indices = [axis(f"i{n}", size) for n, size in enumerate(shape)]
    flat = const(0)
    for i, size in zip(indices, shape):
        flat = flat * size + i
    split = []
    for size in reversed(shape):
        split.append(flat % size)
        flat = flat // size
    assert list(reversed(split)) == indices
    assert flat is const(0)


# ---- examples that must simplify, not only be right ----------------------------------------------

i, j, k = axis("i", 4), axis("j", 7), axis("k", 3)
n = axis("n", B)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ((i * 7 + j) // 7, "i"),
        ((i * 7 + j) % 7, "j"),
        ((i * 21 + j * 3 + k) // 3 % 7, "j"),
        ((i * 21 + j * 3 + k) % 21 // 3, "j"),
        ((j // 2) // 3, "(j // 6)"),
        ((i * 6 + 4) // 2, "(3*i + 2)"),
        ((i * 6 + j % 6) % 6, "(j % 6)"),
        ((j + 3) // 4 * 64 + (j + 3) % 4 * 16, "(16*j + 48)"),
        (i - i, "0"),
        ((i + 1) * 2 - 2 * i, "2"),
        (i % 4, "i"),
        (i // 4, "0"),
        (i < 4, "True"),
        (i >= 0, "True"),
        (i + 4 < 4, "False"),
        (apply("eq", i, 5), "False"),
        (apply("max", i, 0), "i"),
        (apply("min", i, 3), "i"),
        (where(i < 4, i, j), "i"),
        (apply("max", 0, i - 9) + apply("min", i, 9), "i"),
        (apply("max", load("x", I64), 0) >= 0, "True"),
        (apply("max", 0, load("x", I64)) >= 0, "True"),
        (apply("max", 0, load("x", I64)) * 3 % 1, "0"),
        (where(load("x", I64) < 0, i, j) < 7, "True"),
        ((i < 4) & (j < 3), "(j < 3)"),
        ((i < 0) | (j < 3), "(j < 3)"),
        ((n * 7 + j) // 7, "n"),
        ((n * 7 + j) % 7, "j"),
        (n >= 0, "True"),
        (cast(const(2.5), I64), "2"),
        (const(3, F32) + const(0.5), "(3.0 + 0.5)"),
    ],
)  # fmt: skip
def test_simplified(x: Expr, text: str) -> None:
    assert show(x) == text


SIZES: list[Size] = [B, Dim(3), Dim(2, 1), Dim(1, 4), 5]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_symbolic_sizes_have_their_value(size: Size, batch: int) -> None:
    a, b, s = axis("a", size), axis("b", 3), from_linear(size, {})
    extent = evaluate(size, batch)
    cases = [
        (a * 3 + b) // 3, (a * 3 + b) % 3, b * s + a, (b * s + a) // s, (b * s + a) % s,
        a + s, s - a, a < s, a >= s, apply("max", a, s), apply("min", a + 1, s), a * 2 < s * 2,
    ]  # fmt: skip
    for x, y in product(range(extent), range(3)):
        found = [value(case, {a: x, b: y}, batch) for case in cases]
        assert found == [
            x, y, y * extent + x, y, x,
            x + extent, extent - x, True, False, extent, min(x + 1, extent), True,
        ]  # fmt: skip


def test_axes_of_symbolic_size_merge_and_split_without_division() -> None:
    a, s = axis("a", B), from_linear(B, {})
    assert (i * s + a) // s is i
    assert (i * s + a) % s is a
    assert (a < s) is const(True)
    assert (a >= s) is const(False)


def test_types_of_results() -> None:
    x = load("x", F32, i)
    assert (x + 1).dtype == F32
    assert (x < 1).dtype == BOOL
    assert apply("exp", load("n", I64, i)).dtype == F32
    assert apply("exp", load("n", F64, i)).dtype == F64
    assert (x * load("n", I64, i)).dtype == F32
    assert where(x < 0, 0, x).dtype == F32


def test_equal_expressions_are_one_object() -> None:
    assert load("x", F32, i, j + 1) is load("x", F32, i, 1 + j)
    assert const(0.0) is not const(-0.0)
    assert const(float("nan")) is const(float("nan"))
    assert const(1) is not const(1.0)
    assert const(1) is not const(True)


def test_reductions_bind_their_axes() -> None:
    total = reduce("sum", [k], load("x", F32, i, k) * load("y", F32, k, j))
    assert free_axes(total) == {i, j}
    arrays = {"x": np.ones((4, 3), "float32"), "y": np.full((3, 7), 2, "float32")}
    assert interpret(
        total, Scope(arrays, {i: np.arange(4)[:, None], j: np.arange(7)}, 2)
    ).shape == (
        4,
        7,
    )
