"""Kinds of packed weights."""

from __future__ import annotations

from sol.kernels.pack import GatesPacking, Packing
from sol.kernels.strassen import StrassenPacking
from sol.kernels.winograd import WinogradPacking

Fewer = WinogradPacking | StrassenPacking
"""Of kernels that do fewer multiplications than the layer has as written, and round more."""

Looped = Packing | GatesPacking | Fewer
"""With a `recipe` by which native code packs them."""
