"""Batch normalisation with given statistics disappears into the convolutions around it.

It is a scale and a shift of each channel, computed from parameters only. Both are absorbed by the
convolution or linear layer before (or behind, see passes/affine.py), and so are other scales and
shifts of channels: layer scale, Scale layers, input normalisation. What cannot be absorbed stays as
one multiplication and one addition per element.
"""

from __future__ import annotations

from sol.ir.graph import Graph, Node
from sol.ir.rewrite import Fuel, Match, Rule, rewrite, rule
from sol.ir.rewriter import Rewriter
from sol.ops.registry import expanded, infer
from sol.passes import affine


def _scale_and_shift(rw: Rewriter, m: Match) -> Node | None:
    """`batch_norm(x, mean, var, w, b)` -> `add(mul(x, scale), shift)`

    With `scale = w / √(var + eps)` and `shift = b - mean * scale`, if all four are static.
    """
    x, *parameters = rw.inputs_of(m.root)
    if not all(rw.is_static(p) for p in parameters):
        return None
    (found,) = expanded(rw, m.root, (x, *parameters))
    return found


RULES: tuple[Rule, ...] = (rule("batch_norm(*)", _scale_and_shift), *affine.RULES)


def batchnorm(graph: Graph, fuel: Fuel | None = None) -> Graph:
    """`conv -> batch_norm` -> `conv` with other weights, so for every static scale and shift."""
    return rewrite(graph, RULES, infer, fuel)
