"""Rows of matrix products and of Einstein sums."""

from __future__ import annotations

from sol.core.dims import Shape, product
from sol.ir.graph import Node
from sol.tensorflow.context import Context
from sol.tensorflow.layout import permute
from sol.tensorflow.operations.table import operation


def _turned(c: Context, x: Node, turn: bool) -> Node:
    rank = x.tensor.rank
    return permute(c, x, (*range(rank - 2), rank - 1, rank - 2)) if turn else x


@operation("MatMul")
def matmul(c: Context, a: Node, b: Node) -> Node:
    """The product of two matrices."""
    return _product(c, c.node(a), c.node(b), c.attrs["transpose_a"], c.attrs["transpose_b"])


@operation("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(c: Context, a: Node, b: Node) -> Node:
    """Products of matrices over leading axes."""
    return _product(c, c.node(a), c.node(b), c.attrs["adj_x"], c.attrs["adj_y"])


def _product(c: Context, a: Node, b: Node, turn_a: bool, turn_b: bool) -> Node:
    if a.dtype.kind != "float" or b.dtype != a.dtype:
        c.refuse(f"a product of {a.dtype} and {b.dtype}")
    return c.op("matmul", _turned(c, a, turn_a), _turned(c, b, turn_b))


@operation("Einsum")
def einsum(c: Context, *inputs: Node) -> Node:
    """A product of two values, summed over the letters that the result has not."""
    equation: str = c.attrs["equation"]
    left, _, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in equation or any(len(set(t)) < len(t) for t in (*terms, result)):
        c.refuse(f"the equation {equation}")
    if len(terms) == 1:
        return _alone(c, c.node(inputs[0]), terms[0], result)
    if len(terms) != 2:
        c.refuse(f"{len(terms)} operands")
    a, b = (c.node(x) for x in inputs)
    return _pair(c, _summed(c, a, terms, 0, result), _summed(c, b, terms, 1, result), result)


_Term = tuple[Node, str]


def _alone(c: Context, x: Node, term: str, result: str) -> Node:
    y, letters = _summed(c, x, [term, ""], 0, result)
    return permute(c, y, [letters.index(i) for i in result])


def _summed(c: Context, x: Node, terms: list[str], which: int, result: str) -> _Term:
    """An operand summed over the letters that nothing else has."""
    term, other = terms[which], terms[1 - which]
    axes = tuple(k for k, i in enumerate(term) if i not in other and i not in result)
    if axes:
        x = c.op("sum", x, axes=axes, keepdims=False)
    return x, "".join(i for i in term if i in other or i in result)


def _pair(c: Context, left: _Term, right: _Term, result: str) -> Node:
    """[batch…, free…, sum…] times [batch…, sum…, free…] as one product of matrices."""
    (a, in_a), (b, in_b) = left, right
    batch = [i for i in in_a if i in in_b and i in result]
    total = [i for i in in_a if i in in_b and i not in result]
    free_a = [i for i in in_a if i not in in_b]
    free_b = [i for i in in_b if i not in in_a]
    a = permute(c, a, [in_a.index(i) for i in (*batch, *free_a, *total)])
    b = permute(c, b, [in_b.index(i) for i in (*batch, *total, *free_b)])
    n, m, k = len(batch), len(free_a), len(total)
    lead, rows, columns = a.shape[:n], a.shape[n : n + m], b.shape[n + k :]
    if lead != b.shape[:n]:
        c.refuse("sizes that are repeated")
    y = c.op(
        "matmul",
        c.reshape(a, (*lead, *_one(rows), *_one(a.shape[n + m :]))),
        c.reshape(b, (*lead, *_one(b.shape[n : n + k]), *_one(columns))),
    )
    y = c.reshape(y, (*lead, *rows, *columns))
    order = [*batch, *free_a, *free_b]
    return permute(c, y, [order.index(i) for i in result])


def _one(shape: Shape) -> Shape:
    """A shape as one axis."""
    return shape if len(shape) == 1 else (product(shape),)
