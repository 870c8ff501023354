"""The C text before generated kernels: vector types, lane helpers and vector mathematics.

Plain C with GNU vector types and no header but stdint.h: one text serves every instruction set. The
functions stand in math/*.h, written once for W lanes; `prelude({("exp", 16), ("max", 1)})` writes
those that a kernel calls, with what they need, as exp_16, max_1, .... A vector of W floats is
`vfW`, of int32 `viW` (of one lane: float, int32_t). A mask is what a comparison gives: a `viW` of 0
and -1, for one lane 0 or 1. Results are the same, bit for bit, for every width.

A block of math/*.h, between blank lines, defines one name. `name_W` is the form for any width,
`name_1` that for a single lane where it differs; H is W / 2, and `{LANES f(@)}` lists
f(0) ... f(W - 1). tests/backends/test_math.py bounds the error of each function in ULP,
benchmarks/fit_math.py computes the coefficients.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sol.core.errors import VerifyError

_HEADER = """\
#include <stdint.h>
#define SOL_INLINE static inline __attribute__((always_inline, unused))
"""
# A type of W lanes: what an element is in C, its bytes.
_TYPES = {
    "vf": ("float", 4),
    "vi": ("int32_t", 4),
    "vu": ("uint32_t", 4),
    "vd": ("double", 8),
    "vb": ("uint8_t", 1),
}
_COMMENT = re.compile(r"/\*.*?\*/\s*", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_]\w*")
_TYPE = re.compile(r"\b(v[fiudb])(\d+)\b")
_LANES = re.compile(r"\{LANES ([^{}]*)\}")
_SIZE = re.compile(r"(?:(?<=\bv[fiudb])|(?<=_)|\b)([WH])\b")
_ATTRIBUTE = re.compile(r"SOL_INLINE|__attribute__\(\(.*?\)\)")
_DEFINED = re.compile(r"(\w+)(?=[(\[])")

Key = tuple[str, int]  # a function and its lanes; 0 lanes: a name that has no width


@dataclass(frozen=True, slots=True)
class _Block:
    """One definition of math/*.h as it stands there, without comments."""

    name: str
    text: str


def prelude(calls: Collection[tuple[str, int]]) -> str:
    """C text that defines the functions named by `calls`: pairs of a name and a number of lanes.

    A function that has no lanes, such as `max_i64`, is asked for with 0. Types vfW and viW of every
    named width are defined as well. Each definition appears once, after what it uses; equal calls
    give equal text. Raises VerifyError for a name that math/*.h does not define and for a width
    that is no power of two.
    """
    done: dict[Key, str] = {}
    for key in sorted(calls):
        _define(key, done)
    body = "".join(done.values())
    types = {(kind, int(width)) for kind, width in _TYPE.findall(body)}
    types |= {(kind, width) for _, width in calls if width for kind in ("vf", "vi")}
    return _HEADER + "".join(_typedef(kind, width) for kind, width in sorted(types)) + body


@cache
def functions() -> frozenset[str]:
    """The names that `prelude` defines for any number of lanes."""
    return frozenset(name[:-2] for name in _blocks() if name.endswith("_W"))


def _define(key: Key, done: dict[Key, str]) -> None:
    """Adds the definition of `key` to `done`, after those that it uses."""
    if key in done:
        return
    block = _find(key)
    name, width = key
    text = _instance(block.text, width)
    for used in _uses(block, width):
        if used != key:
            _define(used, done)
    done[name, width] = text + "\n"


def _find(key: Key) -> _Block:
    """The block that defines `key`: for one lane its own form before that for any number."""
    name, width = key
    if width < 0 or width & (width - 1):
        raise VerifyError(f"{name} for {width} lanes", expected="a power of two")
    blocks = _blocks()
    for candidate in [f"{name}_{width}", f"{name}_W"] if width else [name]:
        if candidate in blocks:
            return blocks[candidate]
    raise VerifyError(
        f"no function of the prelude is called {name}",
        expected=f"one of {', '.join(sorted(functions()))}",
        do="define it in sol/backends/math",
    )


def _uses(block: _Block, width: int) -> Iterator[Key]:
    """What a definition calls, in the order of its text."""
    blocks = _blocks()
    letters = {"W": width, "H": width // 2}
    for word in _WORD.findall(block.text):
        stem, _, size = word.rpartition("_")
        if f"{stem}_W" in blocks and (size in letters or size.isdecimal()):
            yield stem, letters[size] if size in letters else int(size)
        elif word in blocks and word != block.name:
            yield word, 0


def _instance(text: str, width: int) -> str:
    """The text for a number of lanes."""
    if width == 0:
        return text
    text = _LANES.sub(
        lambda m: "{" + ", ".join(m[1].replace("@", str(i)) for i in range(width)) + "}", text
    )
    return _SIZE.sub(lambda m: str(width if m[1] == "W" else width // 2), text)


def _typedef(kind: str, width: int) -> str:
    """Unaligned and allowed to alias: tensors of any alignment are read through pointers to it."""
    element, size = _TYPES[kind]
    if width == 1:
        return f"typedef {element} {kind}1;\n"
    attributes = f"vector_size({size * width}), aligned({size}), may_alias"
    return f"typedef {element} {kind}{width} __attribute__(({attributes}));\n"


@cache
def _blocks() -> dict[str, _Block]:
    """Every definition of math/*.h by the name that it defines."""
    found: dict[str, _Block] = {}
    for file in sorted(files("sol.backends").joinpath("math").iterdir(), key=lambda f: f.name):
        text = _COMMENT.sub("", file.read_text(encoding="utf-8"))
        for part in re.split(r"\n\s*\n", text):
            defined = _DEFINED.search(_ATTRIBUTE.sub("", part))
            if defined is None:
                continue
            assert defined[1] not in found, f"{file.name} defines {defined[1]} again"
            found[defined[1]] = _Block(defined[1], part.strip())
    return found
