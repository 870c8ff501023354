"""Less work: algebra, moves that cancel, padding that a convolution does by itself.

The rules are in algebra, joins, padding, broadcasts and sinking.
"""

from __future__ import annotations

from sol.ir.graph import Graph
from sol.ir.rewrite import Fuel, Rule, rewrite
from sol.ops.registry import infer
from sol.passes import algebra, broadcasts, joins, padding, sinking

RULES: tuple[Rule, ...] = (
    *algebra.RULES,
    *joins.RULES,
    *padding.RULES,
    *broadcasts.RULES,
    *sinking.RULES,
)


def simplify(graph: Graph, fuel: Fuel | None = None) -> Graph:
    """`x + 0` -> `x`, `relu(permute(x))` -> `permute(relu(x))`, `conv(pad(x))` -> `conv(x)`, …"""
    return rewrite(graph, RULES, infer, fuel)
