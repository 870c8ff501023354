"""A model that is called with NumPy arrays: a program for each kind of call, made when it comes.

A frontend hands over the inputs and outputs of a model and a function that reads it for given
types (`Read`). `Network` checks calls, keeps programs, and explains them:

    network = Network(inputs, ["y"], read)
    network({"x": x})["y"]

The reader is asked with the batch as the symbol B first. Where it cannot read the model so (an
UnsupportedError, or shapes that do not fit), it is asked with the size behind as the batch, if that
is open, too, and at last with the sizes of the call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock, RLock
from typing import Any

from sol.arrays.captured import Array, Captured, Host, Part, Step, whole
from sol.arrays.explain import Report, explanation
from sol.arrays.program import Program, Progress, make
from sol.arrays.rounding import precise
from sol.arrays.signature import Input, Signature, Types, batch_places, checked, signature_of
from sol.core.errors import SolError
from sol.ir.same import same
from sol.options import DEFAULTS, Options
from sol.report.text import WIDTH

__all__ = ["Captured", "Host", "Input", "Network", "Part", "Read", "Step", "whole"]

Read = Callable[[Types], Captured]
_MOST_PROGRAMS = 16
_ONE = "one image is another network"


@dataclass(frozen=True)
class Entry:
    """The program of a signature. B starts at `least`: a network may be another one for one image.

    example: the batch that it was made for. why_fixed: why the batch is not open.
    """

    signature: Signature
    program: Program
    least: int
    example: int
    why_fixed: str = ""


class Network:
    """A model by Sol. Calls may come from many threads.

    inputs, outputs: of the model, in order. name: what `explain` calls it.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        outputs: Sequence[str],
        read: Read,
        options: Options = DEFAULTS,
        name: str = "the network",
        progress: Progress | None = None,
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.name = name
        self.options = options
        self._read = read
        self._progress = progress
        self._making = RLock()  # one program is made at a time
        self._lock = Lock()  # of the table of programs; these themselves never change
        self._entries: OrderedDict[Signature, Entry] = OrderedDict()
        self._closed: dict[Signature, str] = {}  # not to be read with an open batch, and why
        self._parameters: dict[str, Array] = {}  # that `update` has put in place of others
        self._places = batch_places(self.inputs)
        self._place = 0  # which of these it is

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Array]:
        """The results by name. Raises InputError if arrays do not fit, and what the reader or the
        compiler raises at the first call of a kind."""
        given = checked(self.inputs, arrays)
        entry, batch = self._entry(given)
        return dict(zip(self.outputs, entry.program.run(given, batch), strict=True))

    def prepare(self, arrays: Mapping[str, Any]) -> Entry:
        """Make the program for calls like this one, if it is not there yet."""
        return self._entry(checked(self.inputs, arrays))[0]

    def update(self, parameters: Mapping[str, Array]) -> None:
        """Use these values of parameters from the next call on."""
        with self._making:
            made = [
                replace(entry, program=entry.program.with_parameters(parameters))
                for entry in self.entries
            ]
            with self._lock:
                self._entries.update((entry.signature, entry) for entry in made)
            self._parameters.update(parameters)

    def explain(self, roofline: bool = False, width: int = WIDTH) -> str:
        """Every cluster of every program: layers, how they are computed and why, time; what NumPy
        computes and why. Runs the programs a few times on numbers of their own."""
        return self._report(True, roofline).text(width)

    @property
    def report(self) -> Report:
        """What `explain` says, as data and without times."""
        return self._report(False, False)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The programs that there are, the one used last at the end."""
        with self._lock:
            return tuple(self._entries.values())

    def _report(self, with_times: bool, roofline: bool) -> Report:
        found = (
            explanation(
                str(e.signature), e.program, e.least, e.example, e.why_fixed, with_times, roofline
            )
            for e in reversed(self.entries)
        )
        return Report(self.name, tuple(found))

    # ---- programs

    def _entry(self, given: Mapping[str, Array]) -> tuple[Entry, int]:
        """The entry for a call, with the batch open or else for its sizes; and its batch."""
        signature, fixed, batch = self._signature(given)
        found = self._find(signature, fixed, batch)
        if found is not None:
            return found, batch
        with self._making:
            found = self._find(signature, fixed, batch)
            entry = found or self._made(signature, fixed, batch, given)
            return entry, self.batch(given)

    def batch(self, given: Mapping[str, Array]) -> int:
        """The batch of checked arrays."""
        return self._signature(given)[2]

    def _signature(self, given: Mapping[str, Array]) -> tuple[Signature, Signature, int]:
        """The signature of a call, the same with all sizes fixed, and the batch."""
        place = self._places[self._place] if self._places else None
        signature, batch = signature_of(self.inputs, given, place)
        fixed = signature.at(batch)
        # operators may treat no images as they like
        return signature if batch else fixed, fixed, batch

    def _is_second(self, given: Mapping[str, Array]) -> bool:
        """Whether the batch stands behind the first open size: only so the model can be read."""
        if self._place or len(self._places) < 2:
            return False
        signature, _ = signature_of(self.inputs, given, self._places[1])
        try:
            self._captured(signature)
        except SolError:
            return False
        return True

    def _find(self, signature: Signature, fixed: Signature, batch: int) -> Entry | None:
        with self._lock:
            entry = self._entries.get(signature)
            if entry is None or batch < entry.least:
                entry = self._entries.get(fixed)
            if entry is not None:
                self._entries.move_to_end(entry.signature)
            return entry

    def _made(
        self, signature: Signature, fixed: Signature, batch: int, given: Mapping[str, Array]
    ) -> Entry:
        why = self._closed.get(signature, "")
        if signature in self._entries:
            why = _ONE
        elif signature != fixed and not why:
            try:
                captured = self._captured(signature)
                least = captured.least or (2, 1)[self._holds_for_one(signature, captured)]
            except SolError as error:
                if self._is_second(given):
                    self._place = 1
                    return self._entry(given)[0]
                why = self._closed[signature] = getattr(error, "reason", "") or error.what
            else:
                if batch >= least:
                    return self._added(signature, captured, least, batch, given, "")
                why = _ONE
        return self._added(fixed, self._captured(fixed), 0, batch, given, why)

    def _captured(self, signature: Signature) -> Captured:
        return self._read(dict(signature.types))

    def _holds_for_one(self, signature: Signature, captured: Captured) -> bool:
        """Whether what was read for any batch is what is read for one image."""
        graphs = captured.graphs
        if len(graphs) != len(captured.steps):  # what NumPy does cannot be compared
            return False
        try:
            single = self._captured(signature.at(1))
        except SolError:
            return False
        if len(single.graphs) != len(graphs) or single.results != captured.results:
            return False
        return all(same(g.at_batch(1), s) for g, s in zip(graphs, single.graphs))

    def _added(
        self,
        signature: Signature,
        captured: Captured,
        least: int,
        batch: int,
        given: Mapping[str, Array],
        why: str,
    ) -> Entry:
        known = captured.parameters
        own = {k: v for k, v in self._parameters.items() if k in known}
        program = make(replace(captured, parameters={**known, **own}), self.options, self._progress)
        if self.options.tune:
            program = program.tuned(given, batch, self.options.tune, self._progress)
        program = precise(program, dict(signature.types), given, batch, self._progress)
        entry = Entry(signature, program, least, batch, why)
        with self._lock:
            self._entries[signature] = entry
            while len(self._entries) > _MOST_PROGRAMS:
                self._entries.popitem(last=False)
        return entry
