"""A network by name, through Sol: what `sol optimize` and `sol explain` show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sol.bench.zoo import Network, build
from sol.pytorch import optimize


def optimized(
    spec: str,
    batch: int,
    threads: int | None,
    tell: Callable[[str, int, int], None],
    tune: float = 0.0,
) -> tuple[Network, Any]:
    """The network and the module that Sol makes of it, with `threads` (None: PyTorch's number).

    `tell` hears what goes on, steps done and steps in all (0: nobody knows); `tune` is seconds for
    measuring other methods for layers. Raises InputError for
    a name that nobody knows.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    tell(f"building {spec}", 0, 0)
    network = build(spec, batch)
    tell(f"optimizing {spec}", 0, 0)
    fast = optimize(
        network.module, *network.args, example_kwargs=network.kwargs, progress=tell, tune=tune
    )
    return network, fast
