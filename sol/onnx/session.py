"""What `sol.onnx.optimize` hands back: a session as users of ONNX Runtime know it, and a function.

session.run(None, {"input": x})[0]     names of outputs, or None for all
session(x), session(input=x)           inputs in order, or by name
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sol.arrays.captured import Array, Host
from sol.arrays.explain import Report
from sol.arrays.network import Entry, Input
from sol.core.errors import InputError
from sol.onnx.model import Port
from sol.onnx.networks import Networks
from sol.onnx.reference import Comparison, compare
from sol.report.text import WIDTH


class Session:
    """A model by Sol. Calls may come from many threads."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._model = networks.model

    def __repr__(self) -> str:
        return f"<{self._model.name} by Sol>"

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Inputs with names, element types and sizes."""
        return self._networks.inputs

    def get_inputs(self) -> list[Port]:
        """Inputs with `name`, `shape` and `type`."""
        return list(self._model.inputs)

    def get_outputs(self) -> list[Port]:
        """Outputs with `name`, `shape` and `type`."""
        return list(self._model.outputs)

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
    ) -> list[Array]:
        """The outputs of these names, or all. Raises InputError for what does not fit."""
        del run_options
        known = [p.name for p in self._model.outputs]
        if isinstance(output_names, str):
            raise InputError(
                f"output_names is {output_names!r}", expected=f"a list: [{output_names!r}], or None"
            )
        names = known if output_names is None else list(output_names)
        unknown = [n for n in names if n not in known]
        if unknown:
            raise InputError(
                f"no output is called {', '.join(map(str, unknown))}", expected=", ".join(known)
            )
        found = self._networks(input_feed)
        return [found[name] for name in names]

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The one output, or a tuple of all. Inputs in the order of the model, or by name."""
        names = [p.name for p in self._model.inputs]
        if len(arrays) > len(names):
            raise InputError(
                f"{len(arrays)} inputs", expected=f"{len(names)}: {', '.join(names) or 'none'}"
            )
        given = dict(zip(names, arrays))
        twice = [name for name in named if name in given]
        if twice:
            raise InputError(f"{', '.join(twice)} is given twice", expected="each input once")
        found = self._networks({**given, **named})
        results = tuple(found[p.name] for p in self._model.outputs)
        return results[0] if len(results) == 1 else results

    def prepare(self, input_feed: Mapping[str, Any]) -> None:
        """Compile what calls like this one need, without running it."""
        self._networks.prepare(input_feed)

    def explain(self, roofline: bool = False, width: int = WIDTH) -> str:
        """Every cluster: layers, how they are computed and why, time; what NumPy computes, and
        why. Runs programs a few times on numbers of their own."""
        return self._networks.explain(roofline, width)

    @property
    def reports(self) -> tuple[Report, ...]:
        """What `explain` says, as data and without times."""
        return tuple(n.report for n in self._networks.networks)

    def check(self, input_feed: Mapping[str, Any]) -> Comparison:
        """How far the results for these inputs are from the same network in float64."""
        return compare(self._networks, input_feed)

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        return self._model.parameters

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All programs that were made."""
        return tuple(e for n in self._networks.networks for e in n.entries)

    @property
    def left(self) -> tuple[str, ...]:
        """What NumPy computes in these programs, and why."""
        steps = (s for e in self.entries for s in e.program.captured.steps)
        return tuple(str(s.outside) for s in steps if isinstance(s, Host))
