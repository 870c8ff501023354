"""Which values lie in memory, and which contraction each element-wise chain belongs to.

A value is stored if it is a result of the network, if several consumers would repeat costly work,
if a consumer reads its elements more than once, or if it is the end of the chain of element-wise
operators behind a contraction (the epilogue, which then needs no memory in between). Everything
else is inlined (plan/inline.py). In: a graph with composite operators expanded. Out: `Choice`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sol.ir.expr import Expr, walk
from sol.ir.graph import Graph, Node
from sol.ops.registry import OPS
from sol.plan.facts import JOINS, Facts
from sol.plan.inline import Inliner, axes_for

_CHEAP = 2  # arithmetic that is repeated rather than stored
_PROLOGUE = 6  # arithmetic that a 1x1 convolution or linear layer repeats per read of its input
_WINDOW = 5  # arithmetic that overlapping windows repeat
_SCATTERED = 16  # arithmetic behind windows that do not overlap, repeated for each reader
_GRADIENT = 4  # arithmetic on one map that gradients of weights repeat: scale, shift, cut off
_BIJECTIVE = ("permute", "reshape", "roll", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle")


@dataclass(frozen=True, slots=True)
class Choice:
    """stored:

    names of values in memory. roots: stored value -> the contraction whose epilogue computes it.
    """

    stored: frozenset[str]
    roots: Mapping[str, str]


def choose(graph: Graph, facts: Facts) -> Choice:
    """Decide for every value of the graph."""
    roots = _epilogues(graph, facts)
    absorbed = _absorbed(graph, roots)
    outputs = set(graph.outputs)
    stored: set[str] = set()
    inline = Inliner(graph, stored)
    heavy: set[str] = set()
    scattered: set[str] = set()
    cost: dict[str, int] = {}
    for node in graph:
        if facts.is_source(node.name) or isinstance(node.type, tuple):
            continue
        inputs = [i for i in node.inputs if i in cost and i not in stored]
        cost[node.name] = facts.cost(node.name) + sum(cost[i] for i in inputs)
        if facts.reduces(node.name) or any(i in heavy for i in inputs):
            heavy.add(node.name)
        elif _scatters(node, inputs, scattered):
            scattered.add(node.name)
        ends = (
            node.name in roots
            or node.name in outputs
            or node.op in (*JOINS, "item", "packed_columns", "packed_gates", "keys_first")
            or facts.whole(node)
            or facts.widens(node)
            or any(_by_step(node.name, u) for u in facts.users(node.name))
        )
        if ends or (
            node.name not in absorbed
            and (
                (
                    _worth_storing(facts, node, cost[node.name], node.name in heavy, absorbed)
                    and not (node.name in scattered and _costs_little(facts, node, cost[node.name]))
                    and not _for_weights(facts, node, cost[node.name], inline)
                )
                or _scatters_channels(facts, node, inline)
            )
        ):
            stored.add(node.name)
    return Choice(frozenset(stored), roots)


def _by_step(name: str, user: Node) -> bool:
    """Whether a scan is passed a value from its current step of time on."""
    return user.op == "scan_gradient" or (user.op == "scan" and user.inputs[0] == name)


def _worth_storing(facts: Facts, node: Node, cost: int, heavy: bool, absorbed: set[str]) -> bool:
    users = facts.users(node.name)
    if facts.contraction(node):
        return True
    if heavy:
        in_parts = node.op == "spread" and _in_parts(facts, node, users)
        return not (in_parts or _continues(facts, node, users, absorbed))
    if len(users) > 1 and cost > _CHEAP:
        return True
    return any(_repeats(facts, node, user, cost) for user in users)


def _scatters(node: Node, inputs: Sequence[str], scattered: Collection[str]) -> bool:
    """Whether a value is the gradient of windows that do not overlap, or follows from it element by
    element: what it reads is smaller by the size of a window. inputs: those that are not stored."""
    if node.op == "spread":
        return all(k <= s for k, s in zip(node["kernel"], node["stride"]))
    return OPS[node.op].kind == "elementwise" and any(i in scattered for i in inputs)


def _costs_little(facts: Facts, node: Node, cost: int) -> bool:
    """Whether sums and element-wise readers of a scattered value compute it again: that takes less
    time than to read it, and no memory."""
    users = facts.users(node.name)
    sums = all(OPS[u.op].kind in ("elementwise", "reduce") for u in users)
    return sums and cost <= _SCATTERED and not any(_repeats(facts, node, u, cost) for u in users)


def _for_weights(facts: Facts, node: Node, cost: int, inline: Inliner) -> bool:
    """Whether a value that follows from one map element by element is read for gradients of
    weights, and else by element-wise operators, as the result of a normalisation and a ReLU: they
    read that map instead, and the value takes no memory."""
    users = facts.users(node.name)
    weights = [facts.weight_gradient(u) for u in users]
    alike = all(
        w or (OPS[u.op].kind == "elementwise" and facts.size(u.name) == facts.size(node.name))
        for u, w in zip(users, weights)
    )
    if not (0 < cost <= _GRADIENT and any(weights) and alike):
        return False
    index = axes_for(node)
    loads = {p for p in walk(inline.meaning(node.name, index)) if p.op == "load"}
    maps = [p for p in loads if 2 * facts.size(p.value) > facts.size(node.name)]
    return len(maps) == 1 and {p for p in maps[0].args if p.op == "axis"} == {
        p for p in index if p.op == "axis"
    }


def _continues(facts: Facts, node: Node, users: tuple[Node, ...], absorbed: set[str]) -> bool:
    """Whether a reduction's only user computes on with each element once."""
    if len(users) != 1:
        return False
    (user,) = users
    same = OPS[user.op].kind == "elementwise" and facts.size(user.name) == facts.size(node.name)
    return same and user.name not in absorbed and user.inputs.count(node.name) == 1


