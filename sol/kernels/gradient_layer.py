"""What a kernel for the gradient of a weight computes: elements of its operands, and the places
that it sums over.

    dw[o, c, tap] = sum_{n, i} dy[n, o, i] * x[n, c, i * stride + tap * dilation - padding]

Made by `describe` from the plan, read by weight_gradient.py and winograd_gradient.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sol.core.dims import Size
from sol.ir.expr import Expr, const
from sol.plan.facts import is_depthwise_gradient
from sol.plan.inline import Inliner
from sol.plan.records import Cluster, Plan


@dataclass(frozen=True, slots=True)
class Span:
    """One axis of places: its extent in dy and in x, and the window along it."""

    places: Size
    extent: Size
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    padding: int = 0

    def covered(self, places: int) -> int:
        """Elements of x that are copied for so many neighbouring places."""
        return places if self.taps == 1 else (places - 1) * self.stride + self.reach + 1

    @property
    def reach(self) -> int:
        """From the first tap to the last."""
        return (self.taps - 1) * self.dilation

    @property
    def step(self) -> int:
        """From one place to the next in what was copied."""
        return 1 if self.taps == 1 else self.stride

    def position(self, first: Expr, copied: Expr) -> Expr:
        """Where an element that was copied lies in x; `first`: the first place."""
        step = self.stride if self.taps == 1 else 1
        return first * self.stride + copied * step - self.padding


@dataclass(frozen=True, slots=True)
class Layer:
    """One gradient: operands by name, sizes per group, and the axes that the sum runs over.

    x(image, group, channel, positions), dy(image, group, result, places): elements; index(result,
    channel, taps): of dw. spans: the last is the line; the one before it is cut into bands of
    lines; of others one place is at hand.
    """

    name: str
    x: Callable[[Sequence[Expr], Expr, Expr, Sequence[Expr]], Expr]
    dy: Callable[[Sequence[Expr], Expr, Expr, Sequence[Expr]], Expr]
    index: Callable[[Expr, Expr, Sequence[Expr]], tuple[Expr, ...]]
    images: tuple[Size, ...]
    spans: tuple[Span, ...]
    groups: int
    channels: int
    results: int
    depthwise: bool = False  # result k belongs to channel k
    by_image: bool = False  # a gradient for each image

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return math.prod(span.taps for span in self.spans)


def describe(plan: Plan, cluster: Cluster) -> Layer:
    """The layer of a cluster."""
    node = plan.graph[cluster.root]
    x, dy = (plan.graph[name] for name in node.inputs)
    inline = Inliner(plan.graph, plan.stored)
    if node.op == "linear_weight_gradient":
        rows = len(x.shape) - 1
        *images, line = x.shape[:-1] or (1,)
        return Layer(
            node.name,
            lambda image, group, c, at: inline.element(x.name, (*(*image, *at)[:rows], c)),
            lambda image, group, o, at: inline.element(dy.name, (*(*image, *at)[:rows], o)),
            lambda o, c, taps: (o, c),
            tuple(images),
            (Span(line, line),),
            1,
            as_int(x.shape[-1]),
            as_int(dy.shape[-1]),
        )
    depthwise = is_depthwise_gradient(node)
    groups = 1 if depthwise else node["groups"]
    channels, results = as_int(x.shape[1]) // groups, as_int(dy.shape[1]) // groups
    padding = [before for before, _ in node["padding"]]
    window = zip(node["kernel"], node["stride"], node["dilation"], padding)
    spans = tuple(
        Span(places, extent, *own) for places, extent, own in zip(dy.shape[2:], x.shape[2:], window)
    )
    return Layer(
        node.name,
        lambda image, g, c, at: inline.element(x.name, (*image, g * channels + c, *at)),
        lambda image, g, o, at: inline.element(dy.name, (*image, g * results + o, *at)),
        lambda o, c, taps: (o, const(0) if depthwise else c, *taps),
        (x.shape[0],),
        spans,
        groups,
        channels,
        results,
        depthwise,
        node.op == "conv_weight_gradients",
    )


def as_int(size: Size) -> int:
    """A size that does not depend on the batch."""
    assert isinstance(size, int), f"{size} depends on the batch"
    return size
