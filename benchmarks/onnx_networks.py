"""Networks exported by torch.onnx.export: the ONNX frontend against that of PyTorch.

    python benchmarks/onnx_networks.py                     all torchvision classifiers
    python benchmarks/onnx_networks.py resnet18 vit_b_16   these
    python benchmarks/onnx_networks.py --plans             plans only, nothing is compiled
    python benchmarks/onnx_networks.py --by new old old-11 exporter (the old one is TorchScript's)
                                                           and, if not the usual one, operator set

Both frontends should read the same network: a line per file says whether the clusters have the
same operators and are computed in the same ways, and how far the results differ (of the largest
one). Where the ONNX frontend finds that rounding would be seen, both use its precision. What an
exporter refuses, because an operator set lacks something, is named and counts as well. Exit
status 1 if a network cannot be read, if clusters differ, or if results differ by more than 1e-4 and
are three times as far from float64 as the PyTorch frontend's.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import logging
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import sol.onnx
from sol.bench import zoo
from sol.core.dims import B
from sol.core.errors import SolError
from sol.ir.graph import Graph, TensorType
from sol.onnx.model import load
from sol.onnx.read import Reader
from sol.onnx.splice import items_of
from sol.options import Precision
from sol.passes.pipeline import run as run_passes
from sol.plan.planner import make_plan
from sol.pytorch import optimize
from sol.pytorch.capture import capture

ALLOWED = 1e-4
_MOST = 3.0  # times the other frontend's own error, where networks magnify it
Clusters = Counter[tuple[str, tuple[str, ...]]]


def every_name() -> list[str]:
    """All classifiers of torchvision."""
    zoo.import_torchvision()
    from torchvision import models

    return models.list_models(module=models)


def exported(
    network: zoo.Network, folder: Path, opset: int | None = None, old: bool = False
) -> Path:
    """The ONNX file of a network whose batch is open, in a folder; large weights lie beside it."""
    path = folder / "model.onnx"
    with torch.no_grad():
        if old:
            torch.backends.mha.set_fastpath_enabled(False)  # an operator that ONNX does not have
            torch.onnx.export(
                network.module, network.args, str(path), dynamo=False, opset_version=opset,
                input_names=["x"], dynamic_axes={"x": {0: "batch"}},
            )  # fmt: skip
            return path
        dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in network.args)
        program = torch.onnx.export(
            network.module, network.args, dynamo=True, verbose=False, dynamic_shapes=dynamic,
            opset_version=opset,
        )  # fmt: skip
    assert program is not None
    program.save(path, external_data=True)
    return path


def graph_of(file: Path) -> Graph:
    """The one graph that the ONNX frontend reads from a file, with the batch open."""
    model = load(file)
    types = {
        i.name: TensorType(tuple(s if isinstance(s, int) else B for s in i.shape), i.dtype)
        for i in model.network_inputs
    }
    items = items_of(model.graph.node, model.opsets)
    (graph,) = Reader(model, types).captured(items, (model.outputs[0].name,)).graphs
    return graph


def clusters(graph: Graph) -> Clusters:
    """Kinds and operators of the clusters of a network's plan."""
    plan = make_plan(run_passes(graph)).plan
    found: Clusters = Counter()
    for cluster in plan.clusters:
        names = (n for n in cluster.layers if n in plan.graph and n not in plan.graph.static)
        found[cluster.kind, tuple(sorted(plan.graph[n].op for n in names))] += 1
    return found


def of_program(programs: Any) -> Clusters:
    """The same of the first program that was compiled, and how each cluster is computed."""
    (part,) = programs[0].parts
    return Counter((c.kind, (*sorted(c.operators), f"[{c.implementation}]")) for c in part.clusters)


def by_onnx(file: Path, network: zoo.Network) -> tuple[Clusters, Any, Precision]:
    """Clusters and the first result of a file, and the precision that was chosen for it."""
    session = sol.onnx.optimize(file)
    (given,) = session.get_inputs()
    (found, *_) = session.run(None, {given.name: network.args[0].numpy()})
    report = session.reports[0]
    (chosen,) = {r.precision for p in report.programs for r in p.rounding} or {"default"}
    return of_program(report.programs), found, "float32" if chosen == "default" else chosen


def by_pytorch(network: zoo.Network, precision: Precision) -> tuple[Clusters, Any]:
    """Clusters and result by the PyTorch frontend."""
    (x,) = network.args
    with torch.no_grad():
        fast = optimize(network.module, x, progress=False, never_slower=False, precision=precision)
        found = fast(x).numpy()
    return of_program(fast.sol.report.programs), found


def compared(
    file: Path, network: zoo.Network, by_other: Callable[[Precision], tuple[Clusters, Any]] | None
) -> tuple[str, bool]:
    """What is said about a file, and whether all is well. by_other: the PyTorch frontend; None:
    only plans are compared."""
    found, expected, precision = None, None, "float32"
    try:
        if by_other is None:
            ours = clusters(graph_of(file))
            theirs = clusters(capture(network.module, network.args).graph)
        else:
            ours, found, precision = by_onnx(file, network)
            theirs, expected = by_other(precision)
    except SolError as error:
        return str(error).partition("\n")[0], False
    more = (ours - theirs).total() + (theirs - ours).total()
    text = f"{ours.total():>4} clusters, " + (f"{more} differ" if more else "the same")
    text += f", {precision}" * (precision != "float32")
    if found is None:
        return text, not more
    error = difference(found, expected)
    text += f", results differ by {error:.1e}"
    if error <= ALLOWED:
        return text, not more
    exact = in_float64(network)
    ours_off, theirs_off = difference(found, exact), difference(expected, exact)
    text += f"; from float64 {ours_off:.1e}, by PyTorch's frontend {theirs_off:.1e}"
    return text, not more and ours_off <= _MOST * theirs_off


def difference(found: Any, expected: Any) -> float:
    """The largest difference, of the largest result."""
    return float(abs(found - expected).max() / abs(expected).max())


def in_float64(network: zoo.Network) -> Any:
    """What PyTorch itself computes in double precision."""
    double = copy.deepcopy(network.module).double()
    with torch.no_grad():
        return double(*(x.double() for x in network.args)).numpy()


def lines(name: str, writers: list[str], compile: bool = True) -> Iterator[tuple[str, bool]]:
    """What is said about each file of a network, and whether all is well with it."""
    network = zoo.build(name, 2)
    by_other = cache(partial(by_pytorch, network)) if compile else None
    for writer in writers:
        exporter, _, opset = writer.partition("-")
        with tempfile.TemporaryDirectory() as folder:
            try:
                with contextlib.redirect_stdout(None):  # an exporter that fails prints its graph
                    file = exported(
                        network, Path(folder), int(opset) if opset else None, exporter == "old"
                    )
            except Exception as error:  # an exporter raises whatever its parts raise
                first = str(error).strip().partition("\n")[0]
                yield f"{name:<20} {writer:<7} cannot be exported: {first:.120}", True
                continue
            text, well = compared(file, network, by_other)
        yield f"{name:<20} {writer:<7} {text}", well


def main(arguments: list[str]) -> int:
    """Compare the networks, and say how many files are well."""
    parser = argparse.ArgumentParser(description="torchvision's classifiers by two frontends")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--by", nargs="+", default=["new"], metavar="EXPORTER")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found: list[bool] = []
    for name in given.names or every_name():
        for text, well in lines(name, given.by, not given.plans):
            print(text, flush=True)
            found.append(well)
    print(f"{sum(found)} of {len(found)} well")
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
