"""Loops that are a GRU as CNTK writes it, with its reset gate before the product:

    h' = (1 - z) tanh(x_n + Times(H1, r h)) + z h,  z, r = σ(x + slices of Times(H, h))

Called by cells.py. What comes from outside of the loop, x, is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sol.cntk.codes import CODES, SIGMOID, TIMES
from sol.cntk.model import Operation
from sol.cntk.rows.sequence import images_of, initial_value
from sol.cntk.value import Context, Value
from sol.ir.graph import Node
from sol.ops.layers import reset_first

if TYPE_CHECKING:
    from sol.cntk.cells import Matcher
    from sol.cntk.loops import Loop
    from sol.cntk.reader import Reader

_TANH, _PLUS, _MINUS, _MUL = (CODES[n] for n in ("Tanh", "Plus", "Minus", "ElementTimes"))


@dataclass(frozen=True)
class _Gate:
    """What a gate adds up: a product, a part of its columns, and terms from outside."""

    product: Operation
    begin: int
    end: int
    outside: tuple[str, ...]


def gru(reader: Reader, loop: Loop, m: Matcher, h: Operation) -> bool:
    """Compute a loop as a GRU; False if it is none."""
    result, before = h.inputs[0], h.result()
    if set(loop.wanted) - {result}:
        return False
    found = next(_parts(reader, m, result, before), None)
    if found is None:
        return False
    c = reader.context(h)
    weights, gates = _weights(reader, c, found), _from_outside(reader, c, found)
    if weights is None or gates is None:
        return False
    hidden, first = weights.shape[1], reader.value(h.inputs[1])
    assert isinstance(hidden, int)
    images = images_of(gates, first)
    start = c.reshape(initial_value(c, first, images, (hidden,)), (1, images, hidden))
    x = c.expand(gates.node, (images, *gates.node.shape[1:]))
    x = c.permute(x, (1, 0, 2))
    y = reset_first(c.op, x, weights, start, [], loop.backwards)
    reader.values[result] = replace(gates, node=c.permute(y, (1, 0, 2)))
    return True


def _parts(
    reader: Reader, m: Matcher, result: str, before: str
) -> Iterator[tuple[_Gate, _Gate, _Gate]]:
    """The gates r, z, n of a sum that is the next state."""
    for kept, fresh in m.pairs(result, _PLUS):
        for update, state in m.pairs(kept, _MUL):
            z = m.under(update, *SIGMOID)
            if z is None or state != before:
                continue
            for rest, new in m.pairs(fresh, _MUL):
                n = m.under(new, _TANH)
                if n is None or not _is_rest(reader, m, rest, update):
                    continue
                last = _gate(m, n)
                if last is None:
                    continue
                for reset, again in m.pairs(last.product.inputs[1], _MUL):
                    r = m.under(reset, *SIGMOID)
                    if r is None or again != before:
                        continue
                    first, second = _gate(m, r), _gate(m, z)
                    if first and second and _reads(before, first, second):
                        yield first, second, last


def _reads(before: str, *gates: _Gate) -> bool:
    return all(g.product.inputs[1] == before for g in gates)


def _is_rest(reader: Reader, m: Matcher, reference: str, update: str) -> bool:
    """Whether it is 1 - update."""
    found = m.operation(reference, _MINUS)
    if found is None or found.inputs[1] != update:
        return False
    one = reader.model.variables.get(found.inputs[0])
    return one is not None and one.value is not None and bool(np.all(one.value == 1))


def _gate(m: Matcher, reference: str) -> _Gate | None:
    """A sum of a product of the loop, or a part of one, and of what comes from outside."""
    terms = list(m.terms(reference))
    own = [t for t in terms if not m.is_outside(t)]
    if len(own) != 1:
        return None
    part = m.part(own[0])
    product = m.operation(part[0] if part else own[0], TIMES)
    if product is None or not m.is_outside(product.inputs[0]):
        return None
    outside = tuple(t for t in terms if t != own[0])
    begin, end = part[1:] if part else (0, -1)
    return _Gate(product, begin, end, outside)


def _weights(reader: Reader, c: Context, gates: tuple[_Gate, ...]) -> Node | None:
    """W_hh [3 hidden, hidden]; None if weights do not fit."""
    parts: list[Node] = []
    hidden = reader.value(gates[-1].product.inputs[0]).shape[0]
    for gate in gates:
        weight = reader.value(gate.product.inputs[0])
        plain = weight.rank == 2 and not weight.axes
        if not plain or gate.product.attributes.get("outputRank") != 1:
            return None
        end = weight.shape[1] if gate.end < 0 else gate.end
        if weight.shape[0] != hidden or not isinstance(end, int) or end - gate.begin != hidden:
            return None
        parts.append(c.slice(c.permute(weight.node, (1, 0)), 0, gate.begin, end))
    return c.op("concat", *parts, axis=0)


def _from_outside(reader: Reader, c: Context, gates: tuple[_Gate, ...]) -> Value | None:
    """The input's share of the gates, one behind the other; None if it is no sequence."""
    sums: list[Value] = []
    for gate in gates:
        values = [reader.value(reference) for reference in gate.outside]
        if not values:
            return None
        total = values[0]
        for value in values[1:]:
            (a, b), axes = c.aligned(total, value)
            total = Value(c.op("add", a, b), axes)
        if len(total.axes) != 2 or total.rank != 1:
            return None
        sums.append(total)
    if len({s.node.shape for s in sums}) != 1:
        return None
    return replace(sums[0], node=c.op("concat", *(s.node for s in sums), axis=2))
