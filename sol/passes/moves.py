"""Data movement in one form: moves that do nothing vanish, moves of moves become one move.

Rules of the pass `canonical`; each is `before -> after`, in its text or in the docstring of its
function.
"""

from __future__ import annotations

from sol.core.dims import Size
from sol.core.dtypes import BOOL, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, DType
from sol.ir.graph import Node
from sol.ir.rewrite import Match, Rule, rule
from sol.ir.rewriter import Rewriter
from sol.passes.axes import aligned, compose
from sol.passes.operators import BINARY, TERNARY

# which types hold every value of a type
_WIDER: dict[DType, tuple[DType, ...]] = {
    BOOL: (U8, I8, U16, I16, U32, I32, U64, I64, F32, F64),
    U8: (U16, I16, U32, I32, U64, I64, F32, F64),
    U16: (U32, I32, U64, I64, F32, F64),
    U32: (U64, I64, F64),
    I8: (I16, I32, I64, F32, F64),
    I16: (I32, I64, F32, F64),
    I32: (I64, F64),
    F32: (F64,),
}


# ---- moves that do nothing ----------------------------------------------------


def _same_shape(rw: Rewriter, m: Match) -> Node | None:
    """`reshape(x)`, `expand(x)`, `interpolate(x)`, `slice(x)` to the shape of x -> `x`"""
    return m["x"] if m["x"].type == m.root.type else None


def _same_order(rw: Rewriter, m: Match) -> Node | None:
    """`permute(x, (0, 1, …))` -> `x`; only axes of size 1 move: -> `reshape(x)`"""
    axes, x = m.root["axes"], m["x"]
    if axes == tuple(range(len(axes))):
        return x
    moving = [a for a in axes if x.shape[a] != 1]
    return rw.add("reshape", x, shape=m.root.shape) if moving == sorted(moving) else None


def _same_pixels(rw: Rewriter, m: Match) -> Node | None:
    """`interpolate(x)` to its own size -> `x`, unless a scale other than the ratio is used"""
    scales = m.root["scales"]
    given = scales is not None and any(s is not None and s != 1 for s in scales)
    return None if given else _same_shape(rw, m)


def _nothing_moves(rw: Rewriter, m: Match) -> Node | None:
    """`pad(x, 0, 0)`, `roll(x, 0)`, `flip(x, ())`, `repeat(x, 1)` -> `x`"""
    node = m.root
    match node.op:
        case "pad":
            still = not any((*node["low"], *node["high"]))
        case "roll":
            still = not any(node["shifts"])
        case "flip":
            still = all(m["x"].shape[a] == 1 for a in node["axes"])
        case _:
            still = all(r == 1 for r in node["repeats"])
    return _same_shape(rw, m) if still else None


def _one_part(rw: Rewriter, m: Match) -> Node | None:
    """`concat(x, empty)` -> `concat(x)`; `concat(x)` -> `x`"""
    node, axis = m.root, m.root["axis"]
    parts = rw.inputs_of(node)
    kept = [p for p in parts if p.shape[axis] != 0] or [parts[0]]
    if len(kept) == 1 and kept[0].type == node.type:
        return kept[0]
    return rw.again(node, *kept) if len(kept) < len(parts) else None


def _whole_assigned(rw: Rewriter, m: Match) -> Node | None:
    """`slice_assign(x, v)` of the whole axis -> `v`"""
    return m["v"] if m["v"].type == m.root.type and m.root["step"] == 1 else None


# ---- moves of moves -----------------------------------------------------------


def _permute_permute(rw: Rewriter, m: Match) -> Node:
    """`permute(permute(x, a), b)` -> `permute(x, a[b])`"""
    return rw.add("permute", m["x"], axes=compose(m.root["axes"], m["inner"]["axes"]))


def _slice_slice(rw: Rewriter, m: Match) -> Node | None:
    """`slice(slice(x, a:b:s), c:d:t)` of one axis -> `slice(x, a+c*s : … : s*t)`"""
    inner, outer = m["inner"], m.root
    axis, step = outer["axis"], inner["step"] * outer["step"]
    if inner["axis"] != axis:
        return None
    start: Size = inner["start"] + outer["start"] * inner["step"]
    length = outer.shape[axis]
    stop = start + length if step == 1 else start + (length - 1) * step + 1
    if length == 0:
        stop = start
    return rw.add("slice", m["x"], axis=axis, start=start, stop=stop, step=step)


def _concat_concat(rw: Rewriter, m: Match) -> Node | None:
    """`concat(a, concat(b, c))` along one axis -> `concat(a, b, c)`, if nothing else uses it"""
    parts: list[Node] = []
    for part in rw.inputs_of(m.root):
        nested = part.op == "concat" and part["axis"] == m.root["axis"] and rw.is_single(part)
        parts.extend(rw.inputs_of(part) if nested else [part])
    return rw.again(m.root, *parts) if len(parts) > len(m.root.inputs) else None


def _pad_pad(rw: Rewriter, m: Match) -> Node | None:
    """`pad(pad(x))` with one constant -> `pad(x)`, if the outer one only adds"""
    inner, outer = m["inner"], m.root
    constant = inner["mode"] == outer["mode"] == "constant" and inner["value"] == outer["value"]
    if not constant or any(p < 0 for p in (*outer["low"], *outer["high"], *inner["low"])):
        return None
    if any(p < 0 for p in inner["high"]):
        return None
    low = tuple(a + b for a, b in zip(inner["low"], outer["low"]))
    high = tuple(a + b for a, b in zip(inner["high"], outer["high"]))
    return rw.add("pad", m["x"], low=low, high=high, mode="constant", value=outer["value"])


