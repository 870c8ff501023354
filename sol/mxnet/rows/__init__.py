"""Rows: how each operator of MXNet is said in Sol's operators. `ROWS` is the table."""

from sol.mxnet.rows import (
    activation,
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
from sol.mxnet.rows.table import ROWS

__all__ = [
    "ROWS",
    "activation",
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
