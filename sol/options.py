"""What a user may ask for when a network is compiled; each option is declared here once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import sol.ops  # noqa: F401  (fills the table of operators)
from sol.core import config
from sol.core.errors import ConfigError

Precision = Literal["float32", "careful", "strict"]  # from the one that rounds most


def no_coarser(asked: Precision, least: Precision) -> Precision:
    """The precision that rounds less, or the same one."""
    known = get_args(Precision)
    return max(asked, least, key=known.index)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may ask for.

    threads: None is the framework's number. precision: "float32"; "careful", with Winograd's
    algorithm only where it rounds hardly more than a plain sum; or "strict", where sums are only
    added up in another order, as in the framework's own kernels (neither Winograd's algorithm nor
    Strassen's). memory: bytes, or a text such as "200MB", that a call may need at most for
    intermediates and packed weights.
    never_slower: frontends measure against the framework, and keep its own way where that wins.
    tune: seconds that frontends may measure other ways to compute layers for (sol/tune/).
    """

    threads: int | None = None
    precision: Precision = "float32"
    memory: int | str | None = None
    never_slower: bool = True
    tune: float | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"precision={self.precision!r}",
                expected='"float32", "careful" or "strict"',
                do='leave it out, or ask for precision="strict"',
            )
        if self.memory is not None:
            parse_memory(self.memory)
        if self.tune is not None:
            _check_seconds(self.tune)

    @property
    def budget(self) -> int | None:
        """`memory` in bytes."""
        return None if self.memory is None else parse_memory(self.memory)


def parse_memory(memory: int | str) -> int:
    """Bytes of an option `memory`. Raises ConfigError."""
    try:
        size = config.parse_bytes(memory) if isinstance(memory, str) else memory
    except ValueError:
        size = 0
    if type(size) is int and size > 0:
        return size
    raise ConfigError(
        f"memory={memory!r} is no number of bytes",
        expected='a number of bytes, or a text such as "200MB" or "2GiB"',
    )


def _check_seconds(tune: float) -> None:
    number = isinstance(tune, (int, float)) and not isinstance(tune, bool)
    if not number or not 0 <= tune < math.inf:
        raise ConfigError(
            f"tune={tune!r} is no number of seconds",
            expected="seconds to measure other ways to compute layers, such as 30; 0 for none",
        )


DEFAULTS = Options()
