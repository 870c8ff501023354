"""Capture a network: trace it, translate it, cut it into steps; the batch open where that works.

`capture` is the whole front half of the frontend. It tries the network with a symbolic batch, and
with fixed sizes where something is not linear in the batch. It raises `NotCaptured` with the
reasons where torch.export cannot follow the network at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sol.core.errors import UnsupportedError
from sol.ir.same import same
from sol.pytorch.inputs import signature_of
from sol.pytorch.replica import replica
from sol.pytorch.segments import cut
from sol.pytorch.single import holds_for_one
from sol.pytorch.steps import Captured
from sol.pytorch.trace import Signature, describe, trace

_DEPENDS_ON_VALUES = "GuardOnDataDependentSymNode"  # fixed sizes would not help
_ONE_BATCH = "Constraints violated"  # torch.export's message about code that asks for the batch
_MOST_COMPARED = 1 << 20  # bytes of a buffer of inference mode
BATCH = "batch size B"  # what reasons say where fixed sizes would help


class NotCaptured(UnsupportedError):
    """torch.export cannot follow a network; `.reason` says why."""


def capture(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    call: Callable[..., Any] | None = None,
    signature: Signature | None = None,
    training: bool = False,
) -> Captured:
    """The network that `call(*args, **kwargs)` runs, `model.forward` if no other is named.

    training: with all that matters for gradients, and what happens in training mode. Raises
    NotCaptured if it cannot be read, UnsupportedError if Sol computes nothing of its kind.
    """
    call = call or model.forward
    if signature is None:
        signature = signature_of(args, kwargs or {})[1]
    check_types(model, signature, training)
    model, call = replica(model, call)
    captured, reason = _attempt(model, call, signature, training)
    if captured is not None and not _hindered_by_batch(captured):
        return captured
    if not signature.symbolic or _DEPENDS_ON_VALUES in reason:
        raise NotCaptured("the network", reason)
    fixed, fixed_reason = _attempt(model, call, signature.fixed(), training)
    if fixed is None and captured is None:
        raise NotCaptured("the network", fixed_reason)
    if fixed is None or (captured is not None and len(captured.left) <= len(fixed.left)):
        assert captured is not None
        return captured
    by_batch = (e.reason for e in (captured.left if captured else ()) if BATCH in e.reason)
    return replace(fixed, why_fixed=reason or next(by_batch, ""))


def _attempt(
    model: nn.Module, call: Callable[..., Any], signature: Signature, training: bool
) -> tuple[Captured | None, str]:
    try:
        captured = cut(trace(model, call, signature, training), signature)
    except Exception as error:  # torch.export raises many kinds; all mean the same here
        return None, f"{describe(signature)}: {_first_line(error)}"
    if signature.symbolic and _takes_one(model, call, captured, training):
        captured = replace(captured, least_batch=1)
    return captured, ""


def _takes_one(
    model: nn.Module, call: Callable[..., Any], captured: Captured, training: bool
) -> bool:
    """Whether the steps hold for a batch of one too: by how the network is called, or the graph."""
    signature = captured.signature
    if holds_for_one(model, call, signature):
        return True
    if training or captured.left or len(captured.steps) != 1:
        return False
    try:
        single = cut(trace(model, call, signature.of_one()), signature.of_one())
        return same(captured.graph.at_batch(1), single.graph)
    except Exception:  # then one image is captured by itself when it comes
        return False


def _first_line(error: Exception) -> str:
    if _ONE_BATCH in str(error):
        return "to PyTorch, the code does not hold for every batch size"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _hindered_by_batch(captured: Captured) -> bool:
    return captured.signature.symbolic and any(BATCH in e.reason for e in captured.left)


def check_types(model: nn.Module, signature: Signature, training: bool = False) -> None:
    """UnsupportedError unless parameters and inputs are float32 (or whole numbers) on the CPU."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        _check(name, tensor.dtype)
        if tensor.device.type not in ("cpu", "meta"):
            raise UnsupportedError(name, f"it is on {tensor.device}; Sol runs on the CPU")
        if tensor.is_inference() and (training or not _comparable(tensor)):
            reason = "it was made in inference mode, where changes leave no trace"
            raise UnsupportedError(name, reason, do="make the model outside torch.inference_mode()")
        if type(tensor.data) is not torch.Tensor or tensor.layout is not torch.strided:
            raise UnsupportedError(name, f"it is a {type(tensor.data).__name__}, {tensor.layout}")
    for number, kind in enumerate(signature.tensors):
        _check(f"input {number}", kind.dtype)


def _comparable(tensor: torch.Tensor) -> bool:
    """Whether all of a tensor may be compared in each call: a table that a forward made, say."""
    return not isinstance(tensor, nn.Parameter) and tensor.nbytes <= _MOST_COMPARED


def _check(name: str, dtype: torch.dtype) -> None:
    if (dtype.is_floating_point or dtype.is_complex) and dtype is not torch.float32:
        short = str(dtype).removeprefix("torch.")
        raise UnsupportedError(name, f"it is {short}; Sol computes in float32")
