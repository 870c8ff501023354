"""Rows: each says an operator of ONNX in operators of Sol. One file per family."""

from __future__ import annotations

from sol.onnx.rows import (
    contraction,
    create,
    normalisation,
    pointwise,
    pooling,
    quantise,
    recurrent,
    reduction,
    resize,
    select,
    shape,
    spectrum,
)
from sol.onnx.rows.table import ROWS

__all__ = [
    "ROWS", "contraction", "create", "normalisation", "pointwise", "pooling", "quantise",
    "recurrent", "reduction", "resize", "select", "shape", "spectrum",
]  # fmt: skip
