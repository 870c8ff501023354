"""Updates of parameters by their gradients, as optimisers make them: one pass over the memory of
gradient, parameter and states, the last two of which are overwritten.

A `Rule` is one element's update, in scalar operations. Numbers that change from step to step, as
the rate, are arguments of a run. In: a rule. Out: its kernel, which sol/updates.py makes a program.
The rules are those of torch.optim, whose formulas are in its documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sol.core.dims import Dim
from sol.core.dtypes import F32
from sol.ir.expr import Expr, apply, axis, const, load, local_value
from sol.ir.loop import BufferArg, For, Kernel, Let, Stmt, Store
from sol.lower.ranges import lane_pieces
from sol.lower.units import UNIT

Numbers = Mapping[str, Expr]
Meaning = Callable[[Expr, Expr, Sequence[Expr], Numbers], Sequence[Expr]]


@dataclass(frozen=True, slots=True)
class Rule:
    """An update: names of states and of numbers, and meaning(gradient, parameter, states, numbers),
    the new parameter and the new states."""

    name: str
    states: tuple[str, ...]
    numbers: tuple[str, ...]
    meaning: Meaning

    @property
    def tensors(self) -> tuple[str, ...]:
        """What a run is given, in this order."""
        return ("numbers", "gradient", "parameter", *self.states)


def sgd(decay: bool, momentum: bool, nesterov: bool) -> Rule:
    """Stochastic gradient descent. Numbers: sign (-1 to maximise), decay (of weights), kept and
    fresh (share of the momentum and of the gradient in the new momentum), again (of the momentum in
    Nesterov's step), rate."""

    def meaning(g: Expr, p: Expr, states: Sequence[Expr], n: Numbers) -> Sequence[Expr]:
        g = n["sign"] * g
        g = g + n["decay"] * p if decay else g
        if not momentum:
            return (p - n["rate"] * g,)
        m = n["kept"] * states[0] + n["fresh"] * g
        return p - n["rate"] * (g + n["again"] * m if nesterov else m), m

    states = ("momentum",) if momentum else ()
    return Rule("sgd", states, ("sign", "decay", "kept", "fresh", "again", "rate"), meaning)


def adamw(amsgrad: bool) -> Rule:
    """Adam with decoupled decay of weights. Numbers: sign (-1 to maximise), left (of the parameter
    after decay), fresh and kept, fresh_square (shares of the gradient and its square in their new
    means), scale (of the root of the second mean), small (added to it), rate."""

    def meaning(g: Expr, p: Expr, states: Sequence[Expr], n: Numbers) -> Sequence[Expr]:
        g = n["sign"] * g
        first, second, *rest = states
        first = first + n["fresh"] * (g - first)
        second = n["kept"] * second + n["fresh_square"] * (g * g)
        most = [apply("max", r, second) for r in rest]
        root = apply("sqrt", (*most, second)[0]) * n["scale"] + n["small"]
        return n["left"] * p - n["rate"] * (first / root), first, second, *most

    states = ("first", "second", *(("most",) if amsgrad else ()))
    names = ("sign", "left", "fresh", "kept", "fresh_square", "scale", "small", "rate")
    return Rule("adamw", states, names, meaning)


def update_kernel(rule: Rule, widths: Sequence[int]) -> Kernel:
    """The kernel of a rule: one unit for all elements at hand, each of them an image."""
    names = {tensor: f"b{k}" for k, tensor in enumerate(rule.tensors)}
    changed = rule.tensors[2:]
    element = axis("element", Dim(1, 0))
    numbers = {name: load(names["numbers"], F32, const(k)) for k, name in enumerate(rule.numbers)}
    gradient, *others = (load(names[t], F32, element) for t in rule.tensors[1:])
    values = rule.meaning(gradient, others[0], others[1:], numbers)
    lets = [Let(f"new_{t}", v) for t, v in zip(changed, values, strict=True)]
    stores = [Store(names[t], element, local_value(f"new_{t}", F32, True)) for t in changed]
    body: tuple[Stmt, ...] = (*lets, *stores)
    loops = tuple(
        For(element, begin, end, body, width)
        for begin, end, width in lane_pieces(Dim(1, 0), widths)
    )
    arguments = tuple(BufferArg(n, F32, t in changed) for t, n in names.items())
    return Kernel(arguments, UNIT, 1, loops)
