"""Rows that change shapes: reshape with its codes, transposes, joins, tiles, padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sol.core.dims import Dim, Shape, Size, product
from sol.core.dtypes import promote
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints, Pairs
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row

# ---- reshape -------------------------------------------------------------------------------------


class _Codes:
    """Reads the codes of a new shape; each takes sizes of the input, from the left.

    MXNet's two interfaces have the same codes under other numbers, so they have names here.
    """

    def __init__(self, c: Context, sizes: Shape, names: dict[int, str]) -> None:
        self.c = c
        self.sizes = list(sizes)
        self.names = names
        self.made: list[Size | None] = []  # None is the size to be inferred
        self.place = 0

    def _next(self) -> Size:
        self.c.need(self.place < len(self.sizes), "more codes than axes", "an axis for each")
        self.place += 1
        return self.sizes[self.place - 1]

    def read(self, codes: Sequence[int]) -> list[Size | None]:
        """The sizes of the result."""
        rest = iter(codes)
        for code in rest:
            if code > 0 or (code == 0 and 0 not in self.names):
                self.made.append(code)
                self.place += 1
                continue
            match self.names.get(code):
                case "keep":
                    self.made.append(self._next())
                case "infer":
                    self.made.append(None)
                    self.place += 1
                case "rest":
                    self.made += self.sizes[self.place :]
                    self.place = len(self.sizes)
                case "join":
                    self.made.append(self._next() * self._next())
                case "split":
                    self.made += self._split(rest)
                case "drop":
                    self.c.need(self._next() == 1, "a dropped axis of another size", "1")
                case _:
                    self.c.need(False, f"the code {code}", f"one of {sorted(self.names)}")
        return self.made

    def _split(self, rest: Iterator[int]) -> list[Size]:
        """The two sizes that follow the code; one may be -1."""
        size = self._next()
        pair: list[int] = [next(rest, 0), next(rest, 0)]
        known = [p for p in pair if p != -1]
        self.c.need(
            len(known) > 0 and all(p > 0 for p in known), f"splits an axis into {pair}",
            "two sizes, one of which may be -1",
        )  # fmt: skip
        if len(known) == 1:
            other = size // known[0]
            return [other if p == -1 else p for p in pair]
        return list(pair)


_LEGACY = {0: "keep", -1: "infer", -2: "rest", -3: "join", -4: "split"}
_NUMPY_EXTENSION = {-1: "infer", -2: "keep", -3: "drop", -4: "rest", -5: "join", -6: "split"}
_NUMPY = {-1: "infer"}


def _reshaped(
    c: Context, x: Node, codes: Ints, names: dict[int, str], reverse: bool = False
) -> Node:
    sizes = x.shape[::-1] if reverse else x.shape
    made = _Codes(c, sizes, names).read(codes[::-1] if reverse else codes)
    if reverse:
        made.reverse()
    c.need(made.count(None) <= 1, f"shape={codes}", "one inferred size at most")
    if None in made:
        known = product(s for s in made if s is not None)
        made[made.index(None)] = _inferred(c, x, known)
    return c.reshape(x, [s for s in made if s is not None])


def _inferred(c: Context, x: Node, known: Size) -> Size:
    """The size that is left for one axis where all others have `known` elements."""
    total = product(x.shape)
    if isinstance(total, Dim):
        return total // known
    if isinstance(known, Dim):
        c.refuse(f"an inferred size beside the batch size B, of {x.tensor}")
    c.need(known > 0 and total % known == 0, f"{total} elements in rows of {known}", "whole rows")
    return total // known


@row("Reshape", "reshape")
def reshape(
    c: Context,
    x: Node,
    *,
    shape: Ints = (),
    reverse: bool = False,
    target_shape: Ints = (),
    keep_highest: bool = False,
) -> Result:
    """Codes: 0 keeps a size, -1 is inferred, -2 keeps the rest, -3 joins two, -4 splits one."""
    if shape:
        return _reshaped(c, x, shape, _LEGACY, reverse)
    c.need(len(target_shape) > 0, "neither shape nor target_shape", "one of them")
    codes = [-1 if size == 0 else size for size in target_shape]  # the interface before 0.8
    if keep_highest:
        codes[0] = 0
    return _reshaped(c, x, tuple(codes), _LEGACY)


@row("_np_reshape")
def numpy_reshape(c: Context, x: Node, *, newshape: Ints, order: str = "C") -> Result:
    """NumPy's reshape."""
    if order != "C":
        c.refuse(f"order={order!r}")
    return _reshaped(c, x, newshape, _NUMPY)


