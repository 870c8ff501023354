"""A benchmark as text for people: one table per comparison, then the means, then what it ran on."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sol.bench.results import Benchmark, Comparison, Measurement

_REASON = 90  # characters of it that a table shows; JSON has all
_COLUMNS = ("min ms", "median ms", "ratio", "error", "call MiB", "set-up s", "again s")


def show(benchmark: Benchmark, console: Console) -> None:
    """Print everything that was measured."""
    base = benchmark.baseline()
    for comparison in benchmark.comparisons:
        console.print(comparison_table(comparison, base))
    if len(benchmark.comparisons) > 1:
        console.print(_means(benchmark, base))
    console.print(legend(benchmark, base))


def comparison_table(comparison: Comparison, baseline: str) -> Table:
    """One row per rival, the fastest of each column in bold."""
    title = f"{comparison.network}, batch {comparison.batch}, {comparison.threads} threads"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("remark")
    times = [m.min_ms for m in comparison.measurements if m.min_ms is not None]
    for m in comparison.measurements:
        if m.reason:
            table.add_row(m.rival, *[""] * len(_COLUMNS), Text(m.reason[:_REASON], style="yellow"))
            continue
        best = "bold green" if m.min_ms == min(times, default=None) else ""
        table.add_row(m.rival, *_cells(m, comparison.ratio(m.rival, baseline)), m.note, style=best)
    return table


def _cells(m: Measurement, ratio: float | None) -> list[str]:
    return [
        _number(m.min_ms, 2),
        _number(m.median_ms, 2),
        _number(ratio, 2),
        "" if m.error is None else f"{m.error:.1e}",
        _number(None if m.call_bytes is None else m.call_bytes / 2**20, 1),
        _number(m.setup_cold_s, 1),
        _number(m.setup_warm_s, 1),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _means(benchmark: Benchmark, baseline: str) -> Table:
    table = Table(title="all networks", title_justify="left", title_style="bold")
    table.add_column("")
    table.add_column("geometric mean of the ratios", justify="right")
    table.add_column("over", justify="right")
    for rival in benchmark.rivals():
        mean, count = benchmark.mean_ratio(rival, baseline)
        table.add_row(rival, _number(mean, 2), str(count))
    return table


def legend(benchmark: Benchmark, baseline: str) -> RenderableType:
    """What the columns mean and what it ran on, in dim lines below the tables."""
    machine = benchmark.machine
    versions = ", ".join(f"{name} {version}" for name, version in benchmark.versions.items())
    lines = (
        f"ratio: time / time of {baseline or 'nobody: nothing ran'} (fastest calls); "
        "error: largest difference to float64 / largest output;",
        "call MiB: peak of the first call above the process just before it; "
        "set-up: model to first result, again: in a second process, from the cache on disk.",
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}; {versions}",
    )
    return Group(*(Text(line, style="dim") for line in lines))
