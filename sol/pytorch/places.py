"""Words of memory that are what they were as long as nothing has changed: one native look at them
instead of a hundred attributes of Python objects, each of which waits for memory.

What is looked at: of a dictionary its version tag (a number that CPython gives it anew with every
change), of an object where its dictionary lies, of a tensor its storage, its offset in there, the
storage's address and the version counter. Where in an object these words lie is found out by
trying, once for each process: a word is taken only if it changed whenever it should and never
otherwise. If that is not so for just one word (another version of Python or PyTorch), there are no
places, and whoever asks looks at the objects themselves.
"""

from __future__ import annotations

import contextlib
import functools
import os
import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from sol.pytorch import connect

_WORD = 8
_PAGE = 4096
_TENSOR = range(0, 256, _WORD)  # where words of a tensor's and a storage's object may lie
_COUNTER = range(_WORD, 40, 4)
_OBJECT = range(-48, 80, _WORD)
_TABLES: tuple[type[Any], ...] = (dict, OrderedDict)


class Look(Protocol):
    """Tells whether words of memory are what they were."""

    def __call__(self) -> bool:
        """True as long as nothing has changed."""

    def joined(self, other: Any) -> Any:
        """Both as one."""


@dataclass(frozen=True)
class _TensorWords:
    """Bytes from the beginning: in a tensor, in its storage (data), in its version counter."""

    storage: int
    offset: int
    counter: int
    data: int
    version: int


@dataclass(frozen=True)
class _ObjectWords:
    """Bytes from the beginning: of a dictionary its version, of an object its dictionary."""

    version: int
    table: int


def of_modules(modules: Iterable[nn.Module]) -> Look | None:
    """Sees any change of attributes, parameters, buffers and submodules of these modules."""
    known = _object_words()
    if known is None:
        return None
    places = array("Q")
    alive: list[object] = []  # else what is there now could be another object's
    for module in modules:
        tables = (module.__dict__, module._parameters, module._buffers, module._modules)
        if any(type(table) is not dict for table in tables):
            return None
        places.append(id(module) + known.table)
        if connect.words_at(places[-1:])[0] != id(tables[0]):
            return None
        places.extend(id(table) + known.version for table in tables)
        alive.extend((module, *tables))
    seen: Look = connect.look(places, array("Q"), alive)
    return seen


def of_tables(tables: Iterable[Any]) -> Look | None:
    """Sees any change of these dictionaries."""
    known = _object_words()
    alive = list(tables)
    if known is None or any(type(table) not in _TABLES for table in alive):
        return None
    places = array("Q", [id(t) + known.version for t in alive])
    seen: Look = connect.look(places, array("Q"), alive)
    return seen


def of_tensors(tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> Look | None:
    """Sees any change of the memory or the version of these tensors, and what is written behind
    PyTorch's back into a few words of each. sizes: bytes.
    """
    known = _tensor_words()
    if known is None:
        return None
    own = [t._cdata for t in tensors]
    storages, counters = (
        connect.words_at(array("Q", [t + where for t in own]))
        for where in (known.storage, known.counter)
    )
    if 0 in storages or 0 in counters:  # made in inference mode, or without memory
        return None
    first = [t + w for t in own for w in (known.storage, known.offset, known.counter)]
    others = [s + known.data for s in storages]
    others += [_aligned(c + known.version) for c in counters]
    for tensor, size in zip(tensors, sizes):
        address = tensor.data_ptr()
        samples = (0, size // 2, size - 1) if size > _PAGE else (size // 2,)[:size]
        others += [_aligned(address + sample) for sample in samples]
    seen: Look = connect.look(array("Q", first), array("Q", others), list(tensors))
    return seen


def _aligned(address: int) -> int:
    return address // _WORD * _WORD


# ---- where the words lie -------------------------------------------------------------------------


@functools.cache
@torch.inference_mode(False)  # tensors made in that mode have no version
def _tensor_words() -> _TensorWords | None:
    tried = torch.arange(9.0, device="cpu")
    views = [tried, tried[2:], tried[7:]]
    others = [tried, nn.Parameter(torch.empty(4, device="cpu")), torch.from_numpy(np.empty(5000))]
    storages = [t.untyped_storage() for t in others]
    with _Memory() as memory:
        storage = memory.one(_TENSOR, [(t._cdata, t.untyped_storage()._cdata) for t in others])
        offset = memory.one(_TENSOR, [(t._cdata, int(t.storage_offset())) for t in views])
        data = memory.one(_TENSOR, [(s._cdata, s.data_ptr()) for s in storages])
        found = memory.counter(tried)
    if storage is None or offset is None or data is None or found is None:
        return None
    return _TensorWords(storage, offset, found[0], data, found[1])


@functools.cache
def _object_words() -> _ObjectWords | None:
    modules = [nn.LayerNorm(1), nn.ReLU(), nn.Sequential(nn.ReLU())]  # none draws random numbers
    with _Memory() as memory:
        table = memory.one(_OBJECT, [(id(m), id(m.__dict__)) for m in modules])
        version = _version_of_tables(memory)
    return None if table is None or version is None else _ObjectWords(version, table)


def _version_of_tables(memory: _Memory) -> int | None:
    """Where the word of a dictionary lies that every change changes, and nothing else."""
    found = {_version_of(memory, kind(a=1, b=2.0)) for kind in _TABLES}
    return found.pop() if len(found) == 1 else None


def _version_of(memory: _Memory, table: dict[str, object]) -> int | None:
    changes: tuple[Callable[[], object], ...] = (
        lambda: table.__setitem__("a", 2), lambda: table.__setitem__("c", 1),
        lambda: table.pop("b"), lambda: table.update(a=3), lambda: table.setdefault("d", 1),
        lambda: table.__delitem__("c"), lambda: table.popitem(), lambda: table.clear(),
        lambda: table.__setitem__("a", None),
    )  # fmt: skip
    left = list(range(2 * _WORD, 48, _WORD))
    for change in changes:
        before = [memory.word(id(table) + w) for w in left]
        _ = table.get("a"), len(table), list(table.items())
        same = [memory.word(id(table) + w) for w in left]
        change()
        after = [memory.word(id(table) + w) for w in left]
        left = [w for w, a, b, c in zip(left, before, same, after) if a == b != c]
    return left[0] if len(left) == 1 else None


class _Memory:
    """This process's memory, where an address that is none is an error and no crash."""

    def __enter__(self) -> _Memory:
        with contextlib.suppress(OSError):
            self._file = os.open("/proc/self/mem", os.O_RDONLY)
            return self
        self._file = -1
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def word(self, address: int, form: str = "Q") -> int | None:
        """A word, None if there is none."""
        with contextlib.suppress(OSError, OverflowError):
            read = os.pread(self._file, struct.calcsize(form), address)
            return int(struct.unpack(form, read)[0])
        return None

    def one(self, offsets: Iterable[int], cases: Sequence[tuple[int, int]]) -> int | None:
        """The only offset at which there is the expected word for each address."""
        fits = [o for o in offsets if all(self.word(a + o) == w for a, w in cases)]
        return fits[0] if len(fits) == 1 else None

    def counter(self, tensor: torch.Tensor) -> tuple[int, int] | None:
        """In a tensor the address of its version counter, and in that the version."""
        fits = {(o, v) for o in _TENSOR for v in _COUNTER}
        for changes in (0, 1, 5):
            for _ in range(changes):
                tensor.add_(1)
            fits = {
                (o, v) for o, v in fits
                if self.word((self.word(tensor._cdata + o) or 0) + v, "I") == tensor._version
            }  # fmt: skip
        return fits.pop() if len(fits) == 1 else None
