"""Gradients of normalisations and softmax. Means and variances are computed again from the input,
which costs less than to keep what they normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sol.ir.graph import Builder, Node
from sol.ops.gradients.parts import Gradients, number, reshaped, scaled, summed, summed_to
from sol.ops.rules import need_number


def _mean(graph: Builder, x: Node, axes: Sequence[int]) -> Node:
    return graph.add("mean", x, axes=tuple(axes), keepdims=True)


def _scale(graph: Builder, centred: Node, axes: Sequence[int], eps: float) -> Node:
    """1 / √(mean x² + eps)."""
    power = _mean(graph, graph.add("square", centred), axes)
    return graph.add("rsqrt", graph.add("add", power, number(graph, eps, centred)))


def _normalised(
    graph: Builder, centred: Node, scale: Node, change: Node, axes: Sequence[int], mean: bool
) -> tuple[Node, Node]:
    """(x̂, dx) for the change of x̂ = centred * scale; `mean`: whether a mean was subtracted."""
    y = graph.add("mul", centred, scale)
    along = _mean(graph, graph.add("mul", change, y), axes)
    rest = graph.add("sub", change, graph.add("mul", y, along))
    if mean:
        rest = graph.add("sub", rest, _mean(graph, change, axes))
    return y, graph.add("mul", rest, scale)


def layer_norm(graph: Builder, node: Node, dy: Node, x: Node, *parameters: Node) -> Gradients:
    """(dx̂ - mean dx̂ - x̂ mean(dx̂ x̂)) / √(var + eps) with dx̂ = dy * weight."""
    axes = tuple(range(x.tensor.rank - node["axes_count"], x.tensor.rank))
    centred = graph.add("sub", x, _mean(graph, x, axes))
    change = graph.add("mul", dy, parameters[0]) if node["has_weight"] else dy
    scale = _scale(graph, centred, axes, node["eps"])
    y, dx = _normalised(graph, centred, scale, change, axes, True)
    found: list[Node | None] = [dx]
    if node["has_weight"]:
        found.append(summed_to(graph, graph.add("mul", dy, y), parameters[0].shape))
    if node["has_bias"]:
        found.append(summed_to(graph, dy, parameters[-1].shape))
    return found


def rms_norm(graph: Builder, node: Node, dy: Node, x: Node, *weight: Node) -> Gradients:
    """As layer_norm, without means."""
    axes = tuple(range(x.tensor.rank - node["axes_count"], x.tensor.rank))
    change = graph.add("mul", dy, weight[0]) if weight else dy
    y, dx = _normalised(graph, x, _scale(graph, x, axes, node["eps"]), change, axes, False)
    return dx, *(summed_to(graph, graph.add("mul", dy, y), w.shape) for w in weight)


def group_norm(graph: Builder, node: Node, dy: Node, x: Node, *parameters: Node) -> Gradients:
    """As layer_norm, over each group of channels."""
    groups = node["groups"]
    channels = need_number("group_norm", "the number of channels", x.shape[1])
    apart = (x.shape[0], groups, channels // groups, *x.shape[2:])
    axes = tuple(range(2, len(apart)))
    split = reshaped(graph, x, apart)
    wide = (channels,) + (1,) * (x.tensor.rank - 2)
    change = graph.add("mul", dy, reshaped(graph, parameters[0], wide)) if parameters else dy
    centred = graph.add("sub", split, _mean(graph, split, axes))
    scale = _scale(graph, centred, axes, node["eps"])
    y, dx = _normalised(graph, centred, scale, reshaped(graph, change, apart), axes, True)
    dx = reshaped(graph, dx, x.shape)
    if not parameters:
        return [dx]
    rest = tuple(k for k in range(x.tensor.rank) if k != 1)
    by_weight = graph.add("mul", dy, reshaped(graph, y, x.shape))
    return dx, summed(graph, by_weight, rest, False), summed(graph, dy, rest, False)


def batch_norm(
    graph: Builder, node: Node, dy: Node, x: Node, mean: Node, var: Node, *affine: Node
) -> Gradients:
    """With given statistics, each of which gets its own: those of the batch pass it on to x.

    x: dy w / σ, mean: minus its sum, var: -1/2 Σ dy w (x - mean) / σ³, σ² = var + eps.
    """
    rest = tuple(k for k in range(x.tensor.rank) if k != 1)
    wide = (x.shape[1],) + (1,) * (x.tensor.rank - 2)
    inverse = graph.add("rsqrt", graph.add("add", var, number(graph, node["eps"], var)))
    scale = graph.add("mul", affine[0], inverse) if affine else inverse
    centred = graph.add("sub", x, reshaped(graph, mean, wide))
    along = summed(graph, graph.add("mul", dy, centred), rest, False)  # Σ dy (x - mean)
    total = summed(graph, dy, rest, False)
    dx = graph.add("mul", dy, reshaped(graph, scale, wide))
    by_mean = graph.add("neg", graph.add("mul", total, scale))
    cube = graph.add("mul", graph.add("mul", scale, inverse), inverse)
    by_var = scaled(graph, graph.add("mul", along, cube), -0.5)
    by_affine = (graph.add("mul", along, inverse), total) if affine else ()
    return dx, by_mean, by_var, *by_affine


def softmax(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """y (dy - Σ dy y)."""
    along = summed(graph, graph.add("mul", dy, node), (node["axis"],))
    return [graph.add("mul", node, graph.add("sub", dy, along))]


def log_softmax(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy - e^y Σ dy."""
    total = summed(graph, dy, (node["axis"],))
    return [graph.add("sub", dy, graph.add("mul", graph.add("exp", node), total))]


def local_response_norm(graph: Builder, node: Node, dy: Node, x: Node) -> Gradients:
    """dy s^-β - 2 α β / size x Σ dy x s^(-β-1) over the channels whose window holds this one,
    s = k + α / size Σ x² over the window."""
    size, beta, share = node["size"], node["beta"], node["alpha"] / node["size"]
    before = size // 2
    power = scaled(graph, _window(graph, graph.add("square", x), before, size), share)
    s = graph.add("add", power, number(graph, node["k"], x))
    by_own = graph.add("mul", dy, graph.add("pow", s, number(graph, -beta, x)))
    each = graph.add("mul", dy, x)
    each = graph.add("mul", each, graph.add("pow", s, number(graph, -beta - 1, x)))
    by_others = _window(graph, each, size - 1 - before, size)
    product = scaled(graph, graph.add("mul", x, by_others), -2 * share * beta)
    return [graph.add("add", by_own, product)]


def _window(graph: Builder, x: Node, before: int, size: int) -> Node:
    """y[c] = Σ_t x[c + t - before] over t < size, channels on axis 1."""
    rank, channels = x.tensor.rank, x.shape[1]
    low, high = [0] * rank, [0] * rank
    low[1], high[1] = before, size - 1 - before
    wide = graph.add("pad", x, low=tuple(low), high=tuple(high), mode="constant", value=0.0)
    total: Any = None
    for t in range(size):
        part = graph.add("slice", wide, axis=1, start=t, stop=t + channels, step=1)
        total = part if total is None else graph.add("add", total, part)
    found: Node = total
    return found
