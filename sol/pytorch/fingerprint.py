"""A key for what a network computes, without running it: equal key, equal capture.

The digest walks everything reachable from the module and its forward: attributes by value, tensors
that are parameters or buffers by type and shape, others by content, and code. A user's functions
count with their code, constants, defaults, closures and the globals they name, all the way down.
Installed packages count by file (path, size, time) and by what stands in the globals of each module
at the moment, so that a patched function or flag is seen; PyTorch itself and Python's library count
by version. `Unknown` is raised for what cannot be known for sure: then nothing is cached.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import logging
import re
import sys
import sysconfig
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

_LARGEST_TENSOR = 1 << 22  # elements that are read for their content
_SIMPLE = (
    type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), range,
    torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, np.generic, np.dtype,
)  # fmt: skip
_BY_NAME = (
    logging.Logger, types.WrapperDescriptorType, types.MethodDescriptorType,
    types.GetSetDescriptorType, types.MemberDescriptorType,
    torch._ops.OpOverload, torch._ops.OpOverloadPacket,
)  # fmt: skip
_IDENTIFIER = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")  # a UUID
_NOT_STATE = ("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_abc_impl")


class Unknown(Exception):
    """Something that a key cannot be made of."""


def key_of(*values: Any) -> str:
    """40 hexadecimal digits for a network (module, forward, …). Raises Unknown."""
    digest = _Digest()
    for value in values:
        digest.add(value)
    return digest.text()


def patched() -> dict[str, Any]:
    """Functions that somebody has put in the place of PyTorch's own, by name: `key_of` takes
    PyTorch's by its version."""
    places = (torch, torch.Tensor, nn.functional)
    return {
        f"{place.__name__}.{name}": value
        for place in places
        for name, value in vars(place).items()
        if isinstance(value, types.FunctionType)
        and name[0] != "_"
        and _origin(value.__code__.co_filename) != "trusted"
    }


