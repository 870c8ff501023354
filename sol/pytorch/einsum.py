"""Products of three tensors and more in one `torch.einsum`, while a network is read.

PyTorch asks opt_einsum for the order of the products, which wants sizes that are numbers: an open
batch would be closed. The order is therefore asked for with the batch of the example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.backends import opt_einsum
from torch.overrides import TorchFunctionMode


def with_open_batch(call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, with the order of products chosen for the example's sizes."""

    def ordered(*args: Any, **kwargs: Any) -> Any:
        with _Ordered():
            return call(*args, **kwargs)

    return ordered


class _Ordered(TorchFunctionMode):
    """Hands each einsum the order that PyTorch would have found for these sizes."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.functional.einsum and not kwargs and isinstance(args[0], str):
            operands = args[1] if isinstance(args[1], (list, tuple)) else args[1:]
            order = _order(args[0], operands)
            if order is not None:
                return torch._VF.einsum(args[0], operands, path=order)  # type: ignore[attr-defined]
        return func(*args, **(kwargs or {}))


def _order(equation: str, operands: Sequence[torch.Tensor]) -> list[int] | None:
    """Pairs of operands one after the other; None where PyTorch does not ask."""
    package = opt_einsum.get_opt_einsum() if opt_einsum.is_available() else None
    if len(operands) < 3 or package is None or not opt_einsum.enabled:
        return None
    shapes = [tuple(map(_number, operand.shape)) for operand in operands]
    pairs = package.contract_path(equation, *shapes, shapes=True, optimize=opt_einsum.strategy)[0]
    return [operand for pair in pairs for operand in pair]


def _number(size: Any) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else size
