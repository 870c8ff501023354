"""Small networks for tests, in a module of their own so that they can be pickled."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn


class Net(nn.Module):
    """Convolution, normalisation, pooling, linear; a few attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)
        self.scale = 2.0
        nn.init.normal_(self.bn.running_mean)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3))) * self.scale

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Apply(nn.Module):
    """Any function of this module and its arguments."""

    def __init__(self, function: Any, **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class Branching(nn.Module):
    """Control flow that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        if y.sum() > 1:
            return self.second(y) + 1
        return self.second(-y)


class Sorting(nn.Module):
    """An operator in the middle that Sol does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        return self.second(torch.sort(y, dim=1).values + y) * 2


class Counting(nn.Module):
    """A buffer that changes in every call: written, or set to another tensor."""

    count: torch.Tensor

    def __init__(self, in_place: bool = True) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(4))
        self.fc = nn.Linear(4, 4)
        self.in_place = in_place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.in_place:
            self.count += 1
        else:
            self.count = self.count + 1
        return self.fc(x) * self.count


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


@dataclass
class Output:
    value: torch.Tensor
    extra: Any = None


class Nested(nn.Module):
    """Containers of every kind, in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, batch: dict[str, Any], *, scale: float = 1.0) -> dict[str, Any]:
        x, (y, z) = batch["x"], batch["rest"]
        a = self.fc(x) * scale
        return OrderedDict(
            pair=Pair(a + y, a - y), output=Output(torch.tanh(a), [z * 2, None, 7]), name="nested"
        )
