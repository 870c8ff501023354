"""Rows of Keras layers. Importing this package fills the table `LAYERS`."""

from sol.tensorflow.layers import (
    attention,
    convolution,
    dense,
    merging,
    normalisation,
    pooling,
    recurrent,
    reshaping,
)
from sol.tensorflow.layers.table import LAYERS

__all__ = [
    "LAYERS",
    "attention",
    "convolution",
    "dense",
    "merging",
    "normalisation",
    "pooling",
    "recurrent",
    "reshaping",
]
