"""Every operator on every sample, against the function of PyTorch that it stands for.

`MEANING[op](attributes, *tensors)` is that function. All is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as nn

import sol.ops  # noqa: F401  fills the table
from sol.core.dtypes import F32, F64, DType
from sol.ir.graph import Literal
from sol.ops import PUBLIC
from sol.ops.reference import by_expansion, evaluate, in_float64
from sol.ops.registry import OPS, OpDef, Sample
from sol.ops.sampling import f32, sample_arrays, sample_graph

Meaning = Callable[..., Any]
Attrs = dict[str, Any]


def dtype(sol: DType) -> torch.dtype:
    """PyTorch's type of the same values; float32 is float64, as these tests compute."""
    return torch.float64 if sol.kind == "float" else getattr(torch, sol.numpy)


def by_name(*names: str) -> dict[str, Meaning]:
    return {name: ignoring_attributes(getattr(torch, name)) for name in names}


def ignoring_attributes(function: Callable[..., Any]) -> Meaning:
    return lambda a, *tensors: function(*tensors)


def literal(value: Literal) -> Tensor:
    return torch.from_numpy(value.array.copy()).to(dtype(value.dtype))


def constant_pad(a: Attrs, x: Tensor) -> Tensor:
    widths = [w for pair in zip(reversed(a["low"]), reversed(a["high"])) for w in pair]
    if a["mode"] == "constant":
        return nn.pad(x, widths, value=a["value"])
    spatial = 2 * (x.ndim - 2) if x.ndim > 2 else 2  # these modes pad the last axes only
    batched = x if x.ndim > 2 else x[None]
    return nn.pad(batched, widths[:spatial], mode=a["mode"]).reshape_as(
        batched.new_empty([s + low + high for s, low, high in zip(x.shape, a["low"], a["high"])])
    )


def pool(kind: str) -> Meaning:
    names = {"padding": "padding", "dilation": "dilation", "ceil": "ceil_mode",
             "count_include_pad": "count_include_pad", "divisor": "divisor_override"}  # fmt: skip

    def run(a: Attrs, x: Tensor) -> Tensor:
        rank = len(a["kernel"])
        more = {new: a[old] for old, new in names.items() if a.get(old) is not None}
        return getattr(nn, f"{kind}_pool{rank}d")(x, a["kernel"], a["stride"], **more)

    return run


def adaptive(kind: str) -> Meaning:
    return lambda a, x: getattr(nn, f"adaptive_{kind}_pool{len(a['size'])}d")(x, a["size"])


