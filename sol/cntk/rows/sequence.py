"""Rows of operations on the steps of sequences.

All sequences of a call have the same number of steps here (sol/cntk/function.py sees to that), so
which steps are taken is known while the model is read, unless it depends on data.
"""

from __future__ import annotations

import numpy as np

from sol.cntk.dictionary import Axis
from sol.cntk.model import BATCH
from sol.cntk.rows.table import row
from sol.cntk.value import Context, Value
from sol.core.dims import Size
from sol.core.dtypes import BOOL, I64
from sol.ir.graph import Node


def need_steps(c: Context, x: Value) -> int:
    """How many steps a value has."""
    if len(x.axes) != 2:
        c.refuse("it needs the steps of a sequence")
    steps = x.lead[1]
    assert isinstance(steps, int)
    return steps


def images_of(*values: Value) -> Size:
    """The number of images of values that are used together."""
    found = [v.lead[0] for v in values if v.axes]
    return next((size for size in found if size != 1), 1)


def _new_axes(c: Context) -> tuple[str, ...]:
    """The dynamic axes of the result, the batch first."""
    axes = tuple(a.name for a in reversed(c.list("newDynamicAxes", Axis)))
    if len(axes) not in (1, 2):
        c.refuse(f"a result with {len(axes)} dynamic axes")
    return axes


@row("PastValue")
def past_value(c: Context, x: Value, initial: Value) -> Value:
    """`y[t] = x[t - offset]`, the initial value before the first step; in a loop: a recurrence"""
    return _shifted(c, x, initial, 1)


@row("FutureValue")
def future_value(c: Context, x: Value, initial: Value) -> Value:
    """`y[t] = x[t + offset]`, the initial value behind the last step; in a loop: a recurrence"""
    return _shifted(c, x, initial, -1)


def _shifted(c: Context, x: Value, initial: Value, direction: int) -> Value:
    steps, offset = need_steps(c, x), c.attribute("offset", int, 1)
    if offset < 1:
        c.refuse(f"an offset of {offset}")
    count = min(offset, steps)
    images = images_of(x, initial)
    start = initial_value(c, initial, images, c.sizes_of(x))
    start = c.expand(c.reshape(start, (images, 1, *x.shape)), (images, count, *x.shape))
    if count == steps:
        return c.keep(x, start)
    kept = (0, steps - count) if direction > 0 else (count, steps)
    rest = c.expand(c.slice(x.node, 1, *kept), (images, steps - count, *x.shape))
    parts = (start, rest) if direction > 0 else (rest, start)
    return c.keep(x, c.op("concat", *parts, axis=1))


def initial_value(c: Context, v: Value, images: Size, shape: tuple[Size, ...]) -> Node:
    """What stands before the first step, for each image, in the shape of a step."""
    if len(v.axes) == 2:
        c.refuse("its initial value has steps")
    static = v.shape
    while len(static) > len(shape) and static[0] == 1:
        static = static[1:]
    missing = len(shape) - len(static)
    if missing < 0:
        c.refuse(f"an initial value {v.node.tensor} of {shape}")
    node = c.reshape(v.node, (*(v.lead or (1,)), *(1,) * missing, *static))
    return c.expand(node, (images, *shape))


# ---- which steps ---------------------------------------------------------------------------------


@row("Where")
def where(c: Context, condition: Value) -> Value:
    """The steps at which a condition holds that the length of the sequence decides"""
    need_steps(c, condition)
    axes = _new_axes(c)
    places = np.flatnonzero(c.known(condition).reshape(len(c.known(condition)), -1).any(axis=1))
    if not places.size:
        c.refuse(f"it takes no step of a sequence of {condition.lead[1]}")
    if len(axes) == 1:
        if len(places) != 1:
            c.refuse(f"it takes {len(places)} steps where one is needed")
        return Value(c.constant(places.astype(np.float32)), axes)
    return Value(c.constant(places.astype(np.float32)[None]), axes)


@row("PackedIndex")
def packed_index(c: Context, source: Value, places: Value) -> Value:
    """The places of `Where`"""
    return places


@row("GatherPacked")
def gather_packed(c: Context, source: Value, places: Value) -> Value:
    """The steps of a sequence at the places of `Where`"""
    steps = need_steps(c, source)
    taken = c.known(places).astype(int).reshape(-1)
    if taken.size == 0 or taken.min() < 0 or taken.max() >= steps:
        c.refuse(f"the steps {taken[:8].tolist()} of {steps}")
    first, last = int(taken[0]), int(taken[-1])
    if np.array_equal(taken, np.arange(first, last + 1)):
        node = c.slice(source.node, 1, first, last + 1)
    else:
        node = c.op("take", source.node, c.constant(taken, I64), axis=1)
    if len(places.axes) == 1:
        node = c.reshape(node, (source.lead[0], *source.shape))
    return Value(node, places.axes)


