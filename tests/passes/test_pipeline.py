"""All passes together: the table, checks, fuel, blocks of real networks, and random graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sol.core.dims import B
from sol.core.dtypes import F32, F64
from sol.core.errors import VerifyError
from sol.ir.graph import Graph, Node
from sol.ir.rewrite import Fuel
from sol.ops.reference import evaluate
from sol.passes import pipeline
from sol.passes.axes import groups, regrouped
from sol.passes.operators import BINARY, TERNARY, UNARY
from sol.passes.pipeline import PASSES, PROPERTIES, Pass, run


def checked(graph: Graph) -> Graph:
    return run(graph, check=True)


# ---- the table and its checks -------------------------------------------------


def test_properties_exist_and_hold_in_the_end(net: Any) -> None:
    for step in PASSES:
        assert {*step.requires, *step.ensures} <= set(PROPERTIES)
    x = net.images()
    y = net.batch_norm(net.conv(x))
    graph = run(net.graph(net("add", net("exp", y), net("exp", y))))
    assert all(holds(graph) for holds in PROPERTIES.values())


def test_requirements_are_ensured_before(net: Any) -> None:
    known: set[str] = set()
    for step in PASSES:
        assert set(step.requires) <= known, f"{step.name} requires what nothing ensures"
        known |= set(step.ensures)


def _with(step: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PASSES", (step,))


def _wrong_type(graph: Graph, fuel: Fuel | None = None) -> Graph:
    *rest, last = graph.nodes
    return Graph((*rest, replace(last, type=replace(last.tensor, shape=(B, 1)))), graph.outputs)


def test_a_pass_that_breaks_the_graph_is_found(net: Any, monkeypatch: Any) -> None:
    _with(Pass("wrong", _wrong_type, (), ()), monkeypatch)
    with pytest.raises(VerifyError, match="breaks the rule `types`"):
        run(net.graph(net("exp", net.images())), check=True)


def test_a_property_that_does_not_hold_is_found(net: Any, monkeypatch: Any) -> None:
    x = net.images()
    graph = net.graph(net("add", net("exp", x), net("exp", x)))
    _with(Pass("first", lambda g, f: g, ("no two equal nodes",), ()), monkeypatch)
    with pytest.raises(VerifyError, match="the pass first requires `no two equal nodes`"):
        run(graph, check=True)
    run(graph)  # not asked, not checked


def test_a_lost_input_is_found(net: Any, monkeypatch: Any) -> None:
    x = net.images()
    net.input(3, name="y")

    def lose(graph: Graph, fuel: Fuel | None = None) -> Graph:
        return Graph(tuple(n for n in graph if n.name != "y"), graph.outputs)

    _with(Pass("lose", lose, (), ()), monkeypatch)
    with pytest.raises(VerifyError, match="the pass lose changed the inputs"):
        run(net.graph(net("exp", x)), check=True)


def test_passes_that_undo_each_other_are_found(net: Any, monkeypatch: Any) -> None:
    def turn(graph: Graph, fuel: Fuel | None = None) -> Graph:
        return Graph(graph.nodes, graph.outputs[::-1])

    _with(Pass("turn", turn, (), ()), monkeypatch)
    x = net.images()
    with pytest.raises(VerifyError, match="still change the graph after"):
        run(net.graph(net("exp", x), x))


def test_observe_sees_what_changed(net: Any) -> None:
    seen: list[str] = []
    y = net.batch_norm(net.conv(net.images()))
    run(net.graph(net("relu", net("add", y, 0.0))), observe=lambda name, graph: seen.append(name))
    assert {"batchnorm", "simplify"} <= set(seen)
    seen.clear()
    run(net.graph(net.images()), observe=lambda name, graph: seen.append(name))
    assert seen == ["dead"]


# ---- fuel ---------------------------------------------------------------------


def _small_network(net: Any) -> Graph:
    y = net("relu", net.batch_norm(net.conv(net.images(), padding=((1, 1), (1, 1)))))
    y = net("mul", y, net("sigmoid", net("add", y, 0.0)))
    scale = net("exp", net("add", net.constant(1.0), net.constant(2.0)))
    return net.graph(net("reshape", net("mul", y, scale), shape=(B, 144)))


def test_every_amount_of_fuel_gives_a_right_graph(net: Any, same: Any) -> None:
    """What bisecting needs: each rewrite by itself keeps the results."""
    before = _small_network(net)
    whole = Fuel()
    run(before, fuel=whole)
    assert whole.spent > 5
    graphs = set()
    for limit in range(whole.spent + 1):
        fuel = Fuel(limit)
        after = run(before, check=True, fuel=fuel)
        same(before, after, 1e-9)
        assert fuel.spent == limit
        graphs.add(after)
    assert len(graphs) >= whole.spent  # a merge may undo what another did, nothing else
    assert run(before, fuel=whole.spent) == run(before)


# ---- blocks of networks -------------------------------------------------------


def _residual(n: Any, x: Node) -> Node:
    y = n("relu", n.batch_norm(n.conv(x, padding=((1, 1), (1, 1)), bias=False)))
    y = n.batch_norm(n.conv(y, padding=((1, 1), (1, 1)), bias=False))
    return n("relu", n("add", y, n.batch_norm(n.conv(x, kernel=1))))


def _convnext(n: Any, x: Node) -> Node:
    y = n("permute", n.conv(x, kernel=3, padding=((1, 1), (1, 1)), groups=4), axes=(0, 2, 3, 1))
    parameters = [n.parameter(4), n.parameter(4)]
    y = n("layer_norm", y, *parameters, axes_count=1, eps=1e-6, has_weight=True, has_bias=True)
    y = n.linear(n("gelu", n.linear(y, 8), approximate="none"), 4)
    y = n("mul", n.parameter(4, 1, 1), n("permute", y, axes=(0, 3, 1, 2)))
    return n("add", x, y)


def _squeeze(n: Any, x: Node) -> Node:
    y = n.conv(n("adaptive_avg_pool", x, size=(1, 1)), 2, 1)
    y = n.conv(n("mul", y, n("sigmoid", y)), 4, 1)
    gate = n("div", n("clamp", n("add", y, 3.0), low=0.0, high=6.0), 6.0)
    return n("mul", x, gate)


def _head(n: Any, x: Node) -> Node:
    y = n("reshape", n("adaptive_avg_pool", x, size=(1, 1)), shape=(B, 4))
    return n.linear(n("softmax", y, axis=1))


def _transformer(n: Any, x: Node) -> Node:
    tokens = n("permute", n("reshape", x, shape=(B, 4, 36)), axes=(0, 2, 1))
    y = n("layer_norm", tokens, axes_count=1, eps=1e-5, has_weight=False, has_bias=False)
    y = n("reshape", n.linear(y, 12), shape=(B, 36, 3, 2, 2))
    y = n("permute", y, axes=(2, 0, 3, 1, 4))
    parts = [n("slice", y, axis=0, start=k, stop=k + 1, step=1) for k in range(3)]
    q, k, v = (n("reshape", p, shape=(B, 2, 36, 2)) for p in parts)
    scores = n("matmul", n("mul", q, 2**-0.5), n("permute", k, axes=(0, 1, 3, 2)))
    y = n("matmul", n("softmax", scores, axis=3), v)
    y = n("reshape", n("permute", y, axes=(0, 2, 1, 3)), shape=(B, 36, 4))
    return n("add", n("matmul", y, n.parameter(4, 4)), tokens)


BLOCKS: dict[str, tuple[Callable[[Any, Node], Node], str]] = {
    "residual": (_residual, "conv relu conv conv add relu"),
    "ConvNeXt": (_convnext, "conv permute layer_norm linear gelu linear permute add"),
    "squeeze and excite": (_squeeze, "mean conv silu conv hardsigmoid mul"),
    "head": (_head, "mean softmax linear"),
    "transformer": (
        _transformer,
        "permute reshape layer_norm linear reshape permute slice slice slice reshape reshape "
        "reshape attention permute reshape linear add",
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, net: Any, becomes: Any) -> None:
    make, expected = BLOCKS[name]
    becomes(checked, net.graph(make(net, net.images())), expected, 1e-8)


# ---- random graphs ------------------------------------------------------------

Draw = Callable[[st.SearchStrategy[Any]], Any]
NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 6.0])
_UNARY = ("neg", "abs", "tanh", "sigmoid", "relu", "square", "silu", "erf", "hardswish", "sin")
_BINARY = ("add", "sub", "mul", "max", "min")


def _unary(draw: Draw, n: Any, x: Node) -> Node:
    return n(draw(st.sampled_from(_UNARY)), x)


def _with_number(draw: Draw, n: Any, x: Node) -> Node:
    pair = (x, draw(NUMBERS)) if draw(st.booleans()) else (draw(NUMBERS), x)
    return n(draw(st.sampled_from(_BINARY)), *pair)


def _divided(draw: Draw, n: Any, x: Node) -> Node:
    return n("div", x, draw(st.sampled_from([1.0, -1.0, 0.5, 4.0, 6.0])))


def _with_parameter(draw: Draw, n: Any, x: Node) -> Node:
    sizes = tuple(s if isinstance(s, int) and draw(st.booleans()) else 1 for s in x.shape)
    first = draw(st.integers(0, x.tensor.rank))
    pair = [x, n.parameter(*sizes[first:])]
    return n(draw(st.sampled_from(_BINARY)), *(pair if draw(st.booleans()) else pair[::-1]))


def _clamped(draw: Draw, n: Any, x: Node) -> Node:
    low = draw(st.sampled_from([None, -1.0, 0.0]))
    return n("clamp", x, low=low, high=draw(st.sampled_from([None, 0.5, 6.0])))


def _permuted(draw: Draw, n: Any, x: Node) -> Node:
    return n("permute", x, axes=tuple(draw(st.permutations(range(x.tensor.rank)))))


def _reshaped(draw: Draw, n: Any, x: Node) -> Node:
    """Join two neighbouring axes of fixed size, or put in an axis of size 1, or split by 2."""
    shape, rank = list(x.shape), x.tensor.rank
    k = draw(st.integers(0, max(0, rank - 1)))
    kind = draw(st.sampled_from(["join", "one", "split"]))
    if kind == "join" and k + 1 < rank:
        shape[k : k + 2] = (
            [shape[k] * shape[k + 1]] if {*map(type, shape[k : k + 2])} == {int} else []
        )
    elif kind == "split" and rank and isinstance(shape[k], int) and shape[k] % 2 == 0:
        shape[k : k + 1] = [2, shape[k] // 2]
    else:
        shape.insert(k, 1)
    assume(len(shape) >= rank - 1 and len(shape) <= 6)
    if kind == "join" and len(shape) == rank - 2:
        return x
    return n("reshape", x, shape=tuple(shape))


def _sliced(draw: Draw, n: Any, x: Node) -> Node:
    axes = [k for k, s in enumerate(x.shape) if isinstance(s, int) and s > 1]
    assume(axes)
    axis = draw(st.sampled_from(axes))
    start = draw(st.integers(0, x.shape[axis] - 1))
    stop = draw(st.integers(start + 1, x.shape[axis]))
    return n("slice", x, axis=axis, start=start, stop=stop, step=draw(st.integers(1, 2)))


def _concatenated(draw: Draw, n: Any, x: Node) -> Node:
    assume(x.tensor.rank > 0)
    axis = draw(st.integers(0, x.tensor.rank - 1))
    assume(isinstance(x.shape[axis], int) and x.shape[axis] < 20)
    half = x.shape[axis] // 2
    cut = [n("slice", x, axis=axis, start=a, stop=b, step=1)
           for a, b in ((0, half), (half, x.shape[axis]))]  # fmt: skip
    return n("concat", *draw(st.sampled_from([cut, cut[::-1], [x, cut[0]]])), axis=axis)


def _reduced(draw: Draw, n: Any, x: Node) -> Node:
    fixed = [k for k, s in enumerate(x.shape) if isinstance(s, int)]
    assume(fixed)
    axes = draw(st.lists(st.sampled_from(fixed), min_size=1, unique=True))
    op = draw(st.sampled_from(["mean", "max_reduce", "min_reduce"]))
    return n(op, x, axes=tuple(sorted(axes)), keepdims=draw(st.booleans()))


def _rolled(draw: Draw, n: Any, x: Node) -> Node:
    fixed = [k for k, s in enumerate(x.shape) if isinstance(s, int)]
    assume(fixed)
    return n("roll", x, axes=(draw(st.sampled_from(fixed)),), shifts=(draw(st.integers(-3, 3)),))


def _convolved(draw: Draw, n: Any, x: Node) -> Node:
    fits = x.tensor.rank in (3, 4, 5) and all(isinstance(s, int) and s >= 2 for s in x.shape[1:])
    assume(fits)
    pads = ((draw(st.integers(0, 1)), draw(st.integers(0, 1))),) * (x.tensor.rank - 2)
    y = n.conv(x, draw(st.integers(1, 4)), 2, padding=pads, bias=draw(st.booleans()))
    return n.batch_norm(y) if draw(st.booleans()) else y


def _layered(draw: Draw, n: Any, x: Node) -> Node:
    assume(x.tensor.rank >= 2 and isinstance(x.shape[-1], int))
    return n.linear(x, draw(st.integers(1, 5)), bias=draw(st.booleans()))


def _padded(draw: Draw, n: Any, x: Node) -> Node:
    low = tuple(draw(st.integers(0, 1)) for _ in x.shape)
    return n("pad", x, low=(0,) * len(low), high=low, mode="constant", value=0.0)


def _expanded(draw: Draw, n: Any, x: Node) -> Node:
    """Repeat along axes of size 1, and along a new one in front."""
    sizes = tuple(2 if s == 1 and draw(st.booleans()) else s for s in x.shape)
    assume(x.tensor.rank < 6)
    return n("expand", x, shape=((3, *sizes) if draw(st.booleans()) else sizes))


def _softmax(draw: Draw, n: Any, x: Node) -> Node:
    fixed = [k for k, s in enumerate(x.shape) if isinstance(s, int)]
    assume(fixed)
    return n("softmax", x, axis=draw(st.sampled_from(fixed)))


def _combined(draw: Draw, n: Any, x: Node, values: list[Node]) -> Node:
    fitting = [v for v in values if v.shape == x.shape]
    return n(draw(st.sampled_from(_BINARY)), x, draw(st.sampled_from(fitting)))


_STEPS = (
    _unary, _with_number, _divided, _with_parameter, _clamped, _permuted, _reshaped, _sliced,
    _concatenated, _reduced, _rolled, _convolved, _layered, _padded, _softmax, _expanded,
)  # fmt: skip


def _random_graph(draw: Draw, n: Any) -> Graph:
    x = n.input(*draw(st.sampled_from([(B, 4, 6, 6), (B, 4, 6), (2, 3, 4), (B, 2, 3, 2, 4)])))
    values = [x]
    for _ in range(draw(st.integers(1, 9))):
        chosen = values[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(values))
        if draw(st.integers(0, 3)):
            step = draw(st.sampled_from(_STEPS))
            value = step(draw, n, chosen)
        else:
            value = _combined(draw, n, chosen, values)
        values.append(value)
    return n.graph(values[-1], draw(st.sampled_from(values)))


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
def test_random_graphs_keep_their_results(data: st.DataObject, net: Any, same: Any) -> None:
    before = _random_graph(data.draw, type(net)())
    after = run(before, check=True)
    same(before, after, 1e-8)
    assert run(after) is after


# ---- what passes share --------------------------------------------------------


def test_operators_by_number_of_inputs() -> None:
    assert {"relu", "cast", "gelu", "logical_not"} <= set(UNARY.split("|"))
    assert {"add", "atan2", "bitwise_xor"} <= set(BINARY.split("|"))
    assert TERNARY == "where"
    assert "prelu" not in BINARY.split("|")  # broadcasts along axis 1, as no other does


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((B * 64, 3), (B, 64, 3), [((0, 1), (0, 2)), ((1, 2), (2, 3))]),
        ((B, 49, 5), (B, 7, 7, 5), [((0, 1), (0, 1)), ((1, 2), (1, 3)), ((2, 3), (3, 4))]),
        ((4, 6), (2, 2, 3, 2), [((0, 1), (0, 2)), ((1, 2), (2, 4))]),
        ((2, 3), (3, 2), [((0, 2), (0, 2))]),
        ((B, 1, 5), (B, 5), [((0, 2), (0, 1)), ((2, 3), (1, 2))]),
        ((), (1, 1), [((0, 0), (0, 2))]),
        ((2, 3), (5,), None),
    ],
)
def test_groups_of_axes(a: Any, b: Any, expected: Any) -> None:
    found = groups(a, b)
    shown = found and [((x.start, x.stop), (y.start, y.stop)) for x, y in found]
    assert shown == expected


@pytest.mark.parametrize(
    ("operand", "expected"),
    [((5,), (1, 1, 5)), ((49, 1), (7, 7, 1)), ((49, 5), (7, 7, 5)), ((1, 1, 1), (1, 1, 1, 1))],
)
def test_operands_of_a_reshaped_value(operand: Any, expected: Any) -> None:
    shape = regrouped(operand, (B, 49, 5), (B, 7, 7, 5))
    assert shape == (1,) * (4 - len(expected)) + expected
    assert regrouped(operand, (B, 49, 5), (3, 3)) is None


def test_float32_stays_exact(net: Any) -> None:
    """Rewriting by itself costs a few units in the last place, not more."""
    x = net.input(B, 4, 6, 6, dtype=F32)
    y = net("div", net("sub", net("mul", net("exp", net("mul", x, 0.125)), 3.0), 0.1), 7.0)
    before = net.graph(net("reshape", y, shape=(B, 144)))
    inputs = {"x": np.random.default_rng(0).normal(0, 1, (2, 4, 6, 6))}
    exact = evaluate(before, inputs, dtype=F64)[0]
    got = evaluate(run(before), inputs)[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, exact, rtol=1e-6)
