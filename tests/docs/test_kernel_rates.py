"""The benchmark of single kernels, whose output docs/performance.md shows, runs."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

from tests.docs.pages import DOCS, ROOT

_SCRIPT = ROOT / "benchmarks" / "kernels.py"


def test_a_layer_of_each_table() -> None:
    command = [sys.executable, str(_SCRIPT), "960 -> 160", "layer norm", "--seconds", "0.02"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| Mobile", "| layer"))]
    assert len(rows) == 2
    assert re.search(r"\| \d+ \| [\d.]+ \| \d+ % of \d+ \| tile \d+x\d+, ", rows[0])
    assert re.search(r"\| \d+ \| [\d.]+ \| [\d.]+ \| \d+ nests per patch \|", rows[1])


def test_the_page_has_every_layer() -> None:
    """A layer that is added is measured, too."""
    module = runpy.run_path(str(_SCRIPT))
    names = [case.name for case in module["CONTRACTIONS"] + module["MEMORY_BOUND"]]
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert [name for name in names if f"| {name} |" not in page] == []
