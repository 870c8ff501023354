"""Rows of activations with attributes, and of softmax in all its forms."""

from __future__ import annotations

from sol.core.dims import product
from sol.core.dtypes import F32, I64, DType
from sol.ir.graph import Node
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row

_ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softsign": "softsign"}
# of LeakyReLU with act_type="selu", and of `elu`
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@row("Activation", "_npx_activation")
def activation(c: Context, x: Node, *, act_type: str) -> Result:
    """One of the plain activations."""
    if act_type == "softrelu":  # ln(1 + e^x)
        return c.op("softplus", x, beta=1.0, threshold=20.0)
    if act_type not in _ACTIVATIONS:
        c.refuse(f"act_type={act_type!r}")
    return c.op(_ACTIVATIONS[act_type], x)


@row("LeakyReLU", "_npx_leaky_relu")
def leaky_relu(
    c: Context,
    x: Node,
    gamma: Node | None = None,
    *,
    act_type: str = "leaky",
    slope: float = 0.25,
    lower_bound: float = 0.125,
    upper_bound: float = 0.334,
) -> Result:
    """The activations with a slope below 0."""
    match act_type:
        case "leaky":
            return c.op("leaky_relu", x, slope=slope)
        case "elu":
            return c.op("elu", x, alpha=slope, scale=1.0, input_scale=1.0)
        case "selu":
            return c.op("elu", x, alpha=_SELU_ALPHA, scale=_SELU_SCALE, input_scale=1.0)
        case "gelu":
            return c.op("gelu", x, approximate="none")
        case "rrelu":  # in inference the mean of the slopes
            return c.op("leaky_relu", x, slope=(lower_bound + upper_bound) / 2)
        case "prelu" if gamma is not None:
            return _prelu(c, x, gamma)
    return c.refuse(f"act_type={act_type!r}")


def _prelu(c: Context, x: Node, gamma: Node) -> Node:
    """One slope for all, or one for each channel (axis 1)."""
    if gamma.tensor.rank == 1:
        shape = (1,) * min(1, x.tensor.rank - 1) + gamma.shape + (1,) * (x.tensor.rank - 2)
        c.need(
            gamma.shape in ((1,), x.shape[1:2]), f"slopes {gamma.tensor} of {x.tensor}",
            "one, or one for each channel",
        )  # fmt: skip
        gamma = c.reshape(gamma, shape)
    return c.op("where", c.op("gt", x, c.constant(0, F32)), x, c.op("mul", gamma, x))


@row("hard_sigmoid")
def hard_sigmoid(c: Context, x: Node, *, alpha: float = 0.2, beta: float = 0.5) -> Result:
    """min(max(alpha x + beta, 0), 1)."""
    line = c.op("add", c.op("mul", x, c.constant(alpha, F32)), c.constant(beta, F32))
    return c.op("clamp", line, low=0.0, high=1.0)


# ---- softmax -------------------------------------------------------------------------------------


def _tempered(c: Context, x: Node, temperature: float | None, dtype: DType | None) -> Node:
    c.computable(dtype or F32)
    if temperature in (None, 1.0):
        return x
    return c.op("div", x, c.constant(temperature, F32))


def _softmax(c: Context, op: str, x: Node, length: Node | None, axis: int) -> Node:
    k = c.axis(axis, x.tensor.rank)
    if length is None:
        return c.op(op, x, axis=k)
    inside = _below(c, x, length, k)
    masked = c.op("where", inside, x, c.constant(float("-inf"), F32))
    y = c.op(op, masked, axis=k)
    return c.op("where", inside, y, c.constant(0, F32))  # where nothing is inside, too


def _below(c: Context, x: Node, length: Node, axis: int) -> Node:
    """Whether the place along an axis is below the length, which has all other axes."""
    rest = tuple(1 if k == axis else s for k, s in enumerate(x.shape))
    size = c.size(x, axis)
    places = c.op("iota", shape=(size,), axis=0, dtype=I64)
    places = c.reshape(places, (size,) + (1,) * (x.tensor.rank - 1 - axis))
    return c.op("lt", places, c.reshape(c.cast(length, I64), rest))


@row("softmax", "_npx_softmax")
def softmax(
    c: Context,
    x: Node,
    length: Node | None = None,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: DType | None = None,
    use_length: bool | None = False,
) -> Result:
    """e^(x / temperature), divided by its sum along an axis; 0 from `length` on."""
    x = _tempered(c, x, temperature, dtype)
    return _softmax(c, "softmax", x, length if use_length else None, axis)


@row("log_softmax", "_npx_log_softmax")
def log_softmax(
    c: Context,
    x: Node,
    length: Node | None = None,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: DType | None = None,
    use_length: bool | None = False,
) -> Result:
    """The logarithm of softmax."""
    x = _tempered(c, x, temperature, dtype)
    return _softmax(c, "log_softmax", x, length if use_length else None, axis)


@row("softmin")
def softmin(
    c: Context,
    x: Node,
    *,
    axis: int = -1,
    temperature: float | None = None,
    dtype: DType | None = None,
    use_length: bool | None = False,
) -> Result:
    """The softmax of -x."""
    return _softmax(c, "softmax", c.op("neg", _tempered(c, x, temperature, dtype)), None, axis)


@row("SoftmaxOutput", "Softmax")
def softmax_output(
    c: Context,
    x: Node,
    label: Node | None = None,
    *,
    multi_output: bool = False,
    preserve_shape: bool = False,
) -> Result:
    """Softmax over all axes but the first, over channels (multi_output), or over the last."""
    if multi_output:
        return c.op("softmax", x, axis=1)
    if preserve_shape or x.tensor.rank == 2:
        return c.op("softmax", x, axis=x.tensor.rank - 1)
    return _softmax_of_rows(c, x)


@row("SoftmaxActivation")
def softmax_activation(c: Context, x: Node, *, mode: str = "instance") -> Result:
    """Softmax over the last axis, or over channels."""
    if mode not in ("channel", "instance"):
        c.refuse(f"mode={mode!r}")
    return c.op("softmax", x, axis=1 if mode == "channel" else x.tensor.rank - 1)


def _softmax_of_rows(c: Context, x: Node) -> Node:
    rows = c.reshape(x, (x.shape[0], product(x.shape[1:])))
    return c.reshape(c.op("softmax", rows, axis=1), x.shape)
