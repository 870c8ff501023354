"""The tables of docs/benchmarks.md: `python benchmarks/table.py` measures what is missing in them
and writes the page.

    python benchmarks/table.py                         all that is missing (hours: run it alone)
    python benchmarks/table.py vgg16 --again           these networks, also if they are there
    python benchmarks/table.py --batch 1 --threads 2   only these calls
    python benchmarks/table.py --render                only write the page

What was measured is kept in docs/benchmarks.json after each network, so it can be interrupted. All
figures of one page are of one machine and one set of versions.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from sol.bench import machine, rivals
from sol.bench.results import geometric_mean
from sol.bench.run import benchmark
from sol.bench.session import Plan

sys.path.insert(0, str(Path(__file__).parent.parent))  # networks of benchmarks/models.py
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
DATA = PAGE.with_suffix(".json")

NETWORKS = (
    "alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet50", "densenet121", "squeezenet1_0",
    "inception_v3", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "shufflenet_v2_x1_0",
    "mnasnet1_0", "regnet_y_400mf", "googlenet", "convnext_tiny", "vit_b_16", "swin_t",
    "bert-base", "benchmarks.models:lstm", "benchmarks.models:unet",
)  # fmt: skip
RIVALS = tuple(rival.name for rival in rivals.RIVALS if not rival.name.startswith("sol"))
LARGE = ("vgg16", "resnet50", "densenet121")  # also with a batch of 128, for memory

Row = dict[str, Any]
Case = dict[str, Any]


@dataclass(frozen=True, order=True)
class Call:
    """How networks are called, and beside whom."""

    batch: int
    threads: int
    rivals: tuple[str, ...] = RIVALS
    rounds: int = 10

    def key(self, network: str) -> str:
        """The name of a case in the data."""
        return f"{network}, batch {self.batch}, threads {self.threads}"


CALLS = (Call(1, 2), Call(16, 2, rounds=4), Call(1, 1), Call(16, 1, rounds=3))
MEMORY = Call(128, 2, ("eager",), rounds=1)
OVERHEAD = Call(1, 2, ("eager",))


def cases() -> Iterator[tuple[str, Call]]:
    """All that the page shows."""
    yield "benchmarks.models:tiny", OVERHEAD
    yield from ((network, call) for call in CALLS for network in NETWORKS)
    yield from ((network, MEMORY) for network in LARGE)


# ---- measuring -----------------------------------------------------------------------------------


def measure(network: str, call: Call, console: Console) -> Case:
    """The figures of all rivals on one network."""
    plan = Plan(("sol", *call.rivals), call.threads, rounds=call.rounds)
    with console.status(call.key(network)) as status:
        made = benchmark([network], [call.batch], plan, lambda text, *_: status.update(text))
    (comparison,) = made.as_json()["comparisons"]
    kept = ("min_ms", "median_ms", "error", "call_bytes", "setup_cold_s", "setup_warm_s", "reason")
    rows = {m["rival"]: {k: m[k] for k in kept} for m in comparison["measurements"]}
    return {"parameters": comparison["parameters"], "rows": rows}


def load() -> dict[str, Any]:
    """What was measured; nothing if it was on another machine or with other versions."""
    here = {"machine": machine.describe(), "versions": machine.versions()}
    empty: dict[str, Any] = {**here, "cases": {}}
    if not DATA.exists():
        return empty
    found: dict[str, Any] = json.loads(DATA.read_text())
    return found if {k: found[k] for k in here} == here else empty


# ---- the page ------------------------------------------------------------------------------------


def page(data: dict[str, Any]) -> str:
    """docs/benchmarks.md."""
    known = data["cases"]
    parts = [_HEAD, _machine(data)]
    for call in CALLS:
        rows = [(n, known[call.key(n)]) for n in NETWORKS if call.key(n) in known]
        if rows:
            threads = f"{call.threads} thread{'s' * (call.threads > 1)}"
            parts += [f"## Batch {call.batch}, {threads}", "\n".join(_speed(rows))]
    rows = [(n, known[MEMORY.key(n)]) for n in LARGE if MEMORY.key(n) in known]
    if rows:
        parts += ["## Memory of a call with 128 images", _MEMORY, "\n".join(_memory(rows))]
    tiny = known.get(OVERHEAD.key("benchmarks.models:tiny"))
    if tiny:
        sol, eager = (1000 * tiny["rows"][r]["min_ms"] for r in ("sol", "eager"))
        parts += ["## Overhead of a call", _OVERHEAD.format(sol=sol, eager=eager)]
    return "\n\n".join(parts) + "\n"


_HEAD = """# Benchmarks

