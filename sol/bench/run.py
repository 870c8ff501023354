"""A whole benchmark: several networks at several batch sizes, one comparison after the other.

The command line and benchmarks/run.py call `benchmark`, show it with table.py and keep it with
`save`. One network that cannot be measured does not cost the results of the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from sol.bench import machine, rivals, zoo
from sol.bench.results import Benchmark, Comparison, Measurement
from sol.bench.session import NoReference, Plan, Progress, compare


def benchmark(
    specs: Sequence[str],
    batches: Sequence[int],
    plan: Plan,
    progress: Progress,
    finished: Callable[[Comparison], None] = lambda _: None,
) -> Benchmark:
    """Compare the plan's rivals on every network at every batch size.

    `finished` is called with each comparison as soon as it is complete. Raises InputError before
    any work if a network or a rival does not exist.
    """
    for name in plan.rivals:
        rivals.find(name)
    for spec in specs:
        zoo.require(spec)
    done: list[Comparison] = []
    for spec in specs:
        for batch in batches:
            done.append(_one(spec, batch, plan, progress))
            finished(done[-1])
    settings = {**asdict(plan), "networks": list(specs), "batches": list(batches)}
    return Benchmark(machine.describe(), machine.versions(), settings, tuple(done))


def save(result: Benchmark, path: Path) -> None:
    """Write it as JSON."""
    path.write_text(json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n")


def _one(spec: str, batch: int, plan: Plan, progress: Progress) -> Comparison:
    def tell(text: str, done: int, steps: int) -> None:
        progress(f"{spec}, batch {batch}: {text}", done, steps)

    try:
        return compare(spec, batch, plan, tell)
    except NoReference as error:
        rows = tuple(Measurement(name, error.what) for name in plan.rivals)
        return Comparison(spec, batch, plan.threads, 0, rows, plan.train)
