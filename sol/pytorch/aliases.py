"""Which results of a network share memory: with an input or parameter, or with each other.

A user may write into a result and expect to see it elsewhere, as in PyTorch. A result that is
reached from its base by views alone is remade as these views, by PyTorch and on the base's memory:
always if the base is an argument, and if it is computed only where another result shares it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

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
    shared = Counter(alias.base for alias in set(found.values()))
    return {n: a for n, a in found.items() if a.base in sources or shared[a.base] > 1}


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
