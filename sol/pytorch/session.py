"""The calls of one network: find the program that fits, or make it, or run the original.

A `Session` belongs to one module. It keeps a few programs, one for each signature (shapes but for
the batch, types, structure, scalars); it notices changed parameters, hands results a gradient
history where PyTorch would, and runs the original network wherever Sol cannot, keeping the reason
for `explain`. Any number of threads may call it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import is_
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from sol.accuracy import Accuracy
from sol.core import config
from sol.core.errors import MemoryBudgetError, SolError, UnsupportedError
from sol.pytorch.again import Again, again
from sol.pytorch.capture import BATCH, NotCaptured, capture
from sol.pytorch.guard import Guard, dense, foreign_mode, shares_memory, unfit
from sol.pytorch.halves import Budget
from sol.pytorch.handle import Handle
from sol.pytorch.inputs import signature_of
from sol.pytorch.judge import Judge, batch_class
from sol.pytorch.lazy import with_history
from sol.pytorch.module import CHANGED
from sol.pytorch.program import Compile, Program
from sol.pytorch.replica import replica
from sol.pytorch.steps import Captured
from sol.pytorch.trace import Flat, Signature, describe
from sol.pytorch.trainer import Trainer
from sol.pytorch.training_race import TrainingJudge
from sol.pytorch.tree import Branch, Leaf, Tree, flatten
from sol.pytorch.watch import Fingerprint, Watch
from sol.race import Trial, Verdict, Way

log = logging.getLogger(__name__)

_MOST_PROGRAMS = 8  # kept at a time; the one that was not used for longest goes
_MOST_CAPTURES = 32  # then a network has too many shapes to be worth it

Read = Callable[..., Captured]  # of a module, its forward, a signature, and `training`


@dataclass
class Entry:
    """A signature with its program, and what of it the calls need.

    By class of batches (judge.py): the way that is taken, what was measured, what is being tried.
    """

    tree: Tree
    guard: Guard
    program: Program
    shares: bool  # writes into memory, or has results that share it
    ways: dict[int, Way] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    accuracy: Accuracy | None = None

    @property
    def captured(self) -> Captured:
        """The network of this program."""
        return self.program.captured

    @property
    def wrong(self) -> bool:
        """Whether Sol's results are no numbers where PyTorch's are."""
        return self.accuracy is not None and self.accuracy.wrong

    def decide(self, batch: int, verdict: Verdict) -> None:
        """Take the faster way from now on, for all batches of this class."""
        kind = batch_class(batch)
        self.verdicts[kind] = verdict
        self.ways[kind] = verdict.winner
        self.trials.pop(kind, None)


class Session:
    """Calls of `call`, which is the forward of `model` before Sol.

    compile_graphs makes executables; read captures (with a cache, if it has one); fingerprint is
    what `Watch` needs; parts makes a callable of a network that cannot be captured whole; judge
    measures Sol against the original, None if nobody wants that; training_budget limits the memory
    of steps of training.
    """

    def __init__(
        self, model: nn.Module, call: Callable[..., Any], *, compile_graphs: Compile,
        fingerprint: Fingerprint, read: Read | None = None, threads: int | None = None,
        parts: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
        judge: Judge | None = None, training_judge: TrainingJudge | None = None,
        training_budget: Budget | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.call = call
        self.entries: list[Entry] = []
        self.fallbacks: Counter[str] = Counter()  # why, and how often the original ran
        self.refused: dict[Signature, str] = {}
        self.judge = judge
        self._forced: Way | None = None  # while ways are measured
        self.again: Again | None = None  # for calls like the last one
        self._last: tuple[Any, ...] = ()  # what the last call was like
        self._in_vain = False  # whether such calls have no short way
        self._too_large: dict[Signature, MemoryBudgetError] = {}
        self._refused_as: Any = None  # what the module was like then
        self.parts: Callable[..., Any] | None = None
        self.compile, self._threads = compile_graphs, threads
        self._read = read or _captured
        self.fingerprint = fingerprint
        for_training = partial(self._read, model, call, training=True)
        self.trainer = Trainer(self, for_training, training_judge, training_budget)
        self._make_parts = parts
        self._watch = Watch(model, fingerprint)
        self._lock = threading.RLock()
        self._preparing = threading.Lock()
        self._in_original = 0
        self._differentiated = False  # whether anybody has asked for a gradient yet
        self.connect: Any = None  # what makes a session for a copy of the module
        self.handle = Handle(self)
        self._captures = 0
        self._runs = 0

    @property
    def training(self) -> bool:
        """Whether any part of the network is in training mode."""
        return self._watch.training

    @property
    def runs(self) -> int:
        """How often Sol computed: calls, or parts of calls."""
        return self._runs + self.trainer.runs + sum(s.runs for s in self.part_sessions)

    @property
    def part_sessions(self) -> list[Session]:
        """Sessions of the parts of a network that cannot be read whole."""
        return list(getattr(self.parts, "sessions", ()))

    # ---- a call

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the network returns for these arguments."""
        if self.again is not None:
            result = self.again(args, kwargs)
            if result is not CHANGED:
                return result
        return self.at_length(args, kwargs)

    def at_length(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call, by asking everything that matters for it anew."""
        reason = self._why_original()
        if reason is not None:
            return self.by_original(reason, args, kwargs)
        settled = self._watch.settled()
        if not settled and self._watch.training:
            return self.trainer(args, kwargs)
        try:
            tensors, tree = _taken_apart(args, kwargs)
        except UnsupportedError as error:
            return self.by_original(str(error), args, kwargs)
        if not settled and not self._watch.same_structure():
            self.forget()
        for entry in self.entries:
            if entry.tree == tree:
                batch = entry.guard.batch(tensors)
                if batch > 0:
                    if self.judge is None and self._forced is None:
                        return self._run(entry, tensors, batch, args, kwargs)
                    return self._faster(entry, tensors, batch, args, kwargs)
        return self._first_call(tensors, args, kwargs)

    def _why_original(self) -> str | None:
        """Why no call at all is computed by Sol now, None if it may."""
        return foreign_mode() or self._watch.hooked()

    def _faster(
        self, entry: Entry, tensors: list[torch.Tensor], batch: int, args: Any, kwargs: Any
    ) -> Any:
        """The way that was measured to be faster; while nobody knows, both in turn."""
        way = self._forced or entry.ways.get(batch_class(batch))
        trial = None
        if way is None and self.judge is not None:
            if self._wants_gradient(tensors) and not entry.wrong:
                return self._run(entry, tensors, batch, args, kwargs)
            trial = self.judge.trial(entry, batch)
            way = entry.ways[batch_class(batch)] if trial is None else trial.next()
        start = 0.0 if trial is None or self.judge is None else self.judge.clock()
        if way == "sol":
            result = self._run(entry, tensors, batch, args, kwargs)
        else:
            result = self.silently(args, kwargs)
        if trial is not None and self.judge is not None:
            trial.add(way or "sol", self.judge.clock() - start)
            self.judge.after(entry, batch, trial)
        return result

    @contextlib.contextmanager
    def forced(self, way: Way) -> Iterator[None]:
        """Calls take this way, whatever was measured."""
        before, self._forced = self._forced, way
        try:
            yield
        finally:
            self._forced = before

    def by_original(self, reason: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The original network, for a reason that `explain` tells."""
        if not torch.compiler.is_compiling():
            self.fallbacks[reason] += 1
        return self.silently(args, kwargs)

    def silently(self, args: Any, kwargs: Any) -> Any:
        """The original network."""
        self._in_original += 1
        try:
            return self.call(*args, **kwargs)
        finally:
            self._in_original -= 1

    def changed(self, name: str) -> None:
        """An attribute of the module was set: what was traced may not hold any more.

        What the network itself sets while it runs is no news.
        """
        if not self._in_original and name != "training":
            self.forget()

    def _first_call(
        self, tensors: list[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A new signature: the original runs (and raises its own errors), then Sol reads it."""
        reason = next(filter(None, map(unfit, tensors)), None)
        if reason is not None:
            return self.by_original(reason, args, kwargs)
        if self.refused and self._refused_as != _kinds(self.model):
            self.forget()
        signature = signature_of(args, kwargs)[1]
        reason = self.refused.get(signature.of_any_batch())
        if reason is None:
            if signature in self._too_large:
                raise self._too_large[signature]
            result = self.silently(args, kwargs)
            entry = self.specialise(args, kwargs)
            if entry is not None and self.judge is not None:
                self._judged(lambda judge: judge.compare(self, entry, args, kwargs, result))
            return result
        if self.parts is not None:
            return self.parts(*args, **kwargs)
        return self.by_original(reason, args, kwargs)

    def _run(
        self, entry: Entry, given: list[torch.Tensor], batch: int, args: Any, kwargs: Any
    ) -> Any:
        tensors = [dense(t) for t in given]
        wants_gradient = self._wants_gradient(given)
        if wants_gradient and (self._differentiated or _differs(entry.captured)):
            return self.trainer(args, kwargs)
        if entry.shares:
            reason = _why_not_sharing(entry.captured, given, tensors)
            if reason is not None:
                return self.by_original(reason, args, kwargs)
        if not self._refresh(entry):  # half(), to(): it is another network now
            self.forget()
            return self._first_call(given, args, kwargs)
        self._runs += 1
        if wants_gradient:
            results = self._with_history(entry, tensors, given, batch)
        else:
            results = entry.program.run(tensors, batch)
            self._remember(entry, tensors, batch, args, kwargs)
        return entry.program.put_together(results)

    def _remember(
        self, entry: Entry, tensors: list[torch.Tensor], batch: int, args: Any, kwargs: Any
    ) -> None:
        """Make ready for more calls like this one if it was like the one before."""
        names = tuple(sorted(kwargs))
        given = (*args, *map(kwargs.get, names))
        if len(given) != len(tensors) or not all(map(is_, given, tensors)):
            return
        last = (batch, names, entry, entry.program, *self._watch.looks)
        if last[:2] != self._last[:2] or not all(map(is_, last[2:], self._last[2:])):
            self._last, self._in_vain = last, False
        elif not self._in_vain:
            look = self._watch.look()
            if look is not None and not entry.shares:
                self.again = again(self, entry, tensors, batch, names, look)
            self._in_vain = self.again is None

    def count_run(self) -> None:
        """Sol has computed once more."""
        self._runs += 1

    @property
    def forced_way(self) -> Way | None:
        """The way that calls take because somebody wants to measure it."""
        return self._forced

    def _wants_gradient(self, given: list[torch.Tensor]) -> bool:
        return torch.is_grad_enabled() and (
            self._watch.wants_gradient or any(t.requires_grad for t in given)
        )

    def _refresh(self, entry: Entry) -> bool:
        """Hand the program the parameters if they are not those that it knows.

        False if it cannot take them because they have other types or shapes.
        """
        watch = self._watch
        state = watch.values()
        if entry.program.prepared == state:
            return True
        with self._preparing:
            if not watch.same_kinds():
                return False
            if entry.program.prepared != state:
                entry.program.prepare(watch.tensors, state)
        return True

    def ready(self, entry: Entry) -> None:
        """Hand a program the parameters, as a call would."""
        self._refresh(entry)

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The parameters and buffers that programs read, by name."""
        return self._watch.tensors

    # ---- never slower

    def measure(self, entry: Entry, args: Any, kwargs: Any) -> None:
        """Compare a program with the original, and time both, on an example."""
        if self._why_original() is None and not self.training:
            self._judged(lambda judge: judge.measure(self, entry, args, kwargs))

    def _judged(self, ask: Callable[[Judge], None]) -> None:
        """Without a judgement the program is used as it is."""
        if self.judge is None:
            return
        try:
            with self._lock:
                ask(self.judge)
        except Exception as error:
            if config.CHECK.get():
                raise
            log.warning("Sol and PyTorch could not be compared: %r", error)

    def computed(self, entry: Entry, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors of Sol's result, without a history."""
        self.ready(entry)
        with torch.no_grad():
            return entry.program.run([dense(t) for t in given], entry.guard.batch(given))

    @property
    def threads_wanted(self) -> int | None:
        """The option `threads`."""
        return self._threads

    def content(self) -> int:
        """A number that changes with the values of parameters."""
        watched = list(self._watch.tensors.values())
        addresses = array("Q", [t.data_ptr() for t in watched])
        sizes = array("q", [t.numel() * t.element_size() for t in watched])
        return self.fingerprint(addresses, sizes)

    # ---- gradients

    def _with_history(
        self, entry: Entry, tensors: list[torch.Tensor], given: list[torch.Tensor], batch: int
    ) -> list[torch.Tensor]:
        """Results with a history; views are made after it and have PyTorch's own."""
        watched = self._watch.tensors.items()
        parameters = {n: t for n, t in watched if t.requires_grad}
        program, captured = entry.program, entry.captured
        rest: dict[str, Any] = {}

        def run() -> list[torch.Tensor]:
            rest.update(program.compute(tensors, batch))
            return [rest[name] for name in captured.own]

        def replay(saved: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            results = self._replayed(entry, saved, list(parameters))
            return [results[n] for n in captured.places]

        own = with_history(run, replay, [*given, *parameters.values()])
        rest.update(zip(captured.own, own))
        rest.update(zip(captured.inputs, given))
        return program.finish(given, batch, rest)

    def _replayed(
        self, entry: Entry, saved: Sequence[torch.Tensor], names: list[str]
    ) -> Sequence[torch.Tensor]:
        """The tensors of the original's result, on these arguments and parameters."""
        self._differentiated = True  # from now on programs keep what gradients need
        count = len(entry.captured.inputs)
        flat = Flat(*replica(self.model, self.call), entry.tree, lambda tree: None)
        own = {n for n, _ in (*self.model.named_parameters(), *self.model.named_buffers())}
        swapped = {f"model.{n}": t for n, t in zip(names, saved[count:]) if n in own}
        results: Sequence[torch.Tensor] = functional_call(flat, swapped, tuple(saved[:count]))
        return results

    # ---- making programs

    def specialise(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Entry | None:
        """The program for calls like this one; None with a reason in `refused` if there is none."""
        with self._lock:
            tensors, signature = signature_of(args, kwargs)
            for entry in self.entries:
                if entry.tree == signature.tree and entry.guard.batch(tensors) > 0:
                    return entry
            try:
                return self._made(signature, tensors)
            except MemoryBudgetError as error:  # PyTorch would need even more
                self._too_large[signature] = error
                raise
            except Exception as error:  # PyTorch can run it, and `explain` will say why it does
                if config.CHECK.get() and not isinstance(error, SolError):
                    raise
                self._refuse(signature, error)
                return None

    def _made(self, signature: Signature, tensors: Sequence[torch.Tensor]) -> Entry:
        if self._captures >= _MOST_CAPTURES:
            raise UnsupportedError("the call", f"more than {_MOST_CAPTURES} different shapes")
        self._captures += 1
        captured = self._read(self.model, self.call, signature)
        if Guard(captured.signature, captured.least_batch).batch(tensors) < 0:  # one image
            captured = self._read(self.model, self.call, signature.fixed())
        if not captured.graphs:
            left = "; ".join(f"{e.op}: {e.reason}" for e in captured.left[:3])
            raise UnsupportedError("the network", left or "it computes nothing")
        try:
            return self._add(captured)
        except UnsupportedError as error:  # a table of each sample with each other, for example
            if not captured.signature.symbolic or BATCH not in str(error):
                raise
            fixed = self._read(self.model, self.call, signature.fixed())
            return self._add(replace(fixed, why_fixed=str(error)))

    def _add(self, captured: Captured) -> Entry:
        program = Program(captured, self.compile, self._threads)
        entry = Entry(
            captured.signature.tree,
            Guard(captured.signature, captured.least_batch),
            program,
            _shares(captured),
        )
        self.entries, self.again = [entry, *self.entries][:_MOST_PROGRAMS], None
        keys = [k for e in self.entries for k in e.captured.keys if k not in e.captured.state]
        state = {k for e in self.entries for k in e.captured.state}
        self._watch = Watch(self.model, self.fingerprint, keys, state)
        return entry

    def _refuse(self, signature: Signature, error: Exception) -> None:
        reason = str(error) if isinstance(error, SolError) else f"{type(error).__name__}: {error}"
        known = isinstance(error, SolError)
        log.log(
            logging.INFO if known else logging.WARNING,
            "%s runs in PyTorch: %s", describe(signature), reason, exc_info=not known,
        )  # fmt: skip
        self._refused_as = _kinds(self.model)
        self.refused[signature.of_any_batch()] = reason
        if isinstance(error, NotCaptured) and self._make_parts is not None and self.parts is None:
            self.parts = self._make_parts(self.call)

    def forget(self) -> None:
        """Drop all programs: the module is another one now, or the user says so."""
        with self._lock:
            self.entries, self.refused, self.parts, self.again = [], {}, None, None
            self._too_large = {}
            self.trainer.forget()
            self._watch = Watch(self.model, self.fingerprint)


def _captured(
    model: nn.Module, call: Callable[..., Any], signature: Signature, training: bool = False
) -> Captured:
    """The network, read anew each time."""
    return capture(model, call=call, signature=signature, training=training)


def _taken_apart(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[torch.Tensor], Tree]:
    """Tensors and structure of a call; a short way for a few plain tensors."""
    if not kwargs and all(isinstance(a, torch.Tensor) for a in args):
        return list(args), _plain(len(args))
    return flatten((args, dict(sorted(kwargs.items()))))


_PLAIN: dict[int, Tree] = {}


def _plain(count: int) -> Tree:
    """The structure of `count` positional tensors, the same object each time."""
    if count not in _PLAIN:
        leaves = tuple(Leaf(n) for n in range(count))
        _PLAIN[count] = Branch(
            "tuple", tuple, (),
            (Branch("tuple", tuple, (), leaves), Branch("dict", dict, (), ())),
        )  # fmt: skip
    return _PLAIN[count]


def _kinds(model: nn.Module) -> list[Any]:
    return [(id(p), p.dtype, p.device) for p in (*model.parameters(), *model.buffers())]


def _shares(captured: Captured) -> bool:
    """Whether a call needs a closer look (`_why_not_sharing`): memory that is written or shared."""
    return bool(captured.mutations) or captured.random or len(captured.own) < len(captured.results)


def _differs(captured: Captured) -> bool:
    """Whether the network cannot run once more to find gradients: it would do something else."""
    return bool(captured.mutations) or captured.hidden or captured.random


def _why_not_sharing(
    captured: Captured, given: list[torch.Tensor], tensors: list[torch.Tensor]
) -> str | None:
    """Cases in which writing or sharing memory needs the network's own way of doing it."""
    if any(a is not b for a, b in zip(given, tensors)):
        return "an argument that is not row-major in a network that writes or shares memory"
    if any(isinstance(t, int) for t, _ in captured.mutations) and shares_memory(given):
        return "arguments that share memory in a network that writes into one"
    return None
