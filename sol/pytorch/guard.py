"""When a program may run: the state of PyTorch, and whether tensors fit a signature.

Everything here is on the path of every call, so it is a few comparisons. Whatever is not plain
inference on dense CPU tensors runs the original network, for the reason that is returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from sol.pytorch.trace import Signature

_C: Any = torch._C
_PLAIN = (torch.Tensor, nn.Parameter)


def foreign_mode() -> str | None:
    """Why PyTorch is doing something else than running networks, None if it is not."""
    if torch.compiler.is_compiling():
        return "torch.compile or torch.export is reading the network"
    if _C._len_torch_dispatch_stack() or _C._len_torch_function_stack():
        return "a mode of PyTorch sees every operator (fake tensors, default device, …)"
    if _C._functorch.peek_interpreter_stack() is not None:
        return "torch.func transforms the call (vmap, grad, …)"
    if _C._get_tracing_state() is not None:
        return "torch.jit is tracing"
    if torch.is_autocast_enabled("cpu"):
        return "autocast computes in another precision"
    return None


def unfit(tensor: Any) -> str | None:
    """Why a program cannot read a tensor whatever its signature is, None if it can."""
    if type(tensor) not in _PLAIN:
        return f"an argument is a {type(tensor).__name__}"
    if tensor.device.type != "cpu":
        return f"an argument is on {tensor.device}"
    if tensor.layout is not torch.strided:
        return f"an argument is of layout {tensor.layout}"
    if tensor.numel() == 0:
        return "an argument without elements (batch 0)"
    return None


class Guard:
    """Whether tensors fit a signature."""

    def __init__(self, signature: Signature, least_batch: int) -> None:
        self.least_batch = least_batch
        self._specs = [
            (t.dtype, t.shape[1:] if t.batched else t.shape, t.batched) for t in signature.tensors
        ]

    def batch(self, tensors: Sequence[torch.Tensor]) -> int:
        """The batch size of tensors that fit (1 if there is none), else -1."""
        batch = -1
        for tensor, (dtype, sizes, batched) in zip(tensors, self._specs):
            shape = tensor.shape
            if tensor.dtype is not dtype or type(tensor) not in _PLAIN or not tensor.is_cpu:
                return -1
            if not batched:
                if shape != sizes:
                    return -1
            elif not shape or shape[1:] != sizes or batch not in (-1, shape[0]):
                return -1
            else:
                batch = shape[0]
        if batch == -1:
            return 1
        return batch if batch >= self.least_batch else -1


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in row-major memory; itself if it is."""
    if tensor.is_contiguous() and not tensor.is_neg():
        return tensor
    return tensor.detach().resolve_neg().contiguous()


def shares_memory(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether two of the tensors may overlap."""
    storages = [t.untyped_storage().data_ptr() for t in tensors]
    return len(set(storages)) < len(storages)
