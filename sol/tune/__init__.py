"""Tuning in place: other methods for the contractions of a network, measured inside of it.

`tune` makes a compiled network faster within some seconds; what it finds is stored by the kind of
layer and the device. `recall` is for the compiler: the methods that tuning has found before.
"""

from __future__ import annotations

from sol.tune.search import tune
from sol.tune.store import recall

__all__ = ["recall", "tune"]
