"""A model as a graph of Sol, for types of the inputs: `read`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sol.arrays.captured import Captured
from sol.cntk.loops import is_loop, run, schedule
from sol.cntk.model import Model
from sol.cntk.reader import Reader
from sol.cntk.rows.sequence import images_of
from sol.cntk.stepwise import Compile, Steps, captured
from sol.cntk.value import Value
from sol.core.dims import Size
from sol.ir.graph import Node, TensorType
from sol.ops.registry import builder
from sol.options import DEFAULTS


def names(model: Model) -> dict[str, str]:
    """What Sol calls each input and each output, by uid: its name where no other has it."""
    inputs = [(v.uid, v.name) for v in model.inputs]
    outputs = [(o.uid, o.name) for o in model.outputs]
    found: dict[str, str] = {}
    for pairs in (inputs, outputs):
        given = [name for _, name in pairs]
        found |= {uid: name if name and given.count(name) == 1 else uid for uid, name in pairs}
    return found


@dataclass(frozen=True)
class Reading:
    """A model, read for one signature; dynamic axes and static sizes of its outputs, by name."""

    captured: Captured
    axes: Mapping[str, tuple[str, ...]]
    shapes: Mapping[str, tuple[Size, ...]]


def read(
    model: Model,
    types: Mapping[str, TensorType],
    longest: int = 0,
    compile_step: Compile | None = None,
    threads: int | None = None,
) -> Reading:
    """The graph of a model for these types, by the names of inputs.

    longest: steps of the longest sequence of a call, where that shows. compile_step: what compiles
    loops without a kernel. Raises UnsupportedError for
    what has no row, named by operation."""
    called = names(model)
    reader = Reader(model, builder(), longest=longest)
    for variable in model.inputs:
        node = reader.builder.input(called[variable.uid], types[called[variable.uid]])
        reader.values[variable.uid] = Value(node, variable.axes)
    for group in schedule(model):
        if is_loop(group):
            run(reader, group)
            continue
        (operation,) = group
        results = reader.apply(operation, [reader.value(i) for i in operation.inputs])
        reader.values.update({operation.result(k): v for k, v in enumerate(results)})
    images = images_of(*(reader.values[v.uid] for v in model.inputs))
    outputs: dict[str, Node] = {}
    axes: dict[str, tuple[str, ...]] = {}
    shapes: dict[str, tuple[Size, ...]] = {}
    for output in model.outputs:
        value = reader.value(output.value)
        node = value.node
        if value.axes and value.lead[0] == 1 != images:
            node = reader.builder.add("expand", node, shape=(images, *node.shape[1:]))
        outputs[called[output.uid]] = node
        axes[called[output.uid]] = value.axes
        shapes[called[output.uid]] = value.shape
    graph = reader.builder.finish(outputs.values())
    nodes = {name: node.name for name, node in outputs.items()}
    compile_step = compile_step or Steps(DEFAULTS)
    found = captured(graph, nodes, reader.arrays, reader.cuts, compile_step, threads)
    return Reading(found, axes, shapes)
