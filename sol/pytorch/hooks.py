"""Forward hooks of submodules: which of them keep programs from running.

A program does not call hooks, so a hook that somebody has registered keeps the original running.
Not so those of which all that they do stands in the graph: they recompute a parameter before each
call (torch.nn.utils), or hand a layer's result to the model around it, for which that model asks
within its own forward (transformers, which installs them in the first forward that asks, and leaves
them there).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

TABLES = ("_forward_hooks", "_forward_pre_hooks")

_RECOMPUTING = "torch.nn.utils"
_COLLECTING = "transformers.utils.output_capturing"
INSTALLED = "_output_capturing_hooks_installed"  # what a model notes when it has installed these


def foreign(model: nn.Module) -> str | None:
    """A submodule with a hook that a program would not do the work of; None if there is none.

    Those of the outer module run around the program.
    """
    name: str
    for name, module in model.named_modules():
        hooks = [h for table in TABLES for h in getattr(module, table).values()]
        if module is not model and not all(map(in_graph, hooks)):
            return name
    return None


def in_graph(hook: Any) -> bool:
    """Whether all that a hook does is in the graph that is read of the model's forward."""
    home = str(getattr(hook, "__module__", None) or type(hook).__module__)
    return home.startswith(_RECOMPUTING) or home == _COLLECTING


def recomputed(module: nn.Module) -> frozenset[str]:
    """The attributes that such hooks set before each call: `weight` of a layer in weight_norm.

    Not in training mode, in which spectral_norm writes into what its own gradient reads.
    """
    if module.training:
        return frozenset()
    hooks = module._forward_pre_hooks.values()
    names = (getattr(h, n, None) for h in hooks if _recomputes(h) for n in ("name", "_tensor_name"))
    return frozenset(name for name in names if isinstance(name, str))


def _recomputes(hook: Any) -> bool:
    return type(hook).__module__.startswith(_RECOMPUTING)


def collecting() -> bool:
    """Whether a model around this one asks for results of layers: its program has none of them."""
    asked = getattr(sys.modules.get(_COLLECTING), "_active_collector", None)
    return asked is not None and asked.get() is not None


def collects(hooks: Mapping[int, Any]) -> bool:
    """Whether such hooks are among these."""
    return any(getattr(h, "__module__", None) == _COLLECTING for h in hooks.values())
