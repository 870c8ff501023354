"""Which results of a network share memory: with an input or parameter, or with each other.

A user may write into a result and expect to see it elsewhere, as in PyTorch. A result that is
reached from its base by views alone is remade as these views, by PyTorch and on the base's memory:
always if the base is an argument, and if it is computed only where another result shares it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

if TYPE_CHECKING:
    from sol.pytorch.trace import Traced

SHARED = "a view that shares memory"


@dataclass(frozen=True)
class Alias:
    """A result: the node whose memory it shares, and the views from there to the result."""

    base: fx.Node
    chain: tuple[fx.Node, ...]


def aliases(traced: Traced) -> dict[int, Alias]:
    """For the numbers of results that share memory: with what."""
    sources = {s.node for s in traced.sources}
    found = {n: _alias(r) for n, r in enumerate(traced.results) if isinstance(r, fx.Node)}
    pairs = itertools.combinations(dict.fromkeys(found.values()), 2)
    shared = {a.base for a, b in pairs if a.base is b.base and _overlap(a, b)}
    return {n: a for n, a in found.items() if a.base in sources or a.base in shared}


def _overlap(a: Alias, b: Alias) -> bool:
    """Whether two results on one base may have an element in common."""
    for first, second in zip(a.chain, b.chain):
        if first is not second:
            return not _apart(first, second)
    return True


def _apart(first: fx.Node, second: fx.Node) -> bool:
    """Whether two views of the same tensor are known to have nothing in common."""
    if first.target is not second.target or first.args[:1] != second.args[:1]:
        return False
    name = str(first.target)
    if name in ("<built-in function getitem>", "aten.select.int"):  # parts of a split; places
        return first.args[:-1] == second.args[:-1] and first.args[-1] != second.args[-1]
    if name != "aten.slice.Tensor" or not len(first.args) == len(second.args) == 4:
        return False
    (axis, low, high), (other, begin, end) = first.args[1:], second.args[1:]
    whole = all(isinstance(v, int) and v >= 0 for v in (low, high, begin, end))
    return bool(axis == other and whole and (high <= begin or end <= low))  # type: ignore[operator]


def _alias(node: fx.Node) -> Alias:
    chain: list[fx.Node] = []
    while is_view(node):
        chain.append(node)
        node = node.all_input_nodes[0]
    return Alias(node, tuple(reversed(chain)))


def is_view(node: fx.Node) -> bool:
    """Whether a node's result shares the memory of its first argument."""
    if node.op != "call_function" or not node.all_input_nodes:
        return False
    if str(node.target) == "<built-in function getitem>":
        return is_view(node.all_input_nodes[0])
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return False
    first = target._schema.arguments[0].alias_info if target._schema.arguments else None
    returned = target._schema.returns[0].alias_info if target._schema.returns else None
    return first is not None and returned is not None and not first.is_write
