"""Rows of TensorFlow's operations. Importing this package fills the table `OPERATIONS`."""

from sol.tensorflow.operations import (
    elementwise,
    images,
    indexing,
    known,
    products,
    reductions,
    shapes,
)
from sol.tensorflow.operations.table import OPERATIONS

__all__ = [
    "OPERATIONS",
    "elementwise",
    "images",
    "indexing",
    "known",
    "products",
    "reductions",
    "shapes",
]
