"""Loops that are an LSTM, a GRU (gru.py) or an Elman network, as Sol's recurrent operators.

Recognised is what operations compute, not what blocks are called:

    h' = σ(o) tanh(c'),  c' = σ(f) c + σ(i) tanh(g)       `lstm`
    h' = tanh(a), relu(a) or σ(a)                          `rnn`

with gates that are slices of one sum a = Times(H, s h) + b + Times(W, x), in any order, where s and
b do not change. σ is a tanh: with u = 2 h - 1, h' = σ(a) is u' = tanh(a / 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sol.cntk.codes import CODES, SIGMOID, TIMES
from sol.cntk.dictionary import Axis
from sol.cntk.gru import gru
from sol.cntk.model import Operation, split
from sol.cntk.rows.sequence import images_of, initial_value
from sol.cntk.value import Context, Value
from sol.ir.graph import Node

if TYPE_CHECKING:
    from sol.cntk.loops import Loop
    from sol.cntk.reader import Reader

_MOST_TERMS = 32
_TANH, _RELU = CODES["Tanh"], CODES["ReLU"]
_PLUS, _MUL, _SLICE = (CODES[n] for n in ("Plus", "ElementTimes", "Slice"))


@dataclass(frozen=True)
class Gates:
    """A sum of what a step gets: from the state before, and from outside.

    weight: H, of the shape (hidden, all gates). scale: what the state is multiplied with. outside:
    references to terms that do not depend on the loop.
    """

    weight: Value
    scale: Value | None
    outside: tuple[str, ...]


class Matcher:
    """Patterns on the operations of a loop."""

    def __init__(self, reader: Reader, loop: Loop) -> None:
        self.reader = reader
        self.inside = {o.uid: o for o in (*loop.delays, *loop.body)}

    def operation(self, reference: str, *codes: int) -> Operation | None:
        """The operation of the loop behind a reference, if it is one of these."""
        if reference in self.reader.model.variables:
            return None
        found = self.inside.get(split(reference)[0])
        return found if found is not None and found.code in codes else None

    def is_outside(self, reference: str) -> bool:
        """Whether a value does not depend on the loop."""
        known = reference in self.reader.model.variables
        return known or split(reference)[0] not in self.inside

    def pairs(self, reference: str, code: int) -> Iterator[tuple[str, str]]:
        """The operands of an operation that commutes, both ways."""
        found = self.operation(reference, code)
        if found is not None and len(found.inputs) == 2:
            yield found.inputs[0], found.inputs[1]
            yield found.inputs[1], found.inputs[0]

    def under(self, reference: str, *codes: int) -> str | None:
        """The operand of a function."""
        found = self.operation(reference, *codes)
        return found.inputs[0] if found is not None else None

    def gates(self, reference: str, state: str) -> Gates | None:
        """A sum with one product of a matrix and the state."""
        terms = list(self.terms(reference))
        own = [t for t in terms if not self.is_outside(t)]
        if len(own) != 1:
            return None
        product = self.operation(own[0], TIMES)
        if product is None or not self.is_outside(product.inputs[0]):
            return None
        weight = self.reader.value(product.inputs[0])
        plain = weight.rank == 2 and not weight.axes and product.attributes.get("outputRank") == 1
        scale = self._scale(product.inputs[1], state)
        if not plain or scale is False:
            return None
        outside = tuple(t for t in terms if t != own[0])
        return Gates(weight, scale if isinstance(scale, Value) else None, outside)

    def _scale(self, reference: str, state: str) -> Value | bool:
        """What the state is multiplied with: True for nothing, False if it is not the state."""
        if reference == state:
            return True
        for factor, rest in self.pairs(reference, _MUL):
            if rest == state and self.is_outside(factor):
                value = self.reader.value(factor)
                return value if not value.axes and value.rank <= 1 else False
        return False

    def _terms(self, reference: str, inside: dict[str, Operation]) -> Iterator[str]:
        """What is added up, sums of sums included; of many terms some stay sums."""
        waiting, count = [reference], 0
        while waiting:
            term = waiting.pop()
            count += 1
            uid = split(term)[0]
            found = inside.get(uid) if term not in self.reader.model.variables else None
            if found is not None and found.code == _PLUS and count < _MOST_TERMS:
                waiting.extend(found.inputs)
            else:
                yield term

    def terms(self, reference: str) -> Iterator[str]:
        """What a value of the loop is the sum of."""
        return self._terms(reference, self.inside)

    def part(self, reference: str) -> tuple[str, int, int] | None:
        """What a slice of a vector is a slice of, from where and up to where."""
        found = self.operation(reference, _SLICE)
        if found is None:
            return None
        a = found.attributes
        axis, begin, end = a.get("axis"), a.get("beginIndex"), a.get("endIndex")
        if not isinstance(axis, Axis) or axis.index != 0 or a.get("sliceStrides", 1) != 1:
            return None
        if type(begin) is not int or type(end) is not int or not 0 <= begin < end:
            return None
        return found.inputs[0], begin, end

    def terms_outside(self, references: Sequence[str]) -> list[str]:
        """What values from outside are sums of."""
        operations = dict(self.reader.model.operations)
        return [t for r in references for t in self._terms(r, operations)]


def recognised(reader: Reader, loop: Loop) -> bool:
    """Compute a loop as a recurrent operator; False if it is none."""
    if any(d.attributes.get("offset") != 1 for d in loop.delays):
        return False
    matcher = Matcher(reader, loop)
    if len(loop.delays) == 2:
        return any(_lstm(reader, loop, matcher, h, c) for h, c in (loop.delays, loop.delays[::-1]))
    if len(loop.delays) != 1:
        return False
    (h,) = loop.delays
    return _elman(reader, loop, matcher, h) or gru(reader, loop, matcher, h)


# ---- LSTM ----------------------------------------------------------------------------------------


def _lstm(reader: Reader, loop: Loop, m: Matcher, h: Operation, c: Operation) -> bool:
    result, cell = h.inputs[0], c.inputs[0]
    if set(loop.wanted) - {result}:
        return False
    found = _lstm_gates(m, result, cell, c.result())
    if found is None:
        return False
    sums, places = found
    gates = m.gates(sums, h.result())
    hidden = _hidden(reader, gates, 4)
    if gates is None or hidden is None or any(p != (k * hidden, (k + 1) * hidden) for p, k in zip(
        sorted(places), range(4)
    )):  # fmt: skip
        return False
    context = reader.context(h)
    order = [start // hidden for start, _ in places]
    layer = _Layer(reader, context, m, loop.backwards, hidden)
    inputs = layer.inputs(gates)
    if inputs is None:
        return False
    x, w_ih, bias = inputs
    w_hh = layer.recurrent(gates)
    weights = [layer.ordered(w, order) for w in (w_ih, w_hh, bias)]
    states = [layer.initial(x, reader.value(d.inputs[1])) for d in (h, c)]
    reader.values[result] = layer.run("lstm", x, states, weights)
    return True


def _lstm_gates(
    m: Matcher, result: str, cell: str, before: str
) -> tuple[str, list[tuple[int, int]]] | None:
    """The sum that gates are slices of, and the slices of i, f, g, o."""
    for out, rest in m.pairs(result, _MUL):
        o = m.under(out, *SIGMOID)
        if o is None or m.under(rest, _TANH) != cell:
            continue
        for kept, added in m.pairs(cell, _PLUS):
            for forget, state in m.pairs(kept, _MUL):
                f = m.under(forget, *SIGMOID)
                if f is None or state != before:
                    continue
                for let_in, fresh in m.pairs(added, _MUL):
                    i, g = m.under(let_in, *SIGMOID), m.under(fresh, _TANH)
                    if i is None or g is None:
                        continue
                    slices = [m.part(reference) for reference in (i, f, g, o)]
                    found = [s for s in slices if s is not None]
                    if len(found) == 4 and len({s[0] for s in found}) == 1:
                        return found[0][0], [(s[1], s[2]) for s in found]
    return None


# ---- Elman ---------------------------------------------------------------------------------------


def _elman(reader: Reader, loop: Loop, m: Matcher, h: Operation) -> bool:
    result = h.inputs[0]
    function = m.operation(result, _TANH, _RELU, *SIGMOID)
    if function is None or set(loop.wanted) - {result}:
        return False
    gates = m.gates(function.inputs[0], h.result())
    hidden = _hidden(reader, gates, 1)
    if gates is None or hidden is None:
        return False
    c = reader.context(h)
    layer = _Layer(reader, c, m, loop.backwards, hidden)
    inputs = layer.inputs(gates)
    if inputs is None:
        return False
    x, w_ih, bias = inputs
    w_hh = layer.recurrent(gates)
    start = layer.initial(x, reader.value(h.inputs[1]))
    kind = "relu" if function.code == _RELU else "tanh"
    if function.code not in SIGMOID:
        reader.values[result] = layer.run("rnn", x, [start], [w_ih, w_hh, bias], kind)
        return True
    half, one = c.constant(0.5), c.constant(1.0)
    shift = c.op("mul", c.op("sum", w_hh, axes=(1,), keepdims=False), half)
    bias = c.op("mul", c.op("add", bias, shift), half)
    w_ih, w_hh = c.op("mul", w_ih, half), c.op("mul", w_hh, c.constant(0.25))
    start = c.op("sub", c.op("mul", start, c.constant(2.0)), one)
    u = layer.run("rnn", x, [start], [w_ih, w_hh, bias], kind)
    reader.values[result] = c.keep(u, c.op("mul", c.op("add", u.node, one), half))
    return True


# ---- both ----------------------------------------------------------------------------------------


def _hidden(reader: Reader, gates: Gates | None, count: int) -> int | None:
    """The size of the state, if the weights fit."""
    if gates is None:
        return None
    hidden, width = gates.weight.shape
    return hidden if isinstance(hidden, int) and hidden and width == hidden * count else None


@dataclass(frozen=True)
class _Layer:
    """Weights and inputs of a recurrent operator, in Sol's order."""

    reader: Reader
    c: Context
    matcher: Matcher
    backwards: bool
    hidden: int

    def inputs(self, gates: Gates) -> tuple[Value, Node, Node] | None:
        """The sequence, its weights [all gates, inputs] and the bias [all gates].

        What comes from outside is W x + b with one sequence x; anything else is taken as it is,
        with the unit matrix for W.
        """
        width = gates.weight.shape[1]
        assert isinstance(width, int)
        products: list[Operation] = []
        constants: list[Value] = []
        for term in self.matcher.terms_outside(gates.outside):
            product = self.reader.model.producer(term)
            if product is not None and product.code == TIMES and self._is_layer(product, width):
                products.append(product)
                continue
            value = self.reader.values.get(term)
            if value is None and term in self.reader.model.variables:
                value = self.reader.value(term)
            if value is None or value.axes or value.rank > 1:
                return self._whole(gates, width)
            constants.append(value)
        if len(products) != 1:
            return self._whole(gates, width)
        w, x = (self.reader.value(i) for i in products[0].inputs)
        bias = self.c.constant(np.zeros(width, np.float32))
        for value in constants:
            bias = self.c.op("add", bias, value.node)
        return x, self.c.permute(w.node, (1, 0)), bias

    def _is_layer(self, product: Operation, width: int) -> bool:
        """Whether it is a matrix and the steps of a sequence of vectors."""
        known = self.reader.values.keys() | self.reader.model.variables.keys()
        if not known >= set(product.inputs):
            return False  # it is a part of another loop
        w, x = (self.reader.value(i) for i in product.inputs)
        return (
            not w.axes and w.rank == 2 and w.shape[1] == width
            and product.attributes.get("outputRank") == 1
            and len(x.axes) == 2 and x.rank == 1
        )  # fmt: skip

    def _whole(self, gates: Gates, width: int) -> tuple[Value, Node, Node] | None:
        values = [self.reader.value(reference) for reference in gates.outside]
        if not values:
            return None
        total = values[0]
        for value in values[1:]:
            (a, b), axes = self.c.aligned(total, value)
            total = Value(self.c.op("add", a, b), axes)
        if len(total.axes) != 2 or total.shape != (width,):
            return None
        zero = self.c.constant(np.zeros(width, np.float32))
        return total, self.c.constant(np.eye(width, dtype=np.float32)), zero

    def recurrent(self, gates: Gates) -> Node:
        """The weights of the state, [all gates, hidden]."""
        w = self.c.permute(gates.weight.node, (1, 0))
        return w if gates.scale is None else self.c.op("mul", w, gates.scale.node)

    def ordered(self, weights: Node, order: Sequence[int]) -> Node:
        """Rows of weights in the order i, f, g, o."""
        parts = [self.c.slice(weights, 0, k * self.hidden, (k + 1) * self.hidden) for k in order]
        return self.c.op("concat", *parts, axis=0)

    def initial(self, x: Value, v: Value) -> Node:
        """A state before the first step, [1, images, hidden]."""
        images = images_of(x, v)
        node = initial_value(self.c, v, images, (self.hidden,))
        return self.c.reshape(node, (1, images, self.hidden))

    def run(
        self, op: str, x: Value, states: Sequence[Node], weights: Sequence[Node], kind: str = ""
    ) -> Value:
        """The states at all steps."""
        c, images = self.c, states[0].shape[1]
        node = c.expand(x.node, (images, *x.node.shape[1:]))
        node = c.op("flip", node, axes=(1,)) if self.backwards else node
        none = c.constant(np.zeros(weights[2].shape, np.float32))
        attrs = {"nonlinearity": kind} if kind else {}
        layer = c.op(
            op, node, *states, *weights, none, layers=1, bidirectional=False, bias=True,
            batch_first=True, **attrs,
        )  # fmt: skip
        y = c.op("item", layer, index=0)
        y = c.op("flip", y, axes=(1,)) if self.backwards else y
        return replace(x, node=y)
