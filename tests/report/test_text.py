"""Lines of explanations: they fit, long things are cut where it hurts least, numbers are short."""

from __future__ import annotations

import pytest

from sol.report.text import (
    ClusterReport,
    Explanation,
    Outside,
    duration,
    merged,
    outside,
    shortened,
    size,
    summary,
    table,
    wrapped,
)

LONG = (
    "Winograd F(4x4, 3x3), tile 14x32, blocks of 56, estimated 3.8 times as fast as the direct one"
)


def cluster(
    number: int, kind: str = "dfp", why: str = "", seconds: float | None = None
) -> ClusterReport:
    layers = (f"encoder.layer.{number}.dense", "relu", "add")
    return ClusterReport(number, kind, layers, ("linear", "relu"), why or LONG, 2048, seconds)


def explanation(
    *clusters: ClusterReport, per_image: int = 1 << 20, fixed: int = 0, alone: int = 0
) -> Explanation:
    return Explanation(clusters, per_image, fixed, alone, 3 << 20, 4)


SORT = Outside("PyTorch", "aten.sort.default", "blocks.1", "Sol has no row for it")


@pytest.mark.parametrize("width", [80, 120, 200])
def test_lines_fit(width: int) -> None:
    found = explanation(*(cluster(n, why=f"{LONG} {n}") for n in range(120)))
    text = [*table([found, SORT, found], width), *summary([found], width)]
    assert max(map(len, text)) <= width
    assert "fast as the direct one 119]" in " ".join(" ".join(text).split())


def test_a_long_implementation_is_told_once() -> None:
    found = explanation(*(cluster(n) for n in range(3)))
    assert "\n".join(table([found])).count("estimated") == 1
    assert "\n".join(table([found])).count("[as in 0]") == 2
    assert "\n".join(table([found], 250)).count("estimated") == 3


def test_parts_are_numbered_through_with_what_runs_between_them() -> None:
    part = explanation(cluster(0, why="x"), cluster(1, why="x"))
    rows = [line[:18].split() for line in table([part, SORT, part])]
    assert rows[1:] == [["0", "dfp"], ["1", "dfp"], ["-", "PyTorch"], ["2", "dfp"], ["3", "dfp"]]


def test_shares_are_those_of_all_parts() -> None:
    parts = [explanation(cluster(0, why="x", seconds=1e-3)) for _ in range(2)]
    assert [line.split()[2:5] for line in table(parts)][1:] == [["1.00", "ms", "50.0%"]] * 2


def test_summary() -> None:
    timed = [cluster(0, "dfp", "x", 1e-6), cluster(1, "contraction", "x", 3e-6)]
    found = list(summary([explanation(*timed)]))
    assert found[0] == "2 clusters, 4.00 µs: contraction 75.0% (1), dfp 25.0% (1)"
    memory = "intermediates: 1.0 MiB per image, 4 images at a time; packed weights: 3.0 MiB"
    assert found[1] == memory
    assert next(summary([explanation(cluster(0))])) == "1 cluster: 1 dfp"
    assert next(summary([explanation()])) == "0 clusters: nothing to compute"


def test_memory_of_intermediates() -> None:
    """Of images that pass together, of one that a thread computes alone, and what is fixed."""

    def line(**sizes: int) -> str:
        text = list(summary([explanation(cluster(0), **sizes)]))[1]
        return text.removeprefix("intermediates: ").removesuffix("; packed weights: 3.0 MiB")

    shared = "1.0 MiB per image, 4 images at a time"
    assert line(alone=2048) == f"2.0 KiB per thread and {shared}"
    assert line(alone=2048, per_image=0) == "2.0 KiB per thread"
    assert line(alone=2048, fixed=512) == f"2.0 KiB per thread and {shared} and 512 B"
    assert line(per_image=0) == "0 B per image"
    parts = [explanation(alone=2048, per_image=0), explanation(alone=1024)]
    assert list(summary(parts))[1].startswith(f"intermediates: 2.0 KiB per thread and {shared}")


def test_what_stays_in_the_framework() -> None:
    other = Outside("PyTorch", "aten.hypot.default", "", "Sol has no row for it")
    assert list(outside([])) == []
    assert list(outside([other])) == [
        "1 operator stays in PyTorch: aten.hypot.default (Sol has no row for it)"
    ]
    (line,) = outside([SORT, other, SORT], 200)
    assert line == (
        "3 operators stay in PyTorch: aten.sort.default ×2 (Sol has no row for it), "
        "aten.hypot.default (Sol has no row for it)"
    )


def test_layers_and_operators_are_counted() -> None:
    assert merged(("conv1", "bn1", "relu"), ("conv", "relu")) == "conv1 + 2: conv relu"
    assert merged(("conv1",), ("mul", "add", "mul")) == "conv1: mul ×2 add"
    assert merged((), ()) == ": "
    assert merged(("a",), tuple("abcdefghij")) == "a: a b c d e f g h …"


def test_the_end_of_a_layers_name_stays() -> None:
    text = "encoder.layer.2.output.dense: linear gelu add"
    assert shortened(text, 45) == text
    assert shortened(text, 40) == "encoder.layer.2.output.dense: linear ge…"
    assert shortened(text, 30) == "…ayer.2.output.dense: linear …"


def test_lines_end_at_brackets_and_commas() -> None:
    assert list(wrapped("> ", "conv relu  [tile, panel]", 24)) == ["> conv relu", "  [tile, panel]"]
    assert list(wrapped("", "one, two and three, four", 20)) == ["one, two and three,", "four"]
    assert list(wrapped("", "x" * 25, 20)) == ["x" * 20, "x" * 5]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 µs"), (9.994e-6, "9.99 µs"), (9.996e-6, "10.0 µs"), (123.4e-6, "123 µs"),
        (1.5e-3, "1.50 ms"), (0.999, "999 ms"), (1.0, "1.00 s"), (1234.5, "1234 s"),
    ],
)  # fmt: skip
def test_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1536, 5 << 20, 3 << 30)] == [
        "0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.00 GiB",
    ]  # fmt: skip
