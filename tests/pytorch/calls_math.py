"""Calls for test_rows: element-wise operators, arithmetic, whole modules."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

Call = tuple[Any, ...]  # name, function or module, sizes of inputs
GROUPS: dict[str, list[Call]] = {}

V = (5,)  # a vector for each sample
M = (4, 6)
IMG = (4, 7, 9)

UNARY = [
    "neg",
    "abs",
    "sign",
    "relu",
    "floor",
    "ceil",
    "round",
    "trunc",
    "square",
    "exp",
    "expm1",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "sigmoid",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "sgn",
    "atan",
    "reciprocal",
    "positive",
    "sinc",
    "frac",
]


GROUPS["unary"] = [(n, getattr(torch, n), V) for n in UNARY]


GROUPS["ranges"] = (
    [(n, getattr(torch, n), ("pos", 5)) for n in ("log", "log1p", "log2", "log10", "sqrt", "rsqrt")]
    + [(n, getattr(torch, n), ("unit", 5)) for n in ("asin", "acos", "logit")]
    + [
        (f"int_{n}", getattr(torch, n), ("i", 5))
        for n in (
            "neg",
            "abs",
            "sign",
            "exp",
            "sigmoid",
            "floor",
            "isnan",
            "logical_not",
            "bitwise_not",
            "square",
            "sin",
        )
    ]
)


ACTIVATIONS: list[tuple[str, Any]] = [
    ("relu6", F.relu6),
    ("hardtanh", lambda x: F.hardtanh(x, -0.5, 0.7)),
    ("hardswish", F.hardswish),
    ("hardsigmoid", F.hardsigmoid),
    ("silu", F.silu),
    ("mish", F.mish),
    ("gelu", F.gelu),
    ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
    ("elu", lambda x: F.elu(x, 0.7)),
    ("selu", F.selu),
    ("celu", lambda x: F.celu(x, 1.3)),
    ("leaky_relu", lambda x: F.leaky_relu(x, 0.2)),
    ("softplus", lambda x: F.softplus(x, 2, 3)),
    ("softsign", F.softsign),
    ("tanhshrink", F.tanhshrink),
    ("softshrink", lambda x: F.softshrink(x, 0.3)),
    ("hardshrink", lambda x: F.hardshrink(x, 0.3)),
    ("threshold", lambda x: F.threshold(x, 0.1, 20.0)),
    ("logsigmoid", F.logsigmoid),
    ("rrelu", lambda x: F.rrelu(x)),
    ("glu", lambda x: F.glu(x, 1)),
    ("dropout", lambda x: F.dropout(x, 0.5, False)),
    ("clamp", lambda x: x.clamp(-0.3, 0.4)),
    ("clamp_min", lambda x: x.clamp(min=0.1)),
    ("clamp_max", lambda x: x.clamp_max(0.1)),
    ("nan_to_num", torch.nan_to_num),
    ("normalize", lambda x: F.normalize(x, dim=1)),
]


GROUPS["activations"] = [(n, f, M) for n, f in ACTIVATIONS]


GROUPS["modules"] = [
    ("prelu_one", nn.PReLU(), IMG),
    ("prelu_channels", nn.PReLU(4), IMG),
    ("prelu_vector", nn.PReLU(5), V),
    ("linear", nn.Linear(5, 3), V),
    ("linear_no_bias", nn.Linear(6, 3, bias=False), M),
    ("bilinear_mlp", nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 2)), M),
    ("conv1d", nn.Conv1d(4, 6, 3, 2, 1), (4, 11)),
    ("conv2d", nn.Conv2d(4, 6, 3), IMG),
    ("conv2d_all", nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (1, 2), groups=2), IMG),
    ("conv2d_same", nn.Conv2d(4, 6, 4, padding="same"), IMG),
    ("conv2d_valid", nn.Conv2d(4, 6, 3, padding="valid"), IMG),
    ("conv2d_reflect", nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), IMG),
    ("depthwise", nn.Conv2d(4, 8, 3, groups=4, bias=False), IMG),
    ("conv3d", nn.Conv3d(2, 3, 3, padding=1), (2, 5, 6, 7)),
    ("conv_transpose1d", nn.ConvTranspose1d(4, 3, 3, 2, 1, 1), (4, 5)),
    ("conv_transpose2d", nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), IMG),
    ("conv_transpose3d", nn.ConvTranspose3d(2, 3, 2, 2), (2, 3, 3, 3)),
    ("batch_norm1d", nn.BatchNorm1d(5), V),
    ("batch_norm2d", nn.BatchNorm2d(4), IMG),
    ("batch_norm3d", nn.BatchNorm3d(2, affine=False), (2, 3, 3, 3)),
    ("layer_norm", nn.LayerNorm(6), M),
    ("layer_norm_two", nn.LayerNorm((4, 6)), M),
    ("layer_norm_plain", nn.LayerNorm(6, elementwise_affine=False), M),
    ("layer_norm_no_bias", nn.LayerNorm(6, bias=False), M),
    ("group_norm", nn.GroupNorm(2, 4), IMG),
    ("group_norm_plain", nn.GroupNorm(2, 4, affine=False), IMG),
    ("instance_norm", nn.InstanceNorm2d(4), IMG),
    ("instance_norm_affine", nn.InstanceNorm1d(4, affine=True), M),
    ("instance_norm_running", nn.InstanceNorm2d(4, track_running_stats=True), IMG),
    ("rms_norm", nn.RMSNorm(6), M),
    ("local_response_norm", nn.LocalResponseNorm(2), IMG),
    ("embedding", nn.Embedding(10, 3), ("index", 6)),
    ("embedding_bag", nn.EmbeddingBag(10, 3), ("index", 6)),
    ("embedding_bag_sum", nn.EmbeddingBag(10, 3, mode="sum"), ("index", 6)),
    ("embedding_bag_max", nn.EmbeddingBag(10, 3, mode="max"), ("index", 6)),
    ("lstm", nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True), M),
    ("lstm_no_bias", nn.LSTM(6, 5, bias=False, batch_first=True), M),
    ("gru", nn.GRU(6, 5, batch_first=True), M),
    ("rnn", nn.RNN(6, 5, batch_first=True, nonlinearity="relu"), M),
    ("rnn_tanh", nn.RNN(6, 5, 2, batch_first=True), M),
    ("lstm_cell", nn.LSTMCell(5, 4), V),
    ("gru_cell", nn.GRUCell(5, 4), V),
    ("rnn_cell", nn.RNNCell(5, 4), V),
    ("attention", nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), M),
    ("decoder", nn.Transformer(6, 2, 1, 1, 8, batch_first=True), M, M),
]


BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "atan2",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "logical_and",
    "logical_or",
    "logical_xor",
    "fmod",
    "remainder",
    "floor_divide",
    "logaddexp",
    "true_divide",
]


GROUPS["binary"] = (
    [(n, getattr(torch, n), M, ("pos", 4, 6)) for n in BINARY]
    + [(f"{n}_broadcast", getattr(torch, n), (4, 1), ("pos", 1, 6)) for n in ("add", "mul", "lt")]
    + [
        (f"{n}_int", getattr(torch, n), ("i", 5), ("i", 5))
        for n in (
            "add",
            "sub",
            "mul",
            "maximum",
            "eq",
            "lt",
            "bitwise_and",
            "bitwise_or",
            "bitwise_xor",
            "bitwise_left_shift",
            "bitwise_right_shift",
            "div",
        )
    ]
    + [
        (f"{n}_mixed", getattr(torch, n), ("i", 5), V)
        for n in ("add", "mul", "div", "lt", "maximum")
    ]
    + [
        (f"{n}_bool", getattr(torch, n), ("b", 5), ("b", 5))
        for n in ("add", "mul", "logical_and", "bitwise_or", "eq")
    ]
)


GROUPS["arithmetic"] = [
    ("scalars", lambda x: 2 * x + 1 - x / 3, V),
    ("rsub", lambda x: 1.5 - x, V),
    ("rdiv", lambda x: 2 / x, ("pos", 5)),
    ("int_scalar", lambda x: x + 1, ("i", 5)),
    ("int_float", lambda x: x * 0.5, ("i", 5)),
    ("bool_scalar", lambda x: x * 2, ("b", 5)),
    ("alpha", lambda x, y: torch.add(x, y, alpha=3), V, V),
    ("sub_alpha", lambda x, y: torch.sub(x, y, alpha=0.5), V, V),
    ("rsub_op", lambda x, y: torch.rsub(x, y, alpha=2), V, V),
    ("floor", lambda x: torch.div(x, 0.3, rounding_mode="floor"), V),
    ("trunc", lambda x: torch.div(x, 0.3, rounding_mode="trunc"), V),
    ("int_floor", lambda x: x // 2, ("i", 5)),
    ("int_mod", lambda x: x % 3, ("i", 5)),
    ("mod", lambda x: x % 0.7, V),
    ("fmod", lambda x: torch.fmod(x, 0.7), V),
    ("zero_dim", lambda x: x + torch.tensor(2), V),
    ("zero_dim_float", lambda x: x + torch.tensor(2.5), ("i", 5)),
    ("tensor", lambda x: x * torch.tensor([1.0, 2, 3, 4, 5]), V),
    ("pow2", lambda x: x**2, V),
    ("pow3", lambda x: x**3, V),
    ("pow_half", lambda x: x**0.5, ("pos", 5)),
    ("pow_m2", lambda x: x**-2, ("pos", 5)),
    ("pow15", lambda x: x**1.5, ("pos", 5)),
    ("pow_tensor", torch.pow, ("pos", 5), V),
    ("pow_scalar", lambda x: torch.pow(2.0, x), V),
    ("int_pow", lambda x: x**2, ("i", 5)),
    ("int_pow3", lambda x: x**3, ("i", 5)),
    ("where", torch.where, ("b", 5), V, V),
    ("where_scalar", lambda c, x: torch.where(c, x, 1.5), ("b", 5), V),
    ("where_int", lambda c, x: torch.where(c, x, 2), ("b", 5), ("i", 5)),
    ("masked_fill", lambda x, m: x.masked_fill(m, -1e9), V, ("b", 5)),
    ("addcmul", lambda x, y, z: torch.addcmul(x, y, z, value=0.5), V, V, V),
    ("addcdiv", lambda x, y, z: torch.addcdiv(x, y, z, value=2), V, V, ("pos", 5)),
    ("lerp", lambda x, y: torch.lerp(x, y, 0.3), V, V),
    ("lerp_far", lambda x, y: torch.lerp(x, y, 0.8), V, V),
    ("lerp_tensor", torch.lerp, V, V, V),
    ("clamp_tensor", lambda x, y: x.clamp(max=y), V, V),
    ("clamp_int", lambda x: x.clamp(-2, 3), ("i", 5)),
    ("clamp_int_float", lambda x: x.clamp(-1.5, 2.5), ("i", 5)),
    ("max_other", torch.max, V, V),
    ("min_other", torch.min, V, V),
    ("and", lambda x, y: x & y, ("b", 5), ("b", 5)),
    ("or", lambda x, y: x | y, ("i", 5), ("i", 5)),
    ("xor", lambda x, y: x ^ y, ("i", 5), ("i", 5)),
    ("invert", lambda x: ~x, ("b", 5)),
    ("cast", lambda x: x.to(torch.int64), V),
    ("cast_bool", lambda x: x.bool(), V),
    ("cast_float", lambda x: x.float(), ("i", 5)),
    ("cast_int32", lambda x: (x * 3).int(), V),
    ("type_as", lambda x, y: x.type_as(y), V, ("i", 5)),
    ("isin", lambda x: torch.isin(x, 3), ("i", 5)),
    ("bucketize", lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 0.5])), V),
    (
        "bucketize_right",
        lambda x: torch.bucketize(x, torch.tensor([-1, 0, 2]), right=True),
        ("i", 5),
    ),
]
