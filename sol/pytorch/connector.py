"""What joins a module with its session: the options, the cache of captures, the way in parts.

A `Connector` is what an optimised module keeps of its making; it is pickled with it, and makes the
session of every copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from torch import nn

from sol.core import config
from sol.ir.graph import Graph
from sol.options import Precision, parse_memory
from sol.plan.planner import Planned
from sol.pytorch import connect, store
from sol.pytorch.backend import Parts
from sol.pytorch.halves import Budget
from sol.pytorch.judge import Judge
from sol.pytorch.program import Compile, Executable
from sol.pytorch.session import Session
from sol.pytorch.training_race import TrainingJudge

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Connector:
    """Options of a user by name; `connector(module, forward)` is a session for the module."""

    options: tuple[tuple[str, Any], ...] = ()
    progress: Progress | None = field(default=None, compare=False)

    def __call__(self, model: nn.Module, call: Callable[..., Any]) -> Session:
        """A session of the module whose original forward is `call`."""
        made = Session(
            model, call, compile_graphs=self.compiler(), fingerprint=connect.fingerprint,
            read=store.read, threads=dict(self.options).get("threads"), parts=self.in_parts,
            judge=self.judge(), training_judge=self.training_judge(),
            training_budget=self.training_budget(),
        )  # fmt: skip
        made.connect = Connector(self.options)
        return made

    def in_parts(self, call: Callable[..., Any]) -> Parts:
        """A network that cannot be read whole, by torch.compile and Sol's backend."""
        return Parts(call, dict(self.options))

    def compiler(self, **more: Any) -> Compile:
        """Compiles the graphs of a network with these options and `more`."""

        def compile_(
            graphs: Sequence[Graph],
            plans: Sequence[Planned] = (),
            careful: Collection[int] = (),
        ) -> Sequence[Executable]:
            options = dict(self.options) | more
            return connect.compile_all(graphs, options, self.progress, plans, careful)

        return compile_

    def judge(self) -> Judge | None:
        """What measures Sol against PyTorch.

        None if the user does not want it, or allows a memory that PyTorch would not keep to.
        """
        if not self._measures():
            return None
        known = get_args(Precision)
        asked = known.index(dict(self.options).get("precision", known[0]))
        stricter = {p: self.compiler(precision=p) for p in known[asked + 1 :]}
        return Judge(stricter, self._named())

    def training_judge(self) -> TrainingJudge | None:
        """The same for steps of training."""
        return TrainingJudge(self._named()) if self._measures() else None

    def training_budget(self) -> Budget | None:
        """What steps of training may need, with compilers that leave that to others."""
        memory = dict(self.options).get("memory")
        if memory is None:
            return None
        usual, small = self.compiler(memory=None), self.compiler(memory=None, precision="strict")
        return Budget(parse_memory(memory), memory, usual, small)

    def _measures(self) -> bool:
        options = dict(self.options)
        wanted = options.get("never_slower", True) and config.NEVER_SLOWER.get()
        return bool(wanted) and options.get("memory") is None

    def _named(self) -> str:
        return repr(tuple(o for o in self.options if o[0] != "tune"))  # kernels have names, too
