"""Whether a network treats the images of a batch independently, so that a batch can be cut into
groups.

Decided on expressions: element i of a result with c elements per image belongs to image i // c, and
every operand that depends on the batch must be read at an index of the same image. No rule per
operator is needed; operators without an expression have a case in `_independent`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sol.core.dims import Dim, Shape
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, const, from_linear, walk
from sol.ir.graph import SOURCES, Graph, Node, types_of
from sol.ops.registry import OPS
from sol.plan.facts import SCANS
from sol.plan.inline import Inliner, axes_for


def is_splittable(graph: Graph, stored: Collection[str]) -> bool:
    """Whether every value of an image is computed from that image alone, and images are outermost
    in all inputs and results.
    """
    outside = [*graph.inputs, *(graph[o] for o in graph.outputs)]
    symbolic = [n for n in outside if any(isinstance(s, Dim) for s in n.shape)]
    if (
        not symbolic
        or any(not isinstance(n.shape[0], Dim) for n in symbolic)
        or any(o not in {n.name for n in symbolic} for o in graph.outputs)
    ):
        return False
    if any(image_axis(t.shape) is None for n in graph for t in types_of(n)):
        return False
    inline = Inliner(graph, frozenset(n.name for n in graph))
    minor: dict[str, bool] = {}
    for node in graph:
        if node.name in graph.static or not node.inputs:
            if _numbers_images(graph, node, inline):
                return False
            minor[node.name] = False
            continue
        found = next(
            (m for m in (False, True) if _independent(graph, node, inline, minor, m)), None
        )
        if found is None:
            return False
        minor[node.name] = found
    return not any(minor[o] for o in graph.outputs)


def by_image(graph: Graph) -> frozenset[str]:
    """Values in which images count, each image of which follows from the same image of what the
    node reads, and does so alike for any number of images."""
    inline = Inliner(graph, frozenset(n.name for n in graph))
    minor = dict.fromkeys((n.name for n in graph), False)
    found = set()
    for node in graph:
        axes = {image_axis(t.shape) for t in types_of(node)}
        if not node.inputs or node.name in graph.static or axes & {None, -1}:
            continue
        if _independent(graph, node, inline, minor, False) and not counts_images(graph, node):
            found.add(node.name)
    return frozenset(found)


def counts_images(graph: Graph, node: Node) -> bool:
    """Whether what a node computes depends on how many images there are."""
    if OPS[node.op].compute is None:
        return False
    axes = axes_for(node)
    value = Inliner(graph, frozenset(n.name for n in graph)).meaning(node.name, axes)
    return any(_counts(p) for p in walk(value) if p not in axes)


def _counts(x: Expr) -> bool:
    """Whether an axis or a number has the batch in it."""
    if x.op == "axis":
        return isinstance(x.value[1], Dim)
    if x.op != "linear":
        return False
    constant, coefs = x.value
    return any(isinstance(n, Dim) for n in (constant, *coefs))


def image_axis(shape: Shape) -> int | None:
    """Position of the axis that counts images, -1 if there is none;

    None if the shape depends on the batch in another way.
    """
    axes = [k for k, s in enumerate(shape) if isinstance(s, Dim)]
    if not axes:
        return -1
    extent = shape[axes[0]]
    assert isinstance(extent, Dim)
    return axes[0] if len(axes) == 1 and extent.const == 0 else None


def _independent(
    graph: Graph, node: Node, inline: Inliner, minor: Mapping[str, bool], mine: bool
) -> bool:
    """Whether all that an element reads belongs to its own image.

    minor: for each value before, whether images are innermost on the axis that counts them (element
    i is of image i % B) or outermost (of i // elements per image); mine: the same for this node.
    """
    if node.op in (*SCANS, "item", "attention", "masked_attention") and mine:
        return False
    if node.op in SCANS:
        return image_axis(types_of(node)[0].shape) in (-1, 0 if node["batch_first"] else 1)
    if node.op == "item":
        return True
    if node.op in ("attention", "masked_attention"):
        positions = {image_axis(graph[i].shape) for i in node.inputs} | {image_axis(node.shape)}
        return positions <= {0, -1} and not any(minor[i] for i in node.inputs)
    try:
        value = inline.meaning(node.name, axes_for(node))
    except UnsupportedError:  # no expression: nothing is known
        return False
    image = _image(node.shape, axes_for(node), mine)
    for part in walk(value):
        if part.op == "load":
            other = _image(graph[part.value].shape, part.args, minor[part.value])
            if other is not None and other is not image:
                return False
    return not _tells_images_apart(graph, node, value, mine)


def _numbers_images(graph: Graph, node: Node, inline: Inliner) -> bool:
    """Whether a value that is computed from nothing is another one for each image (`iota`)."""
    if node.op in SOURCES or image_axis(node.shape) == -1:
        return False
    return _tells_images_apart(graph, node, inline.meaning(node.name, axes_for(node)), False)


def _tells_images_apart(graph: Graph, node: Node, value: Expr, mine: bool) -> bool:
    """Whether an element depends on the number of its image in the batch, beside its operands: in a
    condition, as a value, or as an index of something that all images share.

    The place on the axis that counts images is allowed as the part that it has within an image.
    """
    position = image_axis(node.shape)
    if position is None or position < 0:
        return False
    place, extent = axes_for(node)[position], node.shape[position]
    assert isinstance(extent, Dim)
    seen, stack = set(), [value]
    while stack:
        x = stack.pop()
        if x is place:
            return True
        own_load = x.op == "load" and image_axis(graph[x.value].shape) != -1
        if own_load or x in seen or _within_image(x, place, extent.coef, mine):
            continue
        seen.add(x)
        stack.extend(x.args)
    return False


def _within_image(x: Expr, place: Expr, coef: int, minor: bool) -> bool:
    """Whether x is the part of a place that counts within an image."""
    if x.op != ("floordiv" if minor else "mod") or x.args[0] is not place:
        return False
    return minor or (x.args[1].op == "const" and coef % x.args[1].value == 0)


def _image(shape: Shape, index: tuple[Expr, ...], minor: bool) -> Expr | None:
    """The image that an index belongs to; None for values that do not depend on the batch."""
    position = image_axis(shape)
    if position is None or position < 0:
        return None
    extent = shape[position]
    assert isinstance(extent, Dim)
    if minor:
        return index[position] % from_linear(Dim(1), {})
    return index[position] // const(extent.coef)


def images(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Elements per image of values whose outermost axis counts images."""
    found = {}
    for name, shape in shapes.items():
        if shape and isinstance(shape[0], Dim):
            per = shape[0].coef
            for s in shape[1:]:
                assert isinstance(s, int)
                per *= s
            found[name] = per
    return found
