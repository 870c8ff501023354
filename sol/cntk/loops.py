"""Loops: operations whose values at a step depend on values at steps before (or behind).

`schedule` puts operations in order, each loop as one group. `run` computes a loop: as a recurrent
operator of Sol where it is one (sol/cntk/cells.py). Any other loop is written out, each step's
operations one after the other in the graph, or, where these are many, becomes a program for one
step that is called for each (sol/cntk/stepwise.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sol.cntk.cells import recognised
from sol.cntk.codes import CODES
from sol.cntk.model import Model, Operation, Sizes, split
from sol.cntk.reader import Reader
from sol.cntk.rows.sequence import images_of, initial_value
from sol.cntk.stepwise import Cut, Step
from sol.cntk.value import Context, Value
from sol.core.dims import Size
from sol.core.dtypes import F32
from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.ops.registry import builder

PAST, FUTURE = CODES["PastValue"], CODES["FutureValue"]
_MOST_OPERATIONS = 250  # of all steps of an unrolled loop
_MOST_GUESSES = 4


def schedule(model: Model) -> tuple[tuple[Operation, ...], ...]:
    """Operations in an order in which each stands behind what it reads; a loop is one group.

    (Tarjan's strongly connected components, with a stack of its own.)
    """
    edges = {
        uid: [split(i)[0] for i in o.inputs if i not in model.variables]
        for uid, o in model.operations.items()
    }
    return tuple(
        tuple(model.operations[uid] for uid in component) for component in _components(edges)
    )


def _components(edges: dict[str, list[str]]) -> Iterator[list[str]]:
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    for start in edges:
        if start in index:
            continue
        work = [(start, iter(edges[start]))]
        index[start] = low[start] = len(index)
        path.append(start)
        on_path.add(start)
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    cut = path.index(node)
                    component = path[cut:]
                    del path[cut:]
                    on_path.difference_update(component)
                    yield component
            elif following not in index:
                index[following] = low[following] = len(index)
                path.append(following)
                on_path.add(following)
                work.append((following, iter(edges[following])))
            elif following in on_path:
                low[node] = min(low[node], index[following])


def is_loop(group: Sequence[Operation]) -> bool:
    """Whether a group depends on itself."""
    first = group[0]
    return len(group) > 1 or any(split(i)[0] == first.uid for i in first.inputs)


@dataclass(frozen=True)
class Loop:
    """A loop: its delays, its other operations in order, the direction of time.

    wanted: references to values that are used outside.
    """

    delays: tuple[Operation, ...]
    body: tuple[Operation, ...]
    backwards: bool
    wanted: tuple[str, ...]

    @property
    def name(self) -> str:
        """What errors call it."""
        named = [o.name for o in self.body if o.name]
        return f"the recurrence of {named[0] if named else self.delays[0].uid}"


def loop_of(reader: Reader, group: Sequence[Operation]) -> Loop:
    """The parts of a loop. Raises UnsupportedError if time does not run one way."""
    uids = {o.uid for o in group}
    delays = tuple(o for o in group if o.code in (PAST, FUTURE) and split(o.inputs[0])[0] in uids)
    if len({o.code for o in delays}) != 1 or any(len(o.inputs) != 2 for o in delays):
        raise UnsupportedError(
            f"the recurrence of {group[0].name or group[0].uid}",
            "its values depend on themselves at the same step, or on steps before and behind",
        )
    if any(
        split(o.inputs[1])[0] in uids and o.inputs[1] not in reader.model.variables for o in delays
    ):
        raise UnsupportedError(
            f"the recurrence of {group[0].name or group[0].uid}",
            "what stands before its first step depends on its steps",
        )
    delayed = {o.uid for o in delays}
    edges = {
        o.uid: [split(i)[0] for i in o.inputs if split(i)[0] in uids - delayed]
        for o in group
        if o.uid not in delayed
    }
    components = list(_components(edges))
    by_uid = {o.uid: o for o in group}
    body = tuple(by_uid[uid] for component in components for uid in component)
    if any(is_loop_of_edges(component, edges) for component in components):
        raise UnsupportedError(
            f"the recurrence of {group[0].name or group[0].uid}",
            "its values depend on themselves at the same step",
        )
    inside = {o.result(k) for o in group for k in range(2)}
    read = [i for o in reader.model.operations.values() if o.uid not in uids for i in o.inputs]
    read += [o.value for o in reader.model.outputs]
    wanted = tuple(dict.fromkeys(i for i in read if i in inside))
    return Loop(delays, body, delays[0].code == FUTURE, wanted)


def is_loop_of_edges(component: Sequence[str], edges: dict[str, list[str]]) -> bool:
    """Whether a component of these edges depends on itself."""
    return len(component) > 1 or component[0] in edges[component[0]]


def run(reader: Reader, group: Sequence[Operation]) -> None:
    """Compute what is used of a loop."""
    loop = loop_of(reader, group)
    if recognised(reader, loop):
        return
    outside = _outside(reader, loop)
    sequences = [v for v in outside.values() if len(v.axes) == 2]
    if not sequences:
        raise UnsupportedError(loop.name, "no input says how many steps it has")
    if len({v.lead[1] for v in sequences}) != 1:
        raise UnsupportedError(loop.name, "it reads sequences of several lengths")
    steps = sequences[0].lead[1]
    assert isinstance(steps, int)
    images = images_of(*outside.values())
    shapes = _state_shapes(reader, loop, outside, images)
    if steps * len(loop.body) <= _MOST_OPERATIONS:
        _unroll(reader, loop, outside, steps, shapes)
    else:
        _cut(reader, loop, outside, shapes)


# ---- step by step --------------------------------------------------------------------------------


def _unroll(
    reader: Reader,
    loop: Loop,
    outside: dict[str, Value],
    steps: int,
    shapes: dict[str, tuple[int, ...]],
) -> None:
    history = _steps(reader, loop, outside, images_of(*outside.values()), steps, shapes)
    (like, *_) = (v for v in outside.values() if len(v.axes) == 2)
    for reference in loop.wanted:
        values = [step[reference] for step in history]
        reader.values[reference] = _joined(reader, loop, values, like)


def _cut(
    reader: Reader,
    loop: Loop,
    outside: dict[str, Value],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    """One step as a graph of its own (sol/cntk/stepwise.py); its results are inputs of what
    follows."""
    images = images_of(*outside.values())
    inner = Reader(reader.model, builder(), arrays=reader.arrays)
    given: list[tuple[str, Value]] = []
    now: dict[str, Value] = {}
    for reference, v in outside.items():
        if reference in reader.model.variables and not v.axes:
            now[reference] = inner.value(reference)
            continue
        lead = v.lead[:1]
        node = inner.builder.input("x", TensorType((*lead, *v.shape), F32))
        now[reference] = Value(node, v.axes[:1])
        given.append((reference, v))
    starts: list[Node] = []
    for delay in loop.delays:
        c = reader.context(delay)
        starts.append(initial_value(c, outside[delay.inputs[1]], images, shapes[delay.uid]))
        node = inner.builder.input("before", TensorType((images, *shapes[delay.uid]), F32))
        now[delay.result()] = Value(node, reader.batch_axis)
    _body(inner, loop, now)
    kept = [*loop.wanted, *(d.inputs[0] for d in loop.delays)]
    references = list(dict.fromkeys(kept))
    made = [_whole(inner, loop, now[r], images) for r in references]
    graph = inner.builder.finish(made)
    (like, *_) = (v for v in outside.values() if len(v.axes) == 2)
    results: list[Node] = []
    for reference in loop.wanted:
        shape = made[references.index(reference)].shape
        sequence = TensorType((images, *like.lead[1:], *shape[1:]), F32)
        node = reader.builder.input("loop", sequence)
        reader.values[reference] = Value(node, like.axes)
        results.append(node)
    step = Step(
        graph,
        {n["key"]: inner.arrays[n["key"]] for n in graph.parameters},
        tuple(len(v.axes) == 2 for _, v in given),
        tuple((_offset(reader, d), references.index(d.inputs[0])) for d in loop.delays),
        tuple(references.index(r) for r in loop.wanted),
        loop.backwards,
    )
    reads = (*(v.node for _, v in given), *starts)
    reader.cuts.append(Cut(step, reads, tuple(results), loop.name))


def _whole(inner: Reader, loop: Loop, v: Value, images: Size) -> Node:
    """A result of a step for each image."""
    c = inner.context(loop.delays[0])
    node = c.reshape(v.node, (*(v.lead or (1,)), *v.shape))
    return c.expand(node, (images, *v.shape))


def _offset(reader: Reader, delay: Operation) -> int:
    c = reader.context(delay)
    offset: int = c.attribute("offset", int, 1)
    if offset < 1:
        c.refuse(f"an offset of {offset}")
    return offset


def _body(reader: Reader, loop: Loop, now: dict[str, Value]) -> None:
    """The operations of one step, on what it reads."""
    for operation in loop.body:
        results = reader.apply(operation, [now[i] for i in operation.inputs])
        now.update({operation.result(k): v for k, v in enumerate(results)})


def _outside(reader: Reader, loop: Loop) -> dict[str, Value]:
    """The values that a loop reads, by reference."""
    inside = {o.uid for o in (*loop.delays, *loop.body)}
    read = [i for o in (*loop.delays, *loop.body) for i in o.inputs]
    return {
        i: reader.value(i)
        for i in dict.fromkeys(read)
        if i in reader.model.variables or split(i)[0] not in inside
    }


def _steps(
    reader: Reader,
    loop: Loop,
    outside: dict[str, Value],
    images: Size,
    steps: int,
    shapes: dict[str, tuple[int, ...]],
) -> list[dict[str, Value]]:
    """The values of all operations of the loop at each step, in the order of the sequence."""
    history: list[dict[str, Value]] = []
    starts: dict[str, Value] = {}
    order = range(steps - 1, -1, -1) if loop.backwards else range(steps)
    for number, place in enumerate(order):
        context = reader.context(loop.delays[0])
        now = {i: _at(context, v, place) for i, v in outside.items()}
        for delay in loop.delays:
            offset = _offset(reader, delay)
            if number >= offset:
                now[delay.result()] = history[number - offset][delay.inputs[0]]
                continue
            if delay.uid not in starts:
                c = reader.context(delay)
                node = initial_value(c, outside[delay.inputs[1]], images, shapes[delay.uid])
                starts[delay.uid] = Value(node, reader.batch_axis)
            now[delay.result()] = starts[delay.uid]
        _body(reader, loop, now)
        history.append(now)
    return history[::-1] if loop.backwards else history


def _at(c: Context, v: Value, place: int) -> Value:
    """A value at one step."""
    if len(v.axes) != 2:
        return v
    node = c.slice(v.node, 1, place, place + 1)
    return replace(v, node=c.reshape(node, (v.lead[0], *v.shape)), axes=v.axes[:1])


def _joined(reader: Reader, loop: Loop, values: Sequence[Value], like: Value) -> Value:
    """The steps of a value as a sequence."""
    c = reader.context(loop.delays[0])
    lead = images_of(*values)
    parts: list[Node] = []
    for v in values:
        node = c.reshape(v.node, (*(v.lead or (1,)), 1, *v.shape))
        parts.append(c.expand(node, (lead, 1, *v.shape)))
    node = parts[0] if len(parts) == 1 else c.op("concat", *parts, axis=1)
    return Value(node, like.axes)


# ---- shapes of what is delayed -------------------------------------------------------------------


def _state_shapes(
    reader: Reader, loop: Loop, outside: dict[str, Value], images: Size
) -> dict[str, tuple[int, ...]]:
    """The static shape of each delayed value: the file says it, or it is what one step makes of a
    first guess, the shape of the initial value."""
    known = {d.uid: _recorded(reader.model, d) for d in loop.delays}
    found = {
        d.uid: known[d.uid] or reader.context(d).sizes_of(outside[d.inputs[1]]) for d in loop.delays
    }
    if all(known.values()):
        return found
    for _ in range(_MOST_GUESSES):
        try:
            (step,) = _steps(reader.trial(), loop, outside, images, 1, found)
        except SolError:
            break
        after = {d.uid: reader.context(d).sizes_of(step[d.inputs[0]]) for d in loop.delays}
        if after == found:
            return found
        found = after
    raise UnsupportedError(loop.name, "the shape of what it keeps cannot be found out")


def _recorded(model: Model, delay: Operation) -> tuple[int, ...] | None:
    for reference in (delay.inputs[0], delay.result()):
        shape: Sizes | None = model.shapes.get(reference)
        if shape is not None and all(s is not None for s in shape):
            return tuple(s for s in shape if s is not None)
    return None
