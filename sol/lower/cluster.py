"""A depth-first cluster as a kernel: for each patch of the outer axes its members one after the
other.

Members that leave the patch are stored to their places; private ones become scalars or arrays in
the thread's scratch memory. In: the plan and a group of plan/group.py. Out: a `Kernel` and the
buffers it is called with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sol.core.dims import Dim, Shape, Size
from sol.core.dtypes import F32, DType
from sol.ir.expr import Expr, axis, bounds, const, from_linear, load, substitute, walk
from sol.ir.expr import local_value as local
from sol.ir.graph import Node
from sol.ir.loop import For, Kernel, Stmt, scratch_layout
from sol.lower.nest import NestBuilder, Output, nest, turned_nest, turned_pitch
from sol.lower.ranges import extent_of
from sol.lower.rows import Rows, summed_by_rows
from sol.lower.units import UNIT, Buffers, count, with_units
from sol.lower.vector import Access, turned_lane
from sol.ops.shuffle import phases
from sol.plan.facts import nominal_size
from sol.plan.group import Group
from sol.plan.inline import Inliner, axes_for
from sol.plan.layout import strides_of
from sol.plan.records import Plan
from sol.plan.sums import is_of_images

_WORK = 4096  # elementary operations that one unit should do at least
_TURNED = 32  # results in a block whose lanes are turned
_FEWEST_TURNED = 7
_FEW_UNITS = 8  # fewer units per image than this: the innermost axis is shared out too


@dataclass(frozen=True, slots=True)
class Lowered:
    """A kernel, and the plan's buffers in the order of its arguments;

    `shifts`: bytes from a buffer's beginning to where the kernel sees it begin (none: 0).
    """

    kernel: Kernel
    buffers: tuple[str, ...]
    shifts: tuple[Size, ...] = ()

    @property
    def arguments(self) -> tuple[tuple[str, Size], ...]:
        """Each buffer with its shift."""
        return tuple(zip(self.buffers, self.shifts or (0,) * len(self.buffers)))


@dataclass
class Memory:
    """How loads of values become loads of a kernel's buffers and locals."""

    plan: Plan
    buffers: Buffers = field(default_factory=Buffers)
    scalars: dict[str, Expr] = field(default_factory=dict)
    arrays: dict[str, tuple[str, tuple[Expr, ...], Shape]] = field(default_factory=dict)

    def flat(self, x: Expr) -> Expr:
        """A load with logical indices as one with a linear index."""
        name: str = x.value
        if name.startswith("@"):
            return x
        if name in self.scalars:
            return self.scalars[name]
        if name in self.arrays:
            array, index, strides = self.arrays[name]
            return load("@" + array, x.dtype, _private_index(x.args, index, strides))
        place = self.plan.places[name]
        return load(self.buffers.read(place.buffer, place.dtype), x.dtype, place.flat(x.args))

    def safe(self, x: Expr) -> bool:
        """Whether a load is in range whatever guards it."""
        name: str = x.value
        if name.startswith("@") or name in self.scalars:
            return True
        shape = self.plan.graph[name].shape
        return all(_in_range(i, s) for i, s in zip(x.args, shape))

    def alike(self, x: Expr, y: Expr) -> bool:
        """Whether load x has the indices of load y, along axes of the same length, in any order."""
        if x.value.startswith("@") or y.value.startswith("@"):
            return False
        known = set(zip(y.args, self.plan.graph[y.value].shape))
        return all(pair in known for pair in zip(x.args, self.plan.graph[x.value].shape))

    def access(self) -> Access:
        """As lowering takes it."""
        return Access(self.flat, self.safe, self.alike)

    def target(self, name: str, index: Sequence[Expr], value: Expr) -> Output:
        """The store of a value to its place; `name@k` is part k of the concatenation `name`."""
        if "@" in name:
            name, index = _part_index(self.plan, name, index)
        place = self.plan.places[name]
        return Output(
            self.buffers.write(place.buffer, place.dtype), place.flat(tuple(index)), value
        )


