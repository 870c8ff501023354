"""Rows of products: fully connected layers, matrix products, and attention of GluonNLP."""

from __future__ import annotations

from sol.core.dims import product
from sol.core.dtypes import F32
from sol.ir.graph import Node
from sol.mxnet.attributes import Ints
from sol.mxnet.context import Context, Result
from sol.mxnet.rows.table import row


@row("FullyConnected", "_npx_fully_connected")
def fully_connected(
    c: Context,
    x: Node,
    weight: Node,
    bias: Node | None = None,
    *,
    num_hidden: int,
    no_bias: bool = False,
    flatten: bool = True,
) -> Result:
    """x wᵀ + bias, of whole images (flatten) or along the last axis."""
    c.need(weight.tensor.rank == 2, f"a weight {weight.tensor}", "2 axes")
    c.need(
        weight.shape[0] == num_hidden, f"num_hidden={num_hidden}, a weight {weight.tensor}",
        "as many rows as num_hidden",
    )  # fmt: skip
    if flatten:
        c.need(x.tensor.rank > 0, f"an input {x.tensor}", "an axis of images")
        x = c.reshape(x, (x.shape[0], product(x.shape[1:])))
    biases = [] if no_bias or bias is None else [bias]
    return c.op("linear", x, weight, *biases)


@row("dot")
def dot(
    c: Context, a: Node, b: Node, *, transpose_a: bool = False, transpose_b: bool = False
) -> Result:
    """Sums over the last axis of a and the first of b; transposing turns all axes around."""
    c.need(min(a.tensor.rank, b.tensor.rank) > 0, f"{a.tensor} and {b.tensor}", "axes")
    if transpose_a:
        a = c.permute(a, (*range(1, a.tensor.rank), 0))
    if transpose_b:
        b = c.permute(b, (b.tensor.rank - 1, *range(b.tensor.rank - 1)))
    y = _contracted(c, a, b)
    return y if y.tensor.rank else c.reshape(y, (1,))


def _contracted(c: Context, a: Node, b: Node) -> Node:
    rows, columns = a.shape[:-1], b.shape[1:]
    matrix_a = c.reshape(a, (product(rows), a.shape[-1]))
    matrix_b = c.reshape(b, (b.shape[0], product(columns)))
    return c.reshape(c.op("matmul", matrix_a, matrix_b), (*rows, *columns))


@row("_np_dot")
def numpy_dot(c: Context, a: Node, b: Node) -> Result:
    """NumPy's dot: over the last axis of a and the last but one of b."""
    if a.tensor.rank == 0 or b.tensor.rank == 0:
        return c.op("mul", a, b)
    if b.tensor.rank == 1:
        return _contracted(c, a, b)
    k = b.tensor.rank - 2
    order = (k, *(axis for axis in range(b.tensor.rank) if axis != k))
    return _contracted(c, a, c.permute(b, order))


@row("_npi_matmul")
def matmul(c: Context, a: Node, b: Node) -> Result:
    """NumPy's matmul."""
    if a.tensor.rank == 0 or b.tensor.rank == 0:
        c.refuse("a factor without axes")
    left = a if a.tensor.rank > 1 else c.reshape(a, (1, *a.shape))
    right = b if b.tensor.rank > 1 else c.reshape(b, (*b.shape, 1))
    y = c.op("matmul", left, right)
    if a.tensor.rank == 1:
        y = c.reshape(y, (*y.shape[:-2], y.shape[-1]))
    return y if b.tensor.rank > 1 else c.reshape(y, y.shape[:-1])


def _turned(c: Context, x: Node, turn: bool) -> Node:
    rank = x.tensor.rank
    return c.swap(x, rank - 2, rank - 1) if turn else x


@row("batch_dot", "_npx_batch_dot")
def batch_dot(
    c: Context, a: Node, b: Node, *, transpose_a: bool = False, transpose_b: bool = False
) -> Result:
    """A matrix product for each place of the leading axes."""
    c.need(
        a.tensor.rank == b.tensor.rank >= 3 and a.shape[:-2] == b.shape[:-2],
        f"{a.tensor} and {b.tensor}", "equal leading axes",
    )  # fmt: skip
    return c.op("matmul", _turned(c, a, transpose_a), _turned(c, b, transpose_b))


@row("_linalg_gemm2", "linalg_gemm2")
def gemm2(
    c: Context, a: Node, b: Node, *, transpose_a: bool = False, transpose_b: bool = False,
    alpha: float = 1.0, axis: int = -2,
) -> Result:  # fmt: skip
    """alpha a b."""
    if axis != -2:
        c.refuse(f"axis={axis}")
    y = c.op("matmul", _turned(c, a, transpose_a), _turned(c, b, transpose_b))
    return y if alpha == 1 else c.op("mul", y, c.constant(alpha, F32))


