"""A step of an optimiser: parameters by Sol's program (sol/updates.py), the rest by torch.optim.

Sol updates a parameter if it, its gradient and its states are float32 on the CPU, without gaps, in
the same order of memory, and if this memory is nobody else's. torch.optim's own step updates all
others; `Native.fallback` says which they are, and why.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim import Optimizer

from sol.runtime.threads import count
from sol.updates import Updates

_PLAIN = (Tensor, torch.nn.Parameter)  # other classes may mean something else by their memory
_F32, _STRIDED = torch.float32, torch.strided
_ASKED = ("differentiable", "capturable", "fused")  # options that ask for PyTorch's own kernels
Group = dict[str, Any]
Kept = Sequence[tuple[Tensor, tuple[Tensor, ...]]]  # parameters with their states


class Native(Optimizer):
    """What the optimisers of this package share.

    fallback: the parameters that PyTorch updated in the last step, by their numbers in
    `state_dict`, and why.
    """

    fallback: Mapping[int, str] = {}

    def states(self, group: Group, parameters: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """The states that the rule changes, for each of these parameters of a group; made as
        PyTorch makes them where there are none."""
        raise NotImplementedError

    def program(self, group: Group) -> Updates:
        """The program for a group."""
        raise NotImplementedError

    def numbers(self, group: Group, kept: Kept) -> Sequence[Mapping[str, float]]:
        """The numbers of the rule for this step, for each of these parameters, which has begun."""
        raise NotImplementedError

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """A step, as that of torch.optim. closure: computes the loss again, and returns it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(bool(self.defaults["differentiable"])):
            reasons = [self._updated(group) for group in self.param_groups]
            self._by_pytorch(reasons)
        self.fallback = self._numbered(reasons) if any(reasons) else {}
        return loss

    def _updated(self, group: Group) -> dict[Tensor, str]:
        """Update the parameters of a group that Sol can update; the others, and why."""
        parameters = [p for p in group["params"] if p.grad is not None]
        asked = [key for key in _ASKED if group.get(key)]
        if asked or torch.compiler.is_compiling():
            why = f"{asked[0]}=True asks for PyTorch's" if asked else "torch.compile takes the step"
            return dict.fromkeys(parameters, why)
        left = {p: why for p in parameters if (why := _unlike(p, (p, p.grad)) or _gaps(p))}
        mine = [p for p in parameters if p not in left] if left else parameters
        found = self.states(group, mine)
        left |= {p: why for p, own in zip(mine, found) if (why := _unlike(p, own))}
        kept = [(p, own) for p, own in zip(mine, found) if not left or p not in left]
        sets = [(p.grad, p, *own) for p, own in kept]
        places = [[t.data_ptr() for t in tensors] for tensors in sets]
        sizes = [p.numel() for p, _ in kept]
        if _overlap(places, sizes):
            return left | dict.fromkeys((p for p, _ in kept), "its memory is another tensor's, too")
        if sets:
            _run(self.program(group), places, sizes, self.numbers(group, kept))
            increment_version([t for tensors in sets for t in tensors[1:]])
        return left

    def _numbered(self, reasons: Sequence[Mapping[Tensor, str]]) -> dict[int, str]:
        """Reasons by the numbers of parameters in `state_dict`."""
        every = (p for group in self.param_groups for p in group["params"])
        numbers = {id(p): k for k, p in enumerate(every)}
        return {numbers[id(p)]: why for left in reasons for p, why in left.items()}

    def _by_pytorch(self, reasons: Sequence[Mapping[Tensor, str]]) -> None:
        """torch.optim's step for what is left of each group."""
        if not any(reasons):
            return
        groups = self.param_groups
        try:
            self.param_groups = [{**g, "params": list(r)} for g, r in zip(groups, reasons)]
            inspect.unwrap(super().step)(self)  # without hooks, which this step has had
        finally:
            self.param_groups = groups


def _run(
    updates: Updates, places: Sequence[Sequence[int]], sizes: Sequence[int],
    numbers: Sequence[Mapping[str, float]],
) -> None:  # fmt: skip
    """Update parameters: the addresses of the gradient, the parameter and the states of each, its
    size, and its numbers."""
    names = updates.rule.numbers
    distinct = {id(n): n for n in numbers}
    arrays = {k: np.array([n[name] for name in names], np.float32) for k, n in distinct.items()}
    begins = {key: array.ctypes.data for key, array in arrays.items()}
    addresses = [(begins[id(n)], *own) for n, own in zip(numbers, places)]
    updates.run(addresses, sizes, count(None, torch.get_num_threads))


def _unlike(parameter: Tensor, tensors: Sequence[Tensor | None]) -> str:
    """Why tensors of a parameter are not as Sol needs them; "" if they are."""
    shape, stride = parameter.shape, parameter.stride()
    for t in tensors:
        assert t is not None
        plain = type(t) in _PLAIN and t.is_cpu and t.dtype is _F32 and t.layout is _STRIDED
        if not (plain and t.shape == shape and t.stride() == stride) or t.is_neg():
            return _difference(t, "it" if t is parameter else "its gradient or a state")
    return ""


def _difference(t: Tensor, what: str) -> str:
    if type(t) not in _PLAIN:
        return f"{what} is a {type(t).__name__}"
    if t.layout is not _STRIDED or not t.is_cpu or t.dtype is not _F32:
        kind = "sparse" if t.layout is not _STRIDED else f"{t.dtype} on {t.device}"
        return f"{what} is {kind.removeprefix('torch.')}"
    return f"{what} has another order in memory"


def _gaps(t: Tensor) -> str:
    """Whether a tensor's memory has elements of others in between."""
    whole = t.is_contiguous() or (
        t.ndim == 4 and t.is_contiguous(memory_format=torch.channels_last)
    )
    return "" if whole else "its memory has gaps"


def _overlap(places: Sequence[Sequence[int]], sizes: Sequence[int]) -> bool:
    """Whether something that is written shares memory with another tensor."""
    ends = [(own, 4 * size) for own, size in zip(places, sizes) if size]
    read = {(own[0], own[0] + size) for own, size in ends}
    spans = sorted([*read, *((at, at + size) for own, size in ends for at in own[1:])])
    return any(end > begin for (_, end), (begin, _) in pairwise(spans))
