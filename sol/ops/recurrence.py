"""A recurrent layer in one direction as training has it: `recurrence` keeps what the way back
needs, `recurrence_gradient` is the way back.

What can be computed for all steps of time at once is not part of them: the product with the inputs
before, and the gradients of both weights, which are products over all steps, behind (see
gradients/recurrent.py). Called by the layers of ops/layers.py; plans make scans of them
(plan/recurrent.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sol.core.errors import UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.ops.cells import CELLS, Cell, on_arrays
from sol.ops.gradients.recurrent import recurrence as _gradient
from sol.ops.registry import OpDef, Sample, Types, register
from sol.ops.rules import need, need_kind, need_number, need_rank, need_shape, of
from sol.ops.sampling import f32


def cell_of(op: str, cell: str) -> Cell:
    """The cell of this name."""
    if cell not in CELLS:
        raise UnsupportedError(op, f"{cell=}", expected=f"one of {', '.join(CELLS)}")
    return CELLS[cell]


# ---- forward -------------------------------------------------------------------------------------


def kept_types(gates: TensorType, hidden: int, own: Cell) -> tuple[TensorType, ...]:
    """Of all steps: each state, and what the cell keeps."""
    sizes = [hidden] * own.states + [own.kept * hidden] * bool(own.kept)
    return tuple(of(gates, (*gates.shape[:2], size)) for size in sizes)


def _infer_recurrence(
    gates: TensorType, weight: TensorType, *rest: TensorType,
    cell: str, batch_first: bool, reverse: bool,
) -> Types:  # fmt: skip
    """rest: states [1, N, H] and maybe a bias; gates are [T, N, gates * H] or [N, T, …]."""
    op = "recurrence"
    own = cell_of(op, cell)
    need_rank(op, gates, 3)
    need_kind(op, gates, "float")
    need_rank(op, weight, 2)
    states = f"{own.states} states and maybe a bias"
    need(len(rest) - own.states in (0, 1), op, f"{len(rest)} states and biases", states)
    hidden = need_number(op, "a size", weight.shape[1])
    columns = own.gates * hidden
    given = f"gates {gates} and a weight {weight}"
    fits = gates.shape[2] == weight.shape[0] == columns
    need(fits, op, given, f"{own.gates} gates per hidden unit")
    for state in rest[: own.states]:
        need_shape(op, "a state", state, (1, gates.shape[0 if batch_first else 1], hidden))
    for bias in rest[own.states :]:
        need_shape(op, "the bias", bias, (columns,))
    return kept_types(gates, hidden, own)


def _reference_recurrence(node: Node, gates: Any, weight: Any, *rest: Any) -> tuple[Any, ...]:
    return run_forward(node, gates, weight.T, rest)


def run_forward(node: Node, gates: Any, matrix: Any, rest: Sequence[Any]) -> tuple[Any, ...]:
    """States and kept numbers of all steps; matrix: W_hh transposed, rest: states, maybe a bias."""
    cell = CELLS[node["cell"]]
    states: Sequence[Any] = [s[0] for s in rest[: cell.states]]
    bias = sum(rest[cell.states :])
    steps = _by_time(node, gates)
    sizes = [len(matrix)] * cell.states + [cell.kept * len(matrix)] * bool(cell.kept)
    results = [np.empty((*steps.shape[:2], size), gates.dtype) for size in sizes]
    for t in range(len(steps))[:: -1 if node["reverse"] else 1]:
        recurrent = np.matmul(states[0], matrix) + bias
        x, r = (np.split(g, cell.gates, axis=-1) for g in (steps[t], recurrent))
        states, kept = cell.keep(on_arrays, x, r, states)
        for result, value in zip(results, states):
            result[t] = value
        if kept:
            results[-1][t] = np.concatenate(kept, axis=-1)
    return tuple(_by_time(node, r) for r in results)


def _by_time(node: Node, x: Any) -> Any:
    """[T, N, …] of a sequence, or a sequence of that."""
    return x.swapaxes(0, 1) if node["batch_first"] else x


# ---- the way back --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operands:
    """What `recurrence_gradient` reads beside the weight, in its order: states of all steps, kept
    numbers (none or one), states before the first step, gradients of states of all steps, None
    where there are none.
    """

    states: Sequence[Any]
    kept: Sequence[Any]
    initial: Sequence[Any]
    changes: Sequence[Any]

    @staticmethod
    def of(cell: Cell, given: Sequence[bool], rest: Sequence[Any]) -> Operands:
        """From all operands behind the weight; given: which states have gradients."""
        counts = (cell.states, int(bool(cell.kept)), cell.states)
        ends = [sum(counts[: k + 1]) for k in range(3)]
        found = iter(rest[ends[2] :])
        changes = [next(found) if g else None for g in given]
        states, kept, initial = (rest[begin:end] for begin, end in zip([0, *ends], ends))
        return Operands(states, kept, initial, changes)


def _infer_gradient(
    weight: TensorType, *rest: TensorType,
    cell: str, batch_first: bool, reverse: bool, given: tuple[bool, ...],
) -> Types:  # fmt: skip
    op = "recurrence_gradient"
    own = cell_of(op, cell)
    need_rank(op, weight, 2)
    hidden = need_number(op, "a size", weight.shape[1])
    need(weight.shape[0] == own.gates * hidden, op, f"a weight {weight}", f"{own.gates} gates")
    return gradient_types(op, own, hidden, rest, batch_first, given)


def gradient_types(
    op: str, own: Cell, hidden: int, rest: Sequence[TensorType], batch_first: bool,
    given: Sequence[bool],
) -> tuple[TensorType, ...]:  # fmt: skip
    """Types of the gradients of x, of r if the cell has it apart, and of the states before."""
    expected = 2 * own.states + bool(own.kept) + sum(given)
    need(len(given) == own.states, op, f"{given=}", f"one for each of {own.states} states")
    need(len(rest) == expected, op, f"{len(rest)} operands", f"{expected} behind the weight")
    operands = Operands.of(own, given, rest)
    sequence = operands.states[0]
    need_rank(op, sequence, 3)
    need_kind(op, sequence, "float")
    lead, images = sequence.shape[:2], sequence.shape[0 if batch_first else 1]
    for state in (*operands.states, *(c for c in operands.changes if c is not None)):
        need_shape(op, "a state of all steps", state, (*lead, hidden))
    for kept in operands.kept:
        need_shape(op, "what is kept", kept, (*lead, own.kept * hidden))
    for state in operands.initial:
        need_shape(op, "a state", state, (1, images, hidden))
    gates = of(sequence, (*lead, own.gates * hidden))
    return (*[gates] * (1 + own.apart), *operands.initial)


def _reference_gradient(node: Node, weight: Any, *rest: Any) -> tuple[Any, ...]:
    return run_back(node, weight, rest)


def run_back(node: Node, weight: Any, rest: Sequence[Any]) -> tuple[Any, ...]:
    """Gradients of x, of r if the cell has it apart, and of the states before the first step."""
    cell = CELLS[node["cell"]]
    o = Operands.of(cell, node["given"], rest)
    states, kept = ([_by_time(node, x) for x in xs] for xs in (o.states, o.kept))
    changes = [None if x is None else _by_time(node, x) for x in o.changes]
    time, images, hidden = states[0].shape
    results = [
        np.empty((time, images, cell.gates * hidden), weight.dtype) for _ in range(1 + cell.apart)
    ]
    carried = [np.zeros((images, hidden), weight.dtype) for _ in range(cell.states)]
    order = range(time)[:: 1 if node["reverse"] else -1]
    for t, earlier in zip(order, [*order[1:], None]):
        before = [i[0] if earlier is None else s[earlier] for s, i in zip(states, o.initial)]
        dy = [c if x is None else c + x[t] for c, x in zip(carried, changes)]
        own = np.split(kept[0][t], cell.kept, axis=-1) if kept else []
        change = cell.back(on_arrays, own, before, [s[t] for s in states], dy)
        for result, value in zip(results, (change.x, change.r)):
            result[t] = np.concatenate(value, axis=-1)
        carried = [np.zeros_like(dy[0]) if s is None else s for s in change.states]
        carried[0] = carried[0] + np.matmul(results[-1][t], weight)
    return (*(_by_time(node, r) for r in results), *(c[None] for c in carried))


# ---- entries -------------------------------------------------------------------------------------


def forward_sample(
    cell: str, sizes: tuple[int, int, int], bias: bool, batch_first: bool, reverse: bool,
    weight: TensorType | None = None,
) -> Sample:  # fmt: skip
    """A sample of T steps, N sequences, H hidden units."""
    T, N, H = sizes
    own = CELLS[cell]
    lead = (N, T) if batch_first else (T, N)
    inputs = (
        f32(*lead, own.gates * H),
        weight or f32(own.gates * H, H),
        *[f32(1, N, H)] * own.states,
        *[f32(own.gates * H)] * bias,
    )
    return Sample(inputs, {"cell": cell, "batch_first": batch_first, "reverse": reverse}, -0.6, 0.6)


def back_sample(
    cell: str, sizes: tuple[int, int, int], given: tuple[bool, ...], batch_first: bool,
    reverse: bool, weight: TensorType | None = None,
) -> Sample:  # fmt: skip
    """The same for the way back."""
    T, N, H = sizes
    own = CELLS[cell]
    lead = (N, T) if batch_first else (T, N)
    inputs = (
        weight or f32(own.gates * H, H),
        *[f32(*lead, H)] * own.states,
        *[f32(*lead, own.kept * H)] * bool(own.kept),
        *[f32(1, N, H)] * own.states,
        *[f32(*lead, H)] * sum(given),
    )
    attrs = {"cell": cell, "batch_first": batch_first, "reverse": reverse, "given": given}
    return Sample(inputs, attrs, -0.6, 0.6)


register(
    OpDef(
        "recurrence",
        "recurrent",
        _infer_recurrence,
        "One recurrent layer in one direction that is trained: `h, … = cell(gates[t], weight h + "
        "bias, h, …)` for one step `t` after the other; the results are the states of all steps, "
        "and what the cell keeps for the gradient.",
        samples=(
            forward_sample("lstm", (5, 2, 17), True, False, False),
            forward_sample("gru", (3, 3, 5), True, True, True),
            forward_sample("reset_first", (4, 2, 18), True, False, True),
            forward_sample("tanh", (4, 1, 33), False, True, False),
            forward_sample("relu", (1, 2, 1), True, False, True),
        ),
        reference=_reference_recurrence,
        gradient=_gradient,
    )
)
register(
    OpDef(
        "recurrence_gradient",
        "recurrent",
        _infer_gradient,
        "The way back through recurrence, from the last step to the first: the results are the "
        "gradients of gates, of `weight h + bias` if they differ (a GRU), and of the states before "
        "the first step. `given` says which states of all steps have gradients.",
        samples=(
            back_sample("lstm", (5, 2, 17), (True, True), False, False),
            back_sample("lstm", (3, 2, 20), (True, False), True, True),
            back_sample("gru", (3, 3, 5), (True,), True, False),
            back_sample("reset_first", (4, 2, 18), (True, False, True, False), False, True),
            back_sample("tanh", (4, 1, 33), (True,), True, False),
            back_sample("relu", (1, 2, 1), (True,), False, True),
        ),
        reference=_reference_gradient,
        why="it is part of a gradient; a gradient's own runs in the framework",
    )
)
