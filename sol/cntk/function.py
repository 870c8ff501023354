"""What `optimize` hands back: a callable with the manners of CNTK's Function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from threading import Lock
from typing import Any

from sol.arrays.captured import Captured
from sol.arrays.network import Network
from sol.arrays.signature import Input
from sol.cntk.batches import Array, Group, differ, expected, groups, together
from sol.cntk.capture import names, read
from sol.cntk.mixing import sees_others
from sol.cntk.model import Model, Sizes, Variable
from sol.cntk.reader import check
from sol.cntk.stepwise import Steps
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.core.errors import InputError, SolError
from sol.ir.graph import TensorType
from sol.options import DEFAULTS, Options

_MOST_NETWORKS = 8
_TRIALS = (8, 9)  # for sizes that stand open: small, so that loops are written out


@dataclass(frozen=True)
class Argument:
    """An input or output: its name, CNTK's uid, static sizes, dynamic axes.

    A size that stands open or follows from one is None; shape is None where nothing is known.
    """

    name: str
    uid: str
    shape: Sizes | None = None
    dynamic_axes: tuple[str, ...] = ()


class Function:
    """A CNTK model by Sol. Calls may come from many threads."""

    def __init__(self, model: Model, options: Options = DEFAULTS, name: str = "the model") -> None:
        check(model)
        self.model = model
        self._lock = Lock()
        self._called = names(model)
        self._inputs = [(self._called[v.uid], v) for v in model.inputs]
        self._axes: dict[str, tuple[str, ...]] = {}
        self._mixed = sees_others(model)
        self._options, self._name = options, name
        self._steps = Steps(options)
        self._networks: dict[int, Network] = {}  # by the longest sequence of a call, 0: any
        self._network(0)

    def __repr__(self) -> str:
        return f"<{self._name} by Sol>"

    def _network(self, longest: int) -> Network:
        """The programs for calls whose longest sequence is that long; 0 where it does not show."""
        with self._lock:
            if longest not in self._networks:
                while len(self._networks) > _MOST_NETWORKS:
                    del self._networks[next(k for k in self._networks if k)]
                self._networks[longest] = Network(
                    [Input(name, F32, _shape(v)) for name, v in self._inputs],
                    [self._called[o.uid] for o in self.model.outputs],
                    partial(self._read, longest=longest),
                    self._options,
                    self._name,
                )
            return self._networks[longest]

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The inputs, in the order of CNTK's `arguments`."""
        return tuple(Argument(name, v.uid, v.shape, v.axes) for name, v in self._inputs)

    @cached_property
    def outputs(self) -> tuple[Argument, ...]:
        """The outputs, in order. The model is read twice for their sizes, and nothing compiled."""
        try:
            one, two = (read(self.model, self._types(more)) for more in _TRIALS)
        except SolError:
            return tuple(Argument(self._called[o.uid], o.uid) for o in self.model.outputs)
        found = []
        for output in self.model.outputs:
            name = self._called[output.uid]
            pairs = zip(one.shapes[name], two.shapes[name])
            shape = tuple(a if a == b and isinstance(a, int) else None for a, b in pairs)
            found.append(Argument(name, output.uid, shape, one.axes[name]))
        return tuple(found)

    def _types(self, open_size: int) -> dict[str, TensorType]:
        """Types of the inputs, with a number for open sizes but the batch."""
        lead = (B, open_size)
        return {
            name: TensorType(
                (*lead[: len(v.axes)], *(open_size if s is None else s for s in v.shape)), F32
            )
            for name, v in self._inputs
        }

    def __call__(self, *values: Any, **named: Any) -> Any:
        """The results for inputs in the order of `arguments`, or by name: an array, or a dict of
        arrays by the names of several outputs. Sequences are lists of one array for each image."""
        inputs = [name for name, _ in self._inputs]
        if len(values) > len(inputs):
            raise InputError(f"{len(values)} inputs", expected=f"{len(inputs)}: {inputs}")
        given = dict(zip(inputs, values))
        twice = sorted(given.keys() & named.keys())
        if twice:
            raise InputError(f"{twice[0]} is given twice", expected="each input once")
        return self.eval(given | named)

    def eval(self, arguments: Any = None, outputs: Iterable[Any] | None = None) -> Any:
        """CNTK's `Function.eval`: `arguments` is a dict by name, uid or variable, or one array if
        there is one input. outputs: which results, by name, uid or variable. Raises InputError for
        inputs that do not fit."""
        given = self._given(arguments)
        wanted = self._wanted(outputs)
        sorted_ = groups(self._inputs, given)
        if len(sorted_) > 1 and self._mixed.images:
            raise InputError(
                "sequences of different length in one call",
                expected=f"sequences of one length, because {self._mixed.images}",
                do="call it once for each length",
            )
        longest = max((a.shape[1] for g in sorted_ for a in self._sequences(g)), default=0)
        found = self._run(sorted_, longest if len(sorted_) > 1 and self._mixed.steps else 0)
        if any(differ(found, name, self._axes[name]) for name in wanted):
            found = self._run(sorted_, longest)  # an output is as long as the longest sequence
        results = {name: together(found, name, self._axes[name]) for name in wanted}
        return results[wanted[0]] if len(wanted) == 1 else results

    def _run(self, sorted_: Sequence[Group], longest: int) -> list[tuple[Group, dict[str, Array]]]:
        network = self._network(longest)
        return [(group, network(group.arrays)) for group in sorted_]

    def _sequences(self, group: Group) -> list[Array]:
        return [group.arrays[name] for name, v in self._inputs if v.is_sequence]

    def explain(self, roofline: bool = False) -> str:
        """What Sol made of the model: every cluster, how it is computed and why, and its time."""
        return "\n".join(n.explain(roofline) for n in self.networks)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The programs. There are several networks where it shows how long the longest sequence of
        a call is."""
        with self._lock:
            return tuple(self._networks.values())

    def _read(self, types: Mapping[str, TensorType], longest: int) -> Captured:
        reading = read(self.model, types, longest, self._steps, self._options.threads)
        self._axes.update(reading.axes)
        return reading.captured

    # ---- arguments

    def _given(self, arguments: Any) -> dict[str, Any]:
        inputs = [name for name, _ in self._inputs]
        if not isinstance(arguments, Mapping):
            if arguments is None and not inputs:
                return {}
            if len(inputs) != 1:
                raise InputError(
                    f"one value for {len(inputs)} inputs",
                    expected="a dict: " + "; ".join(f"{n}: {expected(v)}" for n, v in self._inputs),
                )
            return {inputs[0]: arguments}
        known = {key: name for name, v in self._inputs for key in (name, v.uid)}
        given: dict[str, Any] = {}
        for key, value in arguments.items():
            given[self._found(key, known, "input")] = value
        missing = [name for name in inputs if name not in given]
        if missing:
            raise InputError(f"no value for {', '.join(missing)}", expected=f"inputs {inputs}")
        return given

    def _wanted(self, outputs: Iterable[Any] | None) -> list[str]:
        if outputs is None:
            return [self._called[o.uid] for o in self.model.outputs]
        known = {key: self._called[o.uid] for o in self.model.outputs
                 for key in (self._called[o.uid], o.uid)}  # fmt: skip
        return [self._found(key, known, "output") for key in outputs]

    @staticmethod
    def _found(key: Any, known: Mapping[str, str], what: str) -> str:
        """The name behind a name, uid, or variable of CNTK or of Sol."""
        for candidate in (key, getattr(key, "name", None), getattr(key, "uid", None)):
            if isinstance(candidate, str) and candidate in known:
                return known[candidate]
        raise InputError(f"no {what} is called {key!s:.80}", expected=f"{sorted(set(known))}")


def _shape(variable: Variable) -> tuple[int | str | None, ...]:
    """The shape of an input; the batch and the steps of one axis have one name in all inputs."""
    lead = ("the batch", *(f"steps of {a}" for a in variable.axes[1:]))[: len(variable.axes)]
    return (*lead, *variable.shape)


__all__ = ["Argument", "Array", "Function"]
