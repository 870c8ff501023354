"""The canonical form: of all ways to write the same thing, one.

Models write `x * sigmoid(x)`, `silu(x)`, `view` of `view`, a product and a sum for a linear layer.
Everything behind this pass (other passes, the planner, kernels) needs to know one of them only. The
rules are in moves, gathers, regroup, scalars, activations, reductions, contractions, norms and
attention.
"""

from __future__ import annotations

from sol.ir.graph import Graph
from sol.ir.rewrite import Fuel, Rule, rewrite
from sol.ops.registry import infer
from sol.passes import (
    activations,
    attention,
    contractions,
    gathers,
    moves,
    norms,
    reductions,
    regroup,
    scalars,
)

RULES: tuple[Rule, ...] = (
    *moves.RULES,
    *gathers.RULES,
    *regroup.RULES,
    *scalars.RULES,
    *reductions.RULES,
    *attention.RULES,  # before a product becomes a linear layer
    *contractions.RULES,
    *norms.RULES,
    *activations.RULES,
)


def canonical(graph: Graph, fuel: Fuel | None = None) -> Graph:
    """`mul(x, sigmoid(x))` -> `silu(x)`, `reshape(reshape(x))` -> `reshape(x)`, …"""
    return rewrite(graph, RULES, infer, fuel)