@row("_npx_reshape", "_npi_reshape")
def extended_reshape(
    c: Context, x: Node, *, newshape: Ints, reverse: bool = False, order: str = "C"
) -> Result:
    """Codes: -1 is inferred, -2 keeps a size, -3 drops a 1, -4 keeps the rest, -5 joins two, -6
    splits one."""
    if order != "C":
        c.refuse(f"order={order!r}")
    return _reshaped(c, x, newshape, _NUMPY_EXTENSION, reverse)


@row("reshape_like", "_npx_reshape_like")
def reshape_like(
    c: Context,
    x: Node,
    like: Node,
    *,
    lhs_begin: int | None = None,
    lhs_end: int | None = None,
    rhs_begin: int | None = None,
    rhs_end: int | None = None,
) -> Result:
    """Some axes of x in the shape of some axes of another tensor."""
    rank, other = x.tensor.rank, like.tensor.rank
    first = _bound(c, lhs_begin, 0, rank), _bound(c, lhs_end, rank, rank)
    second = _bound(c, rhs_begin, 0, other), _bound(c, rhs_end, other, other)
    middle = like.shape[second[0] : second[1]]
    return c.reshape(x, (*x.shape[: first[0]], *middle, *x.shape[first[1] :]))


def _bound(c: Context, given: int | None, default: int, rank: int) -> int:
    place = default if given is None else given + rank if given < 0 else given
    c.need(0 <= place <= rank, f"axis {given} of {rank} axes", f"-{rank} to {rank}")
    return place


@row("Flatten", "flatten", "_npx_batch_flatten")
def flatten(c: Context, x: Node) -> Result:
    """All axes but the first as one."""
    return c.reshape(x, (*x.shape[:1], product(x.shape[1:])))


@row("expand_dims", "_npi_expand_dims")
def expand_dims(c: Context, x: Node, *, axis: int) -> Result:
    """A new axis of size 1."""
    k = c.axis(axis, x.tensor.rank + 1)
    return c.reshape(x, (*x.shape[:k], 1, *x.shape[k:]))


@row("squeeze", "_np_squeeze")
def squeeze(c: Context, x: Node, *, axis: Ints | None = None) -> Result:
    """x without axes of size 1."""
    if axis is None:
        gone = tuple(k for k, s in enumerate(x.shape) if s == 1)
    else:
        gone = tuple(c.axis(k, x.tensor.rank) for k in axis)
        c.need(all(x.shape[k] == 1 for k in gone), f"axes {axis} of {x.tensor}", "sizes of 1")
    shape = tuple(s for k, s in enumerate(x.shape) if k not in gone)
    return c.reshape(x, shape or (() if c.numpy_shapes else (1,)))


# ---- transposes ----------------------------------------------------------------------------------


@row("transpose", "_np_transpose")
def transpose(c: Context, x: Node, *, axes: Ints | None = ()) -> Result:
    """Axes in another order; all turned around where none is named."""
    rank = x.tensor.rank
    order = tuple(c.axis(k, rank) for k in axes) if axes else tuple(reversed(range(rank)))
    c.need(sorted(order) == list(range(rank)), f"axes={axes} of {x.tensor}", "each axis once")
    return c.permute(x, order)


@row("SwapAxis", "swapaxes", "_npi_swapaxes")
def swap_axis(c: Context, x: Node, *, dim1: int = 0, dim2: int = 0) -> Result:
    """Two axes exchanged."""
    return c.swap(x, c.axis(dim1, x.tensor.rank), c.axis(dim2, x.tensor.rank))


@row("_np_moveaxis")
def moveaxis(c: Context, x: Node, *, source: Ints, destination: Ints) -> Result:
    """Axes moved to other places; the others keep their order."""
    rank = x.tensor.rank
    pairs = {c.axis(d, rank): c.axis(s, rank) for s, d in zip(source, destination)}
    c.need(
        len(source) == len(destination) == len(pairs) == len(set(pairs.values())),
        f"{source} to {destination}", "pairs of axes",
    )  # fmt: skip
    others = iter(k for k in range(rank) if k not in pairs.values())
    return c.permute(x, [pairs[k] if k in pairs else next(others) for k in range(rank)])


