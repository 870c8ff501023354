"""The same through PyTorch's own door, for code that already says `torch.compile`.

Control flow that depends on data stays Python: `torch.compile` hands Sol the parts between.
"""

import torch
from torch import nn


class Gated(nn.Module):
    """Takes one of two ways, depending on what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 64))
        self.wide = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.mean() > 0:
            return self.wide(x)
        return self.narrow(x)


model = Gated().eval()
fast = torch.compile(model, backend="sol")

with torch.no_grad():
    for sign in (1.0, -1.0):
        x = sign * torch.rand(8, 64)
        torch.testing.assert_close(fast(x), model(x))
print("equal to PyTorch on both ways")
