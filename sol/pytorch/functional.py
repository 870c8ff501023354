"""A short way to a graph without side effects, for the common case.

torch.export leaves operators that write into their argument (`relu_`, `add_`). Its own way to get
rid of them traces the whole graph again, which takes longer than reading the network. Most networks
write only into fresh values that nothing else shares; there the operator is replaced by the one
that returns a new value, and later readers read that. Any other graph goes the long way.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from sol.pytorch.aliases import is_view
from sol.pytorch.rows import ROWS

# they return their argument itself while evaluating, and their schema does not say so
_MAY_ALIAS = ("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default",
              "aten.feature_alpha_dropout.default", "aten.native_dropout.default")  # fmt: skip


def make_functional(graph: fx.Graph, decomposed: Mapping[Any, Callable[..., Any]]) -> bool:
    """Rid a graph of operators that write, `relu_(x) -> relu(x)`; False if it needs the long way.

    That is where memory is shared, and where an operator is to be decomposed. The graph may then
    be changed already, to an equal one.
    """
    calls = [n for n in graph.nodes if n.op == "call_function"]
    if any(n.op == "get_attr" for n in graph.nodes) or any(_is_foreign(n) for n in calls):
        return False
    tensors = [n for n in calls if not isinstance(n.meta.get("val"), torch.SymInt)]
    if any(n.target in decomposed and str(n.target) not in ROWS for n in tensors):
        return False
    place = {node: number for number, node in enumerate(graph.nodes)}
    return all(_replace(n, place) for n in calls if _writes(n))


def take_out_statistics(graph: fx.Graph, buffers: Mapping[str, str]) -> list[tuple[str, fx.Node]]:
    """Batch statistics as values: pairs of a buffer's name and its new value.

    `batch_norm(x, …, mean, var, True)`, which changes mean and var without saying so -> the
    operator that returns them; `add_(count, 1)` -> `add(count, 1)`. buffers: names by placeholder.
    """
    changed: dict[str, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if str(node.target) == "aten.batch_norm.default" and node.args[5] and node.args[3]:
            _batch_statistics(graph, node, buffers, changed)
        elif str(node.target) == "aten.add_.Tensor" and (
            _buffer(node.args[0]) in buffers or node.args[0] in changed.values()
        ):
            with graph.inserting_before(node):
                added = graph.call_function(torch.ops.aten.add.Tensor, node.args, node.kwargs)
            added.meta = dict(node.meta)
            node.replace_all_uses_with(added)
            _follow(graph, node, node.args[0], added, buffers, changed)
            graph.erase_node(node)
    return list(changed.items())


def _batch_statistics(
    graph: fx.Graph, node: fx.Node, buffers: Mapping[str, str], changed: dict[str, fx.Node]
) -> None:
    mean, var = node.args[3], node.args[4]
    with graph.inserting_before(node):
        functional = graph.call_function(
            torch.ops.aten._native_batch_norm_legit_functional.default, node.args[:8]
        )
        parts = [graph.call_function(operator.getitem, (functional, k)) for k in (0, 3, 4)]
    of_mean, of_var = (n.meta["val"] for n in (mean, var))  # type: ignore[union-attr]
    functional.meta = node.meta | {"val": (node.meta["val"], of_mean, of_var, of_mean, of_var)}
    for part, value in zip(parts, (node.meta["val"], of_mean, of_var)):
        part.meta = node.meta | {"val": value}
    node.replace_all_uses_with(parts[0])
    for old, new in ((mean, parts[1]), (var, parts[2])):
        _follow(graph, node, old, new, buffers, changed)
    graph.erase_node(node)


def _follow(
    graph: fx.Graph, node: fx.Node, old: Any, new: fx.Node, buffers: Mapping[str, str],
    changed: dict[str, fx.Node],
) -> None:  # fmt: skip
    """What reads the old value after this node reads the new one."""
    place = {n: number for number, n in enumerate(graph.nodes)}
    for user in list(old.users):
        if place[user] > place[node]:
            user.replace_input_with(old, new)
    key = buffers.get(_buffer(old))
    if key is None:  # a value that follows from a buffer: a module that is called twice
        key = next(k for k, v in changed.items() if v is old)
    changed[key] = new


def _buffer(node: Any) -> str:
    return node.name if isinstance(node, fx.Node) and node.op == "placeholder" else ""


def detach_what_has_no_gradient(graph: fx.Graph) -> None:
    """`y = f(x)` in a block of torch.no_grad() -> `y = detach(f(x))`, as decomposition forgets
    the block."""
    blocks = [n for n in graph.nodes if "wrap_with_set_grad_enabled" in str(n.target)]
    for block in blocks:
        if block.args[0]:  # gradients are on in it
            continue
        for result in list(block.users):
            if not isinstance(result.meta.get("val"), torch.Tensor):
                continue
            with graph.inserting_after(result):
                detached = graph.call_function(torch.ops.aten.detach.default, (result,))
            detached.meta = dict(result.meta)
            result.replace_all_uses_with(detached)
            detached.args = (result,)


def _is_foreign(node: fx.Node) -> bool:
    """Whether a target is neither an operator nor arithmetic of sizes (higher-order operators)."""
    if isinstance(node.target, torch._ops.OpOverload):
        return False
    return node.target is not operator.getitem and isinstance(node.meta.get("val"), torch.Tensor)


def _writes(node: fx.Node) -> bool:
    target: Any = node.target
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _replace(node: fx.Node, place: Mapping[fx.Node, int]) -> bool:
    """relu_(x) -> relu(x) where x is a value of its own; False if it may share memory."""
    target: Any = node.target
    written = node.args[0] if node.args else None
    other = _without_writing(target)
    if other is None or not isinstance(written, fx.Node) or not _is_fresh(written):
        return False
    later = [u for u in written.users if place[u] > place[node]]
    earlier = [u for u in written.users if place[u] < place[node]]
    if any(_shares(u) for u in earlier):
        return False
    for user in later:
        user.replace_input_with(written, node)
    node.target = other
    return True


def _without_writing(target: Any) -> Any:
    """aten.relu_.default -> aten.relu.default; None unless they take the same arguments."""
    name = target._schema.name.removeprefix("aten::")
    if target.namespace != "aten" or not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    other = getattr(packet, target._overloadname, None)
    if other is None or other._schema.is_mutable:
        return None
    ours, theirs = ([a.name for a in t._schema.arguments] for t in (target, other))
    only_first = [a.name for a in target._schema.arguments if _is_written(a)] == ours[:1]
    return other if ours == theirs and only_first else None


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _is_fresh(node: fx.Node) -> bool:
    """Whether a value has memory of its own: the result of an operator that makes a new tensor."""
    return node.op == "call_function" and node.target is not operator.getitem and not _shares(node)


def _shares(node: fx.Node) -> bool:
    """Whether a node's result may be on the memory of what it reads."""
    if node.op == "output" or str(node.target) in _MAY_ALIAS:
        return True
    return is_view(node) or node.target is operator.getitem