@row("ScatterPacked")
def scatter_packed(c: Context, x: Value, places: Value, layout: Value) -> Value:
    """The steps of x at the places of `Where` in a sequence that is 0 elsewhere"""
    steps = need_steps(c, layout)
    taken = c.known(places).astype(int).reshape(-1)
    if len(set(taken.tolist())) != taken.size or taken.min() < 0 or taken.max() >= steps:
        c.refuse(f"the steps {taken[:8].tolist()} of {steps}")
    node = x.node if len(x.axes) == 2 else c.reshape(x.node, (x.lead[0], 1, *x.shape))
    source = np.zeros(steps, np.int64)
    source[taken] = np.arange(taken.size)
    there = np.zeros((1, steps, *(1,) * x.rank), bool)
    there[:, taken] = True
    spread = c.op("take", node, c.constant(source, I64), axis=1)
    return Value(c.op("where", c.constant(there, BOOL), spread, c.constant(0.0)), layout.axes)


# ---- other axes ----------------------------------------------------------------------------------


@row("ReconcileDynamicAxis")
def reconcile(c: Context, x: Value, like: Value) -> Value:
    """x with the dynamic axes of another value: the same at each step"""
    if x.axes == like.axes:
        return x
    if len(x.axes) == 2 and len(like.axes) == 2 and x.lead[1] != like.lead[1]:
        c.refuse(f"{x.lead[1]} steps for {like.lead[1]}")
    if len(x.axes) > len(like.axes):
        c.refuse("steps cannot be dropped")
    lead = (*(x.lead or (1,)), *(1,) * (len(like.axes) - max(1, len(x.axes))))
    node = c.reshape(x.node, (*lead, *x.shape))
    wanted = (lead[0], *like.lead[1:], *x.shape)
    return Value(c.expand(node, wanted), like.axes)


@row("UnpackSequence")
def unpack(c: Context, x: Value) -> tuple[Value, ...]:
    """The steps as a static axis, as many as the longest sequence has, and 1 for each that is
    there"""
    steps = need_steps(c, x)
    missing = max(0, c.longest - steps)
    node = x.node
    if missing:
        value = float(c.attribute("sequenceUnpackPaddingValue", float, 0.0))
        none = (0,) * node.tensor.rank
        high = (0, missing, *none[2:])
        node = c.op("pad", node, low=none, high=high, mode="constant", value=value)
    found = Value(node, x.axes[:1])
    if c.attribute("sequenceUnpackSuppressMaskOutput", bool, False):
        return (found,)
    mask = (np.arange(steps + missing) < steps).astype(np.float32)[None]
    return found, Value(c.constant(mask), x.axes[:1])


@row("ToSequence")
def to_sequence(c: Context, x: Value, lengths: Value | None = None) -> Value:
    """The first static axis as steps"""
    if len(x.axes) != 1 or x.rank == 0:
        c.refuse("it needs an axis that becomes the steps, and a batch")
    node = x.node
    if lengths is not None and not lengths.whole:
        count = c.known(lengths).reshape(-1)
        size = x.shape[0]
        if count.size != 1 or not isinstance(size, int) or not 0 < count[0] <= size:
            c.refuse(f"{count[:4].tolist()} steps of {size}")
        node = c.slice(node, 1, 0, int(count[0]))
    return Value(node, _new_axes(c))


@row("ToSequenceLike")
def to_sequence_like(c: Context, x: Value, like: Value) -> Value:
    """The first static axis as steps, as many as another sequence has"""
    steps = need_steps(c, like)
    size = x.shape[0] if x.rank else 0
    if len(x.axes) != 1 or not isinstance(size, int) or size < steps:
        c.refuse(f"{steps} steps of {size}")
    return Value(c.slice(x.node, 1, 0, steps), like.axes)


@row("UnpackBatch")
def unpack_batch(c: Context, x: Value) -> Value:
    """The images of a call as a static axis"""
    if len(x.axes) != 1:
        c.refuse("it needs images without steps")
    return Value(x.node)


@row("ToBatch")
def to_batch(c: Context, x: Value) -> Value:
    """The first static axis as images"""
    if x.axes or x.rank == 0:
        c.refuse("it needs a value without a batch")
    return Value(x.node, (BATCH,))


@row("ConvolutionSequenceShape")
def convolution_steps(c: Context, weight: Value, x: Value) -> Value:
    """How many steps a convolution over a sequence leaves: all that are there"""
    return Value(c.constant(np.zeros(1, np.float32)), (), whole=True)