Written by `make table`, which measures what is missing here
([benchmarks/table.py](../benchmarks/table.py)); how is told in
[benchmarks/README.md](../benchmarks/README.md). Numbers are ratios: the fastest call of the rival
over the fastest call of Sol, all measured in turn in one run, in float32 and with default options.
Above 1, Sol is faster. *Best rival* is the ratio to the fastest of them. *Error* is the largest
difference to float64 over the largest output, of Sol and of PyTorch. *MiB* is the peak memory of a
call above the process before it, of Sol and of the best rival. *Set-up* is seconds from the model
to its first result, in a first process and in another one."""
_MEMORY = (
    "The result and, for PyTorch, what it computes in between; the input and the weights were "
    "there before. *Share* is Sol's over PyTorch's."
)
_OVERHEAD = (
    "Two linear layers of 16 units: {sol:.0f} µs a call with Sol, {eager:.0f} µs with PyTorch."
)


def _machine(data: dict[str, Any]) -> str:
    m = data["machine"]
    memory = m["memory_bytes"] / 2**30
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return (
        f"{m['processor']}, {m['cores']} cores, {memory:.0f} GiB, {m['system']}, "
        f"Python {m['python']}. {versions}."
    )


def _speed(rows: Sequence[tuple[str, Case]]) -> Iterator[str]:
    there = [r for r in RIVALS if any(_ratio(case, r) for _, case in rows)]
    columns = (
        "Sol ms",
        *there,
        "**best rival**",
        "error",
        "PyTorch's",
        "MiB",
        "best rival's",
        "set-up",
        "again",
    )
    yield "| network | " + " | ".join(columns) + " |"
    yield "|---|" + "--:|" * len(columns)
    means: dict[str, list[float]] = {name: [] for name in (*there, "best")}
    for network, case in rows:
        sol = case["rows"]["sol"]
        ratios = {r: _ratio(case, r) for r in there}
        best = min((r for r in there if ratios[r]), key=lambda r: ratios[r] or 0.0, default="")
        for name, ratio in {**ratios, "best": ratios.get(best)}.items():
            means[name] += [ratio] if ratio else []
        cells = [
            _number(sol["min_ms"], 2), *(_number(ratios[r], 2) for r in there),
            f"**{_number(ratios.get(best), 2)}**",
            _small(sol["error"]), _small(case["rows"].get("eager", {}).get("error")),
            _mebibytes(sol), _mebibytes(case["rows"].get(best, {})),
            _number(sol["setup_cold_s"], 1), _number(sol["setup_warm_s"], 1),
        ]  # fmt: skip
        yield f"| {network.rpartition(':')[2]} | " + " | ".join(cells) + " |"
    shown = [_number(geometric_mean(means[name]), 2) for name in (*there, "best")]
    yield f"| geometric mean | | {' | '.join(shown[:-1])} | **{shown[-1]}** | | | | | | |"


def _memory(rows: Iterable[tuple[str, Case]]) -> Iterator[str]:
    yield "| network | Sol MiB | PyTorch MiB | share |"
    yield "|---|--:|--:|--:|"
    for network, case in rows:
        sol, eager = (case["rows"][r]["call_bytes"] / 2**20 for r in ("sol", "eager"))
        yield f"| {network} | {sol:.0f} | {eager:.0f} | {sol / eager:.1%} |"


def _ratio(case: Case, rival: str) -> float | None:
    ours, theirs = case["rows"]["sol"]["min_ms"], case["rows"].get(rival, {}).get("min_ms")
    return theirs / ours if ours and theirs else None


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _small(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}"


def _mebibytes(row: Row) -> str:
    return _number(row["call_bytes"] / 2**20 if row.get("call_bytes") is not None else None, 0)


def main() -> None:
    """Measure what is missing, and write the page after each network."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("networks", nargs="*", help="only these")
    parser.add_argument("--batch", type=int, nargs="+", help="only these batch sizes")
    parser.add_argument("--threads", type=int, nargs="+", help="only these numbers of threads")
    parser.add_argument("--against", nargs="+", help="other rivals than all of them")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    parser.add_argument("--render", action="store_true", help="only write the page")
    chosen = parser.parse_args()
    if chosen.render:
        PAGE.write_text(page(json.loads(DATA.read_text())))
        return
    unknown = set(chosen.networks) - {network.rpartition(":")[2] for network, _ in cases()}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not in the tables of {PAGE.name}")
    console, data = Console(stderr=True), load()
    for network, call in cases():
        wanted = not chosen.networks or network.rpartition(":")[2] in chosen.networks
        wanted &= not chosen.batch or call.batch in chosen.batch
        wanted &= not chosen.threads or call.threads in chosen.threads
        if not wanted or (call.key(network) in data["cases"] and not chosen.again):
            continue
        if chosen.against and call in CALLS:
            call = Call(call.batch, call.threads, tuple(chosen.against), call.rounds)
        data["cases"][call.key(network)] = case = measure(network, call, console)
        DATA.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(page(data))
        ratios = {r: _number(_ratio(case, r), 2) for r in call.rivals}
        console.print(call.key(network), case["rows"]["sol"]["min_ms"], ratios)


if __name__ == "__main__":
    main()
