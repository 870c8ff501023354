"""Rows of activation functions."""

from __future__ import annotations

from sol.ir.graph import Node
from sol.pytorch.context import Context, Missing, Result
from sol.pytorch.rows.table import put, row, simple

for _op in ("silu", "hardswish", "hardsigmoid", "mish", "log_sigmoid"):
    put(_op, simple(_op))


@row("log_sigmoid_forward")
def log_sigmoid_forward(c: Context, x: Node) -> Result:
    """log(sigmoid(x)); the buffer is for the gradient."""
    return c.op("log_sigmoid", x), Missing("the buffer of log_sigmoid is for its gradient")


@row("gelu")
def gelu(c: Context, x: Node, *, approximate: str = "none") -> Result:
    """x * Phi(x), exact or by tanh."""
    return c.op("gelu", x, approximate=approximate)


@row("leaky_relu")
def leaky_relu(c: Context, x: Node, slope: float = 0.01) -> Result:
    """x, or slope * x below 0."""
    return c.op("leaky_relu", x, slope=float(slope))


@row("elu")
def elu(c: Context, x: Node, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Result:
    """scale * (x, or alpha * (exp(x * input_scale) - 1) below 0)."""
    return c.op("elu", x, alpha=float(alpha), scale=float(scale), input_scale=float(input_scale))


@row("selu")
def selu(c: Context, x: Node) -> Result:
    """ELU with the two constants of self-normalising networks (Klambauer et al., 2017)."""
    return elu(c, x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@row("celu")
def celu(c: Context, x: Node, alpha: float = 1) -> Result:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    return elu(c, x, alpha, 1, 1 / float(alpha))


@row("softplus")
def softplus(c: Context, x: Node, beta: float = 1, threshold: float = 20) -> Result:
    """log(1 + exp(beta x)) / beta; x itself where beta x is above the threshold."""
    return c.op("softplus", x, beta=float(beta), threshold=float(threshold))


@row("softshrink", "hardshrink")
def shrink(c: Context, x: Node, lambd: float = 0.5) -> Result:
    """0 within [-lambd, lambd]; outside x, moved towards 0 by the soft one."""
    op = "softshrink" if c.target.startswith("aten.softshrink") else "hardshrink"
    return c.op(op, x, lambd=float(lambd))


@row("threshold")
def threshold(c: Context, x: Node, bound: float, value: float) -> Result:
    """x above the bound, else value."""
    return c.op("threshold", x, threshold=float(bound), value=float(value))


@row("prelu", "_prelu_kernel")
def prelu(c: Context, x: Node, slope: Node) -> Result:
    """x, or slope * x below 0, with one slope or one for each channel."""
    if slope.tensor.rank > 1:  # the kernel gets it as (1, C, 1, …)
        large = [s for s in slope.shape if s != 1]
        if large and (slope.tensor.rank < 2 or slope.shape[1] != large[0] or len(large) > 1):
            c.refuse(f"slopes of shape {slope.tensor}")
        slope = c.reshape(slope, tuple(large))
    elif slope.shape == (1,):
        slope = c.reshape(slope, ())
    return c.op("prelu", x, slope)


@row("glu")
def glu(c: Context, x: Node, dim: int = -1) -> Result:
    """The first half times the sigmoid of the second half of an axis."""
    axis = c.axis(dim, x.tensor.rank)
    half = x.shape[axis] // 2
    first = c.op("slice", x, axis=axis, start=0, stop=half, step=1)
    second = c.op("slice", x, axis=axis, start=half, stop=x.shape[axis], step=1)
    return c.op("mul", first, c.op("sigmoid", second))


@row("rrelu")
def rrelu(
    c: Context, x: Node, lower: float = 0.125, upper: float = 1 / 3, training: bool = False
) -> Result:
    """While evaluating, a leaky ReLU with the mean slope."""
    if training:
        c.refuse("it draws random numbers while training")
    return leaky_relu(c, x, (float(lower) + float(upper)) / 2)
