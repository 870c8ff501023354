"""Two processes train to the weights of one process with all images of a batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from tests.training.distributed import network, train

ROOT = Path(__file__).parents[2]


def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path) -> None:
    alone = train(network(), slice(None))
    command = [sys.executable, "-m", "tests.training.distributed"]
    processes = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    said = [p.communicate(timeout=300)[1].decode() for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    for together, own in zip(first, alone):
        torch.testing.assert_close(together, own, rtol=1e-5, atol=1e-6)
