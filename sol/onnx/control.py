"""Control flow: If with a condition that is known, Loop with a known number of rounds, Scan.

They are put in place of the nodes that they would run. What depends on data is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from sol.core.dims import Dim
from sol.core.errors import InputError, UnsupportedError
from sol.onnx.splice import Item, body
from sol.onnx.values import NeedsValueError, Tensor, is_symbolic

if TYPE_CHECKING:
    from sol.onnx.read import Reader

_MOST_ROUNDS = 1024


@dataclass(frozen=True, eq=False)
class Rounds:
    """A loop that has run for some rounds: names of the scanned values of each."""

    done: int
    scanned: tuple[tuple[str, ...], ...]


def _known(reader: Reader, name: str, item: Item, what: str) -> Any:
    value = reader.value(name, item)
    if isinstance(value, Tensor):
        op = f"{item.node.op_type}, node {item.label}"
        raise NeedsValueError(op, f"its {what} depends on data", value.name)
    if not isinstance(value, np.ndarray) or is_symbolic(value) or value.size != 1:
        raise UnsupportedError(
            f"{item.node.op_type}, node {item.label}",
            f"its {what} depends on data or on the batch",
            expected=f"a {what} that is known when the network is read",
            do="export the model without control flow, or make the input it depends on a constant",
        )
    return value.reshape(()).item()


def _graph(item: Item, name: str) -> Any:
    found = next((a.g for a in item.node.attribute if a.name == name and a.HasField("g")), None)
    if found is None:
        raise InputError(f"{item.node.op_type}, node {item.label}, has no {name}")
    return found


def _identity(source: str, target: str, item: Item) -> list[Item]:
    if not target:
        return []
    return [Item(onnx.helper.make_node("Identity", [source], [target]), item.opsets, item.label)]


def if_(reader: Reader, item: Item) -> list[Item]:
    """If: the branch of a known condition."""
    chosen = _known(reader, item.node.input[0], item, "condition")
    graph = _graph(item, "then_branch" if chosen else "else_branch")
    return reader.placed(*body(graph, [], item.node.output, reader.prefix(), item))


def loop(reader: Reader, item: Item) -> list[Item]:
    """Loop: one round, then the loop again with one less to do."""
    node, graph = item.node, _graph(item, "body")
    names = [*node.input, "", ""]
    most, condition, state = names[0], names[1], list(node.input[2:])
    count = len(state)
    scans = len(graph.output) - 1 - count
    rounds = item.state or Rounds(0, ((),) * max(0, scans))
    goes_on = not condition or bool(_known(reader, condition, item, "condition"))
    limit = int(_known(reader, most, item, "number of rounds")) if most else _MOST_ROUNDS
    if not goes_on or rounds.done >= limit:
        return _finished(reader, item, state, rounds)
    if rounds.done >= _MOST_ROUNDS:
        raise UnsupportedError(f"Loop, node {item.label}", f"more than {_MOST_ROUNDS} rounds")
    prefix = reader.prefix()
    number = f"{prefix}round"
    reader.put(number, np.array(rounds.done, np.int64))
    first = condition or f"{prefix}true"
    if not condition:
        reader.put(first, np.array(True))
    given = [number, first, *state][: len(graph.input)]
    made = [f"{prefix}out{n}" for n in range(len(graph.output))]
    items = reader.placed(*body(graph, given, made, prefix, item))
    again = onnx.NodeProto()
    again.CopyFrom(node)
    again.input[:] = [most, made[0], *made[1 : 1 + count]]
    scanned = tuple((*s, m) for s, m in zip(rounds.scanned, made[1 + count :]))
    return [*items, Item(again, item.opsets, item.label, Rounds(rounds.done + 1, scanned))]


def _finished(reader: Reader, item: Item, state: list[str], rounds: Rounds) -> list[Item]:
    outputs = list(item.node.output)
    made = [i for s, o in zip(state, outputs) for i in _identity(s, o, item)]
    for names, output in zip(rounds.scanned, outputs[len(state) :]):
        if output:
            made += _stacked(reader, item, names, output, 0)
    return made


def _stacked(
    reader: Reader, item: Item, names: tuple[str, ...], output: str, axis: int
) -> list[Item]:
    """Results of rounds, one after the other along a new axis."""
    if not names:
        raise UnsupportedError(f"{item.node.op_type}, node {item.label}", "it runs for no round")
    axes = f"{reader.prefix()}axes"
    reader.put(axes, np.array([axis], np.int64))
    rows = [f"{reader.prefix()}row" for _ in names]
    make = onnx.helper.make_node
    version = item.opsets.get("", 1)
    old = {"axes": [axis]} if version < 13 else {}
    extra = [] if version < 13 else [axes]
    nodes = [make("Unsqueeze", [n, *extra], [r], **old) for n, r in zip(names, rows)]
    nodes.append(make("Concat", rows, [output], axis=axis))
    return [Item(n, item.opsets, item.label) for n in nodes]


def scan(reader: Reader, item: Item) -> list[Item]:
    """Scan: all rounds, one for each slice of the scanned inputs."""
    node, graph = item.node, _graph(item, "body")
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if item.opsets.get("", 1) < 9:
        raise UnsupportedError(f"Scan, node {item.label}", "it is of opset 8", do="convert it")
    scans = int(attrs.get("num_scan_inputs", 0))
    count = len(node.input) - scans
    if scans < 1 or count < 0:
        raise InputError(f"Scan, node {item.label}: num_scan_inputs={scans}")
    state, scanned = list(node.input[:count]), list(node.input[count:])
    axes = [_axis(reader, n, a, item) for n, a in _pairs(scanned, attrs.get("scan_input_axes"))]
    lengths = {reader.value(n, item).shape[a] for n, a in zip(scanned, axes)}
    (length,) = lengths if len(lengths) == 1 else (None,)
    if length is None or isinstance(length, Dim) or not 0 < length <= _MOST_ROUNDS:
        raise UnsupportedError(f"Scan, node {item.label}", f"rounds: {sorted(map(str, lengths))}")
    back = attrs.get("scan_input_directions") or [0] * scans
    outputs = len(graph.output) - count
    results: list[list[str]] = [[] for _ in range(outputs)]
    items: list[Item] = []
    for number in range(length):
        prefix = reader.prefix()
        given: list[str] = []
        for name, axis, turned in zip(scanned, axes, back):
            place = length - 1 - number if turned else number
            at, row = f"{prefix}at{axis}_{len(given)}", f"{prefix}in{len(given)}"
            reader.put(at, np.array(place, np.int64))
            gather = onnx.helper.make_node("Gather", [name, at], [row], axis=axis)
            items.append(Item(gather, item.opsets, item.label))
            given.append(row)
        made = [f"{prefix}out{n}" for n in range(len(graph.output))]
        items += reader.placed(*body(graph, [*state, *given], made, prefix, item))
        state = made[:count]
        for result, name in zip(results, made[count:]):
            result.append(name)
    return items + _scan_ends(reader, item, state, results, attrs)


def _scan_ends(
    reader: Reader, item: Item, state: list[str], results: list[list[str]], attrs: dict[str, Any]
) -> list[Item]:
    outputs = list(item.node.output)
    items = [i for s, o in zip(state, outputs) for i in _identity(s, o, item)]
    axes = attrs.get("scan_output_axes") or [0] * len(results)
    back = attrs.get("scan_output_directions") or [0] * len(results)
    for names, output, axis, turned in zip(results, outputs[len(state) :], axes, back):
        if axis < 0:
            raise UnsupportedError(f"Scan, node {item.label}", f"an output axis {axis}")
        if output:
            rows = tuple(reversed(names)) if turned else tuple(names)
            items += _stacked(reader, item, rows, output, axis)
    return items


def _pairs(names: list[str], axes: Any) -> list[tuple[str, int]]:
    return list(zip(names, axes or [0] * len(names)))


def _axis(reader: Reader, name: str, axis: int, item: Item) -> int:
    rank = len(reader.value(name, item).shape)
    if not -rank <= axis < rank:
        raise InputError(f"Scan, node {item.label}: axis {axis} of {rank}")
    return axis % rank


CONTROL: dict[str, Callable[[Reader, Item], list[Item]]] = {"If": if_, "Loop": loop, "Scan": scan}
