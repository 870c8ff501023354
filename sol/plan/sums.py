"""Sums and means over the batch, image by image first.

    sum(x over the batch and other axes) -> sum over the batch(sum over the other axes)
    sum((x - mean x)²)                   -> sum over the batch(sum((x - m)²)) + n sum((m - mean x)²)
                                            m the mean of each image of n elements
    conv_weight_gradient(x, dy)          -> sum over the batch(conv_weight_gradients(x, dy))
                                            of few weights and large maps: depthwise, 1x1, and
                                            of few channels

So images are shared out among threads and read in one piece, with all their channels; what is added
up over the batch is as small as one image's result. A variance does not wait for the mean of the
batch (T. Chan et al., "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances",
1979). Statistics of a batch that are wanted in two shapes are computed once. (Other equal values
stay apart: what is computed again where it is needed takes no memory in between.)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from sol.core.dims import Dim
from sol.core.dtypes import F32
from sol.ir.expr import Expr
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import OPS, Index, OpDef, Read, Sample, builder, infer, register
from sol.ops.rules import numbers, of
from sol.ops.sampling import f32
from sol.plan.facts import is_depthwise_gradient

OF_IMAGES = "conv_weight_gradients"
_OVER_BATCH = (("axes", (0,)), ("keepdims", False))
_OPS = ("sum", "mean")  # a mean of means of equally many elements is the mean
_FEWEST = 64  # elements of an image that are added up
_MOST_WEIGHTS = 1 << 15  # that an image's gradient may have: a part of a core's L2 cache
_FEW_CHANNELS = 16  # too few for Winograd's algorithm
_LARGER = 8  # how many times as large an image's maps have to be

Known = dict[tuple[object, ...], str]  # reductions by operator, operand and axes


def image_by_image(graph: Graph) -> Graph:
    """The graph with such reductions in two steps; what several of them share is computed once."""
    b = builder()
    for node in graph:
        b.reserve(node.name)
    known: Known = {}
    for node in graph:
        if _worth(graph, node):
            whose = _centred(graph, node)
            if whose:
                _squares(b, node, whose, known)
            else:
                _in_two_steps(b, node, known)
        elif _few_weights(graph, node):
            x, dy = (b[i] for i in node.inputs)
            name = f"{node.name}_of_images"
            own = b.add(OF_IMAGES, x, dy, name=name, origin=node.origin, **dict(node.attrs))
            b.append(replace(node, op="sum", inputs=(own.name,), attrs=_OVER_BATCH))
        else:
            b.append(node)
    return b.finish([b[o] for o in graph.outputs])


def is_of_images(graph: Graph, node: Node) -> bool:
    """Whether a value is the first of these steps."""
    users = graph.users[node.name]
    return (
        node.op in _OPS
        and 0 not in node["axes"]
        and any(u.op == node.op and u["axes"] == (0,) for u in users)
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


def _few_weights(graph: Graph, node: Node) -> bool:
    """Whether the gradient of a weight is small, and read from large maps: to share out images
    among threads reads these in one piece, to share out channels in many small ones."""
    if node.op != "conv_weight_gradient" or node.dtype != F32:
        return False
    maps = [graph[i].shape for i in node.inputs]
    if not all(isinstance(s[0], Dim) and all(isinstance(n, int) for n in s[1:]) for s in maps):
        return False
    weights = math.prod(numbers(node.op, "a size", node.shape))
    elements = sum(math.prod(numbers(node.op, "a size", s[1:])) for s in maps)
    few = maps[0][1] in range(_FEW_CHANNELS)
    plain = node["groups"] == 1 and (few or set(node["kernel"]) == {1})
    small = weights <= _MOST_WEIGHTS and weights * _LARGER <= elements
    return small and (plain or is_depthwise_gradient(node))


def _step(
    b: Builder, node: Node, known: Known, x: str, axes: tuple[int, ...], name: str, op: str = ""
) -> str:
    """A reduction without axes of size 1, so that it is the same for whoever wants it."""
    key = (op or node.op, x, axes)
    if key not in known:
        made = b.add(key[0], b[x], axes=axes, keepdims=False, name=name, origin=node.origin)
        known[key] = made.name
    return known[key]


def _in_two_steps(b: Builder, node: Node, known: Known) -> None:
    others = tuple(a for a in node["axes"] if a)
    by_image = _step(b, node, known, node.inputs[0], others, f"{node.name}_of_images")
    if (node.op, by_image, (0,)) not in known and not node["keepdims"]:
        known[node.op, by_image, (0,)] = node.name
        b.append(replace(node, inputs=(by_image,), attrs=_OVER_BATCH))
        return
    total = _step(b, node, known, by_image, (0,), f"{node.name}_total")
    b.append(replace(node, op="reshape", inputs=(total,), attrs=(("shape", node.shape),)))


def _centred(graph: Graph, node: Node) -> str:
    """x of a sum of (x - mean x)², the mean over the same axes; else an empty name."""
    squares = graph[node.inputs[0]]
    centred = graph[squares.inputs[0]] if node.op == "sum" and squares.op == "square" else node
    if centred.op != "sub":
        return ""
    x, mean = centred.inputs[0], graph[centred.inputs[1]]
    while mean.op == "reshape":
        mean = graph[mean.inputs[0]]
    same = mean.op == "mean" and mean.inputs == (x,) and mean["axes"] == node["axes"]
    return x if same and graph[x].shape == centred.shape else ""


def _squares(b: Builder, node: Node, x: str, known: Known) -> None:
    """Of the distances from each image's own mean, and of these means from the one of all."""
    others = tuple(a for a in node["axes"] if a)
    shape = b[x].shape
    own = b[_step(b, node, known, x, others, f"{node.name}_means", "mean")]
    mean = _step(b, node, known, own.name, (0,), f"{node.name}_mean", "mean")
    wide = tuple(1 if k in others else s for k, s in enumerate(shape))
    centred = b.add("sub", b[x], b.add("reshape", own, shape=wide))
    inside = b.add("square", centred).name
    inside = _step(b, node, known, inside, others, f"{node.name}_of_images")
    inside = _step(b, node, known, inside, (0,), f"{node.name}_inside")
    between = b.add("square", b.add("sub", own, b[mean])).name
    between = _step(b, node, known, between, (0,), f"{node.name}_between")
    count = b.constant(
        float(math.prod(numbers(node.op, "a size", [shape[a] for a in others]))), b[x].dtype
    )
    total = b.add("add", b[inside], b.add("mul", b[between], count), origin=node.origin)
    b.append(replace(node, op="reshape", inputs=(total.name,), attrs=(("shape", node.shape),)))


