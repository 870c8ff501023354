"""Rows of convolutions and matrix products."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from sol.core.dims import Dim, Size
from sol.core.errors import UnsupportedError
from sol.ir.graph import Node
from sol.onnx.rows.shape import padded
from sol.onnx.rows.table import row
from sol.onnx.values import Call, Results
from sol.ops.rules import numbers

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def window(c: Call, x: Node, kernel: Sequence[int]) -> tuple[Ints, Ints, Pads]:
    """strides, dilations and pads of a window over the spatial axes; `auto_pad` is resolved."""
    rank = len(kernel)
    strides = tuple(c.attr("strides") or (1,) * rank)
    dilations = tuple(c.attr("dilations") or (1,) * rank)
    auto = c.attr("auto_pad", "NOTSET")
    if len(kernel) != x.tensor.rank - 2 or len(strides) != rank or len(dilations) != rank:
        raise UnsupportedError(c.op, f"a window of {tuple(kernel)} over {x.type}")
    if any(n < 1 for n in (*strides, *dilations)):
        raise UnsupportedError(c.op, f"{strides=}, {dilations=}", expected="numbers of at least 1")
    if auto == "NOTSET":
        pads = tuple(c.attr("pads") or (0,) * (2 * rank))
        if len(pads) != 2 * rank:
            raise UnsupportedError(c.op, f"{pads=}", expected=f"{2 * rank} numbers")
        return strides, dilations, tuple(zip(pads[:rank], pads[rank:]))
    if auto == "VALID":
        return strides, dilations, ((0, 0),) * rank
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedError(c.op, f"auto_pad={auto!r}")
    pairs = []
    sizes = numbers(c.op, "a spatial size", x.shape[2:])
    for size, k, s, d in zip(sizes, kernel, strides, dilations):
        total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        less, more = total // 2, total - total // 2
        pairs.append((less, more) if auto == "SAME_UPPER" else (more, less))
    return strides, dilations, tuple(pairs)


@row("Conv")
def conv(c: Call) -> Results:
    """Convolution."""
    x, weight = c.x(0), c.x(1)
    return convolved(c, x, weight, [c.x(2)] if c.has(2) else [])


def convolved(c: Call, x: Node, weight: Node, bias: Sequence[Node] = ()) -> Node:
    """The convolution that the attributes of a node describe."""
    kernel = numbers(c.op, "a kernel size", weight.shape[2:])
    strides, dilations, pads = window(c, x, kernel)
    return c.add(
        "conv", x, weight, *bias, stride=strides, padding=pads, dilation=dilations,
        groups=c.attr("group", 1),
    )  # fmt: skip


@row("ConvTranspose")
def conv_transpose(c: Call) -> Results:
    """Transposed convolution; its pads cut the result."""
    x, weight = c.x(0), c.x(1)
    kernel = numbers("ConvTranspose", "a kernel size", weight.shape[2:])
    rank = len(kernel)
    strides = tuple(c.attr("strides") or (1,) * rank)
    dilations = tuple(c.attr("dilations") or (1,) * rank)
    more = tuple(c.attr("output_padding") or (0,) * rank)
    sizes = numbers("ConvTranspose", "a spatial size", x.shape[2:])
    full = [
        (n - 1) * s + d * (k - 1) + 1 + m
        for n, s, d, k, m in zip(sizes, strides, dilations, kernel, more)
    ]
    pads = _cut(c, sizes, strides, full)
    even = all(low == high >= 0 for low, high in pads)
    longer = any(p < 0 for pair in pads for p in pair)  # what is beyond holds the bias alone
    bias = [c.x(2)] if c.has(2) else []
    y = c.add(
        "conv_transpose", x, weight, *([] if longer else bias), stride=strides,
        dilation=dilations, output_padding=more, groups=c.attr("group", 1),
        padding=tuple(low for low, _ in pads) if even else (0,) * rank,
    )  # fmt: skip
    if not even:
        low, high = ((0, 0, *(-p[side] for p in pads)) for side in (0, 1))
        y = c.add("pad", y, low=low, high=high, mode="constant", value=0.0)
    if longer and bias:
        y = c.add("add", y, c.reshape(bias[0], (y.shape[1], *(1,) * rank)))
    return y


def _cut(c: Call, sizes: Ints, strides: Ints, full: Sequence[int]) -> Pads:
    """How much of the full result falls away at both ends of each axis."""
    rank, auto = len(sizes), c.attr("auto_pad", "NOTSET")
    wanted = c.attr("output_shape")
    if wanted is None and auto in ("NOTSET", "VALID"):
        pads = tuple(c.attr("pads") or (0,) * (2 * rank)) if auto == "NOTSET" else (0,) * 2 * rank
        return tuple(zip(pads[:rank], pads[rank:]))
    targets = [n * s for n, s in zip(sizes, strides)] if wanted is None else list(wanted)[-rank:]
    pairs = []
    for have, want in zip(full, targets):
        total = have - want
        less, more = max(total, 0) // 2, total - max(total, 0) // 2
        # what is missing stands at the end, as it does where strides are larger than windows
        pairs.append((less, more) if auto == "SAME_UPPER" or total < 0 else (more, less))
    return tuple(pairs)


@row("Col2Im")
def col2im(c: Call) -> Results:
    """Windows added up where they lie: a transposed convolution by 1 for each place of a window."""
    x, image, block = c.x(0), c.integers(1), c.integers(2)
    rank, taps = len(block), math.prod(block)
    strides, dilations = (tuple(c.attr(n) or (1,) * rank) for n in ("strides", "dilations"))
    pads = tuple(c.attr("pads") or (0,) * (2 * rank))
    pairs = tuple(zip(pads[:rank], pads[rank:]))
    spans = [d * (k - 1) + 1 for k, d in zip(block, dilations)]
    counts = [(n + sum(p) - w) // s + 1 for n, p, w, s in zip(image, pairs, spans, strides)]
    n, rows, _ = x.shape
    if not isinstance(rows, int) or rank > 3:
        c.refuse("windows of many axes, or channels that depend on the batch size B")
    channels = rows // taps
    ones = np.tile(
        np.eye(taps, dtype=np.float32).reshape(taps, 1, *block), (channels, *[1] * (rank + 1))
    )
    y = c.add(
        "conv_transpose", c.reshape(x, (n, rows, *counts)), c.cast(c.constant(ones), x.dtype),
        stride=strides, dilation=dilations, padding=(0,) * rank, output_padding=(0,) * rank,
        groups=channels,
    )  # fmt: skip
    reached = [(m - 1) * s + w for m, s, w in zip(counts, strides, spans)]
    low = (0, 0, *(-a for a, _ in pairs))
    high = (0, 0, *(size + a - r for size, (a, _), r in zip(image, pairs, reached)))
    return padded(c, y, low, high)


# ---- matrix products


def product(c: Call, a: Node, b: Node) -> Node:
    """NumPy's matmul, vectors included; a linear layer where b is a known matrix."""
    if a.tensor.rank == 0 or b.tensor.rank == 0:
        raise UnsupportedError(c.op, "a product of numbers without axes")
    if b.op in ("parameter", "constant") and b.tensor.rank == 2 and a.tensor.rank > 1:
        return c.add("linear", a, c.permute(b, (1, 0)))
    left = c.reshape(a, (1, *a.shape)) if a.tensor.rank == 1 else a
    right = c.reshape(b, (*b.shape, 1)) if b.tensor.rank == 1 else b
    y = c.add("matmul", left, right)
    shape = list(y.shape)
    if a.tensor.rank == 1:
        del shape[-2]
    if b.tensor.rank == 1:
        del shape[-1]
    return c.reshape(y, tuple(shape))


