"""The page to read first: from a graph to a program, stage by stage.

    graph ── passes ──▶ graph ── plan ──▶ clusters, places, arena ── lower ──▶ kernels ── print ──▶
    C ── toolchain ──▶ library ── runtime ──▶ program

`compile_graph` is the whole story. Frontends (sol.pytorch, …) make the graph and call it; what
comes back, `Compiled`, takes the framework's parameters (`prepare`) and runs. This is the only file
that knows all stages.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sol.ops  # noqa: F401  (fills the table of operators)
from sol import libraries, recorded
from sol.assembly import images_at_once, print_program, within_budget
from sol.backends.toolchain import build
from sol.compiled import Compiled
from sol.core import config
from sol.core.device import CpuDevice, detect
from sol.ir.graph import Graph
from sol.libraries.base import link_flags, open_program
from sol.observe import Observer, observers
from sol.options import DEFAULTS, Options
from sol.passes.pipeline import run as run_passes
from sol.plan.planner import Planned
from sol.runtime import threads as thread_count
from sol.runtime.cache import cache
from sol.runtime.program import Program
from sol.steps import Made, default_steps, lower, lower_by, other_methods, plan_layers

__all__ = [
    "Compiled",
    "Made",
    "Options",
    "assemble",
    "compile_graph",
    "default_steps",
    "images_at_once",
    "lower",
    "lower_by",
    "other_methods",
    "plan_layers",
    "print_program",
]
Progress = Callable[[str, int, int], None]
Recall = Callable[
    [Planned, "tuple[Made, ...]", CpuDevice, "Options"], "tuple[Made, ...]"
]  # the steps, with other methods where these are known to be faster


def compile_graph(
    graph: Graph,
    options: Options = DEFAULTS,
    progress: Progress | None = None,
    device: CpuDevice | None = None,
    keep: bool = False,
    recall: Recall | None = None,
    planned: Planned | None = None,
) -> Compiled:
    """Compile a network for a device (by default this processor).

    keep: every intermediate value stays in memory after a run, for `Compiled.values`.
    recall: puts what tuning has found before in place of the default steps.
    planned: the plan of this graph after passes, if it is known.
    """
    device = device or detect()
    watching = observers()
    key = "" if watching or keep else _record_key(graph, options, device, recall)
    found = recorded.find(key) if key else None
    known = _restored(graph, options, found) if found else None
    if known is not None:
        return known
    _tell(watching, "captured", graph)
    fuel = config.FUEL.get()
    if planned is None or watching or fuel is not None:
        optimised = run_passes(graph, fuel=fuel, observe=partial(_tell, watching))
        planned = plan_layers(optimised, device, options, keep)
    _tell(watching, "planned", planned.plan.graph)
    made = default_steps(planned, device, options, _compiling(progress))
    made = recall(planned, made, device, options) if recall else made
    compiled = assemble(graph, planned, made, device, options, progress, watching)
    if key:
        recorded.keep(key, _record(compiled))
    return compiled


def _record_key(graph: Graph, options: Options, device: CpuDevice, recall: Recall | None) -> str:
    """What the program of a network follows from; "" where a library may be chosen, which is
    measured each time."""
    if libraries.any_found():
        return ""
    threads = thread_count.count(options.threads)
    asked = recall.keywords if isinstance(recall, partial) else recall is not None
    compiler = (config.CC.get(), os.environ.get("CC", ""))
    return recorded.key_of(graph, replace(options, tune=None), device, threads, asked, compiler)


def _record(compiled: Compiled) -> tuple[Any, ...]:
    """All of a compiled network but the bodies of kernels, which are in its library."""
    steps = tuple(
        replace(m, calls=tuple(replace(c, kernel=replace(c.kernel, body=())) for c in m.calls))
        for m in compiled.steps
    )
    program = compiled.program
    library = program.path.name.partition(".")[0]
    return compiled.planned, steps, compiled.tensors, compiled.source, library, program.group


def _restored(graph: Graph, options: Options, record: tuple[Any, ...]) -> Compiled | None:
    """The compiled network of a record, None if its library is gone."""
    planned, steps, tensors, source, library, group = record
    path = cache.file(library, "so")
    if path is None:
        return None
    program = Program(path, group=group)
    return Compiled(graph, planned, steps, tensors, source, program, options)


def assemble(
    graph: Graph,
    planned: Planned,
    made: tuple[Made, ...],
    device: CpuDevice,
    options: Options = DEFAULTS,
    progress: Progress | None = None,
    watching: Sequence[Observer] = (),
) -> Compiled:
    """The program of these steps, as far as a memory budget allows them."""
    made, group = within_budget(planned, made, device, options)
    tensors, source = print_program(planned, made)
    for observer in watching:
        observer.text("program", "clusters.txt", "\n".join(str(m.cluster) for m in made))
        for number, text in enumerate(source.units):
            observer.text("program", f"{number:03d}.c", text)
    uses = [m.use for m in made if m.use]
    path = build(source.units, device, cache, progress=_compiling(progress), link=link_flags(uses))
    program = Program(path, group=group)
    open_program(path, uses)
    return Compiled(graph, planned, made, tensors, source, program, options)


def _tell(watching: Sequence[Observer], stage: str, graph: Graph) -> None:
    for observer in watching:
        observer.graph(stage, graph)


def _compiling(progress: Progress | None) -> Callable[[int, int], None] | None:
    """The toolchain's progress as the user's: with the name of the stage."""
    if progress is None:
        return None
    tell = progress
    return lambda done, total: tell("compiling kernels", done, total)
