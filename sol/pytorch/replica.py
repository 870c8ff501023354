"""A copy of a module that shares its tensors: to be traced and replayed on.

torch.export puts fake tensors in the place of parameters while it runs, and so do others; on the
user's own module another thread would see them. Copied are the modules and whatever else hangs on
them; parameters, buffers and all other tensors are the originals. A module that cannot be copied is
traced itself.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from sol.pytorch.module import Optimized, original

Forward = Callable[..., Any]


def replica(model: nn.Module, call: Forward) -> tuple[nn.Module, Forward]:
    """The copy, and `call` on the copy. Both themselves if one cannot be copied."""
    plain = original(model) if isinstance(model, Optimized) else model
    memo: dict[int, Any] = {id(tensor): tensor for _, tensor in tensors_of(plain)}
    compiled = (m for m in plain.modules() if isinstance(m, torch.jit.ScriptModule))
    memo.update((id(module), module) for module in compiled)  # a copy would have other tensors
    try:
        made = copy.deepcopy(plain, memo)
    except Exception:  # locks, handles, generators: whatever cannot be copied
        return model, call
    forward = _on(made, call, model)
    return (model, call) if forward is None else (made, forward)


def _on(made: nn.Module, call: Forward, model: nn.Module) -> Forward | None:
    """A method of `model` as one of `made`; None for another function, which may know the model."""
    if isinstance(call, functools.partial) and call.args[:1] == (model,):
        return functools.partial(call.func, made, *call.args[1:], **call.keywords)
    if isinstance(call, types.MethodType) and call.__self__ is model:
        return types.MethodType(call.__func__, made)
    return None


def tensors_of(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor that hangs on a module, with its path: `fc.weight`, `table[0]`, `cache['x']`."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        dot = f"{prefix}." if prefix else ""
        for table in (module._parameters, module._buffers):
            yield from ((dot + name, t) for name, t in table.items() if t is not None)
        for name, value in module.__dict__.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                yield from _inside(dot + name, value, ())


def _inside(path: str, value: Any, above: tuple[int, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif type(value) in (list, tuple) and id(value) not in above:
        for number, item in enumerate(value):
            yield from _inside(f"{path}[{number}]", item, (*above, id(value)))
    elif type(value) is dict and id(value) not in above:
        for key, item in value.items():
            if isinstance(key, (str, int)):
                yield from _inside(f"{path}[{key!r}]", item, (*above, id(value)))
