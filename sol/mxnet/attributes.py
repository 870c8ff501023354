"""Attributes of MXNet's operators: they stand in files as text, `"(3, 3)"`, `"True"`, `"1e-05"`.

`parse(text, kind)` reads one as the type that a row declares for it, with a grammar of its own:
nothing is evaluated. What does not fit raises `InputError` and says what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sol.core.dtypes import BOOL, F32, F64, I8, I32, I64, U8, DType
from sol.core.errors import InputError, UnsupportedError

Ints = tuple[int, ...]
Floats = tuple[float, ...]
Bounds = tuple[int | None, ...]  # of slices; None is the end of the axis
Pairs = tuple[tuple[int, int], ...]

_INT = re.compile(r"[+-]?\d{1,18}L?")  # Python 2 wrote 3L
_FLOAT = re.compile(
    r"[+-]?(?:(?:\d{1,60}(?:\.\d{0,60})?|\.\d{1,60})(?:[eE][+-]?\d{1,4})?|inf|nan)L?"
)
_TUPLE = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]", re.DOTALL)
_NESTED = re.compile(r"\((?:\(\s*\d+L?\s*,\s*\d+L?\s*\),?\s*)*\)")
_BOOLS = {"True": True, "true": True, "1": True, "False": False, "false": False, "0": False}
_DTYPES = {
    "float32": F32, "float64": F64, "int64": I64, "int32": I32, "int8": I8, "uint8": U8,
    "bool": BOOL,
}  # fmt: skip
# the numbers that MXNet gives its types, in parameter files and in the attribute `__dtype__`
NUMBERED = {0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8",
            6: "int64", 7: "bool", 12: "bfloat16"}  # fmt: skip


def dtype_named(name: str) -> DType:
    """Sol's element type of MXNet's name; UnsupportedError where Sol has none."""
    if name not in _DTYPES:
        raise UnsupportedError(f"the element type {name[:40]!r}", f"Sol has {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError("a whole number such as 3")
    return int(text.rstrip("L"))


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError("a number such as 1e-05")
    return float(text.rstrip("L"))


def _bool(text: str) -> bool:
    if text not in _BOOLS:
        raise ValueError("True or False")
    return _BOOLS[text]


def _optional(parser: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_optional(text: str) -> Any:
        return None if text == "None" else parser(text)

    return parse_optional


def _tuple(parser: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_tuple(text: str) -> Any:
        found = _TUPLE.fullmatch(text)
        inner = next((g for g in found.groups() if g is not None), "") if found else text
        parts = [part.strip() for part in inner.split(",")]
        if parts[-1] == "" and found:  # (3,) and ()
            parts.pop()
        return tuple(map(parser, parts))

    return parse_tuple


def _pairs(text: str) -> Pairs:
    flat = _tuple(_int)(f"({re.sub('[()]', '', text)})" if _NESTED.fullmatch(text) else text)
    if len(flat) % 2:
        raise ValueError("pairs such as ((1, 1), (2, 2))")
    return tuple(zip(flat[::2], flat[1::2]))


_PARSERS: dict[Any, Callable[[str], Any]] = {
    int: _int,
    float: _float,
    bool: _bool,
    str: str,
    DType: dtype_named,
    Ints: _tuple(_int),
    Floats: _tuple(_float),
    Bounds: _tuple(_optional(_int)),
    Pairs: _pairs,
    int | None: _optional(_int),
    float | None: _optional(_float),
    bool | None: _optional(_bool),
    str | None: _optional(str),
    DType | None: _optional(dtype_named),
    Ints | None: _optional(_tuple(_int)),
}


def parse(text: str, kind: Any) -> Any:
    """The value of an attribute as the type `kind`; InputError if it is no such text."""
    try:
        return _PARSERS[kind](text.strip())
    except ValueError as error:
        raise InputError(f"the attribute is {text[:60]!r}", expected=str(error)) from None
