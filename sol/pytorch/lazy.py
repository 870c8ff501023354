"""Results that carry a gradient history, at no cost unless somebody asks for the gradient.

In evaluation mode PyTorch still records gradients unless told not to, and most callers never use
them. A program computes only results; so they are given a history whose backward pass runs the
original network once more, with gradients, on the arguments and parameters of that call. A
parameter that was changed in between raises PyTorch's own error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

Tensors = Sequence[torch.Tensor]
Run = Callable[[], list[torch.Tensor]]
Replay = Callable[[Tensors], Tensors]


class _Lazy(torch.autograd.Function):
    """forward: the program. backward: the original network, then its own gradients."""

    @staticmethod
    def forward(ctx: Any, run: Run, replay: Replay, *tensors: torch.Tensor) -> Any:
        results = run()
        ctx.replay = replay
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(*(r for r in results if not r.is_floating_point()))
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:
        again = torch.is_grad_enabled()  # the gradient's own gradient is asked for
        tensors = ctx.saved_tensors
        wanted = [t for t, w in zip(tensors, ctx.needs_input_grad[2:]) if w]
        with torch.enable_grad():
            results = ctx.replay(tensors)
        pairs = [
            (r, g) for r, g in zip(results, gradients) if g is not None and r.grad_fn is not None
        ]
        if not pairs or not wanted:
            return (None,) * (2 + len(tensors))
        found = iter(
            torch.autograd.grad(
                [r for r, _ in pairs], wanted, [g for _, g in pairs],
                create_graph=again, allow_unused=True,
            )
        )  # fmt: skip
        return None, None, *(next(found) if w else None for w in ctx.needs_input_grad[2:])


def with_history(run: Run, replay: Replay, tensors: Tensors) -> list[torch.Tensor]:
    """run()'s results, differentiable with respect to `tensors` by `replay(tensors)`."""
    apply: Any = _Lazy.apply
    return list(apply(run, replay, *tensors))