@row("_linalg_gemm", "linalg_gemm")
def gemm(
    c: Context, a: Node, b: Node, d: Node, *, transpose_a: bool = False,
    transpose_b: bool = False, alpha: float = 1.0, beta: float = 1.0, axis: int = -2,
) -> Result:  # fmt: skip
    """alpha a b + beta d."""
    y = gemm2(c, a, b, transpose_a=transpose_a, transpose_b=transpose_b, alpha=alpha, axis=axis)
    assert isinstance(y, Node)
    return c.op("add", y, d if beta == 1 else c.op("mul", d, c.constant(beta, F32)))


@row("_npi_tensordot")
def tensordot(c: Context, a: Node, b: Node, *, a_axes_summed: Ints, b_axes_summed: Ints) -> Result:
    """Sums over pairs of axes."""
    c.need(
        len(a_axes_summed) == len(b_axes_summed), f"{a_axes_summed} and {b_axes_summed}", "pairs"
    )
    first = tuple(c.axis(k, a.tensor.rank) for k in a_axes_summed)
    second = tuple(c.axis(k, b.tensor.rank) for k in b_axes_summed)
    rows = tuple(k for k in range(a.tensor.rank) if k not in first)
    columns = tuple(k for k in range(b.tensor.rank) if k not in second)
    summed = product(a.shape[k] for k in first)
    shapes = tuple(a.shape[k] for k in rows), tuple(b.shape[k] for k in columns)
    left = c.reshape(c.permute(a, (*rows, *first)), (product(shapes[0]), summed))
    right = c.reshape(c.permute(b, (*second, *columns)), (summed, product(shapes[1])))
    return c.reshape(c.op("matmul", left, right), (*shapes[0], *shapes[1]))


@row("_npi_tensordot_int_axes")
def tensordot_last(c: Context, a: Node, b: Node, *, axes: int) -> Result:
    """Sums over the last axes of a and the first of b."""
    count = range(axes)
    return tensordot(
        c, a, b, a_axes_summed=tuple(a.tensor.rank - axes + k for k in count),
        b_axes_summed=tuple(count),
    )  # fmt: skip


# ---- attention: vectors of a head stand together as query, key, value ----------------------------


def _head(c: Context, x: Node, heads: int, parts: int) -> tuple[Node, ...]:
    """[T, N, heads * parts * E] -> for each part [N * heads, T, E]."""
    c.need(x.tensor.rank == 3, f"an input {x.tensor}", "time, batch, features")
    time, batch, features = x.shape
    size = c.size(x, 2)
    c.need(heads > 0 and size % (heads * parts) == 0, f"{features} features, {heads} heads",
           f"a multiple of {heads * parts}")  # fmt: skip
    each = size // heads // parts
    split = c.reshape(x, (time, batch, heads, parts, each))
    found = []
    for part in range(parts):
        one = c.reshape(c.slice(split, 3, part, part + 1), (time, batch, heads, each))
        turned = c.permute(one, (1, 2, 0, 3))
        found.append(c.reshape(turned, (batch * heads, time, each)))
    return tuple(found)


def _scores(c: Context, q: Node, k: Node) -> Node:
    scaled = c.op("mul", q, c.constant(c.size(q, 2) ** -0.5, F32))
    return c.op("matmul", scaled, c.swap(k, 1, 2))


def _values(c: Context, attention: Node, v: Node, heads: int) -> Node:
    """[N * heads, T, E] -> [T, N, heads * E] of the attention's values."""
    y = c.op("matmul", attention, v)
    rows, time, each = y.shape
    batch = rows // heads
    turned = c.permute(c.reshape(y, (batch, heads, time, each)), (2, 0, 1, 3))
    return c.reshape(turned, (time, batch, heads * each))


@row("_contrib_interleaved_matmul_selfatt_qk")
def selfatt_qk(c: Context, qkv: Node, *, heads: int) -> Result:
    """q kᵀ / √E of self-attention."""
    q, k, _ = _head(c, qkv, heads, 3)
    return _scores(c, q, k)


@row("_contrib_interleaved_matmul_selfatt_valatt")
def selfatt_valatt(c: Context, qkv: Node, attention: Node, *, heads: int) -> Result:
    """The attention's values of self-attention."""
    return _values(c, attention, _head(c, qkv, heads, 3)[2], heads)


@row("_contrib_interleaved_matmul_encdec_qk")
def encdec_qk(c: Context, queries: Node, keys_values: Node, *, heads: int) -> Result:
    """q kᵀ / √E of attention between encoder and decoder."""
    (q,) = _head(c, queries, heads, 1)
    return _scores(c, q, _head(c, keys_values, heads, 2)[0])


@row("_contrib_interleaved_matmul_encdec_valatt")
def encdec_valatt(c: Context, keys_values: Node, attention: Node, *, heads: int) -> Result:
    """The attention's values of attention between encoder and decoder."""
    return _values(c, attention, _head(c, keys_values, heads, 2)[1], heads)
