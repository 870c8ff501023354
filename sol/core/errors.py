"""The one tree of errors that Sol raises. Each says what came, what was expected and what to do.

    SolError
    ├── InputError           a call with the wrong arguments: shape, dtype, device, name
    ├── ConfigError          a SOL_* variable or an option that does not exist or has a wrong value
    ├── UnsupportedError     an operator, a type or a model that Sol cannot take: .op, .reason
    ├── VerifyError          an intermediate form is invalid: a bug of Sol, or of a pass added to it
    ├── MemoryBudgetError    the memory that the user allows is not enough
    ├── CacheError           the cache directory cannot be trusted or used
    ├── LibraryError         a specialised library does not do what it is there for
    └── CompilerError        something is wrong with the C compiler
        ├── CompilerNotFound     there is none
        └── CompilerFailed       it refused a program: .command, .stderr, .source

A mistake of the user raises one of these; `assert` is only for our own bugs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LINES_OF_STDERR = 12


class SolError(Exception):
    """Base of all errors of Sol: `what` happened, what was `expected`, and what to `do`."""

    def __init__(self, what: str, *, expected: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.do = do

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"  expected: {self.expected}")
        if self.do:
            parts.append(f"  do: {self.do}")
        return "\n".join(parts)


class InputError(SolError):
    """A call got an argument that it cannot take."""


class ConfigError(SolError):
    """A setting does not exist or has a value that it cannot have."""


class UnsupportedError(SolError):
    """Sol cannot take `op` (an operator, a type, a model), for `reason`.

    Frontends catch it and leave that part to the framework; the reason appears in `explain`.
    """

    def __init__(self, op: str, reason: str, *, expected: str = "", do: str = "") -> None:
        super().__init__(f"{op} is not supported: {reason}", expected=expected, do=do)
        self.args = (op, reason)  # what pickle and copy call the class with
        self.op = op
        self.reason = reason


class VerifyError(SolError):
    """An intermediate form of a program violates its rules."""


class MemoryBudgetError(SolError):
    """A program needs more memory than the user allows."""


class CacheError(SolError):
    """The cache directory cannot be trusted or cannot be used."""


class LibraryError(SolError):
    """A specialised library was found and does not work."""


class CompilerError(SolError):
    """Something is wrong with the C compiler."""


class CompilerNotFound(CompilerError):
    """No C compiler was found; the message names everything that was tried."""


class CompilerFailed(CompilerError):
    """The compiler ended with an error, or not at all.

    `command` is what was run, `stderr` everything it printed, `source` where its input was kept
    (None if it could not be kept).
    """

    def __init__(
        self, what: str, command: Sequence[str] = (), stderr: str = "", source: Path | None = None
    ) -> None:
        super().__init__(
            what,
            do=f"look at {source}"
            if source
            else "try another compiler: SOL_CC=clang or SOL_CC=gcc",
        )
        self.args = (what, tuple(command), stderr, source)
        self.command = tuple(command)
        self.stderr = stderr
        self.source = source

    def __str__(self) -> str:
        lines = self.stderr.strip().splitlines()
        shown = lines[:_LINES_OF_STDERR]
        if len(lines) > len(shown):
            shown.append(f"... and {len(lines) - len(shown)} lines more")
        said = "".join(f"\n    {line}" for line in shown)
        return f"{super().__str__()}\n  command: {' '.join(self.command)}{said}"
