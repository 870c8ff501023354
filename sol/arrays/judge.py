"""Never slower: which of two ways takes calls of a kind, Sol's program or the framework's own path.

`optimize` has both measured on the example that it is given, in turn. What was found holds for
calls of this kind with batches of as many binary digits; other batches go through Sol, unless the
framework has won everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator

from sol import race
from sol.core.config import NEVER_SLOWER
from sol.report.text import WIDTH, wrapped


def wanted(option: bool) -> bool:
    """Whether to measure at all: the user's option, and SOL_NEVER_SLOWER."""
    return option and NEVER_SLOWER.get()


class Judge:
    """What was measured. framework: its name. what: of which calls, for `lines`."""

    def __init__(
        self, framework: str, clock: race.Clock = time.perf_counter, what: str = ""
    ) -> None:
        self._framework, self._clock, self._what = framework, clock, what
        self._found: dict[tuple[Hashable, int], race.Verdict] = {}
        self._shown: dict[tuple[Hashable, int], str] = {}

    def measure(
        self, kind: Hashable, batch: int, sol: Callable[[], object], own: Callable[[], object]
    ) -> None:
        """Time both ways of a call."""
        key = kind, batch.bit_length()
        self._found.pop(key, None)
        for way in (sol, own):
            way()
        found = race.race(sol, own, clock=self._clock)
        self._found[key] = found
        self._shown[key] = f"{self._what}batch {batch}: {found.text(self._framework)}"

    def why_not(self, kind: Hashable, batch: int | None) -> str:
        """Why the framework takes a call, "" if Sol does. batch: None if it is not known."""
        if not self._found:
            return ""
        key = kind, (batch or 0).bit_length()
        found = [v for (k, _), v in self._found.items() if k == kind]
        lost = [v for v in found if v.winner == "framework"]
        if key in self._found:
            return self._reason if self._found[key].winner == "framework" else ""
        return self._reason if lost and len(lost) == len(found) else ""

    @property
    def _reason(self) -> str:
        return f"{self._framework} is faster"

    def forget(self) -> None:
        """Nothing was measured."""
        self._found.clear()
        self._shown.clear()

    def lines(self, width: int = WIDTH) -> Iterator[str]:
        """What was measured, as text."""
        for line in self._shown.values():
            yield from wrapped("", line, width)
