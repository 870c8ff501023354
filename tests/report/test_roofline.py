"""What bounds a cluster, what it loses, and the order, from invented times and peaks."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from sol.compiler import compile_graph
from sol.core.dims import B
from sol.report.machine import Memory, Peaks
from sol.report.roofline import Roofline, Row, joined, lines, ordered, roofline
from sol.report.text import ClusterReport
from sol.report.work import Work
from tests.plan.networks import Net, planned

# 100 operations and 1 byte from DRAM in a second; 4 bytes from L2
PEAKS = Peaks(
    2, 100.0, (Memory("L2", 1000, 4.0), Memory("L3", 10_000, 2.0), Memory("DRAM", None, 1.0))
)


def network(stride: int = 1, **more: Any) -> Any:
    """A convolution and a pooling, as if compiled."""
    net = Net()
    y = net.conv(net.input(B, 4, 9, 9), 4, 3, bias=False)
    plan = planned(net.graph(net.pool(net("relu", y), 3, 2)))
    steps = [
        SimpleNamespace(cluster=c, calls=(None,), packed=None, use=None, why="as it is", **more)
        for c in plan.plan.clusters
    ]
    program = SimpleNamespace(group=4, splittable=True)
    return SimpleNamespace(
        graph=plan.plan.graph, planned=plan, steps=steps, program=program, packed_bytes=0
    )


def row(number: int, seconds: float, operations: int = 100, read: int = 1) -> Row:
    cluster = ClusterReport(number, "dfp", (f"layer{number}",), ("relu",), "as it is", 0, seconds)
    return Row(cluster, seconds, Work(operations, read, 0, 0), operations / 100, read / 4, "L2")


def test_the_smallest_memory_that_holds_it() -> None:
    names = [PEAKS.memory(size).name for size in (0, 1000, 1001, 10_000, 10_001, 1 << 60)]
    assert names == ["L2", "L2", "L3", "L3", "DRAM", "DRAM"]


def test_values_from_where_they_fit_and_weights_from_where_all_fit() -> None:
    found = roofline(network(), [10**9, 2 * 10**9], 1, PEAKS)
    conv, pool = sorted(found.rows, key=lambda r: r.cluster.number)
    assert (conv.cluster.kind, pool.cluster.kind) == ("contraction", "dfp")
    assert (conv.seconds, pool.seconds) == (1.0, 2.0)
    values, weights = 4 * 4 * 81 * 2, 4 * 4 * 4 * 9
    assert conv.work == Work(4 * 81 * (72 + 1), values // 2, values // 2, weights)
    assert conv.moving == values / 2 + weights / 4
    assert (conv.compute, conv.memory) == (conv.work.operations / 100, "L3")
    assert conv.bound == "L3"
    assert not conv.effective


def test_a_group_of_images_decides_what_fits() -> None:
    """Four images at once fit into L3; a hundred would not."""
    few, many = (roofline(network(), [1, 1], batch, PEAKS).rows for batch in (1, 100))
    levels = {r.cluster.number: r.memory for r in many}
    assert levels == {0: "DRAM", 1: "L3"}
    assert {r.memory for r in few} == {"L3"}
    assert sum(r.work.operations for r in many) == 100 * sum(r.work.operations for r in few)


def test_large_weights_bound_by_memory() -> None:
    net = Net()
    plan = planned(net.graph(net.linear(net.input(B, 1, 100), 100)))
    step = SimpleNamespace(
        cluster=plan.plan.clusters[0], calls=(None,), packed=None, use=None, why=""
    )
    program = SimpleNamespace(group=0, splittable=False)
    compiled: Any = SimpleNamespace(
        graph=plan.plan.graph, planned=plan, steps=[step], program=program, packed_bytes=0
    )
    (found,) = roofline(compiled, [10**12], 1, PEAKS).rows
    assert found.memory == found.bound == "DRAM"
    assert found.moving == 800 / 4 + 4 * 101 * 100


def test_compute_bounds_what_does_much_with_little() -> None:
    assert row(0, 1.0, operations=100, read=3).bound == "compute"
    assert row(0, 1.0, operations=100, read=5).bound == "L2"


def test_lost_is_time_above_the_roof() -> None:
    assert row(0, 3.0).lost == 2.0
    assert row(0, 0.5).lost == 0.0  # measured below a roof that was measured, too


def test_what_loses_most_comes_first() -> None:
    found = ordered(PEAKS, [row(0, 2.0), row(1, 5.0, 450), row(2, 3.0), row(3, 2.0)])
    assert [r.cluster.number for r in found.rows] == [2, 0, 3, 1]


def test_parts_are_numbered_through() -> None:
    parts = [ordered(PEAKS, [row(0, 2.0), row(1, 4.0)]), ordered(PEAKS, [row(0, 3.0)])]
    assert [r.cluster.number for r in joined(parts).rows] == [1, 2, 0]


# ---- text


def wide() -> Roofline:
    long = ClusterReport(
        104, "contraction", ("encoder.layer.11.attention.output.LayerNorm.and.more",) * 2,
        ("permute", "reshape", "linear", "add") * 9, "as it is", 0, 1.0,
    )  # fmt: skip
    first = replace(row(104, 2.5e-3, 10**9, 10**7), cluster=long, effective=True)
    second, third = row(1, 1.0), row(2, 123e-6, 0, 5000)
    roofs = ((first, 1e-3), (second, 9.99e-1), (third, 1e-6))
    return ordered(PEAKS, [replace(r, compute=roof, moving=0.0) for r, roof in roofs])


@pytest.mark.parametrize("width", [100, 120, 160])
def test_lines_fit(width: int) -> None:
    assert max(map(len, lines(wide(), width))) <= width


def test_columns_stand_below_each_other() -> None:
    head, *rows = [line.ljust(120) for line in lines(wide()) if line.lstrip()[:1] in "#012t"]
    for name in ("lost", "time", "of roof", "GB/s", "op/B"):
        end = head.index(name) + len(name)
        assert all(r[end] in " *" for r in rows), name
        assert all(r[end - 1] not in " " for r in rows), name


def test_text() -> None:
    text = str(ordered(PEAKS, [row(0, 1.5, 100, 2), row(1, 4.0)]))
    assert "peaks of 2 threads: 0 GFLOP/s, L2 0 GB/s" in text
    assert "layer0: relu" in text
    table = [line.split() for line in text.splitlines()]
    total = next(line for line in table if line[0] == "total")
    assert total[1:6] == ["3.50", "s", "5.50", "s", "36%"]
    assert next(line for line in table if line[0] == "1")[2:7] == ["3.00", "s", "4.00", "s", "25%"]
    assert "most is lost in #1 layer1, #0 layer0" in text
    assert "effective" not in text


def test_winograd_is_effective() -> None:
    """Its operations are those of the direct convolution, and the table says so."""
    text = str(wide())
    assert "400*" in text
    assert "* effective: operations of the direct kernel" in text
    net = Net()
    y = net.conv(net.input(B, 32, 28, 28), 32, 3, bias=False)
    compiled = compile_graph(net.graph(net("relu", net.conv(y, 32, 3, bias=False))))
    shortcuts = ["Winograd" in made.why.split(",")[0] for made in compiled.steps]
    times = [1000] * sum(len(made.calls) for made in compiled.steps)
    rows = sorted(roofline(compiled, times, 1, PEAKS).rows, key=lambda r: r.cluster.number)
    assert [r.effective for r in rows] == shortcuts
    direct = 28 * 28 * 32 * 32 * 9 * 2
    assert all(r.work.operations >= direct for r in rows if r.cluster.kind == "contraction")
