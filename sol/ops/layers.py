"""Recurrent layers as ordinary operators: what lstm, gru and rnn expand into.

    lstm(x, h0, c0, …) -> for every layer and direction
                          recurrence(linear(x, w_ih, b_ih), w_hh, h0, c0, b_hh)

The product with the inputs does not wait for time, so one contraction computes it for all steps.
Several layers, two directions and the last states are ordinary nodes: concatenations, which are
written in place, and slices. Training takes layers so; a plan of inference has a leaner `run`
(plan/recurrent.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sol.core.dims import Size
from sol.ir.graph import Attr, Builder, Node
from sol.ops.cells import CELLS, cell_name


@dataclass(frozen=True, slots=True)
class Layers:
    """The node that is expanded, and where its parts go."""

    builder: Builder
    node: Node

    def add(self, op: str, *inputs: Node, hint: str, **attrs: Attr) -> Node:
        """Append a part."""
        name = f"{self.node.name}_{hint}"
        return self.builder.add(op, *inputs, name=name, origin=self.node.origin, **attrs)

    def cut(self, x: Node, axis: int, start: Size, hint: str) -> Node:
        """The one slice of an axis that begins at `start`."""
        if x.shape[axis] == 1:
            return x
        return self.add("slice", x, axis=axis, start=start, stop=start + 1, step=1, hint=hint)

    def joined(self, parts: Sequence[Node], axis: int, hint: str) -> Node:
        """Several values as one."""
        return parts[0] if len(parts) == 1 else self.add("concat", *parts, axis=axis, hint=hint)

    def items(self, node: Node, count: int) -> list[Node]:
        """The first results of a part."""
        return [self.add("item", node, index=k, hint=f"state_{k}") for k in range(count)]

    def gates(self, one: One) -> tuple[Node, Node, Sequence[Node]]:
        """The input's share of the gates of all steps; W_hh and its bias, if there is one, for
        what waits for time."""
        w_ih, w_hh, *biases = one.weights
        return self.add("linear", one.x, w_ih, *biases[:1], hint="gates"), w_hh, biases[1:]

    def last(self, sequence: Node, reverse: bool) -> Node:
        """[1, N, H]: of a state of all steps the one that a run came to last."""
        axis = 1 if self.node["batch_first"] else 0
        step = self.cut(sequence, axis, 0 if reverse else sequence.shape[axis] - 1, "last")
        return self.add("permute", step, axes=(1, 0, 2), hint="last") if axis else step


@dataclass(frozen=True, slots=True)
class One:
    """What runs one layer in one direction reads: the sequence, states before the first step,
    weights and biases, and whether it begins at the end."""

    x: Node
    starts: Sequence[Node]
    weights: Sequence[Node]
    reverse: bool


# h of all steps, and what the other states are after the last one
Run = Callable[[Layers, One], "tuple[Node, tuple[Node, ...]]"]


@dataclass(frozen=True, slots=True)
class Stack:
    """What the layers of one node became.

    sequence: the last layer's h of all steps. hidden: for each run (layer, direction) its h of all
    steps; others: what its other states, such as c, are after the last one.
    """

    layers: Layers
    sequence: Node
    hidden: tuple[Node, ...]
    others: tuple[tuple[Node, ...], ...]

    def result(self, index: int) -> Node:
        """Result number `index` of the node: the sequence, or the last of a state, for all runs."""
        if index == 0:
            return self.sequence
        if index == 1:
            twice = self.layers.node["bidirectional"]
            parts = [
                self.layers.last(h, twice and run % 2 == 1) for run, h in enumerate(self.hidden)
            ]
        else:
            parts = [states[index - 2] for states in self.others]
        return self.layers.joined(parts, 0, f"last_{index}")


def stack(layers: Layers, inputs: Sequence[Node], run: Run) -> Stack:
    """All layers and directions of a node with these inputs."""
    node = layers.node
    states = CELLS[cell_name(node)].states
    sequence, initial, weights = inputs[0], inputs[1 : 1 + states], inputs[1 + states :]
    directions, each = 1 + node["bidirectional"], 4 if node["bias"] else 2
    hidden: list[Node] = []
    others: list[tuple[Node, ...]] = []
    for layer in range(node["layers"]):
        for direction in range(directions):
            number = layer * directions + direction
            own = weights[number * each : (number + 1) * each]
            starts = [layers.cut(s, 0, number, "start") for s in initial]
            h, more = run(layers, One(sequence, starts, own, direction == 1))
            hidden.append(h)
            others.append(more)
        sequence = layers.joined(hidden[-directions:], 2, "sequence")
    return Stack(layers, sequence, tuple(hidden), tuple(others))


def expand(builder: Builder, node: Node, *inputs: Node) -> tuple[Node, ...]:
    """`OpDef.expand` of lstm, gru and rnn."""
    made = stack(Layers(builder, node), inputs, _kept)
    assert isinstance(node.type, tuple)
    return tuple(made.result(k) for k in range(len(node.type)))


def _kept(layers: Layers, one: One) -> tuple[Node, tuple[Node, ...]]:
    """By `recurrence`."""
    gates, w_hh, bias = layers.gates(one)
    name = cell_name(layers.node)
    node = layers.add(
        "recurrence", gates, w_hh, *one.starts, *bias,
        hint="recurrence", cell=name, batch_first=layers.node["batch_first"], reverse=one.reverse,
    )  # fmt: skip
    states = layers.items(node, CELLS[name].states)
    return states[0], tuple(layers.last(s, one.reverse) for s in states[1:])


def reset_first(
    add: Callable[..., Node], gates: Node, w_hh: Node, start: Node, bias: Sequence[Node],
    reverse: bool,
) -> Node:  # fmt: skip
    """[T, N, H]: h of all steps of a GRU whose reset gate comes before the product, its gates in
    the order r, z, n. gates: the input's share, [T, N, 3 H]; start: [1, N, H]; add: what appends an
    operator. A step of time is two of the cell `reset_first` (cells.py)."""
    time, images, width = gates.shape
    wide = add("reshape", gates, shape=(time, 1, images, width))
    wide = add("expand", wide, shape=(time, 2, images, width))
    twice = add("reshape", wide, shape=(2 * time, images, width))
    zero = add("full", shape=start.shape, value=0.0, dtype=start.dtype)
    scan = add(
        "recurrence", twice, w_hh, start, start, zero, zero, *bias,
        cell="reset_first", batch_first=False, reverse=reverse,
    )  # fmt: skip
    h = add("item", scan, index=1)
    return add("slice", h, axis=0, start=int(not reverse), stop=2 * time, step=2)
