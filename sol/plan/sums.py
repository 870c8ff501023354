"""Sums and means over the batch, image by image first.

    sum(x over the batch and other axes) -> sum over the batch(sum over the other axes)

So images are shared out among threads and read in one piece, with all their channels; what is added
up over the batch is as small as one image's result. Statistics of a batch that are wanted in two
shapes are computed once. (Other equal values stay apart: what is computed again where it is needed
takes no memory in between.)
"""

from __future__ import annotations

import math
from dataclasses import replace

from sol.core.dims import Dim
from sol.ir.graph import Builder, Graph, Node
from sol.ops.registry import builder

_OPS = ("sum", "mean")  # a mean of means of equally many elements is the mean
_FEWEST = 64  # elements of an image that are added up


def image_by_image(graph: Graph) -> Graph:
    """The graph with such reductions in two steps; what several of them share is computed once."""
    b = builder()
    for node in graph:
        b.reserve(node.name)
    known: dict[tuple[object, ...], str] = {}
    for node in graph:
        if _worth(graph, node):
            _in_two_steps(b, node, known)
        else:
            b.append(node)
    return b.finish([b[o] for o in graph.outputs])


def is_of_images(graph: Graph, node: Node) -> bool:
    """Whether a value is the first of these steps."""
    users = graph.users[node.name]
    return (
        node.op in _OPS
        and 0 not in node["axes"]
        and bool(users)
        and all(u.op == node.op and u["axes"] == (0,) for u in users)
    )


def _worth(graph: Graph, node: Node) -> bool:
    if node.op not in _OPS:
        return False
    shape = graph[node.inputs[0]].shape
    rest = [shape[a] for a in node["axes"] if a]
    sizes = [s for s in rest if isinstance(s, int)]
    return (
        0 in node["axes"]
        and isinstance(shape[0], Dim)
        and len(sizes) == len(rest)
        and math.prod(sizes) >= _FEWEST
    )


def _in_two_steps(b: Builder, node: Node, known: dict[tuple[object, ...], str]) -> None:
    """Neither step leaves axes of size 1, so that both are the same for whoever wants them."""
    others = tuple(a for a in node["axes"] if a)

    def step(x: str, axes: tuple[int, ...], name: str) -> str:
        key = (node.op, x, axes)
        if key not in known:
            known[key] = b.add(
                node.op, b[x], axes=axes, keepdims=False, name=name, origin=node.origin
            ).name
        return known[key]

    by_image = step(node.inputs[0], others, f"{node.name}_of_images")
    if (node.op, by_image, (0,)) not in known and not node["keepdims"]:
        known[node.op, by_image, (0,)] = node.name
        b.append(replace(node, inputs=(by_image,), attrs=(("axes", (0,)), ("keepdims", False))))
        return
    total = step(by_image, (0,), f"{node.name}_total")
    b.append(replace(node, op="reshape", inputs=(total,), attrs=(("shape", node.shape),)))
