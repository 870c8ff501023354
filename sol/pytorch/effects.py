"""What a forward does to its module beside computing: it is noticed, and undone.

A graph has values and no effects, so a network whose forward sets attributes is not captured whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from sol.core.errors import UnsupportedError
from sol.pytorch import hooks

# what a forward sets that decides nothing of the next one: nn.LSTM and its kind, anew in every call
_NO_NEWS = ("_flat_weights", "_flat_weight_refs", hooks.INSTALLED)


def without_effects(model: nn.Module, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, refused with UnsupportedError if it sets an attribute."""

    def watched(*args: Any, **kwargs: Any) -> Any:
        with unchanged(model) as changed:
            result = call(*args, **kwargs)
        if changed:
            raise UnsupportedError("forward", f"it sets {', '.join(sorted(changed)[:3])}")
        return result

    return watched


@contextlib.contextmanager
def unchanged(model: nn.Module) -> Iterator[list[str]]:
    """Undo what a run on fake tensors leaves in attributes and buffers of a module.

    Afterwards the list has the names of what the run had set to something else.
    """
    modules = list(model.named_modules())
    tables = [(name, m, table) for name, m in modules for table in _tables(m)]
    kept = [dict(table) for _, _, table in tables]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for (name, module, table), before in zip(tables, kept):
            no_news = hooks.recomputed(module).union(_NO_NEWS)
            for key in before.keys() | table.keys():
                if key not in no_news and not _same(key, before.get(key), table.get(key)):
                    changed.append(f"{name}.{key}".lstrip("."))
            table.clear()
            table.update(before)


def _tables(module: nn.Module) -> list[dict[Any, Any]]:
    """Where a module keeps what its forward may set.

    A graph of torch.fx and a module of torch.jit write code into their own attributes when they
    are first called, and that is no news; the latter has its tensors in C++.
    """
    hooked: list[dict[Any, Any]] = [getattr(module, table) for table in hooks.TABLES]
    if isinstance(module, torch.jit.ScriptModule):
        return hooked
    tables = [*hooked, module._parameters, module._buffers, module._modules]
    return tables if isinstance(module, torch.fx.GraphModule) else [module.__dict__, *tables]


def _same(key: Any, before: Any, after: Any) -> bool:
    """Whether an attribute is what it was, or a hook (whose key is a number) does nothing else."""
    if isinstance(key, int) and before is None and hooks.in_graph(after):
        return True
    return same_value(before, after)


def same_value(before: Any, after: Any) -> bool:
    """Whether an attribute was set to what it was."""
    if before is after:
        return True
    if type(before) is not type(after) or isinstance(before, torch.Tensor):
        return False
    try:
        return bool(before == after)
    except RuntimeError:  # tensors inside, which have no one truth
        return False
