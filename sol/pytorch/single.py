"""Does a program that was traced for two images and more also hold for one?

torch.export takes for granted that a symbolic size is neither 0 nor 1, and a network may treat one
image differently (`x.squeeze()`, `if len(x) == 1`). So the network is run on fake tensors for 1, 3
and 5 images and every call of PyTorch is written down: it holds if the three records are the same
but for whole numbers that grow linearly with the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode, resolve_name

from sol.core.errors import UnsupportedError
from sol.pytorch.effects import unchanged
from sol.pytorch.trace import Signature, Tensor
from sol.pytorch.tree import unflatten

_BATCHES = (1, 3, 5)  # in equal steps


class _Recorder(TorchFunctionMode):
    """Writes down each call: the function, its arguments, the sizes of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.record: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no identity is used twice

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch._assert:  # its message may show a size
            return result
        self.record.append(resolve_name(func) or getattr(func, "__name__", ""))
        self._note((args, kwargs or {}))
        self._note(result)
        return result

    def _note(self, value: Any) -> None:
        match value:
            case torch.Tensor():
                self.record.append(f"tensor {self._number(value)} {value.dtype}")
                self.record.extend(value.size())
            case tuple() | list():
                self.record.append(f"list {len(value)}")
                for item in value:
                    self._note(item)
            case dict():
                self._note(list(value.items()))
            case bool() | float() | str() | None:
                self.record.append(repr(value))
            case int():
                self.record.append(value)
            case torch.dtype() | torch.device():
                self.record.append(str(value))
            case _:
                self.record.append(type(value).__name__)

    def _number(self, tensor: torch.Tensor) -> int:
        if id(tensor) not in self._numbers:
            self._alive.append(tensor)
        return self._numbers.setdefault(id(tensor), len(self._numbers))


def holds_for_one(model: nn.Module, call: Callable[..., Any], signature: Signature) -> bool:
    """Whether `call` does the same with one image as with several."""
    try:
        first, second, third = (_record(model, call, signature, b) for b in _BATCHES)
    except Exception:  # whatever stops it here, a program for one image is then traced by itself
        return False
    if not len(first) == len(second) == len(third):
        return False
    return all(_agree(a, b, c) for a, b, c in zip(first, second, third))


def _agree(a: Any, b: Any, c: Any) -> bool:
    if type(a) is int and type(b) is int and type(c) is int:
        return b - a == c - b
    return bool(a == b == c)


def _record(
    model: nn.Module, call: Callable[..., Any], signature: Signature, batch: int
) -> list[Any]:
    recorder = _Recorder()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.no_grad(), unchanged(model), mode:
        _make_fake(model, mode)
        tensors = [_example(t, batch) for t in signature.tensors]
        with recorder:
            args, kwargs = unflatten(signature.tree, tensors)
            recorder._note(call(*args, **kwargs))
    return recorder.record


def _make_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Put fake tensors in the place of all tensors, so that no write reaches a real one.

    Raises UnsupportedError for torch.jit's modules: they could not be taken out again.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise UnsupportedError("a module of torch.jit", "it keeps its tensors to itself")
    for module in model.modules():
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module.__dict__)
        for table in tables:
            for name, value in table.items():
                if isinstance(value, torch.Tensor):
                    table[name] = mode.from_tensor(value)


def _example(tensor: Tensor, batch: int) -> torch.Tensor:
    shape = (batch, *tensor.shape[1:]) if tensor.batched else tensor.shape
    return torch.empty(shape, dtype=tensor.dtype)
