"""Rows: how each ATen operator is said in Sol's operators. `ROWS` is the table."""

from sol.pytorch.rows import (
    activation,
    binary,
    chance,
    convolution,
    create,
    matmul,
    normalisation,
    pointwise,
    pooling,
    recurrent,
    reduction,
    resample,
    select,
    shape,
)
from sol.pytorch.rows.table import ROWS

__all__ = [
    "ROWS",
    "activation",
    "binary",
    "chance",
    "convolution",
    "create",
    "matmul",
    "normalisation",
    "pointwise",
    "pooling",
    "recurrent",
    "reduction",
    "resample",
    "select",
    "shape",
]