class _Digest:
    """One walk: every object once, in the order in which it is met."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._met: dict[int, int] = {}
        self._alive: list[Any] = []  # an identity stays taken as long as its object lives

    def text(self) -> str:
        return self._hash.hexdigest()[:40]

    def put(self, text: str) -> None:
        self._hash.update(text.encode("utf-8", "surrogatepass"))
        self._hash.update(b"\0")

    def add(self, value: Any) -> None:
        """Take a value into the key."""
        if type(value) in _SIMPLE_TYPES:
            self.put(f"{type(value).__name__} {value!r}")
            return
        if id(value) in self._met:
            self.put(f"again {self._met[id(value)]}")
            return
        self._met[id(value)] = len(self._met)
        self._alive.append(value)
        self._take(value)

    def _take(self, value: Any) -> None:
        for kind, take in _TABLE:
            if isinstance(value, kind):
                take(self, value)
                return
        self._instance(value)

    # ---- containers

    def _items(self, values: Iterable[Any], name: str) -> None:
        items = list(values)
        self.put(f"{name} {len(items)}")
        for item in items:
            self.add(item)

    def _sequence(self, value: Any) -> None:
        self._items(value, _name(type(value)))

    def _mapping(self, value: Any) -> None:
        self._items((part for item in value.items() for part in item), _name(type(value)))
        if type(value) not in (dict, OrderedDict):
            self._class(type(value))
            self._items(getattr(value, "__dict__", {}).items(), "attributes")

    def _set(self, value: Any) -> None:
        self._items(sorted(map(key_of, value)), _name(type(value)))

    # ---- tensors

    def _tensor(self, value: torch.Tensor) -> None:
        if type(value) not in (torch.Tensor, nn.Parameter) or value.layout is not torch.strided:
            raise Unknown(f"a tensor of {type(value).__name__}, {value.layout}")
        self._tensor_type(value)
        if value.numel() > _LARGEST_TENSOR or value.device.type != "cpu":
            raise Unknown(f"a tensor of {value.numel()} elements that is no parameter")
        plain = value.detach().resolve_neg().contiguous().view(-1).view(torch.uint8)
        self._hash.update(plain.numpy().tobytes())

    def _tensor_type(self, value: torch.Tensor) -> None:
        stride = value.stride() if value.layout is torch.strided else None
        shown = (_name(type(value)), value.dtype, tuple(value.shape), stride, value.device)
        self.put(f"tensor {shown}")

    def _array(self, value: Any) -> None:
        if value.dtype.hasobject:
            raise Unknown("an array of objects")
        self.put(f"array {value.dtype} {value.shape}")
        self._hash.update(np.ascontiguousarray(value).tobytes())

    # ---- modules and other instances

    def _module(self, value: nn.Module) -> None:
        """A network's part: its class, its tensors by shape, everything else by value."""
        self._class(type(value))
        state = dict(value.__dict__)
        for table in ("_parameters", "_buffers"):
            self._tensors(table, state.pop(table, {}))
        state.pop("_sol_session", None)
        self._mapping(state)

    def _tensors(self, name: str, table: dict[str, torch.Tensor | None]) -> None:
        self.put(f"{name} {len(table)}")
        for key, tensor in table.items():
            self.put(key)
            if tensor is None or id(tensor) in self._met:
                self.put("None" if tensor is None else f"again {self._met[id(tensor)]}")
                continue
            self._met[id(tensor)] = len(self._met)
            self._tensor_type(tensor)

    def _instance(self, value: Any) -> None:
        """Any other object of a class written in Python: its class and its attributes."""
        cls = type(value)
        if cls.__flags__ & (1 << 9) == 0 or not hasattr(value, "__dict__"):  # not a heap type
            raise Unknown(f"a {_name(cls)}")
        if any(_is_stateful(base) for base in cls.__mro__):
            raise Unknown(f"a {_name(cls)}, which keeps its state in C")
        self._class(cls)
        self._mapping(vars(value))
        for base in cls.__mro__:
            for slot in base.__dict__.get("__slots__", ()):
                if slot not in _NOT_STATE:
                    self.add(getattr(value, slot, None))

    def _enum(self, value: enum.Enum) -> None:
        self._class(type(value))
        self.put(value.name)

    def _weak(self, value: Any) -> None:
        self.put("weak reference")
        target = value()
        if isinstance(target, torch.Tensor):  # RNNs keep such to their parameters
            self._tensors("target", {"": target})
        else:
            self.add(target)

    def _partial(self, value: functools.partial[Any]) -> None:
        self._items((value.func, value.args, value.keywords), "partial")

    def _pattern(self, value: re.Pattern[Any]) -> None:
        self.put(f"pattern {value.pattern!r} {value.flags}")

    def _named(self, value: Any) -> None:
        self.put(f"{type(value).__name__} {value} {_name(value)}")

    def _builtin(self, value: types.BuiltinFunctionType) -> None:
        self.put(f"builtin {_name(value)}")
        if not isinstance(value.__self__, (types.ModuleType, type, type(None))):
            self.add(value.__self__)

    # ---- code

    def _class(self, cls: type) -> None:
        """A class with its bases; what its own body says, if it is a user's."""
        for base in cls.__mro__:
            self.put(f"class {_name(base)}")
            if id(base) in self._met:
                continue
            self._met[id(base)] = len(self._met)
            self._alive.append(base)
            self._body(base)

    def _body(self, cls: type) -> None:
        home = sys.modules.get(cls.__module__)
        origin = _origin(getattr(home, "__file__", None))
        if origin == "trusted" or home is None or cls.__module__ == "builtins":
            self._patches(cls)
            return
        if origin == "library":
            self._library(home)
            self._patches(cls)
            return
        for name, value in sorted(cls.__dict__.items()):
            if name not in _NOT_STATE:
                self.put(name)
                self.add(value)

    def _patches(self, cls: type) -> None:
        """Methods of an installed class whose code is somebody else's."""
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        for name, value in cls.__dict__.items():
            code = _code_of(value)
            if code is None or code.co_filename == file:
                continue
            if _origin(code.co_filename) == "user":
                self.put(name)
                self.add(value)

    def _library(self, module: types.ModuleType) -> None:
        """A module of an installed package: its file, and its globals as they are now, but for
        names that it draws for a process or a session, which decide nothing."""
        if id(module) in self._met:
            return
        self._met[id(module)] = len(self._met)
        path = Path(module.__file__ or "")
        stat = path.stat()
        self.put(f"library {module.__name__} {path} {stat.st_size} {stat.st_mtime_ns}")
        for name, value in list(vars(module).items()):
            if name.startswith("__") or (type(value) is str and _IDENTIFIER.fullmatch(value)):
                continue
            if type(value) in _SIMPLE_TYPES:
                self.put(f"{name} {value!r}")
            elif isinstance(value, (types.FunctionType, type)):
                self.put(f"{name} {_place(value)}")
                self._home(value)

    def _home(self, value: Any) -> None:
        """Where a global of an installed module comes from counts as well."""
        code = _code_of(value)
        home = sys.modules.get(getattr(value, "__module__", None) or "")
        if code is not None and _origin(code.co_filename) == "user":
            self.add(value)
        elif home is not None and _origin(getattr(home, "__file__", None)) == "library":
            self._library(home)

    def _function(self, value: types.FunctionType) -> None:
        origin = _origin(value.__code__.co_filename)
        self.put(f"function {_place(value)}")
        if origin == "library":
            home = sys.modules.get(value.__module__ or "")
            if home is None:
                raise Unknown(f"a function of no module, {_place(value)}")
            self._library(home)
        if origin == "user":
            self._code(value.__code__)
            self._globals(value)
        self.add(value.__defaults__)
        self.add(value.__kwdefaults__)
        self._cells(value)

    def _cells(self, value: types.FunctionType) -> None:
        for cell in value.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # not filled yet
                self.put("empty cell")

    def _code(self, code: types.CodeType) -> None:
        """What a function does: instructions, names and constants, not where it stands."""
        self.put(f"code {code.co_name} {code.co_names} {code.co_varnames} {code.co_freevars}")
        self._hash.update(code.co_code)
        for constant in code.co_consts:
            self.add(constant)

    def _globals(self, function: types.FunctionType) -> None:
        """The globals that a function names, and what it may take from modules among them."""
        for code in _codes(function.__code__):
            for name in code.co_names:
                if name not in function.__globals__:
                    continue
                value = function.__globals__[name]
                self.put(name)
                if isinstance(value, types.ModuleType):
                    self._used(value, code.co_names)
                else:
                    self.add(value)

    def _used(self, module: types.ModuleType, names: Iterable[str]) -> None:
        self.put(f"module {module.__name__}")
        origin = _origin(getattr(module, "__file__", None))
        if origin == "library":
            self._library(module)
        if origin == "user":
            for name in names:
                if name in vars(module):
                    self.put(name)
                    self.add(vars(module)[name])

    def _module_object(self, value: types.ModuleType) -> None:
        self._used(value, ())
        if _origin(getattr(value, "__file__", None)) == "user":
            raise Unknown(f"the module {value.__name__} as a value")

    def _method(self, value: types.MethodType) -> None:
        self._items((value.__func__, value.__self__), "method")

    def _wrapped(self, value: Any) -> None:
        """classmethod, staticmethod, property, cached_property: the functions inside."""
        names = ("__func__", "fget", "fset", "fdel", "func", "__wrapped__")
        self._items((getattr(value, n, None) for n in names), type(value).__name__)


