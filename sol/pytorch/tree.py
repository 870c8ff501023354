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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from sol.core.errors import UnsupportedError

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


def flatten(value: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Tree]:
    """The tensors of a nested value in order, and its structure.

    `is_leaf` says what counts as a tensor beside tensors. Raises UnsupportedError for an object
    that is neither a container nor a plain constant: Sol cannot know what is in it.
    """
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves, is_leaf or _is_tensor)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _flatten(value: Any, leaves: list[Any], is_leaf: Callable[[Any], bool]) -> Tree:
    if is_leaf(value):
        leaves.append(value)
        return Leaf(len(leaves) - 1)
    parts = _parts(value)
    if parts is not None:
        kind, keys, children, context = parts
        branches = tuple(_flatten(c, leaves, is_leaf) for c in children)
        return Branch(kind, type(value), keys, branches, context)
    if isinstance(value, _CONSTANTS):
        return Constant(value)
    raise UnsupportedError(
        f"a {type(value).__qualname__}",
        "Sol does not know whether it holds tensors",
        do="register it with torch.export.register_dataclass or torch.utils._pytree",
    )


def _parts(value: Any) -> tuple[str, tuple[Any, ...], list[Any], Any] | None:
    """(kind, keys, children, context) of a container, None for anything else."""
    cls = type(value)
    if cls in (tuple, list):
        return cls.__name__, (), list(value), None
    if cls in (dict, OrderedDict):
        return "dict", tuple(value), list(value.values()), None
    if cls is torch.Size:
        return None
    if cls in pytree.SUPPORTED_NODES:
        children, context = pytree.SUPPORTED_NODES[cls].flatten_fn(value)
        return "registered", (), list(children), context
    if isinstance(value, tuple) and (hasattr(cls, "_fields") or hasattr(cls, "n_sequence_fields")):
        return "named", (), list(value), None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return None


def _fields(value: Any) -> tuple[str, tuple[Any, ...], list[Any], Any]:
    if isinstance(value, dict):  # a transformers' output: a dictionary of the fields that are there
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
