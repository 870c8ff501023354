"""Rows that move elements: reshape, transpose, slice, join, pad, and other index maps."""

from __future__ import annotations

from typing import Any

from sol.core.dims import Dim, Size, product
from sol.core.errors import UnsupportedError
from sol.ir.expr import at_least
from sol.ir.graph import Node
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results
from sol.ops.rules import broadcast

_WHOLE = 2**31 - 1  # what exporters write for "to the end" is at least that


@row("Reshape")
def reshape(c: Call) -> Results:
    """x in another shape: 0 keeps a size, -1 is what is left."""
    x = c.x()
    wanted: list[Size] = list(c.sizes(1))
    if not c.attr("allowzero", 0):
        wanted = [x.shape[k] if s == 0 and k < x.tensor.rank else s for k, s in enumerate(wanted)]
    if -1 in wanted:
        place = wanted.index(-1)
        others = product(s for k, s in enumerate(wanted) if k != place)
        wanted[place] = 0 if others == 0 else _divided(product(x.shape), others)
    return c.reshape(x, wanted)


def _divided(a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, Dim):
        raise UnsupportedError("Reshape", f"{a} // ({b}) is not linear in the batch size B")
    return a // b  # type: ignore[operator]


@row("Flatten")
def flatten(c: Call) -> Results:
    """x as a matrix: the axes before `axis`, and the others."""
    x = c.x()
    axis = c.attr("axis", 1)
    axis = axis + x.tensor.rank if axis < 0 else axis
    return c.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


@row("Squeeze")
def squeeze(c: Call) -> Results:
    """x without axes of size 1."""
    x = c.x()
    axes = c.listed("axes", 1)
    if axes is None:
        if any(isinstance(s, Dim) for s in x.shape):
            raise UnsupportedError(
                "Squeeze", "without axes it is something else for a batch of one"
            )
        return c.reshape(x, tuple(s for s in x.shape if s != 1))
    chosen = {c.axis(a, x.tensor.rank) for a in axes}
    if any(x.shape[a] != 1 for a in chosen):
        raise UnsupportedError(
            "Squeeze", f"axes {sorted(chosen)} of {x.type} are not all of size 1"
        )
    return c.reshape(x, tuple(s for k, s in enumerate(x.shape) if k not in chosen))


@row("Unsqueeze")
def unsqueeze(c: Call) -> Results:
    """x with axes of size 1 more."""
    x, axes = c.x(), c.listed("axes", 1) or ()
    rank = x.tensor.rank + len(axes)
    chosen = {c.axis(a, rank) for a in axes}
    if len(chosen) < len(axes):
        raise UnsupportedError("Unsqueeze", f"axes {list(axes)}", expected="each axis once")
    sizes = iter(x.shape)
    return c.reshape(x, tuple(1 if k in chosen else next(sizes) for k in range(rank)))


@row("Transpose")
def transpose(c: Call) -> Results:
    """x with its axes in another order."""
    x = c.x()
    return c.permute(x, c.attr("perm") or tuple(reversed(range(x.tensor.rank))))


@row("Expand")
def expand(c: Call) -> Results:
    """x and a shape, broadcast."""
    x = c.x()
    return c.expand(x, broadcast("Expand", x.shape, c.sizes(1)))


@row("Concat")
def concat(c: Call) -> Results:
    """The inputs one after the other; those without elements on a vector's axis fall away."""
    inputs = c.all()
    axis = c.axis(c.needed("axis"), inputs[0].tensor.rank)
    return inputs[0] if len(inputs) == 1 else c.add("concat", *inputs, axis=axis)


@row("Split")
def split(c: Call) -> Results:
    """Pieces of x along an axis."""
    x = c.x()
    axis = c.axis(c.attr("axis", 0), x.tensor.rank)
    extent = x.shape[axis]
    lengths = c.listed("split", 1)
    if lengths is None:
        count = c.attr("num_outputs", c.results)
        if isinstance(extent, Dim):
            lengths = (extent // count,) * count
        else:
            each = -(-extent // count)
            lengths = tuple(max(0, min(each, extent - n * each)) for n in range(count))
    assert lengths is not None
    if sum(lengths) != extent or any(n < 0 for n in lengths if isinstance(n, int)):
        raise UnsupportedError("Split", f"parts of {list(lengths)} of an axis of size {extent}")
    parts, start = [], 0
    for length in lengths:
        parts.append(c.slice(x, axis, start, start + length))
        start += length
    return tuple(parts)


# ---- slices


@row("Slice")
def slice_(c: Call) -> Results:
    """start:end:step on some axes."""
    x = c.x()
    starts: tuple[Size, ...]
    ends: tuple[Size, ...]
    if c.version < 10:
        starts, ends = tuple(c.needed("starts")), tuple(c.needed("ends"))
        axes, steps = c.attr("axes"), None
    else:
        starts, ends = c.sizes(1), c.sizes(2)
        axes = c.integers(3) if c.has(3) else None
        steps = c.integers(4) if c.has(4) else None
    axes = range(len(starts)) if axes is None else axes
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts)):
        x = _sliced(c, x, c.axis(axis, x.tensor.rank), start, end, step)
    return x