def _crop(rw: Rewriter, m: Match) -> Node | None:
    """`pad(x, -a, -b)` -> `slice(x, a : size-b)` of each axis"""
    low, high = m.root["low"], m.root["high"]
    if any(p > 0 for p in (*low, *high)):
        return None
    x = m["x"]
    for axis, (a, b) in enumerate(zip(low, high)):
        if a or b:
            x = rw.add("slice", x, axis=axis, start=-a, stop=x.shape[axis] + b, step=1)
    return x


def _roll_roll(rw: Rewriter, m: Match) -> Node | None:
    """`roll(roll(x, s), t)` -> `roll(x, s + t)`"""
    shifts: dict[int, int] = {}
    for node in (m["inner"], m.root):
        for axis, shift in zip(node["axes"], node["shifts"]):
            shifts[axis] = shifts.get(axis, 0) + shift
    return rw.add("roll", m["x"], axes=tuple(shifts), shifts=tuple(shifts.values()))


def _small_shifts(rw: Rewriter, m: Match) -> Node | None:
    """`roll(x, s)` -> `roll(x, s mod size)`, axes in order and without those that stay"""
    shifts: dict[int, int] = {}
    for axis, shift in sorted(zip(m.root["axes"], m.root["shifts"])):
        extent = m["x"].shape[axis]
        small = shift % extent if isinstance(extent, int) and extent > 0 else shift
        if small:
            shifts[axis] = small
    attrs = {"axes": tuple(shifts), "shifts": tuple(shifts.values())}
    return None if attrs == dict(m.root.attrs) else rw.add("roll", m["x"], **attrs)


def _flip_flip(rw: Rewriter, m: Match) -> Node:
    """`flip(flip(x, a), b)` -> `flip(x, axes in a or b, not in both)`"""
    axes = set(m.root["axes"]) ^ set(m["inner"]["axes"])
    return rw.add("flip", m["x"], axes=tuple(sorted(axes))) if axes else m["x"]


def _cast_cast(rw: Rewriter, m: Match) -> Node | None:
    """`cast(cast(x, wider), t)` -> `cast(x, t)`, where wider holds every value of x"""
    lossless = m["inner"].dtype in _WIDER.get(m["x"].dtype, ())
    return rw.again(m.root, m["x"]) if lossless else None


# ---- one way to write it ------------------------------------------------------


def _repeat_to_expand(rw: Rewriter, m: Match) -> Node | None:
    """`repeat(x, r)` -> `expand(x)`, where only axes of size 1 are repeated"""
    repeats = m.root["repeats"]
    sizes = aligned(m["x"].shape, len(repeats))
    fits = all(s == 1 or r == 1 for s, r in zip(sizes, repeats))
    return rw.add("expand", m["x"], shape=m.root.shape) if fits else None


def _unexpanded(rw: Rewriter, node: Node) -> Node:
    number = rw.number(node)
    if number is not None and node.tensor.rank > 0:
        return rw.constant(number, node.dtype)
    return rw.inputs_of(node)[0] if node.op == "expand" else node


def _plain_operand(rw: Rewriter, m: Match) -> Node | None:
    """`op(expand(x), y)` -> `op(x, y)` where y alone gives the shape; so for constants with axes"""
    inputs = rw.inputs_of(m.root)
    for k, operand in enumerate(inputs):
        plain = _unexpanded(rw, operand)
        if plain.name == operand.name:
            continue
        changed = rw.again(m.root, *inputs[:k], plain, *inputs[k + 1 :])
        if changed.type == m.root.type:
            return changed
    return None


def _shuffled_channels(rw: Rewriter, m: Match) -> Node | None:
    """`reshape(permute(reshape(x, (N, g, C/g, …)), (0, 2, 1, …)))` -> `channel_shuffle(x, g)`"""
    split, axes, x = m["split"].shape, m["p"]["axes"], m["x"]
    if len(split) != x.tensor.rank + 1 or axes != (0, 2, 1, *range(3, len(split))):
        return None
    if (split[0], *split[3:]) != (x.shape[0], *x.shape[2:]) or m.root.shape != x.shape:
        return None
    return rw.add("channel_shuffle", x, groups=split[1])


RULES: tuple[Rule, ...] = (
    rule("reshape|expand|slice(x)", _same_shape),
    rule("permute(x)", _same_order),
    rule("interpolate(x)", _same_pixels),
    rule("pad|roll|flip|repeat(x)", _nothing_moves),
    rule("cast(x)", _same_shape),
    rule("concat(*)", _one_part),
    rule("slice_assign(x, v)", _whole_assigned),
    rule("reshape:r(reshape(x)) -> reshape:r(x)"),
    rule("expand:e(expand(x)) -> expand:e(x)"),
    rule("permute(permute:inner(x))", _permute_permute),
    rule("slice(slice:inner(x))", _slice_slice),
    rule("concat(*)", _concat_concat),
    rule("pad(pad:inner(x))", _pad_pad),
    rule("pad(x)", _crop),
    rule("roll(roll:inner(x))", _roll_roll),
    rule("roll(x)", _small_shifts),
    rule("flip(flip:inner(x))", _flip_flip),
    rule("cast(cast:inner(x))", _cast_cast),
    rule("repeat(x)", _repeat_to_expand),
    rule(f"{BINARY}|{TERNARY}(*)", _plain_operand),
    rule("reshape(permute:p(reshape:split(x)))", _shuffled_channels),
)
