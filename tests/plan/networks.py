"""Small networks in float32, and what the tests of the planner ask of a plan."""

from __future__ import annotations

import random
from typing import Any

from sol.core.dims import Size
from sol.core.dtypes import F32, DType
from sol.ir.graph import Graph, Node
from sol.passes.pipeline import run as run_passes
from sol.plan.facts import Facts
from sol.plan.fuse import Choice, choose
from sol.plan.planner import Planned, make_plan
from tests.compiler.random_networks import random_network
from tests.passes import conftest


class Net(conftest.Net):
    """Builds a graph of float32: `net("add", x, 1.0)`."""

    def input(self, *shape: Size, dtype: DType = F32, name: str = "x") -> Node:
        return super().input(*shape, dtype=dtype, name=name)

    def parameter(self, *shape: int, name: str = "w", dtype: DType = F32) -> Node:
        return super().parameter(*shape, name=name, dtype=dtype)

    def conv(self, x: Node, channels: int = 4, kernel: int = 3, **attrs: Any) -> Node:
        around = ((kernel // 2,) * 2,) * (x.tensor.rank - 2)
        return super().conv(x, channels, kernel, **{"padding": around, **attrs})

    def pool(self, x: Node, kernel: int = 3, stride: int = 2) -> Node:
        """The largest of windows over two axes."""
        attrs: dict[str, Any] = {"kernel": (kernel, kernel), "stride": (stride, stride)}
        return self("max_pool", x, padding=(0, 0), dilation=(1, 1), ceil=False, **attrs)


def chosen(graph: Graph) -> Choice:
    """What is stored of a graph as it stands."""
    return choose(graph, Facts(graph))


def stored(graph: Graph) -> set[str]:
    """Names of values in memory, without those that are there before."""
    return set(chosen(graph).stored)


def planned(graph: Graph, keep: bool = False) -> Planned:
    """The plan of a graph as it stands."""
    return make_plan(graph, keep, lanes=16)


def kinds(plan: Planned) -> list[str]:
    """The kinds of the clusters, in the order in which they run."""
    return [c.kind for c in plan.plan.clusters]


def random_plans(count: int, keep: bool = False) -> list[Planned]:
    """Plans of random networks, every second one after passes."""
    found = []
    for seed in range(count):
        rng = random.Random(seed)
        graph = random_network(lambda n, rng=rng: rng.randrange(n))
        found.append(planned(run_passes(graph) if seed % 2 else graph, keep))
    return found
