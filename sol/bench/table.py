"""A benchmark as text for people: one table per comparison, then the means, then what it ran on.

Tables fit 80 columns; what a rival has to remark, or why it did not run, stands below its table.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sol.bench.results import Benchmark, Comparison, Measurement

_COLUMNS = ("min ms", "med ms", "ratio", "error", "MiB", "set-up s", "again s")
_INFERENCE = (
    "error   largest difference to float64 / largest output",
    "MiB     peak memory of the first call, above the process just before it",
)
_TRAINING = (
    "call    a step of training: forward, loss, backward, SGD; without dropout",
    "error   |difference to float64| / |gradient|, norms, of the worst parameter",
    "MiB     peak memory of a step above weights and gradients",
)
_REMARK = 110  # characters of a reason that are shown; JSON has all


def show(benchmark: Benchmark, console: Console) -> None:
    """Print everything that was measured."""
    base = benchmark.baseline()
    for comparison in benchmark.comparisons:
        console.print(comparison_table(comparison, base))
        for remark in remarks(comparison):
            console.print(Text(remark, style="yellow"))
        console.print()
    if len(benchmark.comparisons) > 1:
        console.print(_means(benchmark, base))
        console.print()
    for line in legend(benchmark, base):
        console.print(Text(line, style="dim"), soft_wrap=True)


def comparison_table(comparison: Comparison, baseline: str) -> Table:
    """One row per rival, the fastest one in bold."""
    weights = f"{comparison.parameters / 1e6:.1f} million weights"
    threads = f"{comparison.threads} thread" + "s" * (comparison.threads > 1)
    what = f"batch {comparison.batch}, {threads}" + ", training" * comparison.train
    table = _table(f"{comparison.network}: {weights}, {what}")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    times = [m.min_ms for m in comparison.measurements if m.min_ms is not None]
    for m in comparison.measurements:
        fastest = m.min_ms is not None and m.min_ms == min(times)
        cells = _cells(m, comparison.ratio(m.rival, baseline))
        table.add_row(m.rival, *cells, style="bold green" if fastest else "")
    return table


def remarks(comparison: Comparison) -> Iterator[str]:
    """`rival: why it did not run`, or what is to be known about its figures."""
    for m in comparison.measurements:
        if m.reason or m.note:
            yield f"{m.rival}: {(m.reason or m.note)[:_REMARK]}"


def legend(benchmark: Benchmark, baseline: str) -> Iterator[str]:
    """What the columns mean, and what the figures were taken on."""
    yield f"ratio   fastest call / fastest call of {baseline or 'nobody: nothing ran'}"
    yield from _TRAINING if any(c.train for c in benchmark.comparisons) else _INFERENCE
    yield "set-up  from the model to its first result; again: in a second process, from caches"
    machine = benchmark.machine
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}"
    )
    yield ", ".join(f"{name} {version}" for name, version in benchmark.versions.items())


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    table.add_column("", no_wrap=True)
    return table


def _cells(m: Measurement, ratio: float | None) -> list[str]:
    return [
        _number(m.min_ms, 2),
        _number(m.median_ms, 2),
        _number(ratio, 2),
        "–" if m.error is None else f"{m.error:.1e}",
        _number(None if m.call_bytes is None else m.call_bytes / 2**20, 1),
        _number(m.setup_cold_s, 1),
        _number(m.setup_warm_s, 1),
    ]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _means(benchmark: Benchmark, baseline: str) -> Table:
    table = _table("all of them")
    table.add_column("geometric mean of the ratios", justify="right")
    table.add_column("over", justify="right")
    for rival in benchmark.rivals():
        mean, count = benchmark.mean_ratio(rival, baseline)
        table.add_row(rival, _number(mean, 2), str(count))
    return table
