"""What the parts of the attention kernel share: operands of one head, blocks of queries and keys.

Elements of q, k, v and masks are expressions over a head's axes `query`, `key`, `depth` and
`column`, with all views between the operator and memory inlined. Made by `describe` from the plan,
read by attention.py and softmax.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.core.dims import Dim
from sol.ir.expr import Expr, axis, const
from sol.kernels.cut import Cut
from sol.lower.cluster import Memory
from sol.lower.nest import NestBuilder
from sol.lower.ranges import extent_of
from sol.lower.units import count
from sol.plan.inline import Inliner, axes_for
from sol.plan.records import Cluster, Plan


@dataclass(frozen=True)
class Head:
    """One head: elements of its operands over the axes query, key, depth and column.

    lead: the axes in front, which count heads; index: the result's leading indices.
    """

    lead: tuple[Expr, ...]
    index: tuple[Expr, ...]
    query: Expr
    key: Expr
    depth: Expr
    column: Expr
    q: Expr
    k: Expr
    v: Expr
    masks: tuple[Expr, ...]
    causal: bool
    name: str

    def sizes(self) -> tuple[int, int, int, int]:
        """(queries, keys, depth, columns)"""
        return _length(self.query), _length(self.key), _length(self.depth), _length(self.column)

    def per_image(self) -> int:
        """Heads of a batch of one image."""
        heads = count(self.lead)
        return max(1, heads.coef + heads.const) if isinstance(heads, Dim) else heads


@dataclass(frozen=True)
class Context:
    """What all parts of one kernel need."""

    memory: Memory
    builder: NestBuilder
    head: Head
    cut: Cut
    packed: tuple[str, ...]

    @property
    def blocks(self) -> int:
        """Blocks of keys."""
        return -(-self.head.sizes()[1] // self.cut.keys)

    @property
    def pitch(self) -> int:
        """Distance of rows of the scratch copies of v and of the result: whole vectors."""
        return -(-self.head.sizes()[3] // self.cut.lanes) * self.cut.lanes


@dataclass(frozen=True)
class Block:
    """A block of queries: its first one, how many there are, and in how many vectors."""

    first: Expr
    queries: int
    vectors: int
    width: int

    def at(self, key: Expr, vector: int | Expr, lane: Expr, lanes: int) -> Expr:
        """Where the panel holds a key and a lane of a vector."""
        return key * self.width + vector * const(lanes) + lane


@dataclass(frozen=True)
class Keys:
    """A block of keys: its first one, and how many there are."""

    first: Expr
    present: Expr


def _length(axis: Expr) -> int:
    extent = extent_of(axis)
    assert isinstance(extent, int), f"the kernel takes no attention with {axis.value} in it"
    return extent


def describe(plan: Plan, cluster: Cluster) -> Head:
    """The operands of a cluster's attention or masked_attention."""
    graph = plan.graph
    node = graph[cluster.root]
    q, k, v, *masks = graph.inputs_of(node)
    index = axes_for(node)[:-2]
    query, key = axis("query", q.shape[-2]), axis("key", k.shape[-2])
    depth, column = axis("depth", q.shape[-1]), axis("column", v.shape[-1])
    shared = (*index[:-1], index[-1] // node["groups"]) if index else index
    inline = Inliner(graph, plan.stored)
    counted = sorted(
        (a for a in index if a.op == "axis"), key=lambda a: not isinstance(extent_of(a), Dim)
    )
    return Head(
        lead=tuple(counted),
        index=index,
        query=query,
        key=key,
        depth=depth,
        column=column,
        q=inline.element(q.name, (*index, query, depth)) * const(float(node["scale"])),
        k=inline.element(k.name, (*shared, key, depth)),
        v=inline.element(v.name, (*shared, key, column)),
        masks=tuple(
            inline.element(m.name, _mask_index(m.shape, (*index, key, query))) for m in masks
        ),
        causal=node["causal"],
        name=node.name,
    )


def _mask_index(shape: Sequence[object], index: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """The index of a mask that broadcasts to (…, keys, queries)."""
    tail = index[len(index) - len(shape) :]
    return tuple(const(0) if s == 1 else i for i, s in zip(tail, shape))