def _in_parts(facts: Facts, node: Node, users: tuple[Node, ...]) -> bool:
    """Whether slices read no more elements together than a value has, as the gradients of the parts
    of a concatenation do: each part is computed for itself."""
    sliced = all(u.op == "slice" for u in users)
    return sliced and sum(facts.size(u.name) for u in users) <= facts.size(node.name)


def _repeats(facts: Facts, node: Node, user: Node, cost: int) -> bool:
    """Whether inlining the node into this user repeats too much work."""
    if facts.whole(user) or user.op in ("matmul",):
        return cost > 0
    if facts.contraction(user):
        return cost > (_PROLOGUE if _reads_once(facts, user) and user.inputs[0] == node.name else 0)
    if facts.multiplies(user):
        return cost > 0
    if OPS[user.op].kind == "window" and cost > _WINDOW:
        return True
    return cost > _CHEAP and facts.size(user.name) >= 2 * facts.size(node.name)


def _scatters_channels(facts: Facts, node: Node, inline: Inliner) -> bool:
    """Whether windows of a convolution would gather the channels of a pixel from many places."""
    slid = any(
        u.op in ("conv", "conv_transpose") and u.inputs[0] == node.name and facts.taps(u) > 1
        for u in facts.users(node.name)
    )
    if not slid or OPS[node.op].compute is None:
        return False
    index = axes_for(node)
    value = inline.meaning(node.name, index)
    return not all(_runs_along(p, index[1]) for p in walk(value) if p.op == "load")


def _runs_along(read: Expr, axis: Expr) -> bool:
    """Whether neighbours along an axis are neighbours along one axis of what is read, or equal."""
    moving = [i for i in read.args if axis in walk(i)]
    return not moving or (len(moving) == 1 and _is_shifted(moving[0], axis))


def _is_shifted(index: Expr, axis: Expr) -> bool:
    """Whether an index is the axis and a term that does not depend on it."""
    return axis not in walk(index - axis)


def _reads_once(facts: Facts, user: Node) -> bool:
    """Whether a contraction reads each element of its input for one tap only."""
    if user.op == "conv":
        return facts.taps(user) == 1 and all(
            low == 0 and high == 0 for low, high in user["padding"]
        )
    return user.op == "linear"


# ---- epilogues -----------------------------------------------------------------------------------


