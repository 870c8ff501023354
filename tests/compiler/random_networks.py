"""Random small networks: images, tokens and vectors through operators of every kind.

`random_network(choose)` asks `choose(n)` for a number below n for every decision, so that the
decisions may come from a random generator or from anything else. Operators whose result jumps
where rounding differs (comparisons, rounding, argmax) read inputs only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sol.core.dims import B, Dim, Size
from sol.core.dtypes import BOOL, F32, I64, DType
from sol.core.errors import SolError
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import builder

Choose = Callable[[int], int]
_LARGEST = 40_000  # elements per image
_BINARY = ("add", "mul", "sub", "max", "min", "add", "mul")
_UNARY = (
    *("relu", "sigmoid", "tanh", "neg", "abs", "silu", "square", "hardswish", "erf"),
    *("relu", "sin", "softsign", "exp_of_sigmoid", "mish", "hardsigmoid"),
)
_SHAPES = (
    (B, 3, 9, 11),
    (B, 16, 8, 8),
    (B, 5, 7, 6),
    (B, 33, 4, 5),
    (B, 8, 14, 3),
    (B, 7, 24),
    (B, 5, 3, 6, 4),
    (B, 13),
    (B, 4, 10, 8),
    (2, B, 6),
)


@dataclass
class _Net:
    """The builder, the values that may be used, and the source of decisions."""

    b: Builder
    choose: Choose
    values: list[Node]

    def one_of(self, items: Sequence[object]) -> object:
        return items[self.choose(len(items))]

    def chance(self, one_in: int) -> bool:
        return self.choose(one_in) == 0

    def parameter(self, name: str, *shape: int) -> Node:
        return self.b.parameter(self.b.fresh(name), TensorType(shape, F32))

    def add(self, op: str, *inputs: Node, **attrs: object) -> Node:
        return self.b.add(op, *inputs, **attrs)  # type: ignore[arg-type]

    def value(self) -> Node:
        """One of the values, the latest preferred."""
        recent = self.values[-3:] if not self.chance(3) else self.values
        return recent[self.choose(len(recent))]


def random_network(choose: Choose) -> Graph:
    """A network of up to 25 operators."""
    net = _Net(builder(), choose, [])
    for k in range(1 + choose(2)):
        shape = _SHAPES[choose(len(_SHAPES))]
        net.values.append(net.b.input(f"x{k}", TensorType(shape, F32)))
    for _ in range(5 + choose(20)):
        _step(net)
    return net.b.finish(_results(net))


def _results(net: _Net) -> list[Node]:
    """Every value that no other value reads, and a few more, of which some twice."""
    graph = net.b.finish([])
    ends = [v for v in net.values if v.op != "input" and not graph.users[v.name]]
    more = [net.values[net.choose(len(net.values))] for _ in range(net.choose(3))]
    return [*ends, *more] or net.values[:1]


def _step(net: _Net) -> None:
    """Add one operator, or nothing where it does not fit."""
    make = _MAKERS[net.choose(len(_MAKERS))]
    try:
        result = make(net, net.value())
    except SolError:
        return
    if result is None or not _fits(result.shape) or result.dtype != F32:
        return
    net.values.append(result)


def _fits(shape: Sequence[Size]) -> bool:
    sizes = [s.coef + s.const if isinstance(s, Dim) else s for s in shape]
    symbolic = [s for s in shape if isinstance(s, Dim)]
    return 0 < math.prod(sizes) <= _LARGEST and len(symbolic) <= 1 < len(sizes)


def _fixed(x: Node) -> list[int]:
    """Axes whose size is known."""
    return [k for k, s in enumerate(x.shape) if isinstance(s, int)]


def _size(x: Node, axis: int) -> int:
    size = x.shape[axis]
    assert isinstance(size, int)
    return size


# ---- element-wise --------------------------------------------------------------------------------


def _unary(net: _Net, x: Node) -> Node:
    op = str(net.one_of(_UNARY))
    if op == "exp_of_sigmoid":
        return net.add("exp", net.add("sigmoid", x))
    return net.add(op, x)


def _binary(net: _Net, x: Node) -> Node | None:
    op = str(net.one_of(_BINARY))
    same = [v for v in net.values if v.shape == x.shape]
    other = same[net.choose(len(same))]
    return net.add(op, x, other) if net.chance(2) else net.add(op, other, x)


def _broadcast(net: _Net, x: Node) -> Node:
    """With a parameter along some of the axes, or a number."""
    op = str(net.one_of(_BINARY))
    if net.chance(3):
        return net.add(op, x, net.b.constant(0.25 + net.choose(4), F32))
    shape = [s if isinstance(s, int) and net.chance(2) else 1 for s in x.shape]
    return net.add(op, x, net.parameter("scale", *shape[net.choose(len(shape)) :]))


def _select(net: _Net, x: Node) -> Node | None:
    """where(input of x's shape > 0, …)."""
    alike = [v for v in net.values if v.op == "input" and v.shape == x.shape]
    if not alike:
        return None
    mask = net.add("gt", alike[0], net.b.constant(0.1, F32))
    return net.add("where", mask, x, net.b.constant(-0.5, F32))


def _gated(net: _Net, x: Node) -> Node:
    """x * sigmoid(mean of x over some axes): squeeze and excitation."""
    axes = tuple(_fixed(x)[1:]) or tuple(_fixed(x))
    return net.add("mul", x, net.add("sigmoid", net.add("mean", x, axes=axes, keepdims=True)))


# ---- contractions --------------------------------------------------------------------------------


def _conv(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape) - 2
    if rank < 1 or not isinstance(x.shape[1], int):
        return None
    channels = x.shape[1]
    groups = int(str(net.one_of([g for g in (1, 1, 2, 4, channels) if channels % g == 0])))
    outputs = groups * (1 + net.choose(max(2, 40 // groups)))
    kernel = tuple(1 + net.choose(3) for _ in range(rank))
    weight = net.parameter("weight", outputs, channels // groups, *kernel)
    bias = [net.parameter("bias", outputs)] if net.chance(2) else []
    attrs = {
        "stride": tuple(1 + net.choose(2) for _ in range(rank)),
        "padding": tuple((net.choose(2), net.choose(3)) for _ in range(rank)),
        "dilation": tuple(1 + (net.choose(4) == 0) for _ in range(rank)),
        "groups": groups,
    }
    return net.add("conv", x, weight, *bias, **attrs)


def _conv_transpose(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape) - 2
    if rank < 1 or not isinstance(x.shape[1], int):
        return None
    stride = tuple(1 + net.choose(2) for _ in range(rank))
    kernel = tuple(1 + net.choose(3) for _ in range(rank))
    weight = net.parameter("weight", x.shape[1], 1 + net.choose(20), *kernel)
    attrs = {
        "stride": stride,
        "padding": tuple(net.choose(2) for _ in range(rank)),
        "output_padding": tuple(s - 1 for s in stride),
        "dilation": (1,) * rank,
        "groups": 1,
    }
    return net.add("conv_transpose", x, weight, **attrs)


def _linear(net: _Net, x: Node) -> Node | None:
    if not isinstance(x.shape[-1], int):
        return None
    outputs = 1 + net.choose(50)
    weight = net.parameter("weight", outputs, x.shape[-1])
    bias = [net.parameter("bias", outputs)] if net.chance(2) else []
    return net.add("linear", x, weight, *bias)


def _matmul(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape)
    if rank < 3 or _fixed(x)[-2:] != [rank - 2, rank - 1]:
        return None
    axes = (*range(rank - 2), rank - 1, rank - 2)
    turned = net.add("permute", x, axes=axes)
    scale = net.b.constant(0.1, F32)
    return net.add("matmul", net.add("mul", x, scale), net.add("tanh", turned))


def _attention(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape)
    if rank < 3 or _fixed(x)[-2:] != [rank - 2, rank - 1]:
        return None
    q = net.add("tanh", x)
    v = x if net.chance(2) else net.add("sigmoid", x)
    return net.add("attention", q, x, v, scale=0.2, causal=net.chance(2), groups=1)


def _batch_norm(net: _Net, x: Node) -> Node | None:
    if len(x.shape) < 2 or not isinstance(x.shape[1], int):
        return None
    names = ("mean", "var", "weight", "bias")
    statistics = [net.parameter(n, x.shape[1]) for n in names]
    return net.add("batch_norm", x, *statistics, eps=1e-3, affine=True)


# ---- norms, reductions, windows ------------------------------------------------------------------


def _norm(net: _Net, x: Node) -> Node | None:
    axis = _fixed(x)[net.choose(len(_fixed(x)))]
    kind = net.choose(5)
    if kind == 0:
        return net.add("softmax", x, axis=axis)
    if kind == 1:
        return net.add("log_softmax", x, axis=axis)
    if kind == 2 and len(x.shape) > 1 and isinstance(x.shape[1], int):
        groups = [g for g in (1, 2, 3, 4, x.shape[1]) if x.shape[1] % g == 0]
        attrs = {"groups": groups[net.choose(len(groups))], "eps": 1e-2, "affine": False}
        return net.add("group_norm", x, **attrs)
    count = 1 + net.choose(min(2, len(x.shape) - 1))
    shape = x.shape[-count:]
    if not all(isinstance(s, int) for s in shape):
        return None
    weight = net.parameter("weight", *(int(str(s)) for s in shape))
    if kind == 3:
        return net.add("rms_norm", x, weight, axes_count=count, eps=1e-2)
    attrs = {"axes_count": count, "eps": 1e-2, "has_weight": True, "has_bias": False}
    return net.add("layer_norm", x, weight, **attrs)


def _reduce(net: _Net, x: Node) -> Node | None:
    if len(x.shape) < 2:
        return None
    axes = tuple(a for a in _fixed(x) if net.chance(2)) or (_fixed(x)[-1],)
    op = str(net.one_of(("mean", "sum", "max_reduce", "min_reduce", "var", "logsumexp")))
    attrs: dict[str, object] = {"axes": axes, "keepdims": net.chance(2)}
    return net.add(op, x, **attrs, **({"correction": 0} if op == "var" else {}))


def _cumsum(net: _Net, x: Node) -> Node:
    return net.add("cumsum", x, axis=_fixed(x)[net.choose(len(_fixed(x)))])


def _pool(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape) - 2
    if rank < 1 or not isinstance(x.shape[1], int):
        return None
    kernel = tuple(1 + net.choose(3) for _ in range(rank))
    attrs: dict[str, object] = {
        "kernel": kernel,
        "stride": tuple(1 + net.choose(2) for _ in range(rank)),
        "padding": tuple(net.choose(k // 2 + 1) for k in kernel),
        "ceil": net.chance(2),
    }
    if net.chance(2):
        return net.add("max_pool", x, dilation=(1,) * rank, **attrs)
    return net.add("avg_pool", x, count_include_pad=net.chance(2), divisor=None, **attrs)


def _adaptive_pool(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape) - 2
    if rank < 1 or not isinstance(x.shape[1], int):
        return None
    op = str(net.one_of(("adaptive_avg_pool", "adaptive_max_pool")))
    return net.add(op, x, size=tuple(1 + net.choose(4) for _ in range(rank)))


def _interpolate(net: _Net, x: Node) -> Node | None:
    rank = len(x.shape) - 2
    if rank < 1 or rank > 2 or not isinstance(x.shape[1], int):
        return None
    mode = str(net.one_of(("nearest", "linear")))
    size = tuple(1 + net.choose(12) for _ in range(rank))
    corners = mode == "linear" and net.chance(2)
    return net.add("interpolate", x, size=size, mode=mode, align_corners=corners, scales=None)


# ---- moves ---------------------------------------------------------------------------------------


def _concat(net: _Net, x: Node) -> Node | None:
    axis = _fixed(x)[net.choose(len(_fixed(x)))]

    def fits(v: Node) -> bool:
        same = len(v.shape) == len(x.shape)
        return same and all(k == axis or a == b for k, (a, b) in enumerate(zip(v.shape, x.shape)))

    parts = [v for v in net.values if fits(v)]
    chosen = [parts[net.choose(len(parts))] for _ in range(1 + net.choose(3))]
    return net.add("concat", *chosen, x, axis=axis)


def _slice(net: _Net, x: Node) -> Node:
    axis = _fixed(x)[net.choose(len(_fixed(x)))]
    size = _size(x, axis)
    start = net.choose(size)
    stop = start + 1 + net.choose(size - start)
    return net.add("slice", x, axis=axis, start=start, stop=stop, step=1 + net.choose(2))


def _split_apart(net: _Net, x: Node) -> Node | None:
    """Two halves, each treated on its own, joined the other way round."""
    axis = _fixed(x)[net.choose(len(_fixed(x)))]
    size = _size(x, axis)
    if size < 2:
        return None
    cut = 1 + net.choose(size - 1)
    one = net.add("slice", x, axis=axis, start=0, stop=cut, step=1)
    two = net.add("slice", x, axis=axis, start=cut, stop=size, step=1)
    return net.add("concat", net.add("tanh", two), one, axis=axis)


def _permute(net: _Net, x: Node) -> Node:
    axes = list(range(len(x.shape)))
    if net.chance(2) and len(axes) > 2:
        tail = axes[1:]
        k = net.choose(len(tail))
        return net.add("permute", x, axes=(0, *tail[k:], *tail[:k]))
    i, j = net.choose(len(axes)), net.choose(len(axes))
    axes[i], axes[j] = axes[j], axes[i]
    return net.add("permute", x, axes=tuple(axes))


def _reshape(net: _Net, x: Node) -> Node | None:
    """Merge two neighbouring axes, or split one."""
    k = net.choose(len(x.shape))
    shape = list(x.shape)
    if net.chance(2) and k + 1 < len(shape):
        return net.add("reshape", x, shape=(*shape[:k], shape[k] * shape[k + 1], *shape[k + 2 :]))
    size = shape[k]
    whole = size.coef if isinstance(size, Dim) else size
    factors = [f for f in range(2, whole) if whole % f == 0]
    if not factors:
        return None
    f = factors[net.choose(len(factors))]
    return net.add("reshape", x, shape=(*shape[:k], size // f, f, *shape[k + 1 :]))


def _pad(net: _Net, x: Node) -> Node:
    mode = str(net.one_of(("constant", "reflect", "replicate", "circular")))
    fixed = _fixed(x)
    low, high = (
        tuple(net.choose(3) if k in fixed and k > 0 else 0 for k in range(len(x.shape)))
        for _ in range(2)
    )
    return net.add("pad", x, low=low, high=high, mode=mode, value=0.5)


def _rearrange(net: _Net, x: Node) -> Node | None:
    kind = net.choose(6)
    axis = _fixed(x)[net.choose(len(_fixed(x)))]
    if kind == 0:
        return net.add("flip", x, axes=(axis,))
    if kind == 1:
        return net.add("roll", x, axes=(axis,), shifts=(1 + net.choose(3),))
    if kind == 2:
        return net.add("pixel_shuffle", x, factor=2)
    if kind == 3:
        return net.add("channel_shuffle", x, groups=2)
    if kind == 4:
        return net.add("repeat", x, repeats=(*(1 for _ in x.shape[1:]), 2))
    return net.add("pixel_unshuffle", x, factor=2)


def _take(net: _Net, x: Node) -> Node:
    """Elements along an axis at positions that are an input."""
    axis = _fixed(x)[net.choose(len(_fixed(x)))]
    count = net.b.fresh("index")
    position = net.b.input(count, TensorType((1 + net.choose(6),), I64))
    size = net.b.constant(_size(x, axis), I64)
    return net.add("take", x, net.add("mod", position, size), axis=axis)


def _mask(net: _Net, x: Node) -> Node:
    """A boolean input decides."""
    shape: list[Size] = [s if net.chance(2) else 1 for s in x.shape]
    if not any(isinstance(s, Dim) for s in shape):
        shape[0] = x.shape[0]
    mask = net.b.input(net.b.fresh("mask"), TensorType(tuple(shape), _dtype(net)))
    if mask.dtype == BOOL:
        return net.add("where", mask, x, net.add("neg", x))
    return net.add("mul", x, net.add("cast", mask, dtype=F32))


def _dtype(net: _Net) -> DType:
    return BOOL if net.chance(2) else I64


_MAKERS: tuple[Callable[[_Net, Node], Node | None], ...] = (
    *(_unary, _unary, _unary, _binary, _binary, _broadcast, _broadcast, _select, _gated),
    *(_conv, _conv, _conv, _conv_transpose, _linear, _linear, _matmul, _attention, _batch_norm),
    *(_norm, _norm, _reduce, _cumsum, _pool, _pool, _adaptive_pool, _interpolate),
    *(_concat, _concat, _slice, _split_apart, _permute, _permute, _reshape, _reshape, _pad),
    *(_rearrange, _take, _mask),
)
