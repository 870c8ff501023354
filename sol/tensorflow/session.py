"""The calls of one model or function: by Sol where it can, by the original otherwise.

A `Session` looks at a call, finds the network for its kind, hands it the variables if they were
assigned, and turns arrays into tensors. Wherever Sol cannot compute, the original runs, and the
reason is kept for `explain`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.eager import record

from sol.arrays.judge import Judge
from sol.arrays.network import Network, Read
from sol.arrays.program import Progress
from sol.arrays.signature import Input
from sol.core.dtypes import DTYPES
from sol.core.errors import ConfigError, MemoryBudgetError, SolError, UnsupportedError
from sol.options import Options
from sol.report.text import WIDTH, counted, wrapped
from sol.tensorflow.variables import Variables

Array = NDArray[Any]
_FUNCTION = "gradients of a function: Sol trains models of Keras"
_OPTIONS = ("memory", "never_slower", "precision", "threads", "tune")
_MOST_CHANGES = 16  # of layers, after which nothing is read any more
_MOST_KINDS = 32  # of calls of different structures
_NAMES = {t.numpy: t for t in DTYPES.values()}


@dataclass(frozen=True)
class Settings:
    """How networks are made: options, and who is told about it."""

    options: Options
    progress: Progress | None = None

    def network(
        self, inputs: Sequence[Input], outputs: Sequence[str], read: Read, name: str
    ) -> Network:
        """A network with these settings."""
        return Network(inputs, outputs, read, self.options, name, self.progress)


@dataclass(frozen=True)
class Source:
    """One kind of call: the network that computes it, and how tensors of results are put together.

    names: of the inputs of the network, in the order of the tensors of a call.
    """

    network: Network
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    pack: Callable[[list[Any]], Any]


class Training(Protocol):
    """What computes calls with gradients."""

    def __call__(self, tensors: Sequence[Any], training: bool) -> Any:
        """The results of a call. Raises UnsupportedError where the framework has to compute them,
        or is faster."""

    def forget(self) -> None:
        """Read everything anew."""

    def lines(self, width: int) -> Iterator[str]:
        """What `explain` says."""


Find = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, Sequence[Any]]]
Make = Callable[[Any, Sequence[Any]], Source]


class Session:
    """Calls of an original.

    find(args, kwargs): the kind of a call, and its tensors. make(kind, tensors): what computes such
    calls. Both raise UnsupportedError where Sol cannot.
    """

    def __init__(
        self, original: Callable[..., Any], find: Find, make: Make, variables: Variables, name: str,
        trainer: Training | None = None,
    ) -> None:  # fmt: skip
        self.original = original
        self.name = name
        self.variables = variables
        self.fallbacks: Counter[str] = Counter()
        self.sources: dict[Any, Source] = {}
        self.refused: dict[Any, str] = {}
        self.trainer = trainer
        self.judge = Judge("TensorFlow")
        self._graph: Any = None  # the original as a graph, once it was measured
        self._find, self._make = find, make
        self._changes = 0

    # ---- calls

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[..., Any] | None = None
    ) -> Any:
        """What the original returns for these arguments. run: the original, called another way."""
        original = run or self.original
        if record.could_possibly_record():
            return self.train(args, kwargs, original, False)
        if not self.variables.watch.same():
            self._forget()
        try:
            kind, tensors = self._find(args, kwargs)
            slower = self.judge.why_not(kind, _batch(tensors))
            if slower:
                return self.by_original(self._graph, slower, args, kwargs)
            source = self.source(kind, tensors)
            results = self.compute(source, [_as_array(t) for t in tensors])
        except MemoryBudgetError:
            raise
        except SolError as error:
            reason = getattr(error, "reason", "") or error.what
            return self.by_original(original, reason, args, kwargs)
        return source.pack([tf.convert_to_tensor(r) for r in results])

    def measure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Time Sol and the original, as a graph, on the arguments of a call that Sol can take; the
        faster one takes such calls from then on."""
        if record.could_possibly_record() or not tf.executing_eagerly():
            return
        try:
            kind, tensors = self._find(args, kwargs)
            self.source(kind, tensors)
        except SolError:
            return  # the original runs, and why is told already
        graph = tf.function(self.original, autograph=False)
        try:
            graph(*args, **kwargs)
        except Exception:  # what cannot be a graph stays as it is
            graph = self.original
        self._graph = graph
        self.judge.measure(
            kind,
            _batch(tensors),
            lambda: self(args, kwargs),
            lambda: tf.nest.map_structure(np.asarray, graph(*args, **kwargs)),
        )

    def train(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[..., Any], training: bool
    ) -> Any:
        """The results with a gradient, in training mode or not; eagerly or while a graph is made.
        run: the original in that mode."""
        if self.trainer is None:
            return self.by_original(run, _FUNCTION, args, kwargs)
        if not self.variables.watch.same():
            self._forget()
        try:
            tensors = self._find(args, kwargs)[1]
            return self.trainer(tensors, training)
        except SolError as error:
            reason = getattr(error, "reason", "") or error.what
            return self.by_original(run, f"training: {reason}", args, kwargs)

    def _forget(self) -> None:
        """Read everything again: a layer was changed."""
        with self.variables.lock:
            self.sources.clear()
            self.variables.watch.clear()
            self.judge.forget()
            if self.trainer is not None:
                self.trainer.forget()
            self._changes += 1

    def by_original(self, run: Callable[..., Any], reason: str, args: Any, kwargs: Any) -> Any:
        """The original's result, and a line for `explain`."""
        self.fallbacks[reason] += 1
        return run(*args, **kwargs)

    def source(self, kind: Any, tensors: Sequence[Any]) -> Source:
        """What computes calls of a kind. Raises UnsupportedError where nothing does."""
        if self._changes > _MOST_CHANGES:
            raise UnsupportedError(self.name, "its layers have attributes that change all the time")
        if kind not in self.sources:
            if len(self.sources) >= _MOST_KINDS:
                self.sources.pop(next(iter(self.sources)))
            self.sources[kind] = self._make(kind, tensors)
        return self.sources[kind]

    def compute(self, source: Source, arrays: Sequence[Array]) -> list[Array]:
        """The results of a network for arrays, with the variables as they are now."""
        with self.variables.lock:
            changed = self.variables.changed()
            if changed:
                for each in self.sources.values():
                    each.network.update(changed)
        found = source.network(dict(zip(source.names, arrays, strict=True)))
        return [found[name] for name in source.outputs]

    # ---- questions

    def explain(self, roofline: bool = False, width: int = WIDTH) -> str:
        """Every cluster of every program, what TensorFlow computes and why."""
        parts = [s.network.explain(roofline, width) for s in self.sources.values()]
        if self.trainer is not None:
            parts += self.trainer.lines(width)
        if not parts:
            parts = [f"{self.name} by Sol: nothing was read yet"]
        return "\n".join([*parts, *self.judge.lines(width), *self._fallback_lines(width)])

    def _fallback_lines(self, width: int) -> list[str]:
        lines: list[str] = []
        for reason, count in self.fallbacks.most_common(20):
            lines += wrapped("", f"{counted(count, 'call')} ran the original: {reason}", width)
        return lines


