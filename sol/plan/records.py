"""The plan: clusters in the order in which they run, and where every value lies in memory.

A `Place` is a strided view of a buffer; several values may share a buffer (the parts of a
concatenation). A buffer is a tensor of the caller (input, output, prepared weight) or a piece of
the arena. Made by plan/planner.py, read by lower/ and kernels/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from sol.core.dims import Shape, Size
from sol.core.dtypes import DType
from sol.ir.expr import Expr, from_linear
from sol.ir.graph import Graph


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies:

    element (i, j, …) is at `offset + i * strides[0] + …` of the buffer, in elements.
    """

    buffer: str
    strides: Shape
    offset: Size
    dtype: DType
    shape: Shape

    def flat(self, index: tuple[Expr, ...]) -> Expr:
        """The linear index of an element."""
        total = from_linear(self.offset, {})
        for i, stride in zip(index, self.strides):
            total = total + i * stride if isinstance(stride, int) else total + _scaled(i, stride)
        return total


def _scaled(index: Expr, stride: Size) -> Expr:
    from sol.ir.expr import linear

    constant, terms = linear(index)
    return from_linear(constant * stride, {a: c * stride for a, c in terms.items()})


BufferKind = Literal["input", "output", "prepared", "arena"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor of the caller, or a piece of the arena; `size` in elements."""

    name: str
    kind: BufferKind
    dtype: DType
    size: Size


ClusterKind = Literal[
    "dfp",
    "contraction",
    "stage",
    "pooled",
    "attention",
    "recurrent",
    "weight gradient",
    "scatter",
    "library",
]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Operators that run as one step.

    values: the materialised values that it computes, in order; the last one is its result.
    root: the contraction (or other whole operator) at its heart, if there is one.
    private: values that never leave a patch: registers or scratch memory.
    outer: number of outer axes (in the physical order of the result) that all values share.
    layers: all graph nodes that it executes. why: the reason for the choice, for `explain`.
    """

    kind: ClusterKind
    values: tuple[str, ...]
    root: str = ""
    private: frozenset[str] = frozenset()
    outer: int = 0
    layers: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """Clusters [begin, end). apart: a thread takes an image through all of them alone; otherwise
    all threads run one cluster after the other, on all images of a pass.
    """

    begin: int
    end: int
    apart: bool


@dataclass(frozen=True)
class Plan:
    """Clusters in order, places of all materialised values, buffers;

    `order` is each value's axes from outermost to innermost in memory. segments: how clusters and
    images are shared out among threads; they follow each other and hold all clusters.
    """

    graph: Graph
    clusters: tuple[Cluster, ...]
    places: Mapping[str, Place]
    orders: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, Buffer]
    stored: frozenset[str]
    splittable: bool = False
    segments: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = field(default=())
