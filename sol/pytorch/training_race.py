"""Never slower in training: a whole step, forward and backward, by Sol and by PyTorch.

Both run on the tensors of the user's first call, with parameters that share memory with the user's
but are none of them: so no gradient is accumulated and no hook is called. Buffers and random state
are put back. Gradients are compared, where no random numbers are drawn.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

from sol.accuracy import Accuracy
from sol.core.device import detect
from sol.core.keys import content_key
from sol.pytorch import connect
from sol.pytorch.judge import batch_class
from sol.pytorch.replica import replica
from sol.pytorch.trace import Flat, describe
from sol.race import SECONDS, Clock, Verdict, race, verdict_of

if TYPE_CHECKING:
    from sol.pytorch.session import Session
    from sol.pytorch.trainer import TrainingEntry

log = logging.getLogger(__name__)

_HOPELESS = 2.0  # times as long as PyTorch: no more rounds
_NOISE = 1e-2  # of the largest gradient
_OF = "the norm of a result or gradient"
_FAR = 0.02  # of a gradient: more is no rounding, but where rounding makes gradients jump
_ROUNDING = 1e-6  # of an input's elements
_AS_ROUNDING = 5.0  # times as far as by such a rounding
Step = Callable[[], list[torch.Tensor]]


class TrainingJudge:
    """Measures and compares; what it finds is kept in the cache."""

    def __init__(
        self, options: str = "", *, clock: Clock = time.perf_counter, seconds: float = SECONDS
    ) -> None:
        self._options, self._clock, self._seconds = options, clock, seconds

    def measure(
        self, session: Session, entry: TrainingEntry, tensors: Sequence[torch.Tensor], batch: int
    ) -> Verdict:
        """Seconds of a step by both ways; the difference of gradients goes to the entry."""
        with _put_back(session.model, entry):
            sol, pytorch = _steps(session, entry, tensors, batch)
            found = sol()  # it compiles, too
            known = self._recalled(entry, batch)
            if known is not None:
                return known
            own = pytorch()
            if not entry.captured.random:

                def nearly() -> list[torch.Tensor]:
                    near = [_rounded(t) for t in tensors]
                    return _steps(session, entry, near, batch)[1]()

                entry.accuracy = _compared(entry, found, own, nearly)
            verdict = self._race(sol, pytorch)
        self._keep(entry, batch, verdict)
        return verdict

    def _race(self, sol: Step, pytorch: Step) -> Verdict:
        first = [self._timed(way) for way in (sol, pytorch)]
        if first[0] > _HOPELESS * first[1]:
            again = [self._timed(way) for way in (sol, pytorch)]
            if again[0] > _HOPELESS * again[1]:
                twice = tuple(zip(first, again))
                return verdict_of((*twice[0], again[0]), (*twice[1], again[1]))
        return race(sol, pytorch, clock=self._clock, seconds=self._seconds)

    def _timed(self, way: Step) -> float:
        start = self._clock()
        way()
        return self._clock() - start

    # ---- what is remembered

    def _recalled(self, entry: TrainingEntry, batch: int) -> Verdict | None:
        from sol.runtime.cache import cache

        data = cache.get(self._key(entry, batch))
        try:
            return None if data is None else Verdict(*json.loads(data))
        except (ValueError, TypeError):
            return None

    def _keep(self, entry: TrainingEntry, batch: int, verdict: Verdict) -> None:
        from sol.runtime.cache import cache

        if entry.accuracy is not None and entry.accuracy.wrong:
            return
        with contextlib.suppress(OSError):
            cache.put(self._key(entry, batch), json.dumps(astuple(verdict)).encode())

    def _key(self, entry: TrainingEntry, batch: int) -> str:
        """Names the compiled kernels of all steps, the machine, threads and batch class."""
        device, program = detect(), entry.program
        kernels = [connect.identity(e) for pair in program.pairs for e, _ in pair.parts]
        machine = (device.name, device.identity, f"{program.threads()} threads")
        return content_key(
            "training race", *kernels, self._options, *machine, f"class {batch_class(batch)}"
        )


def _compared(
    entry: TrainingEntry, found: Sequence[torch.Tensor], own: Sequence[torch.Tensor],
    nearly: Step,
) -> Accuracy:  # fmt: skip
    """How far gradients differ from PyTorch's own; `nearly` are those of nearly the same input.

    Where an activation has a corner, the smallest rounding decides on which side of it a value
    lies, and gradients jump: so they may differ as much as PyTorch's do by rounding of the input.
    """
    error = _difference(found, own)
    if not error <= _FAR and error <= _AS_ROUNDING * _difference(nearly(), own):
        return Accuracy(error, of=_OF)
    if not error <= _FAR:
        log.warning(
            "%s: gradients by Sol and by PyTorch differ by %.1e of their size",
            describe(entry.captured.signature), error,
        )  # fmt: skip
    return Accuracy(error if error <= _FAR else float("inf"), of=_OF)


def _difference(found: Sequence[torch.Tensor], own: Sequence[torch.Tensor]) -> float:
    """The largest difference of a tensor, relative to its size, or to a small part of the largest
    size of all: a gradient that cancels, as of a bias before batch statistics, is noise. Sizes and
    differences are Euclidean norms."""
    sizes = [float(o.norm()) for o in own]
    least = max(_NOISE * max(sizes, default=0.0), 1e-30)
    worst = 0.0
    for mine, theirs, size in zip(found, own, sizes):
        gap = float((mine - theirs).norm()) / max(size, least)
        worst = max(worst, gap) if gap == gap else float("inf")
    return worst


def _steps(
    session: Session, entry: TrainingEntry, tensors: Sequence[torch.Tensor], batch: int
) -> tuple[Step, Step]:
    """A step by Sol and one by PyTorch, each on leaves of its own: results and gradients."""
    flat = Flat(*replica(session.model, session.call), entry.tree, lambda tree: None)
    names = {n for n, _ in (*session.model.named_parameters(), *session.model.named_buffers())}

    def sol() -> list[torch.Tensor]:
        given, parameters = _leaves(tensors, entry.watch.tensors)
        before = entry.program.exchange_tensors(parameters)
        try:
            results = entry.program.run(given, batch)
        finally:
            entry.program.exchange_tensors(before)
        return _with_gradients(results, [*given, *parameters.values()])

    def pytorch() -> list[torch.Tensor]:
        given, parameters = _leaves(tensors, entry.watch.tensors)
        swapped = {f"model.{n}": t for n, t in parameters.items() if n in names}
        results = functional_call(flat, swapped, tuple(given))
        return _with_gradients(results, [*given, *parameters.values()])

    return sol, pytorch


def _leaves(
    tensors: Sequence[torch.Tensor], parameters: Mapping[str, torch.Tensor]
) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Tensors on the same memory that nobody else knows."""
    return [_leaf(t) for t in tensors], {n: _leaf(t) for n, t in parameters.items()}


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers with fraction a little larger or smaller, in turn."""
    if not tensor.is_floating_point():
        return tensor
    signs = torch.arange(tensor.numel()).remainder(2).mul(2).sub(1).view(tensor.shape)
    with torch.no_grad():
        near = tensor * (1 + _ROUNDING * signs.to(tensor.dtype))
    return near.requires_grad_(tensor.requires_grad)


def _leaf(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _with_gradients(results: Sequence[Any], leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The results, and the gradients of the leaves for ones as gradients of the results."""
    tensors = [r for r in results if isinstance(r, torch.Tensor)]
    roots = [r for r in tensors if r.requires_grad]
    wanted = [t for t in leaves if t.requires_grad]
    if not roots or not wanted:
        return [r.detach() for r in tensors]
    changes = [torch.linspace(-1, 1, r.numel()).view(r.shape) for r in roots]
    found = torch.autograd.grad(roots, wanted, changes, allow_unused=True)
    zero = torch.zeros(1)
    return [*(r.detach() for r in tensors), *(zero if g is None else g for g in found)]


@contextlib.contextmanager
def _put_back(model: torch.nn.Module, entry: TrainingEntry) -> Iterator[None]:
    """Leave buffers and the random state as they were."""
    buffers = [b for b in model.buffers() if b.device.type == "cpu"]
    copies = [b.detach().clone() for b in buffers]
    chance = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(chance)
        with torch.no_grad():
            for buffer, copy in zip(buffers, copies):
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)
