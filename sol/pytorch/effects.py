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

# what nn.LSTM and its kind set anew in every call
_PYTORCHS_OWN = ("_flat_weights", "_flat_weight_refs")


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
    tables = [(name, table) for name, module in model.named_modules() for table in _tables(module)]
    kept = [dict(table) for _, table in tables]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for (name, table), before in zip(tables, kept):
            for key in before.keys() | table.keys():
                if key not in _PYTORCHS_OWN and not same_value(before.get(key), table.get(key)):
                    changed.append(f"{name}.{key}".lstrip("."))
            table.clear()
            table.update(before)


def _tables(module: nn.Module) -> list[dict[str, Any]]:
    """Where a module keeps what its forward may set; a graph of torch.fx writes its own code into
    its attributes when it is first called, and that is no news."""
    tables: list[dict[str, Any]] = [module._parameters, module._buffers, module._modules]
    return tables if isinstance(module, torch.fx.GraphModule) else [module.__dict__, *tables]


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