def _epilogues(graph: Graph, facts: Facts) -> dict[str, str]:
    """For each contraction the value at which its chain of element-wise users ends:

    {value: contraction}. Where two chains meet, in the sum of a residual block, the contraction
    with fewer of them before it goes on: whichever way round the sum is written, the shortcut is
    computed last and adds what was just written.
    """
    claimed: set[str] = set()
    roots: dict[str, str] = {}
    before = _contractions_before(graph, facts)
    backwards = tuple(reversed(graph.nodes))
    for node in sorted(backwards, key=lambda n: before[n.name]):
        if facts.is_source(node.name) or not facts.contraction(node):
            continue
        chain = _chain(graph, facts, node, claimed)
        while len(chain) > 1 and not _is_bijective(graph, node, chain):
            chain.pop()
        claimed.update(chain)
        roots[chain[-1]] = node.name
    return roots


def _contractions_before(graph: Graph, facts: Facts) -> dict[str, int]:
    """For each value the most contractions on a way to it."""
    found: dict[str, int] = {}
    for node in graph:
        own = not facts.is_source(node.name) and facts.contraction(node)
        found[node.name] = max((found[i] for i in node.inputs), default=0) + own
    return found


def _chain(graph: Graph, facts: Facts, root: Node, claimed: set[str]) -> list[str]:
    """The contraction and the element-wise operators behind it, as long as each has one user."""
    chain = [root.name]
    kept = 1
    current = root
    while current.name not in graph.outputs:
        users = facts.users(current.name)
        if len(users) != 1 or users[0].name in claimed or isinstance(users[0].type, tuple):
            break
        (user,) = users
        if facts.size(user.name) != facts.size(root.name) or user.inputs.count(current.name) != 1:
            break
        elementwise = OPS[user.op].kind == "elementwise"
        if not elementwise and user.op not in _BIJECTIVE:
            break
        if user.dtype.name != "f32":
            break
        chain.append(user.name)
        kept = len(chain) if elementwise or _ends_in_rows(graph, root, chain) else kept
        current = user
    return chain[:kept]


def _ends_in_rows(graph: Graph, root: Node, chain: list[str]) -> bool:
    """Whether a chain ends in a result of the network that has the channels innermost: what is
    written anyway can be written in that order.
    """
    end = graph[chain[-1]]
    if end.name not in graph.outputs:
        return False
    index = root_index(graph, root, chain)
    return index is not None and channel_axis(root, index) == axes_for(end)[-1]


def _is_bijective(graph: Graph, root: Node, chain: list[str]) -> bool:
    """Whether the channel axis of the contraction is one of the axes of the chain's end."""
    index = root_index(graph, root, chain)
    return index is not None and channel_axis(root, index) is not None


def root_index(graph: Graph, root: Node, chain: list[str]) -> tuple[Expr, ...] | None:
    """The one index at which the end of the chain reads the contraction, over the end's axes
    `axes_for(end)`.
    """
    end = graph[chain[-1]]
    inline = Inliner(graph, frozenset(n.name for n in graph) - set(chain[1:]))
    value = (
        inline.meaning(end.name, axes_for(end))
        if len(chain) > 1
        else inline.element(end.name, axes_for(end))
    )
    found = {p.args for p in walk(value) if p.op == "load" and p.value == root.name}
    return next(iter(found)) if len(found) == 1 else None


def channel_axis(root: Node, index: tuple[Expr, ...]) -> Expr | None:
    """The axis of the result that is the contraction's output channel;

    None if channels are split or merged on the way.
    """
    position = 1 if root.op in ("conv", "conv_transpose") else len(index) - 1
    channel = index[position]
    if channel.op == "const":
        return channel
    others = {p for i in (*index[:position], *index[position + 1 :]) for p in walk(i)}
    return channel if channel.op == "axis" and channel not in others else None


def _absorbed(graph: Graph, roots: Mapping[str, str]) -> set[str]:
    """Values inside a contraction's cluster:

    from the contraction up to, but not including, the stored end.
    """
    found: set[str] = set()
    for end, root in roots.items():
        found.update(chain_between(graph, root, end))
    return found


def chain_between(graph: Graph, root: str, end: str) -> list[str]:
    """Names from the contraction to the value before the end of its chain."""
    chain = []
    name = root
    while name != end:
        chain.append(name)
        name = next(u.name for u in graph.users[name] if u.name not in graph.static)
    return chain