def _code_of(value: Any) -> types.CodeType | None:
    """The code of a function; none of a class, not even of that of functions."""
    code = getattr(value, "__code__", None)
    return code if isinstance(code, types.CodeType) else None


def _codes(code: types.CodeType) -> Iterable[types.CodeType]:
    """A code and those of the functions, classes and comprehensions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"


def _place(value: Any) -> str:
    code = _code_of(value)
    line = f" {code.co_filename}:{code.co_firstlineno}" if code is not None else ""
    return _name(value) + line


@functools.cache
def _origin(file: str | None) -> str:
    """Whose code a file is: "trusted" (PyTorch, Python: by version), "library", or "user"."""
    if file is None or file.startswith("<frozen"):
        return "trusted"
    if Path(torch.__file__).parent in Path(file).parents:
        return "trusted"
    if "site-packages" in Path(file).parts or "dist-packages" in Path(file).parts:
        return "library"
    library = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return "trusted" if file.startswith(library) else "user"


def _is_stateful(cls: type) -> bool:
    """Whether a class is one of C other than `object`: it may hold what vars() does not show."""
    return cls is not object and not cls.__flags__ & (1 << 9)


_WRAPPERS = (
    classmethod, staticmethod, property, functools.cached_property, functools._lru_cache_wrapper,
)  # fmt: skip
Take = Callable[[_Digest, Any], None]
_SIMPLE_TYPES = frozenset(_SIMPLE)
_TABLE: tuple[tuple[Any, Take], ...] = (
    (nn.Module, _Digest._module),
    (torch.Tensor, _Digest._tensor),
    (enum.Enum, _Digest._enum),
    (np.ndarray, _Digest._array),
    (_SIMPLE, lambda d, v: d.put(f"{_name(type(v))} {v!r}")),
    (types.FunctionType, _Digest._function),
    (types.MethodType, _Digest._method),
    (types.CodeType, _Digest._code),
    (types.ModuleType, _Digest._module_object),
    (type, _Digest._class),
    (functools.partial, _Digest._partial),
    (_WRAPPERS, _Digest._wrapped),
    (types.BuiltinFunctionType, _Digest._builtin),
    (re.Pattern, _Digest._pattern),
    (weakref.ReferenceType, _Digest._weak),
    ((tuple, list, deque), _Digest._sequence),
    (dict, _Digest._mapping),
    ((set, frozenset), _Digest._set),
    (_BY_NAME, _Digest._named),
)