def conv(a: Attrs, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    widths = [p for pair in reversed(a["padding"]) for p in pair]
    run = getattr(nn, f"conv{x.ndim - 2}d")
    return run(nn.pad(x, widths), w, b, a["stride"], 0, a["dilation"], a["groups"])


def conv_transpose(a: Attrs, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    run = getattr(nn, f"conv_transpose{x.ndim - 2}d")
    more = (a["stride"], a["padding"], a["output_padding"], a["groups"], a["dilation"])
    return run(x, w, b, *more)


def interleave(a: Attrs, *parts: Tensor) -> Tensor:
    """By repeated stacking: the last axis first, whose parts stand side by side."""
    left = list(parts)
    for axis, step in reversed(list(zip(a["axes"], a["steps"]))):
        left = [_woven(left[k : k + step], axis) for k in range(0, len(left), step)]
    return left[0]


def _woven(parts: list[Tensor], axis: int) -> Tensor:
    total = sum(p.shape[axis] for p in parts)
    places = [range(k, total, len(parts)) for k in range(len(parts))]
    order = torch.tensor([i for place in places for i in place])
    return torch.cat(parts, axis).index_select(axis, order.argsort())


def layer_norm(a: Attrs, x: Tensor, *parameters: Tensor) -> Tensor:
    given = list(parameters)
    weight = given.pop(0) if a["has_weight"] else None
    bias = given.pop(0) if a["has_bias"] else None
    return nn.layer_norm(x, x.shape[x.ndim - a["axes_count"] :], weight, bias, a["eps"])


def batch_norm(a: Attrs, x: Tensor, mean: Tensor, var: Tensor, *affine: Tensor) -> Tensor:
    return nn.batch_norm(x, mean, var, *affine, eps=a["eps"])


def interpolate(a: Attrs, x: Tensor) -> Tensor:
    rank = x.ndim - 2
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    mode = {"nearest_exact": "nearest-exact", "linear": linear, "cubic": "bicubic"}.get(
        a["mode"], a["mode"]
    )
    align = a["align_corners"] if a["mode"] in ("linear", "cubic") else None
    size = {"size": a["size"]} if a["scales"] is None else {"scale_factor": a["scales"]}
    return nn.interpolate(x, mode=mode, align_corners=align, **size)


def index(a: Attrs, x: Tensor, *indices: Tensor) -> Tensor:
    key: list[Any] = [slice(None)] * x.ndim
    for axis, i in zip(a["axes"], indices):
        key[axis] = i
    return x[tuple(key)]


def take(a: Attrs, x: Tensor, i: Tensor) -> Tensor:
    return x[(slice(None),) * a["axis"] + (i.long(),)]


def gather(a: Attrs, x: Tensor, i: Tensor) -> Tensor:
    extent = x.shape[a["axis"]]
    return torch.gather(x, a["axis"], torch.where(i < 0, i + extent, i).long())


def attention(a: Attrs, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    if a["causal"] and mask is not None:
        allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        mask = mask.masked_fill(~allowed, float("-inf"))
    causal = a["causal"] and mask is None
    k, v = (x.repeat_interleave(a["groups"], -3) if a["groups"] > 1 else x for x in (k, v))
    return nn.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, scale=a["scale"]
    )


def recurrent(kind: str, states: int) -> Meaning:
    def run(a: Attrs, x: Tensor, *rest: Tensor) -> Sequence[Tensor]:
        initial, weights = rest[:states], list(rest[states:])
        names = ("layers", "bidirectional", "bias", "batch_first")
        layers, bidirectional, bias, batch_first = (a[n] for n in names)
        call = getattr(torch, kind if kind != "rnn" else f"rnn_{a['nonlinearity']}")
        state = list(initial) if states == 2 else initial[0]
        return call(x, state, weights, bias, layers, 0.0, False, bidirectional, batch_first)

    return run


def _cell(name: str, x: list[Tensor], r: list[Tensor], s: list[Tensor]) -> tuple[Any, Any]:
    """New states, and what is kept."""
    if name == "lstm":
        i, f, o = (torch.sigmoid(x[k] + r[k]) for k in (0, 1, 3))
        g = torch.tanh(x[2] + r[2])
        c = f * s[1] + i * g
        return [o * torch.tanh(c), c], [i, f, g, o]
    if name == "gru":
        reset, z = torch.sigmoid(x[0] + r[0]), torch.sigmoid(x[1] + r[1])
        n = torch.tanh(x[2] + reset * r[2])
        return [(1 - z) * n + z * s[0]], [reset, z, n, r[2]]
    if name == "reset_first":
        reset, z, n = (f(a + b) for f, a, b in zip((*[torch.sigmoid] * 2, torch.tanh), x, r))
        _, h, before, second = s
        new = (1 - before) * n + before * h
        first = second <= 0.5
        pairs = ((reset * h, new), (h, new), (z, before), (reset, n))
        s, h, z, gate = (torch.where(first, a, b) for a, b in pairs)
        return [s, h, z, 1 - second], [gate, z]
    return [getattr(torch, name)(x[0] + r[0])], []


def recurrence(a: Attrs, gates: Tensor, weight: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    """Step by step."""
    count, hidden = {"lstm": 2, "reset_first": 4}.get(a["cell"], 1), weight.shape[1]
    states, bias = [s[0] for s in rest[:count]], sum(rest[count:])
    axis = 1 if a["batch_first"] else 0
    found = []
    for x in gates.unbind(axis)[:: -1 if a["reverse"] else 1]:
        r = states[0] @ weight.T + bias
        states, kept = _cell(a["cell"], *(list(g.split(hidden, -1)) for g in (x, r)), states)
        found.append([*states, *([torch.cat(kept, -1)] if kept else [])])
    steps = found[:: -1 if a["reverse"] else 1]
    return tuple(torch.stack(s, axis) for s in zip(*steps))


def roll(a: Attrs, x: Tensor) -> Tensor:
    return torch.roll(x, a["shifts"], a["axes"])


def reduction(name: str) -> Meaning:
    def run(a: Attrs, x: Tensor) -> Tensor:
        if not a["axes"]:  # PyTorch reduces over all axes then
            return x.bool() if name in ("any", "all") else x
        if name in ("prod", "any", "all"):
            for axis in sorted(a["axes"], reverse=True):
                x = getattr(torch, name)(x, axis, keepdim=a["keepdims"])
            return x
        return getattr(torch, name)(x, a["axes"], keepdim=a["keepdims"])

    return run


def slice_assign(a: Attrs, x: Tensor, value: Tensor) -> Tensor:
    return torch.slice_scatter(x, value, a["axis"], a["start"], a["stop"], a["step"])


def derivative(a: Attrs, dy: Tensor, *operands: Tensor) -> Tensor:
    if a["of"] == "tanh":  # of the result
        return dy * (1 - operands[0] ** 2)
    given = [x.detach().expand_as(dy).clone().requires_grad_() for x in operands]
    y = MEANING[a["of"]](dict(a["given"]), *given)
    (found,) = torch.autograd.grad(y.sum(), given[a["wrt"]])
    return dy * found


def conv_weight_gradient(a: Attrs, x: Tensor, dy: Tensor) -> Tensor:
    results = (dy.shape[1], x.shape[1] // a["groups"], *a["kernel"])
    w = torch.zeros(results, dtype=x.dtype, requires_grad=True)
    (found,) = torch.autograd.grad(conv(a, x, w), w, dy)
    return found


def fold(a: Attrs, x: Tensor) -> Tensor:
    """By putting every element where it belongs."""
    axis, extent = a["axis"], a["extent"]
    y = torch.zeros([extent if k == axis else n for k, n in enumerate(x.shape[:-1])])
    for i in range(x.shape[axis]):
        for k in range(x.shape[-1]):
            place = i * a["step"] + k * a["dilation"] - a["low"]
            if 0 <= place < extent:
                y.select(axis, place).add_(x.select(axis, i)[..., k])
    return y


def spread(a: Attrs, x: Tensor, place: Tensor | None = None) -> Tensor:
    """A transposed convolution of each channel by ones; or of what has this place, by one 1."""
    rank, channels, count = len(a["kernel"]), x.shape[1], math.prod(a["kernel"])
    run = getattr(nn, f"conv_transpose{rank}d")
    total = torch.zeros(*x.shape[:2], *a["size"], dtype=x.dtype)
    for k in range(count):
        window = torch.zeros(count, dtype=x.dtype)
        window[k] = 1
        weight = window.reshape(1, 1, *a["kernel"]).expand(channels, 1, *a["kernel"])
        chosen = x if place is None else torch.where(place == k, x, 0)
        more = (a["stride"], 0, 0, channels, a["dilation"])
        full = nn.pad(run(chosen, weight, None, *more), [0, 50] * rank)
        for axis, (p, n) in enumerate(zip(a["padding"], a["size"]), 2):
            full = full.narrow(axis, p, n)
        total = total + full
    return total


def max_pool_index(a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """Window by window."""
    found = torch.full(y.shape, math.prod(a["kernel"]))
    for at in np.ndindex(*y.shape):
        for number, tap in enumerate(np.ndindex(*a["kernel"])):
            place = [
                i * s + k * d - p
                for i, k, s, p, d in zip(at[2:], tap, a["stride"], a["padding"], a["dilation"])
            ]
            inside = all(0 <= p < n for p, n in zip(place, x.shape[2:]))
            if inside and x[(*at[:2], *place)] == y[at]:
                found[at] = number
                break
    return found.to(y.dtype)


def scatter_add(a: Attrs, i: Tensor, x: Tensor) -> Tensor:
    rows = x.reshape(-1, *x.shape[i.ndim :])
    y = torch.zeros(a["extent"], *rows.shape[1:], dtype=x.dtype)
    return y.index_add(0, i.reshape(-1) % a["extent"], rows)


def gather_add(a: Attrs, i: Tensor, x: Tensor) -> Tensor:
    return torch.zeros(a["shape"], dtype=x.dtype).scatter_add(
        a["axis"], i % a["shape"][a["axis"]], x
    )


def mixed(x: int) -> int:
    """The hash of random numbers in Python's whole numbers."""
    for _ in range(2):
        x = (x ^ x >> 16) * 0x45D9F3B % 2**32
    return x ^ x >> 16


def random_key(a: Attrs, seed: Tensor) -> Tensor:
    first = mixed((int(seed) + a["stream"] * 0x9E3779B1) % 2**32)
    return torch.tensor([first, mixed(int(seed) >> 32 ^ first)])


def random_numbers(a: Attrs, key: Tensor) -> Tensor:
    first, second = key.tolist()
    count = math.prod(a["shape"])
    numbers = [mixed((n + first) % 2**32 ^ second) // 256 / 2**24 for n in range(count)]
    return torch.tensor(numbers).reshape(a["shape"])


def random(a: Attrs, seed: Tensor) -> Tensor:
    return random_numbers(a, random_key(a, seed))


MEANING: dict[str, Meaning] = {
    **by_name(
        "neg", "abs", "sign", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt",
        "reciprocal", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "erf",
        "sigmoid", "relu", "floor", "ceil", "round", "trunc", "square", "logical_not",
        "bitwise_not", "isnan", "isinf", "add", "sub", "mul", "div", "fmod", "pow", "atan2", "eq",
        "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and",
        "bitwise_or", "bitwise_xor", "where", "matmul",
    ),
    "ndtr": lambda a, x: torch.special.ndtr(x),
    "left_shift": lambda a, x, y: torch.bitwise_left_shift(x, y),
    "right_shift": lambda a, x, y: torch.bitwise_right_shift(x, y),
    "floordiv": lambda a, x, y: torch.floor_divide(x, y),
    "mod": lambda a, x, y: torch.remainder(x, y),
    "max": lambda a, x, y: torch.maximum(x, y),
    "min": lambda a, x, y: torch.minimum(x, y),
    "clamp": lambda a, x: torch.clamp(x, a["low"], a["high"]),
    "cast": lambda a, x: x.to(dtype(a["dtype"])),
    "leaky_relu": lambda a, x: nn.leaky_relu(x, a["slope"]),
    "elu": lambda a, x: torch.ops.aten.elu(x, a["alpha"], a["scale"], a["input_scale"]),
    "gelu": lambda a, x: nn.gelu(x, approximate=a["approximate"]),
    "silu": lambda a, x: nn.silu(x),
    "hardswish": lambda a, x: nn.hardswish(x),
    "hardsigmoid": lambda a, x: nn.hardsigmoid(x),
    "mish": lambda a, x: nn.mish(x),
    "softplus": lambda a, x: nn.softplus(x, a["beta"], a["threshold"]),
    "softsign": lambda a, x: nn.softsign(x),
    "softshrink": lambda a, x: nn.softshrink(x, a["lambd"]),
    "hardshrink": lambda a, x: nn.hardshrink(x, a["lambd"]),
    "threshold": lambda a, x: nn.threshold(x, a["threshold"], a["value"]),
    "log_sigmoid": lambda a, x: nn.logsigmoid(x),
    "tanhshrink": lambda a, x: nn.tanhshrink(x),
    "logit": lambda a, x: torch.logit(x, a["eps"]),
    "prelu": lambda a, x, slope: nn.prelu(x, slope),
    "constant": lambda a: literal(a["value"]),
    "iota": lambda a: torch.arange(a["shape"][a["axis"]], dtype=dtype(a["dtype"])).reshape(
        [-1 if k == a["axis"] else 1 for k in range(len(a["shape"]))]).expand(a["shape"]),
    "full": lambda a: torch.full(a["shape"], a["value"], dtype=dtype(a["dtype"])),
    "reshape": lambda a, x: x.reshape(a["shape"]),
    "permute": lambda a, x: x.permute(a["axes"]),
    "kept": lambda a, x: x.permute(a["axes"]),
    "expand": lambda a, x: x.expand(a["shape"]),
    "slice": lambda a, x: torch.ops.aten.slice(x, a["axis"], a["start"], a["stop"], a["step"]),
    "concat": lambda a, *x: torch.cat(x, a["axis"]),
    "interleave": interleave,
    "pad": constant_pad,
    "roll": roll,
    "flip": lambda a, x: torch.flip(x, a["axes"]),
    "pixel_shuffle": lambda a, x: nn.pixel_shuffle(x, a["factor"]),
    "pixel_unshuffle": lambda a, x: nn.pixel_unshuffle(x, a["factor"]),
    "channel_shuffle": lambda a, x: torch.channel_shuffle(
        x.reshape(*x.shape, *[1] * (4 - x.ndim)), a["groups"]).reshape(x.shape),
    "gather": gather,
    "take": take,
    "index": index,
    "interpolate": interpolate,
    "tril": lambda a, x: torch.tril(x, a["diagonal"]),
    "triu": lambda a, x: torch.triu(x, a["diagonal"]),
    "repeat": lambda a, x: x.repeat(a["repeats"]),
    "slice_assign": slice_assign,
    "select_assign": lambda a, x, v: torch.select_scatter(x, v, a["axis"], a["index"]),
    "one_hot": lambda a, x: nn.one_hot(x, a["classes"]),
    "unfold": lambda a, x: x.unfold(a["axis"], a["size"], a["step"]),
    "im2col": lambda a, x: nn.unfold(x, a["kernel"], a["dilation"], a["padding"], a["stride"]),
    "grid_sample": lambda a, x, g: nn.grid_sample(
        x, g, a["mode"], a["padding_mode"], a["align_corners"]),
    **{name: reduction(name) for name in ("sum", "mean", "prod", "any", "all")},
    "max_reduce": lambda a, x: torch.amax(x, a["axes"], a["keepdims"]) if a["axes"] else x,
    "min_reduce": lambda a, x: torch.amin(x, a["axes"], a["keepdims"]) if a["axes"] else x,
    "var": lambda a, x: torch.var(
        x, a["axes"], correction=a["correction"], keepdim=a["keepdims"]),
    "argmax": lambda a, x: torch.argmax(x, a["axis"], a["keepdims"]),
    "argmin": lambda a, x: torch.argmin(x, a["axis"], a["keepdims"]),
    "norm": lambda a, x: torch.linalg.vector_norm(x, a["ord"], a["axes"], a["keepdims"]),
    "logsumexp": lambda a, x: torch.logsumexp(x, a["axes"], a["keepdims"]),
    "cumsum": lambda a, x: torch.cumsum(x, a["axis"]),
    "cumprod": lambda a, x: torch.cumprod(x, a["axis"]),
    "max_pool": pool("max"),
    "avg_pool": pool("avg"),
    "adaptive_avg_pool": adaptive("avg"),
    "adaptive_max_pool": adaptive("max"),
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": lambda a, x, *w: nn.rms_norm(x, x.shape[x.ndim - a["axes_count"] :], *w,
                                            eps=a["eps"]),
    "group_norm": lambda a, x, *p: nn.group_norm(x, a["groups"], *p, eps=a["eps"]),
    "softmax": lambda a, x: torch.softmax(x, a["axis"]),
    "log_softmax": lambda a, x: torch.log_softmax(x, a["axis"]),
    "local_response_norm": lambda a, x: nn.local_response_norm(
        x, a["size"], a["alpha"], a["beta"], a["k"]),
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": lambda a, *t: nn.linear(*t),
    "attention": attention,
    "derivative": derivative,
    "detach": lambda a, x: x.detach(),
    "linear_weight_gradient": lambda a, x, dy: dy.flatten(0, -2).T @ x.flatten(0, -2)
    if x.ndim > 1 else dy[:, None] * x[None],
    "conv_weight_gradient": conv_weight_gradient,
    "fold": fold,
    "spread": spread,
    "max_pool_index": max_pool_index,
    "scatter_add": scatter_add,
    "gather_add": gather_add,
    "random": random,
    "random_key": random_key,
    "random_numbers": random_numbers,
    "extent": lambda a: torch.tensor(a["size"], dtype=dtype(a["dtype"])),
    "lstm": recurrent("lstm", 2),
    "gru": recurrent("gru", 1),
    "rnn": recurrent("rnn", 1),
    "recurrence": recurrence,
}  # fmt: skip


CASES = [
    pytest.param(OPS[name], meaning, sample, id=f"{name}-{n}")
    for name, meaning in MEANING.items()
    for n, sample in enumerate(OPS[name].samples)
]


@pytest.fixture(autouse=True)
def _integers_become_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def run_both(entry: OpDef, meaning: Any, sample: Sample, arrays: dict[str, Any]) -> None:
    graph = sample_graph(entry, sample)
    found = evaluate(graph, arrays, dtype=F64)
    types = {n.name: n.dtype.numpy for n in in_float64(graph).inputs}
    tensors = [torch.from_numpy(a.astype(types[name])) for name, a in arrays.items()]
    expected = meaning(sample.attrs, *tensors)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-9, atol=1e-12)


def test_every_operator_has_a_meaning_in_pytorch() -> None:
    # the gradient of recurrence is compared with PyTorch's in test_gradients.py
    without = {"input", "parameter", "item", "recurrence_gradient"}
    assert PUBLIC - set(MEANING) == without


@pytest.mark.parametrize(("entry", "meaning", "sample"), CASES)
def test_samples(entry: OpDef, meaning: Any, sample: Sample) -> None:
    run_both(entry, meaning, sample, sample_arrays(sample))


SPECIAL = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1.0, -1.0, 1e30, -1e30, 1e-30]
UNARY = [
    pytest.param(entry, MEANING[entry.name], entry.samples[0].attrs, id=entry.name)
    for entry in (OPS[name] for name in OPS if name in PUBLIC)
    if entry.kind == "elementwise"
    and entry.name != "cast"
    and [x.dtype for x in entry.samples[0].inputs] == [F32]
]
BINARY = [
    pytest.param(entry, MEANING[entry.name], id=entry.name)
    for entry in (OPS[name] for name in OPS if name in PUBLIC)
    if entry.kind == "elementwise"
    and entry.name != "derivative"
    and len(entry.samples[0].inputs) == 2
    and entry.samples[0].inputs[0].dtype == F32
]


@pytest.mark.parametrize(("entry", "meaning", "attrs"), UNARY)
def test_nan_and_infinity(entry: OpDef, meaning: Any, attrs: Attrs) -> None:
    run_both(entry, meaning, Sample((f32(10),), attrs), {"x0": np.array(SPECIAL)})


@pytest.mark.parametrize(("entry", "meaning"), BINARY)
def test_nan_and_infinity_of_two(entry: OpDef, meaning: Any) -> None:
    if entry.name == "prelu":
        arrays = {"x0": np.array(SPECIAL)[:, None], "x1": np.array([0.25])}
        run_both(entry, meaning, Sample((f32(10, 1), f32(1))), arrays)
        return
    x = np.array(SPECIAL)
    x = x[np.abs(x) < 1e20] if entry.name == "mod" else x  # PyTorch: inf mod 1 is nan or 1
    arrays = {"x0": x[:, None], "x1": x}
    run_both(entry, meaning, Sample((f32(len(x), 1), f32(len(x)))), arrays)


@pytest.mark.parametrize(
    ("name", "attrs", "shape"),
    [
        ("max_pool", OPS["max_pool"].samples[0].attrs, (2, 3, 13, 7)),
        ("avg_pool", OPS["avg_pool"].samples[0].attrs, (2, 3, 13, 7)),
        ("adaptive_max_pool", {"size": (5, 3)}, (1, 5, 13, 7)),
        ("softmax", {"axis": 1}, (5, 9)),
        ("log_softmax", {"axis": 1}, (5, 9)),
        ("max_reduce", {"axes": (1,), "keepdims": False}, (5, 9)),
        ("min_reduce", {"axes": (1,), "keepdims": False}, (5, 9)),
        ("logsumexp", {"axes": (1,), "keepdims": False}, (5, 9)),
        ("argmax", {"axis": 1, "keepdims": False}, (5, 9)),
        ("argmin", {"axis": 1, "keepdims": False}, (5, 9)),
        ("norm", {"ord": float("inf"), "axes": (1,), "keepdims": False}, (5, 9)),
        ("cumsum", {"axis": 1}, (5, 9)),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_special_value_among_others(
    name: str, attrs: Attrs, shape: tuple[int, ...], value: float
) -> None:
    x = np.random.default_rng(0).uniform(-2, 2, shape)
    x.flat[7] = x.flat[30] = value
    run_both(OPS[name], MEANING[name], Sample((f32(*shape),), attrs), {"x0": x})
    if OPS[name].expand is not None:
        graph = in_float64(sample_graph(OPS[name], Sample((f32(*shape),), attrs)))
        expected = MEANING[name](attrs, torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(by_expansion(graph["y"], x), expected, rtol=1e-9)


def test_rows_of_infinity_stay_what_they_are_in_pytorch() -> None:
    x = np.full((2, 3), float("-inf"))
    for name, attrs in (
        ("softmax", {"axis": 1}),
        ("logsumexp", {"axes": (1,), "keepdims": False}),
    ):
        run_both(OPS[name], MEANING[name], Sample((f32(2, 3),), attrs), {"x0": x})


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_points_far_from_the_image(mode: str, padding_mode: str) -> None:
    x = np.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    points = [1e9, -1e9, 3.5, -40.0, float("inf"), float("-inf"), float("nan")]
    points = points if padding_mode == "zeros" else points[:4]
    grid = np.array([[p, 0.1] for p in points]).reshape(1, 1, -1, 2)
    attrs = {"mode": mode, "padding_mode": padding_mode, "align_corners": False}
    sample = Sample((f32(1, 1, 4, 4), f32(*grid.shape)), attrs)
    run_both(OPS["grid_sample"], MEANING["grid_sample"], sample, {"x0": x, "x1": grid})
