"""Networks exported by torch.onnx.export: the ONNX frontend against that of PyTorch.

    python benchmarks/onnx_networks.py                     all torchvision classifiers
    python benchmarks/onnx_networks.py resnet18 vit_b_16   these
    python benchmarks/onnx_networks.py --plans             plans only, nothing is compiled

Both frontends should read the same network: a line per network says whether the clusters have the
same operators, and how far the results differ (of the largest one). Exit status 1 if a network
cannot be read, if results differ by more than 1e-4, or if clusters differ that are not known to.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections import Counter
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
from sol.passes.pipeline import run as run_passes
from sol.plan.planner import make_plan
from sol.pytorch import optimize
from sol.pytorch.capture import capture

ALLOWED = 1e-4
# the exporter writes aten.as_strided of a pooled map, which is nothing, as a Gather of all of it
KNOWN = {"swin": "as_strided comes as Gather"}
Clusters = Counter[tuple[str, tuple[str, ...]]]


def every_name() -> list[str]:
    """All classifiers of torchvision."""
    zoo.import_torchvision()
    from torchvision import models

    return models.list_models(module=models)


def exported(network: zoo.Network) -> bytes:
    """The ONNX file of a network whose batch is open."""
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in network.args)
    with torch.no_grad():
        program = torch.onnx.export(
            network.module, network.args, dynamo=True, verbose=False, dynamic_shapes=dynamic
        )
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    return file.getvalue()


def graph_of(file: bytes) -> Graph:
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


def results(file: bytes, network: zoo.Network) -> float:
    """How far the results of both frontends differ, of the largest one."""
    session = sol.onnx.optimize(file)
    (given,) = session.get_inputs()
    (x,) = network.args
    found = session.run(None, {given.name: x.numpy()})[0]
    with torch.no_grad():
        expected = optimize(network.module, x, progress=False)(x).numpy()
    return float(abs(found - expected).max() / abs(expected).max())


def line(name: str, compile: bool) -> tuple[str, bool]:
    """What is said about a network, and whether all is well."""
    network = zoo.build(name, 2)
    graph = capture(network.module, network.args).graph
    file = exported(network)
    try:
        ours, theirs = clusters(graph_of(file)), clusters(graph)
    except SolError as error:
        return f"{name:<24} {error}".partition("\n")[0], False
    more, less = (ours - theirs).total(), (theirs - ours).total()
    known = next((why for start, why in KNOWN.items() if name.startswith(start)), "")
    well = not (more or less) or bool(known)
    text = f"{name:<24} {ours.total():>4} clusters, "
    text += "the same" if not (more or less) else f"{more} differ {f'({known})' if known else ''}"
    if compile:
        error = results(file, network)
        text += f", results differ by {error:.1e}"
        well = well and error <= ALLOWED
    return text, well


def main(arguments: list[str]) -> int:
    """Compare the networks, and say how many are well."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    compile = "--plans" not in arguments
    names = [a for a in arguments if not a.startswith("--")] or every_name()
    wrong: list[Any] = []
    for name in names:
        text, well = line(name, compile)
        print(text, flush=True)
        wrong += [] if well else [name]
    print(f"{len(names) - len(wrong)} of {len(names)} well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