@row("MatMul")
def matmul(c: Call) -> Results:
    """The product of matrices, or of batches of them."""
    return product(c, c.x(0), c.x(1))


@row("Gemm")
def gemm(c: Call) -> Results:
    """alpha a b + beta c, with a or b transposed."""
    a, b = c.x(0), c.x(1)
    a = c.permute(a, (1, 0)) if c.attr("transA", 0) else a
    alpha, beta = c.attr("alpha", 1.0), c.attr("beta", 1.0)
    if a.dtype.kind != "float" and not (float(alpha).is_integer() and float(beta).is_integer()):
        c.refuse("a product of matrices of integers and a factor that is none")
    if b.op in ("parameter", "constant"):
        weight = b if c.attr("transB", 0) else c.permute(b, (1, 0))
        columns = weight.shape[0]
        if alpha == beta == 1 and c.has(2) and c.shape(2) in ((columns,), (1, columns)):
            return c.add("linear", a, weight, c.reshape(c.x(2), (columns,)))
        y = c.add("linear", a, weight)
    else:
        y = c.add("matmul", a, c.permute(b, (1, 0)) if c.attr("transB", 0) else b)
    y = c.scaled(y, alpha)
    return c.add("add", y, c.scaled(c.x(2), beta)) if c.has(2) and beta else y


