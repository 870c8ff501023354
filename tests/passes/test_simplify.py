"""Each rule of `simplify`: algebra, cuts and joins, padding, moves that sink and meet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from sol.core.dims import B
from sol.core.dtypes import BOOL, F64, I64
from sol.ir.graph import Graph, Node
from sol.passes.canonical import canonical
from sol.passes.duplicates import dead, duplicates
from sol.passes.simplify import simplify

Make = Callable[[Any, Node], Node]


def _int(n: Any, x: Node) -> Node:
    return n("cast", x, dtype=I64)


def _bool(n: Any, x: Node) -> Node:
    return n("gt", x, 0.0)


ALGEBRA: dict[str, tuple[Make, str]] = {
    "plus 0": (lambda n, x: n("add", 0.0, x), ""),
    "minus 0": (lambda n, x: n("sub", x, 0.0), ""),
    "0 minus": (lambda n, x: n("sub", 0.0, x), "neg"),
    "times 1": (lambda n, x: n("mul", x, 1.0), ""),
    "divided by 1": (lambda n, x: n("div", x, 1.0), ""),
    "plus 0 of a larger shape": (lambda n, x: n("add", x, n.constant([[[[[0.0]]]]])), "add"),
    "times 0": (lambda n, x: n("mul", x, 0.0), "mul"),  # of NaN it is NaN
    "times 0, integers": (lambda n, x: n("add", _int(n, x), n("mul", _int(n, x), 0)), "cast"),
    "minus itself": (lambda n, x: n("sub", x, x), "sub"),
    "minus itself, integers": (
        lambda n, x: n("add", _int(n, x), n("sub", *[_int(n, x)] * 2)),
        "cast",
    ),
    "integer divided by 1": (lambda n, x: n("floordiv", _int(n, x), 1), "cast"),
    "float divided by 1, rounded": (lambda n, x: n("floordiv", x, 1.0), "floordiv"),
    "neg neg": (lambda n, x: n("neg", n("neg", x)), ""),
    "neg neg neg": (lambda n, x: n("neg", n("neg", n("neg", x))), "neg"),
    "not not": (lambda n, x: n("logical_not", n("logical_not", _bool(n, x))), "gt"),
    "not not of numbers": (
        lambda n, x: n("logical_not", n("logical_not", x)),
        "logical_not logical_not",
    ),
    "bitwise_not twice": (
        lambda n, x: n("bitwise_not", n("bitwise_not", _int(n, x))),
        "cast",
    ),
    "bitwise_xor twice": (
        lambda n, x: n(
            "bitwise_xor", n("bitwise_xor", _int(n, x), _int(n, n("exp", x))), _int(n, n("exp", x))
        ),
        "cast",
    ),
    "pow 1": (lambda n, x: n("pow", x, 1.0), ""),
    "abs of square": (lambda n, x: n("abs", n("square", x)), "square"),
    "and with itself": (lambda n, x: n("logical_and", *[_bool(n, x)] * 2), "gt"),
    "or True": (
        lambda n, x: n("where", n("logical_or", _bool(n, x), n.constant(True, BOOL)), x, 0.0),
        "",
    ),
    "abs abs": (lambda n, x: n("abs", n("abs", x)), "abs"),
    "relu relu": (lambda n, x: n("relu", n("relu", x)), "relu"),
    "relu of square": (lambda n, x: n("relu", n("square", x)), "square"),
    "relu of tanh": (lambda n, x: n("relu", n("tanh", x)), "tanh relu"),
    "floor of round": (lambda n, x: n("floor", n("round", x)), "round"),
    "floor of integers": (lambda n, x: n("floor", _int(n, x)), "cast"),
    "sign of sign": (lambda n, x: n("sign", n("sign", x)), "sign"),
    "max with itself": (lambda n, x: n("max", x, x), ""),
    "and True": (lambda n, x: n("logical_and", _bool(n, x), n.constant(True, BOOL)), "gt"),
    "and False": (
        lambda n, x: n(
            "logical_or",
            _bool(n, x),
            n("logical_and", _bool(n, n("neg", x)), n.constant(False, BOOL)),
        ),
        "gt",
    ),
    "or of a number": (
        lambda n, x: n("logical_or", _int(n, x), n.constant(False, BOOL)),
        "cast logical_or",
    ),
    "xor True": (
        lambda n, x: n("logical_xor", _bool(n, x), n.constant(True, BOOL)),
        "gt logical_not",
    ),
    "where True": (lambda n, x: n("where", n.constant(True, BOOL), x, n("exp", x)), ""),
    "where of one": (lambda n, x: n("where", _bool(n, x), x, x), ""),
    "where not": (
        lambda n, x: n("where", n("logical_not", _bool(n, x)), x, n("exp", x)),
        "gt exp where",
    ),
}


def _slice(n: Any, x: Node, axis: int, start: int, stop: int, step: int = 1) -> Node:
    return n("slice", x, axis=axis, start=start, stop=stop, step=step)


def _joined(n: Any, x: Node, *cuts: int, axis: int = 1) -> Node:
    parts = [_slice(n, x, axis, a, b) for a, b in itertools.pairwise(cuts)]
    return n("concat", *parts, axis=axis)


JOINS: dict[str, tuple[Make, str]] = {
    "split and concat": (lambda n, x: _joined(n, x, 0, 1, 3, 4), ""),
    "split and concat of a part": (lambda n, x: _joined(n, x, 1, 2, 4), "slice"),
    "slices with a gap": (
        lambda n, x: n("concat", _slice(n, x, 1, 0, 1), _slice(n, x, 1, 2, 4), axis=1),
        "slice slice concat",
    ),
    "slices along another axis": (
        lambda n, x: n("concat", _slice(n, x, 2, 0, 3), _slice(n, x, 2, 3, 6), axis=1),
        "slice slice concat",
    ),
    "halves that change places": (
        lambda n, x: n("concat", _slice(n, x, 1, 1, 4), _slice(n, x, 1, 0, 1), axis=1),
        "roll",
    ),
    "halves with a gap that change places": (
        lambda n, x: n("concat", _slice(n, x, 1, 2, 4), _slice(n, x, 1, 0, 1), axis=1),
        "slice slice concat",
    ),
    "some slices that meet": (
        lambda n, x: n(
            "concat", x, _slice(n, x, 1, 0, 2), _slice(n, x, 1, 2, 3), n("exp", x), axis=1
        ),
        "exp slice concat",
    ),
    "slice of concat": (
        lambda n, x: _slice(n, n("concat", x, n("exp", x), axis=1), 1, 4, 8),
        "exp",
    ),
    "slice in one part": (
        lambda n, x: _slice(n, n("concat", x, n("exp", x), axis=1), 1, 5, 8, 2),
        "slice exp",
    ),
    "slice across parts": (
        lambda n, x: _slice(n, n("concat", x, n("exp", x), axis=1), 1, 3, 5),
        "exp concat slice",
    ),
    "slice along another axis": (
        lambda n, x: _slice(n, n("concat", x, n("exp", x), axis=1), 2, 0, 2),
        "exp concat slice",
    ),
}


def _pad(n: Any, x: Node, value: float = 0.0, mode: str = "constant", **axes: int) -> Node:
    low, high = [0] * 4, [0] * 4
    for name, amount in axes.items():
        (low if name[0] == "l" else high)[int(name[1])] = amount
    return n("pad", x, low=tuple(low), high=tuple(high), mode=mode, value=value)


def _max_pool(n: Any, x: Node, padding: tuple[int, int] = (0, 0)) -> Node:
    return n(
        "max_pool", x, kernel=(3, 3), stride=(2, 1), padding=padding, dilation=(1, 1), ceil=False
    )


def _avg_pool(n: Any, x: Node, counted: bool, padding: int = 0, ceil: bool = False) -> Node:
    return n(
        "avg_pool", x, kernel=(3, 3), stride=(2, 1), padding=(padding,) * 2, ceil=ceil,
        count_include_pad=counted, divisor=None,
    )  # fmt: skip


PADDING: dict[str, tuple[Make, str]] = {
    "conv": (lambda n, x: n.conv(_pad(n, x, l2=1, h2=2, h3=1)), "conv"),
    "conv with padding": (
        lambda n, x: n.conv(_pad(n, x, l2=1), padding=((1, 2), (3, 0)), stride=(2, 2)),
        "conv",
    ),
    "conv, channels": (lambda n, x: n.conv(_pad(n, x, l1=2)), "pad conv"),
    "conv, batch": (lambda n, x: n.conv(_pad(n, x, h0=1)), "pad conv"),
    "conv, ones": (lambda n, x: n.conv(_pad(n, x, 1.0, l2=1)), "pad conv"),
    "conv, reflected": (lambda n, x: n.conv(_pad(n, x, mode="reflect", l2=1)), "pad conv"),
    "conv, cropped": (lambda n, x: n.conv(_pad(n, x, l2=-1, h2=1)), "pad conv"),
    "conv, taps in the padding": (
        lambda n, x: n.conv(x, padding=((6, 6), (7, 6)), dilation=(6, 6)),
        "conv",
    ),
    "conv, taps in the padding, strided": (
        lambda n, x: n.conv(x, kernel=5, padding=((8, 8), (0, 9)), dilation=(4, 2), stride=(3, 2)),
        "conv",
    ),
    "conv, no tap elsewhere": (lambda n, x: n.conv(x, padding=((5, 5), (5, 5))), "conv"),
    "max pooling": (lambda n, x: _max_pool(n, _pad(n, x, -math.inf, l2=1, h2=1)), "max_pool"),
    "max pooling, zeros": (lambda n, x: _max_pool(n, _pad(n, x, l2=1, h2=1)), "pad max_pool"),
    "max pooling, zeros behind a relu": (
        lambda n, x: _max_pool(n, _pad(n, n("relu", x), l2=1, h2=1)),
        "relu max_pool",
    ),
    "max pooling, ones behind a relu": (
        lambda n, x: _max_pool(n, _pad(n, n("relu", x), 1.0, l2=1, h2=1)),
        "relu pad max_pool",
    ),
    "max pooling, zeros behind a clamp": (
        lambda n, x: _max_pool(n, _pad(n, n("clamp", x, low=0.5, high=1.0), l2=1, h2=1)),
        "clamp max_pool",
    ),
    "max pooling, one side": (
        lambda n, x: _max_pool(n, _pad(n, x, -math.inf, l2=1)),
        "pad max_pool",
    ),
    "max pooling, more than half": (
        lambda n, x: _max_pool(n, _pad(n, x, -math.inf, l2=1, h2=1), (1, 0)),
        "pad max_pool",
    ),
    "average": (lambda n, x: _avg_pool(n, _pad(n, x, l2=1, h2=1), True), "avg_pool"),
    "average, not counted": (
        lambda n, x: _avg_pool(n, _pad(n, x, l2=1, h2=1), False),
        "avg_pool",
    ),
    "average, padding not counted": (
        lambda n, x: _avg_pool(n, _pad(n, x, l2=1, h2=1), False, 1),
        "pad avg_pool",
    ),
    "average, rounded up": (
        lambda n, x: _avg_pool(n, _pad(n, x, l2=1, h2=1), True, ceil=True),
        "pad avg_pool",
    ),
}


def _last(n: Any, x: Node) -> Node:
    """Channels last."""
    return n("permute", x, axes=(0, 2, 3, 1))


def _first(n: Any, x: Node) -> Node:
    """Channels first again."""
    return n("permute", x, axes=(0, 3, 1, 2))


def _flat(n: Any, x: Node) -> Node:
    return n("reshape", x, shape=(B, 144))


SINKING: dict[str, tuple[Make, str]] = {
    "unary": (lambda n, x: _first(n, n("relu", _last(n, x))), "relu"),
    "unary with attributes": (
        lambda n, x: _first(n, n("clamp", _last(n, x), low=0.0, high=1.0)),
        "clamp",
    ),
    "a chain": (
        lambda n, x: _first(n, n("exp", n("mul", n("neg", _last(n, x)), 0.5))),
        "neg mul exp",
    ),
    "with a parameter": (
        lambda n, x: _first(n, n("mul", _last(n, x), n.parameter(4))),
        "mul",
    ),
    "with a parameter on the left": (
        lambda n, x: _first(n, n("sub", n.parameter(6, 4), _last(n, x))),
        "sub",
    ),
    "with a larger parameter": (
        lambda n, x: n("mul", _last(n, x), n.parameter(2, 1, 1, 1, 4)),
        "permute mul",
    ),
    "two alike": (
        lambda n, x: _first(n, n("add", _last(n, x), _last(n, n("exp", x)))),
        "exp add",
    ),
    "two unlike": (
        lambda n, x: n("add", _last(n, x), n("permute", x, axes=(0, 3, 2, 1))),
        "permute permute add",
    ),
    "with another value": (
        lambda n, x: n("add", _last(n, x), n.input(B, 6, 6, 4, name="y")),
        "permute add",
    ),
    "reshape": (lambda n, x: n("reshape", n("exp", _flat(n, x)), shape=x.shape), "exp"),
    "reshape, number": (
        lambda n, x: n("reshape", n("mul", _flat(n, x), 3.0), shape=x.shape),
        "mul",
    ),
    "reshape, parameter": (
        lambda n, x: n(
            "mul", n("reshape", x, shape=(B, 2, 2, 36)), n.parameter(2, 2, 1)
        ),
        "mul reshape",
    ),
    "reshape, parameter across": (
        lambda n, x: n("mul", n("reshape", x, shape=(B, 2, 2, 36)), n.parameter(2, 1, 1)),
        "reshape mul",
    ),
    "reshape, two alike": (
        lambda n, x: n("add", _flat(n, x), _flat(n, n("exp", x))),
        "exp add reshape",
    ),
    "sum": (lambda n, x: _first(n, n.reduce("sum", _last(n, x), 1, 2)), "sum"),
    "sum without axes": (
        lambda n, x: n.reduce("sum", _last(n, x), 1, 2, keepdims=False),
        "sum",
    ),
    "sum that turns the rest": (
        lambda n, x: n.reduce("sum", n("permute", x, axes=(3, 1, 2, 0)), 1, keepdims=False),
        "sum permute",
    ),
    "softmax": (lambda n, x: _first(n, n("softmax", _last(n, x), axis=3)), "softmax"),
    "linear": (
        lambda n, x: n("reshape", n.linear(n("reshape", x, shape=(B, 24, 6))), shape=(B, 4, 6, 5)),
        "linear",
    ),
    "linear of other rows": (lambda n, x: n.linear(_flat(n, x)), "reshape linear"),
    "layer norm": (
        lambda n, x: n(
            "reshape",
            n("layer_norm", n("reshape", x, shape=(B, 24, 6)), n.parameter(6), axes_count=1,
              eps=1e-5, has_weight=True, has_bias=False),
            shape=x.shape,
        ),
        "layer_norm",
    ),
    "softmax of rows": (
        lambda n, x: n(
            "reshape", n("softmax", n("reshape", x, shape=(B, 24, 6)), axis=2), shape=x.shape
        ),
        "softmax",
    ),
    "softmax across rows": (
        lambda n, x: n("softmax", n("reshape", x, shape=(B, 24, 6)), axis=1),
        "reshape softmax",
    ),
    "slice first": (lambda n, x: _slice(n, n("exp", x), 2, 0, 1), "slice exp"),
    "slice that keeps most": (lambda n, x: _slice(n, n("exp", x), 2, 0, 4), "exp slice"),
    "slice of a sum": (
        lambda n, x: _slice(n, n("add", x, n.parameter(6, 1)), 2, 1, 2),
        "slice add",
    ),
    "slice of a sum that broadcasts": (
        lambda n, x: _slice(n, n("add", x, n.parameter(6)), 2, 1, 2),
        "slice add",
    ),
    "slice of a norm": (
        lambda n, x: _slice(
            n, n("rms_norm", x, n.parameter(6), axes_count=1, eps=1e-5), 2, 0, 1
        ),
        "slice rms_norm",
    ),
    "slice of a row of a norm": (
        lambda n, x: _slice(
            n, n("rms_norm", x, n.parameter(6), axes_count=1, eps=1e-5), 3, 0, 1
        ),
        "rms_norm slice",
    ),
    "slice behind a convolution": (
        lambda n, x: _slice(n, n("relu", n.conv(x)), 2, 0, 1), "conv relu slice",
    ),
}  # fmt: skip


def _repeat(n: Any, x: Node, *front: int) -> Node:
    """One row of x, for each row and some times more."""
    return n("expand", _slice(n, x, 2, 0, 1), shape=(*front, *x.shape))


BROADCASTS: dict[str, tuple[Make, str]] = {
    "unary": (lambda n, x: n("exp", _repeat(n, x, 3)), "slice exp expand"),
    "number": (lambda n, x: n("mul", 2.0, _repeat(n, x, 3)), "slice mul expand"),
    "parameter": (
        lambda n, x: n("mul", n.parameter(6), _repeat(n, x)), "slice mul expand",
    ),
    "parameter along what repeats": (
        lambda n, x: n("mul", n.parameter(6, 1), _repeat(n, x)), "slice mul",
    ),
    "parameter along some of what repeats": (
        lambda n, x: n("mul", n.parameter(6, 1), _repeat(n, x, 3)), "slice mul expand",
    ),
    "two": (
        lambda n, x: n("add", _repeat(n, x), _repeat(n, n("exp", x))),
        "slice exp add expand",
    ),
    "condition": (
        lambda n, x: n("where", _bool(n, _repeat(n, x)), 1.0, _repeat(n, x)),
        "slice gt where expand",
    ),
    "slice": (lambda n, x: _slice(n, _repeat(n, x), 1, 1, 3), "slice slice expand"),
    "slice along what repeats": (lambda n, x: _slice(n, _repeat(n, x, 3), 3, 1, 3), "slice expand"),
    "slice along what is new": (lambda n, x: _slice(n, _repeat(n, x, 3), 0, 1, 3), "slice expand"),
    "reshape": (
        lambda n, x: n("reshape", _repeat(n, x), shape=(B, 2, 2, 6, 6)), "slice reshape expand",
    ),
    "reshape that joins what repeats": (
        lambda n, x: n("reshape", _repeat(n, x), shape=(B, 24, 6)), "slice expand reshape",
    ),
    "concat": (
        lambda n, x: n("concat", _repeat(n, x), _repeat(n, n("exp", x)), axis=1),
        "slice exp concat expand",
    ),
    "concat along what repeats": (
        lambda n, x: n("concat", _repeat(n, x), _repeat(n, n("exp", x)), axis=2),
        "slice expand exp expand concat",
    ),
    "concat with what does not repeat": (
        lambda n, x: n("concat", _repeat(n, x), x, axis=1),
        "slice expand concat",
    ),
    "cumsum": (lambda n, x: n("cumsum", _repeat(n, x, 3), axis=2), "slice cumsum expand"),
    "cumsum along what repeats": (
        lambda n, x: n("cumsum", _repeat(n, x), axis=2), "slice expand cumsum",
    ),
    "index": (
        lambda n, x: n("index", _repeat(n, x), n("iota", shape=(3, 1), axis=0, dtype=I64),
                       n.constant([[1, 0]], I64), axes=(2, 3)),
        "slice index expand",
    ),
    "index of other axes": (
        lambda n, x: n("index", _repeat(n, x), n.constant([1, 0, 1], I64), axes=(1,)),
        "slice index expand",
    ),
}  # fmt: skip

ROWS = {
    f"{table}: {name}": row
    for table, rows in (
        ("algebra", ALGEBRA),
        ("joins", JOINS),
        ("padding", PADDING),
        ("sinking", SINKING),
        ("broadcasts", BROADCASTS),
    )
    for name, row in rows.items()
}


def prepared(graph: Graph) -> Graph:
    """Simplify, and what removes the moves that met; until nothing changes."""
    while True:
        after = dead(canonical(simplify(duplicates(dead(graph)))))
        if after is graph:
            return graph
        graph = after


@pytest.mark.parametrize("name", ROWS)
def test_rule(name: str, net: Any, becomes: Any) -> None:
    make, expected = ROWS[name]
    becomes(prepared, net.graph(make(net, net.images())), expected)


@pytest.mark.parametrize(
    ("padding", "dilation", "kept"),
    [(((6, 6), (7, 6)), (6, 6), (1, 2)), (((6, 6), (2, 2)), (6, 2), (1, 3))],
)
def test_taps_that_meet_padding_alone_go(
    padding: Any, dilation: tuple[int, int], kept: tuple[int, int], net: Any
) -> None:
    before = net.graph(net.conv(net.images(), padding=padding, dilation=dilation))
    after = prepared(before)
    (conv,) = [n for n in after if n.op == "conv"]
    assert after[conv.inputs[1]].shape[2:] == kept


def test_pixel_unshuffle_by_slices_keeps_its_slices(net: Any, becomes: Any) -> None:
    """Focus layers and patch merging: slices of one value that has several users."""
    x = net("exp", net.images())
    parts = [_slice(net, _slice(net, x, 2, a, 6, 2), 3, b, 6, 2) for a in (0, 1) for b in (0, 1)]
    expected = "exp slice slice slice slice slice slice concat"
    becomes(prepared, net.graph(net("concat", *parts, axis=1)), expected)


def test_static_values_do_not_move_for_ever(net: Any, same: Any) -> None:
    a, b = net.parameter(3, 4), net.parameter(4, 3, name="b")
    moved = net("add", a, net("permute", b, axes=(1, 0)))
    before = net.graph(net("mul", net.input(B, 3, 4), moved))
    same(before, prepared(before))


def test_nan_and_infinity_stay(net: Any) -> None:
    """What no rule may take for zero."""
    x = net("full", shape=(B, 2), value=math.nan, dtype=F64)
    for y in (net("mul", x, 0.0), net("sub", x, x), net("div", x, x)):
        (out,) = (n for n in simplify(net.graph(y)) if n.name == y.name)
        assert out.op == y.op