def _sliced(c: Call, x: Node, axis: int, start: Size, end: Size, step: int) -> Node:
    extent = x.shape[axis]
    if step == 0:
        raise UnsupportedError("Slice", "a step of 0")
    if all(isinstance(v, int) for v in (extent, start, end)):
        return _fixed(c, x, axis, slice(start, end, step), extent)  # type: ignore[arg-type]
    if step < 0:
        if step == -1 and start in (-1, _WHOLE) and isinstance(end, int) and end < -_WHOLE:
            return c.add("flip", x, axes=(axis,))
        raise UnsupportedError("Slice", "a negative step on an axis that has the batch size B")
    low, high = _bound(start, extent), _bound(end, extent)
    if step != 1 and not (low == 0 and high == extent and isinstance(extent, int)):
        raise UnsupportedError("Slice", "a step on an axis that has the batch size B")
    return c.slice(x, axis, low, high)


def _fixed(c: Call, x: Node, axis: int, cut: slice, extent: int) -> Node:
    """A slice of an axis of known size: as Python has it, but backwards from the first element on
    where it begins before that."""
    places = range(*cut.indices(extent))
    if cut.step < 0 and extent:
        start, end = (n + extent if n < 0 else n for n in (cut.start, cut.stop))
        start, end = min(max(start, 0), extent - 1), min(max(end, -1), extent - 1)
        places = range(start, end, cut.step)
        x = c.add("flip", x, axes=(axis,))
        places = range(extent - 1 - places.start, 2 * extent + 1, -cut.step)[: len(places)]
    if not len(places):
        return c.slice(x, axis, 0, 0)
    if places.step == 1 or len(places) == 1:
        return c.slice(x, axis, places.start, places.start + len(places))
    return c.add("slice", x, axis=axis, start=places.start, stop=places[-1] + 1, step=places.step)


def _bound(place: Size, extent: Size) -> Size:
    """A bound of a slice of an axis; UnsupportedError if it is not the same for every batch."""
    if isinstance(place, int) and place < 0:
        moved = extent + place
        if at_least(moved, 0):
            return moved
        if at_least(-moved, 0):
            return 0
    elif at_least(extent - place, 0):
        return place
    elif (isinstance(place, int) and place >= _WHOLE) or at_least(place - extent, 0):
        return extent
    raise UnsupportedError(
        "Slice", f"whether {place} is within {extent} depends on the batch size B"
    )


# ---- pads


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@row("Pad")
def pad(c: Call) -> Results:
    """x with elements more at the ends of axes, or less."""
    x = c.x()
    rank = x.tensor.rank
    given = c.listed("pads", 1)
    if given is None:
        c.refuse("it has no pads")
    axes = range(rank)
    if c.has(3):
        axes = [c.axis(a, rank) for a in c.integers(3)]  # type: ignore[assignment]
    low, high = [0] * rank, [0] * rank
    for axis, before, after in zip(axes, given, given[len(given) // 2 :]):
        low[axis], high[axis] = before, after
    mode = c.attr("mode", "constant")
    if mode not in _MODES:
        raise UnsupportedError("Pad", f"mode={mode!r}", expected=", ".join(_MODES))
    value: Any = c.attr("value", 0.0) if c.version < 11 else c.number(2, 0)
    return padded(c, x, low, high, _MODES[mode], value)


def padded(c: Call, x: Node, low: Any, high: Any, mode: str = "constant", value: Any = 0.0) -> Node:
    """x, padded; x itself if there is nothing to pad."""
    if not any(low) and not any(high):
        return x
    convert: Any = {"bool": bool, "int": int, "float": float}[x.dtype.kind]
    return c.add("pad", x, low=tuple(low), high=tuple(high), mode=mode, value=convert(value))


@row("Tile")
def tile(c: Call) -> Results:
    """x laid side by side."""
    return c.add("repeat", c.x(), repeats=c.integers(1))


@row("DepthToSpace")
def depth_to_space(c: Call) -> Results:
    """Channels as pixels."""
    x, size = c.x(), c.needed("blocksize")
    n, channels, rows, columns = x.shape
    if c.attr("mode", "DCR") == "CRD":
        return c.add("pixel_shuffle", x, factor=size)
    depth = channels // size**2
    x = c.reshape(x, (n, size, size, depth, rows, columns))
    x = c.permute(x, (0, 3, 4, 1, 5, 2))
    return c.reshape(x, (n, depth, rows * size, columns * size))


@row("SpaceToDepth")
def space_to_depth(c: Call) -> Results:
    """Pixels as channels."""
    x, size = c.x(), c.needed("blocksize")
    n, channels, rows, columns = x.shape
    if c.attr("mode", "DCR") == "CRD":
        return c.add("pixel_unshuffle", x, factor=size)
    rows, columns = rows // size, columns // size
    x = c.reshape(x, (n, channels, rows, size, columns, size))
    x = c.permute(x, (0, 3, 5, 1, 2, 4))
    return c.reshape(x, (n, channels * size**2, rows, columns))


@row("Trilu")
def trilu(c: Call) -> Results:
    """The upper or lower triangle, else 0."""
    op = "triu" if c.attr("upper", 1) else "tril"
    return c.add(op, c.x(), diagonal=int(c.number(1, 0)))
