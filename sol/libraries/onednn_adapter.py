"""onednn.c from Python: built and loaded once per process, asked what oneDNN has for a convolution,
and used to pack weights.

A convolution is described by the numbers of `sol_conv` (onednn.h), which generated units hold as C
text and ctypes passes as an array. Called by libraries/onednn.py.
"""

from __future__ import annotations

import ctypes
import functools
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sol.backends.toolchain import build
from sol.core.device import detect
from sol.core.errors import LibraryError, SolError
from sol.libraries.base import Array, Found
from sol.libraries.convolution import Convolution
from sol.runtime.cache import cache

_HERE = Path(__file__).parent
_SPATIAL = 3  # SOL_SPATIAL of onednn.h


class _Version(ctypes.Structure):
    """dnnl_version_t."""

    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    )


def version_of(library: ctypes.CDLL) -> tuple[str, int]:
    """The version of the oneDNN that a library is or was linked with, and the code of its threads
    (DNNL_RUNTIME_…). Raises AttributeError if there is none.
    """
    library.dnnl_version.restype = ctypes.POINTER(_Version)
    version = library.dnnl_version().contents
    return f"{version.major}.{version.minor}.{version.patch}", version.cpu_runtime


def source(name: str) -> str:
    """A C file of this folder with our own headers pasted in: one text that stands alone."""
    text = (_HERE / name).read_text(encoding="utf-8")
    return re.sub(r'^#include "(\w+\.h)"$', lambda match: source(match[1]), text, flags=re.M)


@functools.lru_cache(maxsize=8)
def adapter(found: Found) -> ctypes.CDLL:
    """onednn.c, linked with oneDNN and loaded into this process. Raises LibraryError."""
    try:
        plain = replace(detect(), flags=())
        library = cache.load(build([source("onednn.c")], plain, cache, link=found.link))
    except SolError as error:
        raise LibraryError(
            f"oneDNN {found.version} at {found.path} cannot be linked: {error.what}",
            do="install another build of it, or set SOL_LIBRARIES=none",
        ) from error
    number, _ = version_of(library)
    if number != found.version:  # the loader takes one library of a name for all
        raise LibraryError(
            f"oneDNN {number} was already loaded into this process when {found.path} was",
            expected=f"version {found.version}",
            do="load only one version, or set SOL_LIBRARIES=none",
        )
    for name in ("sol_onednn_ask", "sol_onednn_pack"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


def _check(error: bytes | None, found: str) -> None:
    if error is not None:
        raise LibraryError(f"{error.decode()} ({found})", do="set SOL_LIBRARIES=none")


def numbers(part: Convolution, bias: bool, add: bool) -> list[int]:
    """The fields of a sol_conv in order."""
    arrays = (part.size, part.window, part.stride, part.dilation, part.low, part.high)
    padded = ((*a, *(0,) * (_SPATIAL - len(a))) for a in arrays)
    head = (len(part.size), part.groups, part.inputs, part.outputs, int(bias), int(add))
    return [*head, *(number for a in padded for number in a)]


@dataclass(frozen=True, slots=True)
class Fields:
    """The parts of a convolution as onednn.h describes them: 24 numbers each."""

    parts: tuple[tuple[int, ...], ...]

    def array(self) -> ctypes.Array[ctypes.c_int64]:
        """As an argument of the adapter."""
        flat = [number for part in self.parts for number in part]
        return (ctypes.c_int64 * len(flat))(*flat)

    def text(self) -> str:
        """As the initialiser of a C array of sol_conv."""
        rows = []
        for part in self.parts:
            arrays = (part[k : k + _SPATIAL] for k in range(6, len(part), _SPATIAL))
            fields = [*map(str, part[:6]), *(f"{{{', '.join(map(str, a))}}}" for a in arrays)]
            rows.append(f"    {{{', '.join(fields)}}},")
        return "\n".join(rows)


@dataclass(frozen=True, slots=True)
class OnednnPacking:
    """A weight as oneDNN wants it for these parts: `size` bytes, in an order that oneDNN chose."""

    found: Found
    fields: Fields
    size: int

    def apply(self, weight: Array) -> Array:
        """The packed weight, as float32 numbers."""
        plain = np.ascontiguousarray(weight, np.float32)
        packed = np.empty(-(-self.size // 4), np.float32)
        pointers = (ctypes.c_void_p(plain.ctypes.data), ctypes.c_void_p(packed.ctypes.data))
        error = adapter(self.found).sol_onednn_pack(self.fields.array(), *pointers)
        _check(error, f"oneDNN {self.found.version} at {self.found.path}")
        return packed


@functools.lru_cache(maxsize=4096)
def ask(found: Found, fields: Fields) -> tuple[str, int, int] | str:
    """oneDNN's implementation of a convolution, bytes of packed weights and of scratch memory; or
    why there is no fast one.
    """
    name, sizes = ctypes.create_string_buffer(64), (ctypes.c_int64 * 2)()
    count = ctypes.c_int64(len(fields.parts))
    length = ctypes.c_int64(len(name))
    error = adapter(found).sol_onednn_ask(fields.array(), count, name, length, sizes)
    if error is not None:
        return str(error.decode())
    return name.value.decode(), sizes[0], sizes[1]


def open_program(path: Path) -> None:
    """Make everything that the kernels of a loaded program need. Raises LibraryError."""
    program = ctypes.CDLL(str(path))
    if not hasattr(program, "sol_onednn_open"):
        return
    program.sol_onednn_open.restype = ctypes.c_char_p
    _check(program.sol_onednn_open(), str(path))
