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
_ASKED = ("differentiable", "capturable", "fused")  # options that ask for PyTorch's own kernels
Group = dict[str, Any]
States = Mapping[Tensor, tuple[Tensor, ...]]  # of parameters


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

    def numbers(self, group: Group, states: States) -> Sequence[Mapping[str, float]]:
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
        numbers = {
            id(p): k for k, p in enumerate(q for g in self.param_groups for q in g["params"])
        }
        self.fallback = {numbers[id(p)]: why for left in reasons for p, why in left.items()}
        return loss

    def _updated(self, group: Group) -> dict[Tensor, str]:
        """Update the parameters of a group that Sol can update; the others, and why."""
        parameters = [p for p in group["params"] if p.grad is not None]
        asked = [key for key in _ASKED if group.get(key)]
        if asked or torch.compiler.is_compiling():
            why = f"{asked[0]}=True asks for PyTorch's" if asked else "torch.compile takes the step"
            return dict.fromkeys(parameters, why)
        left = {p: why for p in parameters if (why := _unlike(p, (p, p.grad)))}
        mine = [p for p in parameters if p not in left]
        states = dict(zip(mine, self.states(group, mine)))
        left |= {p: why for p in mine if (why := _unlike(p, states[p]))}
        states = {p: found for p, found in states.items() if p not in left}
        sets = [(p.grad, p, *found) for p, found in states.items()]
        if _overlap(sets):
            return left | dict.fromkeys(states, "its memory is another tensor's, too")
        if sets:
            _run(self.program(group), sets, self.numbers(group, states))
        return left

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
    updates: Updates, sets: Sequence[Sequence[Tensor]], numbers: Sequence[Mapping[str, float]]
) -> None:
    """Update parameters: the gradient, the parameter and the states of each, and its numbers."""
    names = updates.rule.numbers
    arrays = {id(n): np.array([n[name] for name in names], np.float32) for n in numbers}
    places = {key: array.ctypes.data for key, array in arrays.items()}
    addresses = [(places[id(n)], *(t.data_ptr() for t in s)) for n, s in zip(numbers, sets)]
    sizes = [s[0].numel() for s in sets]
    updates.run(addresses, sizes, count(None, torch.get_num_threads))
    increment_version([t for s in sets for t in s[1:]])


def _unlike(parameter: Tensor, tensors: Sequence[Tensor]) -> str:
    """Why tensors of a parameter are not as Sol needs them; "" if they are."""
    for t in tensors:
        what = "it" if t is parameter else "its gradient or a state"
        if type(t) not in _PLAIN:
            return f"{what} is a {type(t).__name__}"
        if t.layout is not torch.strided or t.device.type != "cpu" or t.dtype != torch.float32:
            kind = "sparse" if t.layout is not torch.strided else f"{t.dtype} on {t.device}"
            return f"{what} is {kind.removeprefix('torch.')}"
        if t.shape != parameter.shape or t.stride() != parameter.stride() or t.is_neg():
            return f"{what} has another order in memory"
    whole = parameter.is_contiguous() or (
        parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    )
    return "" if whole else "its memory has gaps"


def _overlap(sets: Sequence[Sequence[Tensor]]) -> bool:
    """Whether something that is written shares memory with another tensor."""
    read = {_span(s[0]) for s in sets}
    spans = sorted([*read, *(_span(t) for s in sets for t in s[1:])])
    spans = [(begin, end) for begin, end in spans if begin < end]
    return any(end > begin for (_, end), (begin, _) in pairwise(spans))


def _span(tensor: Tensor) -> tuple[int, int]:
    begin = tensor.data_ptr()
    return begin, begin + tensor.numel() * tensor.element_size()
