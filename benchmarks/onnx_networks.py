"""Networks exported by torch.onnx.export: the ONNX frontend against that of PyTorch.

    python benchmarks/onnx_networks.py                     all torchvision classifiers
    python benchmarks/onnx_networks.py resnet18 vit_b_16   these
    python benchmarks/onnx_networks.py --plans             plans only, nothing is compiled
    python benchmarks/onnx_networks.py --opset 17          written for this operator set
    python benchmarks/onnx_networks.py --old               by the exporter of TorchScript

Both frontends should read the same network: a line per network says whether the clusters have the
same operators, and how far the results differ (of the largest one). Exit status 1 if a network
cannot be read, if results differ by more than 1e-4, or if clusters differ.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

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


def results(file: Path, network: zoo.Network) -> float:
    """How far the results of both frontends differ, of the largest one."""
    session = sol.onnx.optimize(file)
    (given,) = session.get_inputs()
    (x,) = network.args
    found = session.run(None, {given.name: x.numpy()})[0]
    with torch.no_grad():
        expected = optimize(network.module, x, progress=False)(x).numpy()
    return float(abs(found - expected).max() / abs(expected).max())


def line(
    name: str, compile: bool = True, opset: int | None = None, old: bool = False
) -> tuple[str, bool]:
    """What is said about a network, and whether all is well."""
    network = zoo.build(name, 2)
    graph = capture(network.module, network.args).graph
    with tempfile.TemporaryDirectory() as folder:
        file = exported(network, Path(folder), opset, old)
        try:
            ours, theirs = clusters(graph_of(file)), clusters(graph)
        except SolError as error:
            return f"{name:<24} {error}".partition("\n")[0], False
        more = (ours - theirs).total() + (theirs - ours).total()
        text = f"{name:<24} {ours.total():>4} clusters, "
        text += "the same" if not more else f"{more} differ"
        if not compile:
            return text, not more
        error = results(file, network)
    return f"{text}, results differ by {error:.1e}", not more and error <= ALLOWED


def main(arguments: list[str]) -> int:
    """Compare the networks, and say how many are well."""
    parser = argparse.ArgumentParser(description="torchvision's classifiers by two frontends")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--plans", action="store_true")
    parser.add_argument("--opset", type=int)
    parser.add_argument("--old", action="store_true")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    names = given.names or every_name()
    wrong: list[str] = []
    for name in names:
        text, well = line(name, not given.plans, given.opset, given.old)
        print(text, flush=True)
        wrong += [] if well else [name]
    print(f"{len(names) - len(wrong)} of {len(names)} well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
