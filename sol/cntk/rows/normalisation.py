"""Rows of normalisation. CNTK writes most of it out; batch normalisation is one operation."""

from __future__ import annotations

from sol.cntk.rows.table import row
from sol.cntk.value import Context, Value
from sol.core.dims import product


@row("BatchNormalization")
def batch_normalization(
    c: Context,
    x: Value,
    scale: Value,
    bias: Value,
    mean: Value,
    variance: Value,
    count: Value | None = None,
) -> Value:
    """`(x - mean) / √(variance + epsilon) * scale + bias` with the running statistics, for each
    channel (the first static axis) or for each element"""
    epsilon = float(c.attribute("epsilon", float, 1e-5))
    spatial = c.attribute("spatial", bool, True)
    sizes = c.sizes_of(x)
    if not sizes or any(v.axes for v in (scale, bias, mean, variance)):
        c.refuse("its parameters differ from image to image, or it has a value without axes")
    channels = sizes[0] if spatial else product(sizes)
    parameters = [c.reshape(v.node, (channels,)) for v in (mean, variance, scale, bias)]
    images = c.reshape(x.node, (product(x.lead), channels, *(sizes[1:] if spatial else ())))
    y = c.op("batch_norm", images, *parameters, eps=epsilon, affine=True)
    return c.keep(x, c.reshape(y, x.node.shape))