@row("flip", "reverse", "_npi_flip")
def flip(c: Context, x: Node, *, axis: Ints) -> Result:
    """Axes turned around."""
    return c.op("flip", x, axes=c.axes(axis, x.tensor.rank))


@row("_np_roll")
def roll(c: Context, x: Node, *, shift: Ints | None = None, axis: Ints | None = None) -> Result:
    """Elements moved around axes."""
    c.need(bool(shift), "no shift", "a shift")
    assert shift is not None
    if axis is None:
        flat = c.reshape(x, (product(x.shape),))
        return c.reshape(c.op("roll", flat, axes=(0,), shifts=(sum(shift),)), x.shape)
    axes = tuple(c.axis(k, x.tensor.rank) for k in axis)
    shifts = tuple(shift) * len(axes) if len(shift) == 1 else tuple(shift)
    c.need(len(shifts) == len(axes) == len(set(axes)), f"{shift} on {axis}", "a shift for each")
    return c.op("roll", x, axes=axes, shifts=shifts)


# ---- joins ---------------------------------------------------------------------------------------


def _same_types(c: Context, parts: Sequence[Node]) -> list[Node]:
    c.need(len(parts) > 0, "no inputs", "one at least")
    dtype = parts[0].dtype
    for part in parts[1:]:
        dtype = promote(dtype, part.dtype)
    return [c.cast(part, dtype) for part in parts]


@row("Concat", "concat", "_rnn_param_concat", "_npi_rnn_param_concat")
def concat(c: Context, *parts: Node, dim: int = 1) -> Result:
    """The inputs one after the other along an axis."""
    same = _same_types(c, parts)
    if len(same) == 1:
        return same[0]
    return c.op("concat", *same, axis=c.axis(dim, same[0].tensor.rank))


@row("_npi_concatenate")
def concatenate(c: Context, *parts: Node, axis: int | None = 0) -> Result:
    """The inputs one after the other along an axis, or all elements in a row (None)."""
    if axis is None:
        parts = tuple(c.reshape(p, (product(p.shape),)) for p in parts)
    return concat(c, *parts, dim=axis or 0)


@row("stack", "_npi_stack")
def stack(c: Context, *parts: Node, axis: int = 0) -> Result:
    """The inputs along a new axis."""
    same = _same_types(c, parts)
    k = c.axis(axis, same[0].tensor.rank + 1)
    c.need(
        all(p.shape == same[0].shape for p in same), f"{[str(p.tensor) for p in same]}",
        "equal shapes",
    )  # fmt: skip
    rows = [c.reshape(p, (*p.shape[:k], 1, *p.shape[k:])) for p in same]
    return rows[0] if len(rows) == 1 else c.op("concat", *rows, axis=k)


# ---- repeats and broadcasts ----------------------------------------------------------------------


@row("tile", "_npi_tile")
def tile(c: Context, x: Node, *, reps: Ints) -> Result:
    """x laid side by side."""
    c.need(all(r > 0 for r in reps), f"reps={reps}", "1 or more")
    repeats = (1,) * (x.tensor.rank - len(reps)) + reps
    return c.op("repeat", x, repeats=repeats)


@row("repeat", "_np_repeat")
def repeat(c: Context, x: Node, *, repeats: int, axis: int | None = None) -> Result:
    """Each element some times, one after the other."""
    c.need(repeats > 0, f"repeats={repeats}", "1 or more")
    if axis is None:
        x, axis = c.reshape(x, (product(x.shape),)), 0
    k = c.axis(axis, x.tensor.rank)
    lead, size, rest = x.shape[:k], x.shape[k], x.shape[k + 1 :]
    column = c.reshape(x, (*lead, size, 1, *rest))
    return c.reshape(
        c.expand(column, (*lead, size, repeats, *rest)), (*lead, size * repeats, *rest)
    )


@row("broadcast_to", "_npi_broadcast_to")
def broadcast_to(c: Context, x: Node, *, shape: Ints = ()) -> Result:
    """Sizes of 1 become these; 0 keeps a size (in NumPy's interface -2)."""
    keep = -2 if c.target.startswith("_np") else 0
    pad = len(shape) - x.tensor.rank
    c.need(pad >= 0, f"{x.tensor} to {shape}", "as many axes at least")
    sizes = (1,) * pad + x.shape
    return c.expand(x, tuple(old if new == keep else new for old, new in zip(sizes, shape)))


