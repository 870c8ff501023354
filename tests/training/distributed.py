"""A process of test_distributed.py: `python -m tests.training.distributed RANK FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from sol.pytorch import optimize

STEPS, BATCH = 3, 6


def network() -> Any:
    """The same network in every process, by Sol."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(2, 4, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(100, 3))
    return optimize(nn.Sequential(*layers).train(), never_slower=False, progress=False)


def train(model: nn.Module, part: slice) -> list[torch.Tensor]:
    """The weights after some steps with a part of each batch."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        x = torch.randn(BATCH, 2, 5, 5, generator=data)
        target = torch.randint(0, 3, (BATCH,), generator=data)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[part]), target[part]).backward()
        optimiser.step()
    return [p.detach() for p in model.parameters()]


def main(rank: int, folder: Path) -> None:
    """Train with half of each batch, beside another process."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", rank=rank, world_size=2, init_method=f"file://{folder}/meeting"
    )
    model = network()
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    weights = train(nn.parallel.DistributedDataParallel(model), half)
    assert model.sol.report.programs
    assert not model.sol.report.fallbacks
    torch.save(weights, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
