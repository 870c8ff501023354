"""Every setting of Sol, declared once: its SOL_* variable, type, default and help, and whether
generated code depends on it.

Variables are read when a setting is used, not when Sol is imported, so that tests and notebooks can
change them. A SOL_* variable that no setting has is an error: a misspelt one would be silent.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sol.core.errors import ConfigError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Knob(Generic[T_co]):
    """One setting. `parse` raises ValueError for a text that is not one of the `values`."""

    name: str
    parse: Callable[[str], T_co]
    default: T_co
    values: str
    help: str
    in_cache_key: bool = False

    @property
    def variable(self) -> str:
        return f"SOL_{self.name}"

    def get(self) -> T_co:
        """The value in force: the environment's, else the default. Raises ConfigError."""
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError:
            raise ConfigError(
                f"{self.variable}={text!r} cannot be understood",
                expected=self.values,
                do=f"set {self.variable} to such a value, or unset it ({self.help})",
            ) from None


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_bytes(text: str) -> int:
    """'512MB', '2 GiB', '1.5g' or '4096' -> bytes, with units of 1024. Raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if not match:
        raise ValueError(f"{text!r} is not a number of bytes")
    return int(float(match[1]) * _UNITS[match[2]])


def _parse_bool(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True}
    known |= {"0": False, "false": False, "no": False, "off": False}
    if text.lower() not in known:
        raise ValueError(text)
    return known[text.lower()]


def _parse_count(smallest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if int(text) < smallest:
            raise ValueError(text)
        return int(text)

    return parse


def _parse_choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(text)
        return text.lower()

    return parse


def _parse_names(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    if not all(name.isidentifier() for name in names):
        raise ValueError(text)
    return names


def _parse_path(text: str) -> Path:
    return Path(text).expanduser()


CC: Knob[str] = Knob(
    "CC", str, "", "a command, such as gcc or 'ccache clang'", "the C compiler to use"
)
CACHE_DIR: Knob[Path | None] = Knob(
    "CACHE_DIR", _parse_path, None, "a directory", "where compiled programs are kept"
)
CACHE_SIZE: Knob[int] = Knob(
    "CACHE_SIZE",
    parse_bytes,
    2 * 2**30,
    "bytes, such as 500MB or 2GiB",
    "what the cache may grow to; the entries used longest ago go first",
)
CHECK: Knob[bool] = Knob(
    "CHECK", _parse_bool, False, "0 or 1", "verify every intermediate form and compare each stage"
)
DUMP: Knob[Path | None] = Knob(
    "DUMP", _parse_path, None, "a directory", "where every stage of a compilation is written"
)
THREADS: Knob[int | None] = Knob(
    "THREADS", _parse_count(1), None, "a number from 1", "threads to run on"
)
NEVER_SLOWER: Knob[bool] = Knob(
    "NEVER_SLOWER",
    _parse_bool,
    True,
    "0 or 1",
    "measure Sol against the framework's own path, and keep the faster one",
)
FUEL: Knob[int | None] = Knob(
    "FUEL",
    _parse_count(0),
    None,
    "a number from 0",
    "how many optimisations may be applied, to find by halving the one that is wrong",
    in_cache_key=True,
)
ISA: Knob[str] = Knob(
    "ISA",
    _parse_choice("native", "sse2", "avx2", "avx512"),
    "native",
    "native, sse2, avx2 or avx512",
    "the instruction set to generate code for",
    in_cache_key=True,
)
LIBRARIES: Knob[tuple[str, ...] | None] = Knob(
    "LIBRARIES",
    _parse_names,
    None,
    "names with commas between, such as 'onednn', or none",
    "the specialised libraries that may be used; all that are found if not set",
    in_cache_key=True,
)

KNOBS: tuple[Knob[object], ...] = (
    CC,
    CACHE_DIR,
    CACHE_SIZE,
    CHECK,
    DUMP,
    THREADS,
    NEVER_SLOWER,
    FUEL,
    ISA,
    LIBRARIES,
)


def check_environment(environment: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError if a SOL_* variable belongs to no setting."""
    known = [knob.variable for knob in KNOBS]
    names = os.environ if environment is None else environment
    for name in sorted(names):
        if name.startswith("SOL_") and name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise ConfigError(
                f"the environment variable {name} is no setting of Sol",
                expected=", ".join(known),
                do=f"set {' or '.join(close)} instead" if close else f"unset {name}",
            )


def cache_key() -> str:
    """The settings that generated code depends on, as text for a cache key."""
    return ";".join(f"{knob.name}={knob.get()!r}" for knob in KNOBS if knob.in_cache_key)