@row("broadcast_axis", "broadcast_axes")
def broadcast_axis(c: Context, x: Node, *, axis: Ints = (), size: Ints = ()) -> Result:
    """Axes of size 1 become longer."""
    c.need(len(axis) == len(size), f"axis={axis}, size={size}", "a size for each axis")
    shape = list(x.shape)
    for k, extent in zip(axis, size):
        shape[c.axis(k, x.tensor.rank)] = extent
    return c.expand(x, shape)


@row("broadcast_like")
def broadcast_like(
    c: Context, x: Node, like: Node, *, lhs_axes: Ints | None = None,
    rhs_axes: Ints | None = None,
) -> Result:  # fmt: skip
    """Sizes of 1 become those of another tensor."""
    if lhs_axes is None or rhs_axes is None:
        c.need(x.tensor.rank == like.tensor.rank, f"{x.tensor}, {like.tensor}", "as many axes")
        return c.expand(x, like.shape)
    c.need(len(lhs_axes) == len(rhs_axes), f"{lhs_axes}, {rhs_axes}", "pairs of axes")
    shape = list(x.shape)
    for k, other in zip(lhs_axes, rhs_axes):
        shape[c.axis(k, x.tensor.rank)] = like.shape[c.axis(other, like.tensor.rank)]
    return c.expand(x, shape)


# ---- padding, pixels, parts of matrices ----------------------------------------------------------

_PAD_MODES = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}


@row("Pad", "pad")
def pad(c: Context, x: Node, *, mode: str, pad_width: Ints, constant_value: float = 0.0) -> Result:
    """Padded by (before, after) on each axis."""
    c.need(
        len(pad_width) == 2 * x.tensor.rank, f"pad_width={pad_width} of {x.tensor}",
        "two widths for each axis",
    )  # fmt: skip
    return _padded(c, x, mode, tuple(zip(pad_width[::2], pad_width[1::2])), constant_value)


@row("_npi_pad")
def numpy_pad(
    c: Context, x: Node, *, pad_width: Pairs, mode: str = "constant",
    constant_value: float = 0.0, reflect_type: str = "even",
) -> Result:  # fmt: skip
    """NumPy's pad."""
    if reflect_type != "even":
        c.refuse(f"reflect_type={reflect_type!r}")
    pairs = pad_width * x.tensor.rank if len(pad_width) == 1 else pad_width
    c.need(len(pairs) == x.tensor.rank, f"pad_width={pad_width} of {x.tensor}", "a pair for each")
    return _padded(c, x, mode, pairs, constant_value)


def _padded(c: Context, x: Node, mode: str, pairs: Pairs, value: float) -> Node:
    if mode not in _PAD_MODES:
        c.refuse(f"mode={mode!r}")
    c.need(all(w >= 0 for pair in pairs for w in pair), f"widths {pairs}", "0 or more")
    low, high = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
    return c.op("pad", x, low=low, high=high, mode=_PAD_MODES[mode], value=value)


def _blocks(
    c: Context, x: Node, block: int, split: Callable[[Shape], tuple[Shape, Ints, Shape]]
) -> Node:
    c.need(x.tensor.rank == 4 and block > 0, f"{x.tensor} in blocks of {block}", "images")
    inner, order, outer = split(x.shape)
    return c.reshape(c.permute(c.reshape(x, inner), order), outer)


@row("depth_to_space")
def depth_to_space(c: Context, x: Node, *, block_size: int) -> Result:
    """Channels become blocks of pixels."""
    b = block_size

    def split(shape: Shape) -> tuple[Shape, Ints, Shape]:
        n, d, h, w = shape
        each = d // (b * b)
        return (n, b, b, each, h, w), (0, 3, 4, 1, 5, 2), (n, each, h * b, w * b)

    return _blocks(c, x, b, split)


@row("space_to_depth")
def space_to_depth(c: Context, x: Node, *, block_size: int) -> Result:
    """Blocks of pixels become channels."""
    b = block_size

    def split(shape: Shape) -> tuple[Shape, Ints, Shape]:
        n, d, h, w = shape
        return (n, d, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), (n, d * b * b, h // b, w // b)

    return _blocks(c, x, b, split)


@row("_npi_tril")
def tril(c: Context, x: Node, *, k: int = 0) -> Result:
    """The part of matrices below a diagonal."""
    return c.op("tril", x, diagonal=k)
