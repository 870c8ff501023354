"""torch.compile's backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


def backend(module: torch.fx.GraphModule, examples: Sequence[Any]) -> Callable[..., Any]:
    """Run a graph of torch.compile by Sol."""
    return module.forward
