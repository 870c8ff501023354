"""Sequences of tensors and optional values, taken apart while a network is read.

How many elements a sequence has and which one is meant must be known then; so a sequence is the
names of its elements, and nodes that make or read one become nodes on these, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from sol.core.errors import InputError, UnsupportedError
from sol.onnx.splice import Item, body
from sol.onnx.values import NeedsValueError, Tensor, is_symbolic

if TYPE_CHECKING:
    from sol.onnx.read import Reader

_MOST_ELEMENTS = 4096


@dataclass(frozen=True, eq=False)
class Sequence:
    """The names of the values in a sequence. Not there: an optional value that is none."""

    names: tuple[str, ...]
    there: bool = True


def _where(item: Item) -> str:
    return f"{item.node.op_type}, node {item.label}"


def _attributes(item: Item) -> dict[str, Any]:
    return {
        a.name: onnx.helper.get_attribute_value(a)
        for a in item.node.attribute
        if not a.ref_attr_name
    }


def _integers(reader: Reader, name: str, item: Item) -> Any:
    """Whole numbers that decide about elements of a sequence."""
    value = reader.value(name, item)
    if isinstance(value, Tensor):
        raise NeedsValueError(_where(item), f"{name} decides about a sequence", value.name)
    if is_symbolic(value) or value.dtype.kind not in "iu":
        raise UnsupportedError(_where(item), f"{name} depends on the batch size B")
    return value


def _place(
    reader: Reader, item: Item, given: int, length: int, default: int, behind: bool = False
) -> int:
    """The place that an input says, among the elements or `behind` them; else the default."""
    inputs = item.node.input
    if len(inputs) <= given or not inputs[given]:
        return default
    found = _integers(reader, inputs[given], item)
    place = int(found.reshape(-1)[0]) if found.size == 1 else length + 1
    if not -length <= place < length + behind:
        raise InputError(f"{_where(item)}: place {found.reshape(-1)[:8].tolist()} of {length}")
    return place + length if place < 0 else place


def _nodes(item: Item, *nodes: Any) -> list[Item]:
    return [Item(n, item.opsets, item.label) for n in nodes]


def _make(op: str, inputs: Any, outputs: Any, **attributes: Any) -> Any:
    return onnx.helper.make_node(op, list(inputs), list(outputs), **attributes)


def _given(reader: Reader, item: Item) -> tuple[str, ...]:
    return reader.sequence(item.node.input[0], item).names


def construct(reader: Reader, item: Item) -> list[Item]:
    """SequenceConstruct: a sequence of the inputs."""
    for name in item.node.input:
        reader.value(name, item)
    reader.put(item.node.output[0], Sequence(tuple(item.node.input)))
    return []


def empty(reader: Reader, item: Item) -> list[Item]:
    """SequenceEmpty: a sequence without elements."""
    reader.put(item.node.output[0], Sequence(()))
    return []


def insert(reader: Reader, item: Item) -> list[Item]:
    """SequenceInsert: one element more, at a place or at the end."""
    names = list(_given(reader, item))
    if len(names) >= _MOST_ELEMENTS:
        raise UnsupportedError(_where(item), f"more than {_MOST_ELEMENTS} elements")
    reader.value(item.node.input[1], item)
    place = _place(reader, item, 2, len(names), len(names), behind=True)
    names.insert(place, item.node.input[1])
    reader.put(item.node.output[0], Sequence(tuple(names)))
    return []


def erase(reader: Reader, item: Item) -> list[Item]:
    """SequenceErase: one element less, at a place or at the end."""
    names = list(_given(reader, item))
    if not names:
        raise InputError(f"{_where(item)}: the sequence is empty")
    del names[_place(reader, item, 1, len(names), len(names) - 1)]
    reader.put(item.node.output[0], Sequence(tuple(names)))
    return []


def at(reader: Reader, item: Item) -> list[Item]:
    """SequenceAt: one element."""
    names = _given(reader, item)
    place = _place(reader, item, 1, len(names), 0)
    if not names:
        raise InputError(f"{_where(item)}: the sequence is empty")
    return _nodes(item, _make("Identity", [names[place]], item.node.output))


def length(reader: Reader, item: Item) -> list[Item]:
    """SequenceLength: the number of elements."""
    reader.put(item.node.output[0], np.array(len(_given(reader, item)), np.int64))
    return []


def split(reader: Reader, item: Item) -> list[Item]:
    """SplitToSequence: pieces of a tensor along an axis; of one element each, without that axis."""
    attributes, inputs = _attributes(item), [*item.node.input, ""]
    shape = reader.value(inputs[0], item).shape
    axis = int(attributes.get("axis", 0))
    if not -len(shape) <= axis < len(shape):
        raise InputError(f"{_where(item)}: axis {axis} of {len(shape)}")
    extent = shape[axis]
    sizes = _integers(reader, inputs[1], item) if inputs[1] else np.array(1, np.int64)
    lengths = [int(n) for n in sizes.reshape(-1)]
    if sizes.ndim == 0:
        each = lengths[0]
        if not isinstance(extent, int) or each < 1:
            raise UnsupportedError(_where(item), f"parts of {each} of an axis of {extent}")
        lengths = [min(each, extent - n) for n in range(0, extent, each)]
    if len(lengths) > _MOST_ELEMENTS or not lengths:
        raise UnsupportedError(_where(item), f"{len(lengths)} parts")
    prefix = reader.prefix()
    parts = [f"{prefix}part{n}" for n in range(len(lengths))]
    reader.put(f"{prefix}sizes", np.array(lengths, np.int64))
    extra = {"split": lengths} if item.opsets.get("", 1) < 13 else {}
    source = [inputs[0]] if extra else [inputs[0], f"{prefix}sizes"]
    nodes = [_make("Split", source, parts, axis=axis, **extra)]
    names = parts
    if not inputs[1] and not attributes.get("keepdims", 1):
        names = [f"{prefix}row{n}" for n in range(len(parts))]
        nodes += _on_axis(reader, item, "Squeeze", parts, names, axis)
    nodes.append(_make("SequenceConstruct", names, item.node.output))
    return _nodes(item, *nodes)


def _on_axis(
    reader: Reader, item: Item, op: str, sources: Any, targets: Any, axis: int
) -> list[Any]:
    """Squeeze or Unsqueeze of many values: the axis is an attribute or an input."""
    old = item.opsets.get("", 1) < 13
    extra: dict[str, Any] = {"axes": [axis]} if old else {}
    inputs = []
    if not old:
        inputs = [f"{reader.prefix()}axes"]
        reader.put(inputs[0], np.array([axis], np.int64))
    return [_make(op, [s, *inputs], [t], **extra) for s, t in zip(sources, targets)]


def concat(reader: Reader, item: Item) -> list[Item]:
    """ConcatFromSequence: the elements one after the other, along an axis or a new one."""
    attributes, names = _attributes(item), list(_given(reader, item))
    if not names:
        raise UnsupportedError(_where(item), "the sequence is empty")
    axis, nodes = int(attributes.get("axis", 0)), []
    if attributes.get("new_axis", 0):
        prefix = reader.prefix()
        rows = [f"{prefix}row{n}" for n in range(len(names))]
        nodes = _on_axis(reader, item, "Unsqueeze", names, rows, axis)
        names = rows
    return _nodes(item, *nodes, _make("Concat", names, item.node.output, axis=axis))


def map_(reader: Reader, item: Item) -> list[Item]:
    """SequenceMap: a body for each element of the sequences; tensors are the same each time."""
    graph = next((a.g for a in item.node.attribute if a.name == "body"), None)
    given = [(n, reader.entry(n, item)) for n in item.node.input]
    lengths = {len(v.names) for _, v in given if isinstance(v, Sequence)}
    if graph is None or len(lengths) != 1:
        raise InputError(f"{_where(item)}: sequences of the lengths {sorted(lengths)}")
    items: list[Item] = []
    results: list[list[str]] = [[] for _ in item.node.output]
    for number in range(lengths.pop()):
        prefix = reader.prefix()
        names = [v.names[number] if isinstance(v, Sequence) else n for n, v in given]
        made = [f"{prefix}out{n}" for n in range(len(graph.output))]
        items += reader.placed(*body(graph, names, made, prefix, item))
        for result, name in zip(results, made):
            result.append(name)
    ends = (_make("SequenceConstruct", r, [o]) for r, o in zip(results, item.node.output))
    return [*items, *_nodes(item, *ends)]


def optional(reader: Reader, item: Item) -> list[Item]:
    """Optional: the value, or none."""
    if len(item.node.input) and item.node.input[0]:
        return _nodes(item, _make("Identity", item.node.input, item.node.output))
    reader.put(item.node.output[0], Sequence((), there=False))
    return []


def has_element(reader: Reader, item: Item) -> list[Item]:
    """OptionalHasElement: whether there is a value."""
    value = reader.entry(item.node.input[0], item) if any(item.node.input) else None
    there = value is not None and (not isinstance(value, Sequence) or value.there)
    reader.put(item.node.output[0], np.array(there))
    return []


def get_element(reader: Reader, item: Item) -> list[Item]:
    """OptionalGetElement: the value."""
    value = reader.entry(item.node.input[0], item)
    if isinstance(value, Sequence) and not value.there:
        raise InputError(f"{_where(item)}: there is no value")
    return _nodes(item, _make("Identity", item.node.input, item.node.output))


SEQUENCES: dict[str, Callable[[Reader, Item], list[Item]]] = {
    "SequenceConstruct": construct,
    "SequenceEmpty": empty,
    "SequenceInsert": insert,
    "SequenceErase": erase,
    "SequenceAt": at,
    "SequenceLength": length,
    "SplitToSequence": split,
    "ConcatFromSequence": concat,
    "SequenceMap": map_,
    "Optional": optional,
    "OptionalHasElement": has_element,
    "OptionalGetElement": get_element,
}
