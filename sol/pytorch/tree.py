"""Nested arguments and results: taken apart into tensors, and put together again.

`flatten` walks tuples, lists, dictionaries, named tuples, dataclasses and whatever is registered
with PyTorch's pytrees (caches of transformers). What is left is a list of tensors and a `Tree` that
says where they were; everything that is no tensor stays in the tree as a constant. Trees are
compared by value, so a call with another scalar or another structure is another signature.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from sol.core.errors import UnsupportedError

_WRITTEN_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_CONSTANTS = (
    type(None), bool, int, float, complex, str, bytes, type(Ellipsis), slice, range, type,
    enum.Enum, torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size,
    torch.SymInt, torch.SymFloat, torch.SymBool,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leaf:
    """The tensor with this number."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that is no tensor."""

    value: Any

    def __eq__(self, other: object) -> bool:
        # 1 == 1.0 == True, but a network may tell them apart
        if not isinstance(other, Constant) or type(self.value) is not type(other.value):
            return False
        return bool(self.value == other.value) or self.value is other.value

    def __hash__(self) -> int:
        return hash((type(self.value), str(self.value)))


@dataclass(frozen=True, slots=True)
class Branch:
    """A container: which, with which keys, and what is in it. `context` is the registry's own."""

    kind: str
    type: type
    keys: tuple[Any, ...]
    children: tuple[Tree, ...]
    context: Any = dataclasses.field(default=None, compare=False)


Tree = Leaf | Constant | Branch


def flatten(value: Any, objects: bool = False) -> tuple[list[Any], Tree]:
    """The tensors of a nested value in order, and its structure.

    `objects` takes instances of Python classes apart as well, by their attributes: right for
    results, which the network has just made (a key-value cache), and not for arguments, which it
    may change. Raises UnsupportedError for what is neither a container nor a plain constant, for
    Sol cannot know what is in it.
    """
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves, objects, ())


def _flatten(value: Any, leaves: list[Any], objects: bool, above: tuple[int, ...]) -> Tree:
    if isinstance(value, torch.Tensor):
        leaves.append(value)
        return Leaf(len(leaves) - 1)
    parts = _parts(value)
    if parts is None and isinstance(value, _CONSTANTS):
        return Constant(value)
    if parts is None and objects and _is_open(value):
        parts = "object", tuple(vars(value)), list(vars(value).values()), None
    if parts is None or id(value) in above:
        raise UnsupportedError(
            f"a {type(value).__qualname__}",
            "Sol does not know whether it holds tensors",
            do="register it with torch.export.register_dataclass or torch.utils._pytree",
        )
    kind, keys, children, context = parts
    inside = (*above, id(value))
    branches = tuple(_flatten(c, leaves, objects, inside) for c in children)
    return Branch(kind, type(value), keys, branches, context)


def _is_open(value: Any) -> bool:
    """Whether an object is what its attributes are: a class in Python, neither module nor code."""
    if isinstance(value, torch.nn.Module) or callable(value) or not hasattr(value, "__dict__"):
        return False
    return all(c.__flags__ & _WRITTEN_IN_PYTHON or c is object for c in type(value).__mro__)


def _parts(value: Any) -> tuple[str, tuple[Any, ...], list[Any], Any] | None:
    """(kind, keys, children, context) of a container, None for anything else."""
    cls = type(value)
    if cls in (tuple, list):
        return cls.__name__, (), list(value), None
    if cls in (dict, OrderedDict):
        return "dict", tuple(value), list(value.values()), None
    if cls is torch.Size:
        return None
    if isinstance(value, dict) and dataclasses.is_dataclass(value):
        return _fields(value)  # a transformers' output: a dictionary of the fields that are there
    if cls in pytree.SUPPORTED_NODES:
        children, context = pytree.SUPPORTED_NODES[cls].flatten_fn(value)
        return "registered", (), list(children), context
    if isinstance(value, tuple) and (hasattr(cls, "_fields") or hasattr(cls, "n_sequence_fields")):
        return "named", (), list(value), None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return None


def _fields(value: Any) -> tuple[str, tuple[Any, ...], list[Any], Any]:
    if isinstance(value, dict):
        return "mapping", tuple(value), list(value.values()), None
    names = tuple(f.name for f in dataclasses.fields(value))
    return "dataclass", names, [getattr(value, n) for n in names], None


def unflatten(tree: Tree, leaves: list[Any] | tuple[Any, ...]) -> Any:
    """The nested value again, with these tensors."""
    if isinstance(tree, Leaf):
        return leaves[tree.index]
    if isinstance(tree, Constant):
        return tree.value
    children = [unflatten(c, leaves) for c in tree.children]
    match tree.kind:
        case "tuple" | "list":
            return tree.type(children)
        case "dict":
            return tree.type(zip(tree.keys, children))
        case "named":
            return tree.type(*children) if hasattr(tree.type, "_fields") else tree.type(children)
        case "registered":
            return pytree.SUPPORTED_NODES[tree.type].unflatten_fn(children, tree.context)
        case "object":
            made: Any = object.__new__(tree.type)
            made.__dict__.update(zip(tree.keys, children))
            return made
        case _:
            return _construct(tree, children)


def _construct(tree: Branch, children: list[Any]) -> Any:
    """A dataclass by its constructor, or field by field where it takes not all of them."""
    names = {f.name for f in dataclasses.fields(tree.type) if f.init}
    if names.issuperset(tree.keys):
        return tree.type(**dict(zip(tree.keys, children)))
    made: Any = object.__new__(tree.type)
    for name, child in zip(tree.keys, children):
        object.__setattr__(made, name, child)
    return made


def constants(tree: Tree) -> Iterator[Any]:
    """All values of a tree that are no tensors."""
    if isinstance(tree, Constant):
        yield tree.value
    elif isinstance(tree, Branch):
        for child in tree.children:
            yield from constants(child)
