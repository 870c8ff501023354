"""Products of matrices in one form: a product with a static matrix is a linear layer.

Rules of the pass `canonical`; each is `before -> after`, in its text or in the docstring of its
function.
"""

from __future__ import annotations

from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import varies_only_along


def _linear(rw: Rewriter, m: Match) -> Node | None:
    """`matmul(x, W)` -> `linear(x, permute(W))`, W a static matrix"""
    if m["W"].tensor.rank != 2 or m["x"].tensor.rank < 2:
        return None
    return rw.add("linear", m["x"], rw.add("permute", m["W"], axes=(1, 0)))


def _bias(rw: Rewriter, m: Match) -> Node | None:
    """`add(linear(x, W), T)` -> `linear(x, W, T)`, T static, one number per output"""
    x, weight, bias = m["x"], m["W"], m["T"]
    outputs, rank = weight.shape[0], m.root.tensor.rank
    if bias.tensor.rank == 0 or bias.shape[-1] != outputs:
        return None
    if not varies_only_along(bias.shape, rank, rank - 1):
        return None
    if bias.tensor.rank > 1:
        bias = rw.add("reshape", bias, shape=(outputs,))
    return rw.add("linear", x, weight, bias)


def _plain_batch(rw: Rewriter, m: Match) -> Node | None:
    """`matmul(expand(a), b)` -> `matmul(a, b)`, where b alone gives the batch axes; so for b"""
    inputs = rw.inputs_of(m.root)
    for k, operand in enumerate(inputs):
        if operand.op != "expand":
            continue
        (plain,) = rw.inputs_of(operand)
        if plain.tensor.rank < 2 or plain.shape[-2:] != operand.shape[-2:]:
            continue
        changed = rw.again(m.root, *inputs[:k], plain, *inputs[k + 1 :])
        if changed.type == m.root.type:
            return changed
    return None


RULES: tuple[Rule, ...] = (
    rule("matmul(x, W)", _linear),
    rule("add(!linear(x, W), T)", _bias),
    rule("matmul(*)", _plain_batch),
)