def lowered_units(
    memory: Memory,
    outer: Sequence[Expr],
    arrays: list[tuple[str, DType, int]],
    body: tuple[Stmt, ...],
    weights: str,
) -> Lowered:
    """The kernel whose units count `outer` and do `body` with these arrays of scratch memory;
    `weights` is the buffer that it reads as @weights."""
    layout, scratch = scratch_layout(arrays)
    statements = (*layout, *with_units(outer, body))
    kernel = Kernel(memory.buffers.arguments(), UNIT, count(outer), statements, scratch)
    names = tuple(weights if n == "@weights" else n for n in memory.buffers.names)
    return Lowered(kernel, names)


def _order(plan: Plan, name: str) -> tuple[int, ...]:
    """A value's axes in memory; those of a part are where it lies in the whole."""
    whole = name.split("@")[0]
    kept = "@" in name and plan.graph[whole].op == "kept"
    axes: tuple[int, ...] = plan.graph[whole]["axes"] if kept else plan.orders[whole]
    return axes


def part_group(plan: Plan, name: str) -> Group:
    """The group that copies one part, `name@k`, of a concatenation."""
    whole, part = name.split("@")
    return Group(
        (name,), (), {name: axes_for(plan.graph[plan.graph[whole].inputs[int(part)]])}, frozenset()
    )


def _part_index(plan: Plan, name: str, index: Sequence[Expr]) -> tuple[str, tuple[Expr, ...]]:
    whole, part = name.split("@")
    node = plan.graph[whole]
    if node.op == "kept":
        return whole, tuple(index[k] for k in node["axes"])
    if node.op == "interleave":
        return whole, _phase_index(node, int(part), index)
    start: Size = 0
    for before in node.inputs[: int(part)]:
        start = start + plan.graph[before].shape[node["axis"]]
    return whole, tuple(
        i + from_linear(start, {}) if k == node["axis"] else i for k, i in enumerate(index)
    )


def _phase_index(node: Node, part: int, index: Sequence[Expr]) -> tuple[Expr, ...]:
    moved = list(index)
    for k, step, at in zip(node["axes"], node["steps"], phases(node["steps"])[part]):
        moved[k] = index[k] * step + at
    return tuple(moved)


def meaning(inline: Inliner, name: str, index: tuple[Expr, ...]) -> Expr:
    """The element of a member of a group, or of a part of a concatenation."""
    if "@" not in name:
        return inline.meaning(name, index)
    whole, part = name.split("@")
    return inline.element(inline.graph[whole].inputs[int(part)], index)


def _private_index(args: Sequence[Expr], index: Sequence[Expr], strides: Shape) -> Expr:
    total = const(0)
    for arg, stride in zip(args, strides):
        if isinstance(stride, int) and stride:
            total = total + arg * stride
    return total


def _in_range(index: Expr, size: object) -> bool:
    if index.op == "axis" and index.value[1] == size:
        return True
    low, high = bounds(index)
    return (
        low is not None and high is not None and low >= 0 and isinstance(size, int) and high < size
    )