def _batch(tensors: Sequence[Any]) -> int:
    """The first size of the first tensor."""
    return int(tensors[0].shape[0]) if tensors and tensors[0].shape.rank else 1


def input_of(name: str, shape: Sequence[int | None], dtype: str) -> Input:
    """An input of a network; its first open size is the batch."""
    if dtype not in _NAMES:
        raise UnsupportedError(name, f"Sol has no values of type {dtype}")
    return Input(name, _NAMES[dtype], tuple(shape))


def _as_array(tensor: Any) -> Array:
    """A tensor as an array on its memory."""
    return np.asarray(memoryview(tensor))


class Handle:
    """`fast.sol`: what Sol made of a model, and how it can be asked."""

    def __init__(self, session: Session, original: Any) -> None:
        self._session = session
        self.original = original

    def explain(self, roofline: bool = False, width: int = WIDTH) -> str:
        """Every cluster, its layers, how it is computed and why, its time; what stays in TensorFlow
        and why; in lines of `width` columns."""
        return self._session.explain(roofline, width)

    def measure(self, *args: Any, **kwargs: Any) -> None:
        """Time Sol and TensorFlow on a call; the faster one takes such calls from then on."""
        self._session.measure(args, kwargs)

    @property
    def report(self) -> tuple[Any, ...]:
        """What `explain` says, as data: a report for each kind of call."""
        return tuple(s.network.report for s in self._session.sources.values())

    @property
    def fallbacks(self) -> dict[str, int]:
        """Why the original ran, and how often."""
        return dict(self._session.fallbacks)

    @property
    def left(self) -> tuple[str, ...]:
        """What runs in TensorFlow between parts of Sol: the operator and the reason."""
        steps = (
            step
            for s in self._session.sources.values()
            for e in s.network.entries
            for step in e.program.captured.steps
        )
        return tuple(str(s.outside) for s in steps if hasattr(s, "outside"))

    def reset(self) -> None:
        """Forget all programs: for changes of layers that Sol does not watch."""
        self._session.sources.clear()
        self._session.variables.watch.clear()
        self._session.judge.forget()
        if self._session.trainer is not None:
            self._session.trainer.forget()


def options_of(options: dict[str, Any]) -> Options:
    """The options of a call of `optimize`. Raises ConfigError."""
    unknown = [name for name in options if name not in _OPTIONS]
    if unknown:
        raise ConfigError(f"there is no option {unknown[0]}", expected=", ".join(_OPTIONS))
    return Options(**options)