# ---- the operator that only plans contain ----------------------------------------------------


def _infer(x: TensorType, dy: TensorType, **attrs: Any) -> TensorType:
    weight = infer("conv_weight_gradient", (x, dy), attrs)
    assert isinstance(weight, TensorType)
    return of(x, (x.shape[0], *weight.shape))


def _compute(node: Node, index: Index, x: Read, dy: Read) -> Expr:
    image, *rest = index
    whole = OPS["conv_weight_gradient"].compute
    assert whole is not None

    def of_image(read: Read) -> Read:
        shape = (1, *read.shape[1:])
        return Read(TensorType(shape, read.type.dtype), lambda _, *at: read(image, *at))

    one = replace(node, op="conv_weight_gradient", type=of(node.tensor, node.shape[1:]))
    return whole(one, rest, of_image(x), of_image(dy))


_WINDOW = {"stride": (1, 1), "dilation": (1, 1)}
register(
    OpDef(
        OF_IMAGES,
        "contract",
        _infer,
        "The gradient of a convolution's weight by each image alone: "
        "`dw[n, o, c, k] = Σ_i dy[n, o, i] * x[n, c, i * stride + k * dilation - padding]`.",
        samples=(
            Sample(
                (f32(2, 3, 5, 7), f32(2, 4, 5, 7)),
                {"kernel": (1, 1), "padding": ((0, 0), (0, 0)), "groups": 1, **_WINDOW},
            ),
            Sample(
                (f32(2, 4, 5, 7), f32(2, 4, 5, 7)),
                {"kernel": (3, 3), "padding": ((1, 1), (1, 1)), "groups": 4, **_WINDOW},
            ),
        ),
        compute=_compute,
        why="it is part of a gradient; a gradient's own runs in the framework",
    )
)