@row("Einsum")
def einsum(c: Call) -> Results:
    """Products summed over the axes that the result does not have, two inputs at a time."""
    terms, result = _equation(c)
    nodes = c.all()
    if len(terms) != len(nodes) or any(len(t) != n.tensor.rank for t, n in zip(terms, nodes)):
        raise UnsupportedError("Einsum", f"{c.attr('equation')!r} of {len(nodes)} inputs")
    if any(max(Counter(t).values(), default=1) > 1 for t in terms):
        c.refuse("a diagonal")
    term, node = terms[0], nodes[0]
    for number, (other, right) in enumerate(zip(terms[1:], nodes[1:])):
        kept = set(result).union(*terms[number + 2 :])
        term, node = _contracted(c, term, node, other, right, kept)
    summed = tuple(k for k, letter in enumerate(term) if letter not in result)
    if summed:
        node = c.add("sum", node, axes=summed, keepdims=False)
        term = "".join(x for x in term if x in result)
    return c.permute(node, [term.index(letter) for letter in result])


def _equation(c: Call) -> tuple[list[str], str]:
    """Letters of the inputs and of the result; the axes of an ellipsis get capital letters."""
    text = re.sub(r"\s", "", c.needed("equation"))
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if not re.fullmatch(r"[a-zA-Z.,]*", left) or any(
        t.replace("...", "").count(".") for t in terms
    ):
        raise UnsupportedError("Einsum", f"equation={text!r}")
    dots = [
        c.rank(n) - len(t) + 3 if "..." in t else 0 for n, t in enumerate(terms[: len(c.inputs)])
    ]
    free = [x for x in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if x not in text]
    longest = max(dots, default=0)
    if len(free) < longest or any(d < 0 for d in dots):
        raise UnsupportedError("Einsum", f"equation={text!r}")
    spelt = "".join(free[:longest])
    terms = [t.replace("...", spelt[longest - d :]) for t, d in zip(terms, dots)]
    if arrow:
        return terms, right.replace("...", spelt)
    counts = Counter("".join(terms))
    once = "".join(sorted(x for x, n in counts.items() if n == 1 and x not in spelt))
    return terms, spelt + once


def _contracted(c: Call, a: str, x: Node, b: str, y: Node, kept: set[str]) -> tuple[str, Node]:
    """Two factors as one matrix product: shared axes that stay, rows, columns, summed axes."""
    shared = [k for k in a if k in b and k in kept]
    summed = [k for k in a if k in b and k not in kept]
    rows = [k for k in a if k not in b]
    columns = [k for k in b if k not in a]
    sizes: dict[str, Size] = {}
    for letters, node in ((a, x), (b, y)):
        for letter, size in zip(letters, node.shape):
            if sizes.setdefault(letter, size) != size:
                c.refuse(f"the axis {letter} has two sizes")
    count = _volume(sizes, summed)
    left = c.permute(x, [a.index(k) for k in (*shared, *rows, *summed)])
    right = c.permute(y, [b.index(k) for k in (*shared, *summed, *columns)])
    lead = [sizes[k] for k in shared]
    left = c.reshape(left, (*lead, _volume(sizes, rows), count))
    right = c.reshape(right, (*lead, count, _volume(sizes, columns)))
    found = c.add("matmul", left, right)
    order = "".join((*shared, *rows, *columns))
    return order, c.reshape(found, [sizes[k] for k in order])


def _volume(sizes: dict[str, Size], letters: Sequence[str]) -> Size:
    total: Size = 1
    for letter in letters:
        size = sizes[letter]
        if isinstance(total, Dim) and isinstance(size, Dim):
            raise UnsupportedError("Einsum", "an axis that is not linear in the batch size B")
        total = total * size
    return total
