"""Notices what a user changes on a module between calls.

A program holds packed copies of parameters and was traced from certain submodules in evaluation
mode. `Watch` compares, in a few microseconds for each call: the submodules (by identity), their
mode and hooks, the parameters and buffers (by identity, address, version counter and a few sampled
words of their memory, for writes through `.data` that leave the version alone; buffers of inference
mode, which have no version, by all of their content). What was found once holds as long as certain
words of memory have not changed (places.py).
"""

from __future__ import annotations

import ast
import itertools
import re
from array import array
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter, is_
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from sol.pytorch import hooks, places
from sol.pytorch.places import Look

_training = attrgetter("training")
_wants_gradient = attrgetter("requires_grad")
_address = torch.Tensor.data_ptr
_INDEX = re.compile(r"\[('(?:[^'\\]|\\.)*'|\"[^\"]*\"|-?\d+)\]")

_AROUND = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NUMBERS = itertools.count()  # for contents, no two of them the same

Fingerprint = Callable[["array[int]", "array[int]"], int]  # of addresses and sizes in bytes
State = tuple[Any, ...]


class Watch:
    """One module, and those of its tensors that programs read.

    keys: their names in the module; state: names of buffers that networks write themselves.
    """

    def __init__(
        self, model: nn.Module, fingerprint: Fingerprint, keys: Iterable[str] = (),
        state: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self._model = model
        self._modules = tuple(model.modules())
        plain = [m for m in self._modules if not isinstance(m, torch.jit.ScriptModule)]
        links = [(m._modules, n, child) for m in plain for n, child in m._modules.items()]
        self._parents: list[Any] = [table for table, _, _ in links]
        self._names = [name for _, name, _ in links]
        self._children = [child for _, _, child in links]
        self._owners = [(m, m._modules) for m in plain]
        self._tables = list({id(table): table for _, table in self._owners}.values())
        self._count = sum(map(len, self._tables))
        self._hooks, self._collects = -1, False
        self._fingerprint = fingerprint
        values = {key: find(model, key) for key in keys}
        self._watched = list(values.values())
        self.tensors = values | {key: find(model, key) for key in state}
        self._places = _places(self._modules, self.tensors)
        self._contained = [
            (*_place(model, key), tensor) for key, tensor in self.tensors.items() if "[" in key
        ] + _compiled(self._modules, self.tensors)
        self._kinds = self._kinds_now()
        self._sizes = array("q", [_bytes(t) for t in self._watched])
        self._contents: dict[int, tuple[torch.Tensor, int]] = {}  # of tensors without a version
        self._settled: Look | None = None
        self._seen: tuple[Look | None, State] = (None, ())

    def settled(self) -> bool:
        """Whether nothing is in training mode, and submodules and tensors are the same."""
        if self._settled is not None and self._settled():
            return True
        now = None if self._contained else places.of_modules(self._modules)  # before the look
        if self.training or not self.same_structure():
            return False
        self._settled = now
        return True

    @property
    def training(self) -> bool:
        """Whether any part of the module is in training mode."""
        return True in map(_training, self._modules)

    @property
    def modes(self) -> tuple[bool, ...]:
        """Which submodules are in training mode."""
        return tuple(map(_training, self._modules))

    def same_structure(self) -> bool:
        """Whether the module has the same submodules and tensors still."""
        tables, names, tensors = self._places
        get: Any = dict.get
        return (
            all(m._modules is table for m, table in self._owners)
            and all(map(is_, map(get, self._parents, self._names), self._children))
            and sum(map(len, self._tables)) == self._count
            and all(map(is_, map(get, tables, names), tensors))
            and all(table[place] is tensor for table, place, tensor in self._contained)
        )

    def hooked(self) -> str | None:
        """Why hooks keep programs from running, None if there are none."""
        if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
            return "there are hooks for all modules, and Sol would not call them"
        if self._hooks != RemovableHandle.next_id:  # somebody has registered some since
            name = hooks.foreign(self._model)
            if name is not None:
                return f"{name} has a forward hook, and Sol would not call it"
            self._collects = any(hooks.collects(m._forward_hooks) for m in self._modules)
            self._hooks = RemovableHandle.next_id
        if self._collects and hooks.collecting():
            return "a model around this one asks for the results of its layers"
        return None

    def look(self) -> Look | None:
        """Sees whatever would change an answer of `settled`, `hooked` or `values`, or make PyTorch
        call a hook around the module; but hooks of submodules, for which there are new handles.
        None if there are hooks, or if it takes more than a look.
        """
        around = [getattr(self._model, name) for name in _AROUND]
        around += [getattr(torch_module, f"_global{name}") for name in _AROUND]
        seen = places.of_tables(around)
        if self._settled is None or self._seen[0] is None or seen is None:
            return None
        if self._collects or any(around):
            return None
        found: Look = self._settled.joined(seen).joined(self._seen[0])
        return found

    @property
    def looks(self) -> tuple[Look | None, Look | None]:
        """What was looked at last, other objects whenever something had changed."""
        return self._settled, self._seen[0]

    def values(self) -> State:
        """What differs after any tensor was written or got other memory."""
        unchanged, state = self._seen
        if unchanged is not None and unchanged():
            return state
        now = places.of_tensors(self._watched, self._sizes)  # before the look
        addresses = array("Q", map(_address, self._watched))
        versions = tuple(map(self._version, self._watched))
        state = (addresses.tobytes(), versions, self._fingerprint(addresses, self._sizes))
        self._seen = (now, state)
        return state

    def _version(self, tensor: torch.Tensor) -> int:
        """A number that changes when a tensor is written."""
        if not tensor.is_inference():
            return tensor._version
        content, number = self._contents.get(id(tensor), (None, 0))
        if content is None or not _equal(content, tensor):
            number = next(_NUMBERS)
            self._contents[id(tensor)] = tensor.detach().clone(), number
        return number

    def same_kinds(self) -> bool:
        """Whether every tensor still has its type, shape and device (`half()`, `to()`)."""
        return self._kinds == self._kinds_now()

    def _kinds_now(self) -> list[Any]:
        return [(t.dtype, t.shape, t.stride(), t.device) for t in self._watched]

    @property
    def wants_gradient(self) -> bool:
        """Whether any tensor asks for its gradient."""
        return True in map(_wants_gradient, self._watched)


def find(model: nn.Module, key: str) -> torch.Tensor:
    """The tensor of this name: parameter, buffer, attribute, or within a list or dictionary."""
    table, place = _place(model, key)
    found = getattr(table, place) if isinstance(table, nn.Module) else table[place]
    assert isinstance(found, torch.Tensor), f"{key} is no tensor"
    return found


def _place(model: nn.Module, key: str) -> tuple[Any, Any]:
    """What holds a tensor and under which name or index: `blocks.0.table[2]['x']`."""
    name, bracket, indices = key.partition("[")
    path, _, attribute = name.rpartition(".")
    table: Any = model.get_submodule(path)
    place: Any = attribute
    for index in _INDEX.findall(bracket + indices):
        table = getattr(table, place) if isinstance(table, nn.Module) else table[place]
        place = ast.literal_eval(index)
    return table, place


Places = tuple[list[Any], list[str], list[Any]]  # tables, names, what stands there


def _compiled(
    modules: tuple[nn.Module, ...], tensors: Mapping[str, torch.Tensor]
) -> list[tuple[Any, str, torch.Tensor]]:
    """Every table of torch.jit's modules in which one of the tensors stands, name and tensor."""
    wanted = {id(t) for t in tensors.values()}
    return [
        (table, name, tensor)
        for module in modules
        if isinstance(module, torch.jit.ScriptModule)
        for table in (module._parameters, module._buffers)
        for name, tensor in table.items()
        if tensor is not None and id(tensor) in wanted
    ]


def _places(modules: tuple[nn.Module, ...], tensors: Mapping[str, torch.Tensor]) -> Places:
    """Every table and name under which one of the tensors stands; tied ones stand in several."""
    wanted = {id(t) for t in tensors.values()}
    found: Places = ([], [], [])
    for module in modules:
        if isinstance(module, torch.jit.ScriptModule):  # see _compiled
            continue
        tables: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, module.__dict__)
        for table in tables:
            for name, value in table.items():
                if id(value) in wanted:
                    found[0].append(table)
                    found[1].append(name)
                    found[2].append(value)
    return found


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors hold the same bits."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    bits = (t.contiguous().flatten().view(torch.uint8) for t in (a, b))
    return torch.equal(*bits)


def _bytes(tensor: torch.Tensor) -> int:
    """How many bytes from its address on a tensor spans."""
    if not tensor.numel():
        return 0
    last = sum((s - 1) * step for s, step in zip(tensor.shape, tensor.stride()))
    return (last + 1) * tensor.element_size()