def lower_group(plan: Plan, group: Group, widths: tuple[int, ...]) -> Lowered:
    """The kernel of a depth-first group."""
    memory = Memory(plan)
    builder = NestBuilder(memory.access(), widths)
    inline = Inliner(plan.graph, plan.stored)
    turned = _turned(plan, group, inline)
    group, lane = turned or (group, None)
    outer, group = _share_out(plan, group, inline, turned is not None)
    body: list[Stmt] = []
    arrays: list[tuple[str, DType, int]] = []
    together = _sums(plan, memory, group, inline, builder)
    if together is not None:
        arrays.append(("sums", F32, together.size))
        body.extend(together.code)
    for name in group.members if together is None else ():
        index = group.indices[name]
        value = meaning(inline, name, index)
        inner = _inner_axes(plan, group, name)
        output = _output(plan, memory, group, name, index, value, inner, arrays)
        if lane is not None:
            (along,) = (a for a in inner if a is not lane)
            arrays.append(("turned", F32, turned_pitch(lane) * nominal_size((extent_of(along),))))
            inside = turned_nest(builder, lane, along, output, "turned")
            body.extend(with_serial(_serial(group, outer), inside))
            continue
        if len(group.members) == 1:
            inner = (*_serial(group, outer), *inner)
            rows = summed_by_rows(builder, inner, (output,), "sums")
            if rows is not None:
                arrays.append(("sums", F32, rows.size))
                body.extend(rows.code)
                continue
        body.extend(nest(builder, inner, (output,)))
    if len(group.members) > 1:
        body = list(with_serial(_serial(group, outer), tuple(body)))
    layout, scratch = scratch_layout(arrays)
    kernel = Kernel(
        memory.buffers.arguments(),
        UNIT,
        count(outer),
        (*layout, *with_units(outer, tuple(body))),
        scratch,
    )
    work = _work(plan, group, inline, outer)
    kernel = replace(kernel, grain=max(1, _WORK // max(1, work)))
    return Lowered(kernel, tuple(memory.buffers.names))


def _sums(
    plan: Plan, memory: Memory, group: Group, inline: Inliner, builder: NestBuilder
) -> Rows | None:
    """Sums over the rows of one map (plan/twins.py) in one loop; None for other groups."""
    if len(group.members) < 2 or not all(_of_images(plan, name) for name in group.members):
        return None
    outputs = [
        memory.target(n, group.indices[n], meaning(inline, n, group.indices[n]))
        for n in group.members
    ]
    return summed_by_rows(builder, _inner_axes(plan, group, group.members[0]), outputs, "sums")


def with_serial(axes: Sequence[Expr], body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Loops over axes that stay inside a unit."""
    for a in reversed(axes):
        body = (For(a, const(0), from_linear(extent_of(a), {}), body),)
    return body


def _serial(group: Group, outer: Sequence[Expr]) -> tuple[Expr, ...]:
    return tuple(a for a in group.outer if a not in outer)


def _inner_axes(plan: Plan, group: Group, name: str) -> tuple[Expr, ...]:
    """A member's own axes in memory order."""
    index = group.indices[name]
    order = _order(plan, name)
    shared = {p for a in group.outer for p in (a, *walk(a))}
    found: list[Expr] = []
    for k in order:
        for part in walk(index[k]):
            if part.op == "axis" and part not in shared and part not in found:
                found.append(part)
    return tuple(found)


def _output(
    plan: Plan,
    memory: Memory,
    group: Group,
    name: str,
    index: tuple[Expr, ...],
    value: Expr,
    inner: tuple[Expr, ...],
    arrays: list[tuple[str, DType, int]],
) -> Output:
    if name not in group.private:
        return memory.target(name, index, value)
    dtype = plan.graph[name].dtype
    short = f"s{len(memory.scalars) + len(arrays)}"
    if not inner:
        memory.scalars[name] = local(short, dtype)
        return Output(short, None, value)
    shape = tuple(extent_of(i) if i in inner else 1 for i in index)
    strides = tuple(
        s if i in inner else 0 for s, i in zip(strides_of(shape, plan.orders[name]), index)
    )
    arrays.append((short, dtype, nominal_size(shape)))
    memory.arrays[name] = (short, index, strides)
    return Output(short, _private_index(index, index, strides), value)


# ---- how much one unit does ----------------------------------------------------------------------


def _turned(plan: Plan, group: Group, inline: Inliner) -> tuple[Group, Expr] | None:
    """The group of a lone value whose lanes are turned before they are stored, and their axis:

    blocks of the axis along which it is stored, with all lanes, are what its units count.
    """
    if len(group.members) > 1:
        return None
    (name,) = group.members
    axes = _axes_of(plan, group)
    if len(axes) < 2:
        return None
    memory, index = Memory(plan), group.indices[name]
    value = meaning(inline, name, index)
    target = memory.target(name, index, value).index
    assert target is not None
    along, extent = axes[-1], extent_of(axes[-1])
    lane = turned_lane(axes, value, target, memory.access())
    if lane is None or not isinstance(extent, int):
        return None
    block = next((b for b in range(_TURNED, _FEWEST_TURNED - 1, -1) if extent % b == 0), 0)
    if not block:
        return None
    high, low = (
        axis(f"{along.value[0]}_{n}", s) for n, s in (("hi", extent // block), ("lo", block))
    )
    moved = tuple(substitute(i, {along: high * block + low}) for i in index)
    outer = tuple(a for a in axes[:-1] if a is not lane)
    return replace(group, outer=(*outer, high), indices={name: moved}), lane


def _axes_of(plan: Plan, group: Group) -> list[Expr]:
    """All axes of a group's result, in memory order."""
    sink = group.members[-1]
    index = group.indices[sink]
    return [index[k] for k in _order(plan, sink) if index[k].op == "axis"]


def _share_out(
    plan: Plan, group: Group, inline: Inliner, turned: bool
) -> tuple[tuple[Expr, ...], Group]:
    """The outer axes that units count:

    as many as leave enough work to each; of a lone value also blocks of its innermost axis where
    there are too few.
    """
    if len(group.members) == 1 and not turned:
        axes = _axes_of(plan, group)
        group = replace(group, outer=tuple(axes[:-1]))
        group = _blocked(plan, group, inline, axes)
    outer: list[Expr] = []
    for a in group.outer:
        if outer and (
            _work(plan, group, inline, outer) <= 2 * _WORK or isinstance(extent_of(a), Dim)
        ):
            break
        if a is group.outer[-1] and _per_image(outer) >= _FEW_UNITS and _slides(inline, group, a):
            break
        outer.append(a)
    return tuple(outer), group


def _per_image(axes: Sequence[Expr]) -> int:
    total = count(axes)
    return total.coef + total.const if isinstance(total, Dim) else total


def _slides(inline: Inliner, group: Group, a: Expr) -> bool:
    """Whether windows slide along an axis:

    neighbouring results share loads, so the axis stays in one unit.
    """
    values = [meaning(inline, n, group.indices[n]) for n in group.members]
    return any(p.op == "reduce" and a in walk(p.args[0]) for v in values for p in walk(v))


def _blocked(plan: Plan, group: Group, inline: Inliner, axes: list[Expr]) -> Group:
    if not axes or isinstance(extent_of(axes[-1]), Dim) or _of_images(plan, group.members[-1]):
        return group
    last = axes[-1]
    extent = extent_of(last)
    assert isinstance(extent, int)
    few = _per_image(axes[:-2]) < _FEW_UNITS <= _per_image(axes[:-1])
    if few and _slides(inline, group, axes[-2]):
        axes = [*axes[:-2], last]  # lines of few windows stay whole
    per_image = _per_image(axes[:-1])
    work = _work(plan, group, inline, axes[:-1])
    if per_image >= _FEW_UNITS or work < 4 * _WORK or extent < 32:
        return group
    block = next(
        (b for b in (16, 32, 64, 8) if extent % b == 0 and work * b // extent >= _WORK // 4), 0
    )
    if not block:
        return group
    high, low = axis(f"{last.value[0]}_hi", extent // block), axis(f"{last.value[0]}_lo", block)
    sink = group.members[-1]
    index = tuple(substitute(i, {last: high * block + low}) for i in group.indices[sink])
    return replace(group, outer=(*axes[:-1], high), indices={sink: index})


def _of_images(plan: Plan, name: str) -> bool:
    """Whether a value is the share of each image of statistics of the batch (plan/sums.py): these
    are read in one piece."""
    return "@" not in name and is_of_images(plan.graph, plan.graph[name])


def _work(plan: Plan, group: Group, inline: Inliner, outer: Sequence[Expr]) -> int:
    """Elementary operations that one unit of these outer axes does."""
    total = 0
    for name in group.members:
        index = group.indices[name]
        inside = {p for i in index for p in walk(i) if p.op == "axis" and p not in outer}
        elements = nominal_size(tuple(extent_of(a) for a in inside))
        value = meaning(inline, name, index)
        reduced = sum(
            nominal_size(tuple(extent_of(a) for a in p.args[1:]))
            for p in walk(value)
            if p.op == "reduce"
        )
        total += elements * max(1, reduced)
    return total
