"""Captures kept between processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from sol.pytorch.capture import capture
from sol.pytorch.steps import Captured
from sol.pytorch.trace import Signature


def read(model: nn.Module, call: Callable[..., Any], signature: Signature) -> Captured:
    """The network that `call` runs."""
    return capture(model, call=call, signature=signature)
