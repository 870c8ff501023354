"""Trains three small networks on scikit-learn's digits, by Sol and by PyTorch, and compares losses.

    python benchmarks/train_digits.py [steps [plot.svg]]

Both start from the same weights and see the same batches, at a rate that falls to zero: 1500 of
the 1797 images, drawn at random; accuracy is that of the others. Needs scikit-learn, and
matplotlib for the plot, which is in docs/training.md.
"""

from __future__ import annotations

import copy
import sys
import time
from typing import Any

import torch
from torch import nn

from sol.pytorch import optimize


def cnn() -> nn.Module:
    """Convolutions with batch statistics and pooling."""
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)),
        *(nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(512, 10),
    )


class Transformer(nn.Module):
    """Rows of pixels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the classes."""
        return self.head(self.layers(self.enter(x.reshape(-1, 8, 8))).mean(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """Rows of pixels as steps of time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 48, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the classes."""
        return self.head(torch.relu(self.lstm(x.reshape(-1, 8, 8))[0][:, -1]))  # type: ignore[no-any-return]


def train(model: nn.Module, x: torch.Tensor, target: torch.Tensor, steps: int) -> list[float]:
    """The loss of every step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    order = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(x), (64,), generator=order)
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), target[batch])
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        slower.step()
        losses.append(loss.item())
    return losses


def plot(curves: dict[str, tuple[list[float], list[float]]], path: str) -> None:
    """Losses by Sol and by PyTorch, and how far they differ."""
    import matplotlib  # type: ignore[import-not-found, unused-ignore]
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "sol", "svg.fonttype": "none", "font.size": 8})
    figure, rows = pyplot.subplots(2, len(curves), figsize=(9, 4), sharex=True, sharey="row")
    for name, (mine, theirs), above, below in zip(curves, curves.values(), *rows):
        above.semilogy(theirs, linewidth=2.5, color="#bbbbbb", label="PyTorch")
        above.semilogy(mine, linewidth=0.8, color="#c03020", label="Sol")
        gaps = [max(abs(a - b), 1e-9) for a, b in zip(mine, theirs)]
        below.semilogy(gaps, linewidth=0.8, color="#306090")
        above.set_title(name)
        below.set_xlabel("step")
    rows[0][0].set_ylabel("loss")
    rows[1][0].set_ylabel("difference of losses")
    rows[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train all three, and print losses and the accuracy on what was not trained with."""
    from sklearn.datasets import load_digits  # type: ignore[import-not-found, unused-ignore]

    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    digits: Any = load_digits()
    mixed = torch.randperm(len(digits.data), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(digits.data, dtype=torch.float32)[mixed] / 16
    target = torch.tensor(digits.target)[mixed]
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for make in (cnn, Transformer, Recurrent):
        torch.manual_seed(0)
        own = make()
        model = copy.deepcopy(own)
        fast: Any = optimize(model.train(), never_slower=False)
        start = time.perf_counter()
        mine, theirs = (train(m, x[:1500], target[:1500], steps) for m in (fast, own.train()))
        seconds = time.perf_counter() - start
        right = [
            (m.eval()(x[1500:]).argmax(1) == target[1500:]).float().mean().item()
            for m in (model, own)
        ]
        curves[make.__name__] = (mine, theirs)
        worst = max(abs(a - b) for a, b in zip(mine, theirs))
        print(f"{make.__name__}: {seconds:.0f} s; largest difference of a loss {worst:.1e}")
        for step in (0, steps // 10, steps // 3, steps - 1):
            print(f"  step {step:4}: Sol {mine[step]:.6f}  PyTorch {theirs[step]:.6f}")
        print(f"  accuracy: Sol {right[0]:.4f}, PyTorch {right[1]:.4f}", flush=True)
    if len(sys.argv) > 2:
        plot(curves, sys.argv[2])


if __name__ == "__main__":
    main()
