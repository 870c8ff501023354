"""Calls for test_rows: shapes, indices, reductions, windows, products."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

Call = tuple[Any, ...]  # name, function or module, sizes of inputs
GROUPS: dict[str, list[Call]] = {}

V = (5,)  # a vector for each sample
M = (4, 6)
IMG = (4, 7, 9)


def _assign(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[:, 1:3, ::2] = 0
    y[:, 0] = x[:, 1] * 2
    y[..., -1] += 1
    return y


def _put(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[y > 1] = 0.5
    y[x[:, :, 0] < 0] = -2.0
    y[:, torch.tensor([3, -4])] = x[:, 1:3]
    y[..., torch.tensor([1, 5])] = 7.0
    return y


def _unpooled(x: torch.Tensor, *window: Any, padding: Any = 0) -> torch.Tensor:
    y, places = F.max_pool2d(x, *window, padding=padding, return_indices=True)
    return F.max_unpool2d(y * 2, places, *window, padding=padding, output_size=x.shape)


GROUPS["shapes"] = [
    ("view", lambda x: x.view(x.shape[0], -1), IMG),
    ("view_merge", lambda x: x.view(-1, 9), IMG),
    ("reshape", lambda x: x.reshape(x.shape[0], 2, 2, 63), IMG),
    ("flatten", lambda x: x.flatten(1, 2), IMG),
    ("unflatten", lambda x: x.unflatten(1, (2, 2)), IMG),
    ("squeeze", lambda x: x.squeeze(1), (1, 3)),
    ("squeeze_dims", lambda x: x.squeeze((1, 2)), (1, 1, 4)),
    ("unsqueeze", lambda x: x.unsqueeze(-1), V),
    ("permute", lambda x: x.permute(0, 3, 1, 2), IMG),
    ("transpose", lambda x: x.transpose(1, -1), IMG),
    ("t", lambda x: x.t(), V),
    ("mT", lambda x: x.mT, M),
    ("swapaxes", lambda x: x.swapaxes(1, 2), M),
    ("movedim", lambda x: x.movedim(1, -1), IMG),
    ("movedim_two", lambda x: x.movedim((1, 2), (3, 0)), IMG),
    ("expand", lambda x: x.expand(-1, 4, 3), (1, 3)),
    ("expand_new", lambda x: x.expand(2, -1, -1), V),
    ("expand_as", lambda x, y: x.expand_as(y), (1, 6), M),
    ("broadcast_to", lambda x: x.unsqueeze(1).broadcast_to(x.shape[0], 3, 5), V),
    ("repeat", lambda x: x.repeat(1, 2, 1), M),
    ("repeat_new", lambda x: x.repeat(3, 1, 1, 2), M),
    ("repeat_batch", lambda x: torch.arange(4).repeat(x.shape[0], 1) + x, (4,)),
    ("tile", lambda x: x.tile(2), M),
    ("repeat_interleave", lambda x: x.repeat_interleave(3, dim=1), M),
    ("repeat_interleave_flat", lambda x: x.repeat_interleave(2), M),
    ("cat", lambda x, y: torch.cat([x, y, x], 1), M, (2, 6)),
    ("cat_last", lambda x, y: torch.cat([x, y], -1), M, M),
    ("cat_mixed", lambda x, y: torch.cat([x, y], 1), V, ("i", 5)),
    ("cat_batch", lambda x, y: torch.cat([x, y]), V, V),
    ("stack", lambda x, y: torch.stack([x, y], 1), M, M),
    ("stack_last", lambda x, y: torch.stack([x, y], -1), M, M),
    ("hstack", lambda x, y: torch.hstack([x, y]), M, M),
    ("vstack", lambda x, y: torch.vstack([x, y]), M, M),
    ("dstack", lambda x, y: torch.dstack([x, y]), M, M),
    ("split", lambda x: x.split(3, 2)[1] + 0, IMG),
    ("split_all", lambda x: [p + 1 for p in x.split(4, -1)], IMG),
    ("split_sizes", lambda x: [p * 2 for p in x.split([1, 3], 1)], IMG),
    ("chunk", lambda x: [p + 0 for p in x.chunk(3, 3)], IMG),
    ("tensor_split", lambda x: [p + 0 for p in x.tensor_split(3, 1)], IMG),
    ("unbind", lambda x: sum(x.unbind(1)), M),
    ("slice", lambda x: x[:, 1:3, ::2] + 0, IMG),
    ("slice_negative", lambda x: x[..., -3:-1] * 1, IMG),
    ("slice_end", lambda x: x[:, :, :100] + 0, IMG),
    ("select", lambda x: x[:, -1] + 0, M),
    ("select_last", lambda x: x[..., 2] + 0, M),
    ("narrow", lambda x: x.narrow(1, 1, 2) + 0, M),
    ("ellipsis", lambda x: x[:, None, ..., 0] + 0, M),
    ("roll", lambda x: x.roll((1, -2), (1, 2)), M),
    ("flip", lambda x: x.flip(1, 2), M),
    ("fliplr", torch.fliplr, M),
    ("rot90", lambda x: torch.rot90(x, 1, (1, 2)), M),
    ("tril", lambda x: x.tril(1), M),
    ("triu", lambda x: x.triu(-1), M),
    ("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (4, 3, 3)),
    ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (2, 4, 6)),
    ("channel_shuffle", lambda x: F.channel_shuffle(x, 2), IMG),
    ("unfold", lambda x: x.unfold(1, 3, 2) + 0, (9,)),
    ("im2col", lambda x: F.unfold(x, 3, padding=1, stride=2), IMG),
    ("col2im", lambda x: F.fold(x, (5, 7), (3, 2), padding=1, stride=(1, 2)), (12, 20)),
    ("col2im_dilated", lambda x: F.fold(x, 7, 2, dilation=3), (8, 16)),
    ("diff", lambda x: x.diff(dim=1), M),
    ("meshgrid", lambda x: torch.meshgrid(x[0], x[0], indexing="ij")[0] + 0, V),
    ("diagonal", lambda x: x.diagonal(1, 1, 2) + 0, M),
    ("diag_embed", torch.diag_embed, V),
    ("clone", lambda x: x.clone(), V),
    ("contiguous", lambda x: x.transpose(1, 2).contiguous(), M),
    ("detach", lambda x: x.detach() * 2, V),
]


GROUPS["indexing"] = [
    ("gather", lambda x, i: x.gather(1, i), V, ("index", 7)),
    ("index_select", lambda x: x.index_select(1, torch.tensor([2, 0, 2])), V),
    ("take", lambda x: torch.take(x, torch.tensor([0, 1])), V),
    ("index_one", lambda x: x[:, torch.tensor([1, 0, 3])], IMG),
    ("index_two", lambda x: x[:, torch.tensor([0, 1]), torch.tensor([2, 3])], IMG),
    ("index_apart", lambda x: x[:, torch.tensor([0, 1]), :, torch.tensor([2, 3])], IMG),
    ("index_batch", lambda x, i: x[torch.arange(x.shape[0]), i[:, 0]], IMG, ("index", 2)),
    ("index_table", lambda x: torch.arange(12.0).view(4, 3)[x], ("index", 6)),
    ("one_hot", lambda x: F.one_hot(x, 5), ("index", 6)),
    ("slice_scatter", lambda x, y: x.slice_scatter(y, 1, 0, 4, 2), M, (2, 6)),
    ("select_scatter", lambda x, y: x.select_scatter(y, 1, -1), M, (6,)),
    ("assign", lambda x: _assign(x), M),
    ("put", lambda x: _put(x), M),
    ("put_column", lambda x: x.index_copy(2, torch.tensor([2]), x[..., :1]), M),
    ("copy", lambda x, y: torch.zeros_like(x).copy_(y), M, ("i", 4, 6)),
    ("arange", lambda x: x + torch.arange(5), V),
    ("arange_step", lambda x: x + torch.arange(1, 10, 2), V),
    ("arange_float", lambda x: x + torch.arange(0, 1, 0.2), V),
    ("arange_batch", lambda x: x + torch.arange(x.shape[0])[:, None], V),
    ("full", lambda x: x + torch.full((5,), 2.5), V),
    ("zeros_like", lambda x: torch.zeros_like(x) + x, V),
    ("ones_like", lambda x: torch.ones_like(x), V),
    ("new_zeros", lambda x: x.new_zeros(x.shape[0], 2), V),
    ("new_full", lambda x: x.new_full((x.shape[0], 2), 3), ("i", 5)),
    ("linspace", lambda x: x * torch.linspace(0, 1, 5), V),
    ("eye", lambda x: x @ torch.eye(5), V),
    ("tril_indices", lambda x: x[:, torch.tril_indices(4, 4)[0]], M),
    ("scalar_tensor", lambda x: x + torch.scalar_tensor(2.0), V),
    ("zeros_batch", lambda x: torch.zeros(x.shape[0], 3) + x.sum(1, keepdim=True), V),
    ("full_like", lambda x: torch.full_like(x, 7, dtype=torch.int64), V),
    ("fill", lambda x: x.clone().fill_(3.0), V),
    ("eye_m", lambda x: torch.eye(5, 3) + x[:, :5, None], V),
    ("hann", lambda x: x * torch.hann_window(5), V),
    ("empty", lambda x: torch.empty(x.shape[0], 5).fill_(1.0) + x, V),
]


REDUCE = [
    "sum",
    "mean",
    "prod",
    "amax",
    "amin",
    "any",
    "all",
    "logsumexp",
    "var",
    "std",
    "argmax",
    "argmin",
    "cumsum",
    "softmax",
    "log_softmax",
    "norm",
    "max",
    "min",
    "var_mean",
    "std_mean",
    "count_nonzero",
]


GROUPS["reductions"] = (
    [(n, (lambda f: lambda x: f(x, 1))(getattr(torch, n)), IMG) for n in REDUCE if n != "norm"]
    + [
        (f"{n}_keep", (lambda f: lambda x: f(x, 2, keepdim=True))(getattr(torch, n)), IMG)
        for n in REDUCE
        if n not in ("cumsum", "softmax", "log_softmax", "norm", "count_nonzero", "std_mean")
    ]
    + [
        (f"{n}_two", (lambda f: lambda x: f(x, (1, 3)))(getattr(torch, n)), IMG)
        for n in (
            "sum",
            "mean",
            "amax",
            "var",
            "std",
            "logsumexp",
            "any",
            "all",
            "count_nonzero",
            "var_mean",
        )
    ]
    + [
        ("sum_int", lambda x: x.sum(1), ("i", 5)),
        ("sum_bool", lambda x: x.sum(1), ("b", 5)),
        ("mean_dtype", lambda x: x.mean(1, dtype=torch.float32), ("i", 5)),
        ("any_int", lambda x: x.any(1), ("i", 5)),
        ("cumprod", lambda x: x.cumprod(1), M),
        ("cumsum_to_int32", lambda x: x.cumsum(1, dtype=torch.int32), ("i", 5)),
        ("sum_to_int32", lambda x: x.sum(1, dtype=torch.int32), ("i", 5)),
        ("cumsum_bool", lambda x: x.cumsum(1), ("b", 5)),
        ("cumsum_int32", lambda x: x.int().cumsum(1), ("i", 5)),
        ("amax_int", lambda x: x.amax(1), ("i", 5)),
        ("var_population", lambda x: x.var(1, correction=0), M),
        ("norm", lambda x: x.norm(dim=1), M),
        ("norm1", lambda x: torch.linalg.vector_norm(x, 1, dim=(1, 2)), M),
        ("norm_inf", lambda x: torch.linalg.vector_norm(x, float("inf"), dim=-1), M),
        ("norm3", lambda x: torch.linalg.vector_norm(x, 3, dim=-1, keepdim=True), M),
        ("argmax_last", lambda x: x.argmax(-1), M),
        ("softmax_dtype", lambda x: F.softmax(x, -1, dtype=torch.float32), ("i", 5)),
        ("sum_all_rest", lambda x: x.sum((1, 2)), M),
        ("cosine", lambda x, y: F.cosine_similarity(x, y), V, V),
        ("mse", lambda x, y: F.mse_loss(x, y, reduction="none"), V, V),
        (
            "cross_entropy",
            lambda x, y: F.cross_entropy(x, y[:, 0], reduction="none"),
            V,
            ("index", 1),
        ),
    ]
)


GROUPS["windows"] = [
    ("max_pool1d", lambda x: F.max_pool1d(x, 3, 2, 1), (4, 9)),
    ("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1), IMG),
    ("max_pool_ceil", lambda x: F.max_pool2d(x, (2, 3), 2, ceil_mode=True), IMG),
    ("max_pool_places", lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), IMG),
    (
        "max_pool3d_places",
        lambda x: F.max_pool3d(x, 2, 1, dilation=2, return_indices=True),
        (2, 4, 4, 4),
    ),
    ("max_unpool", lambda x: _unpooled(x, 2, 2), IMG),
    ("max_unpool_apart", lambda x: _unpooled(x, (2, 1), 3, padding=(1, 0)), IMG),
    ("max_pool_dilated", lambda x: F.max_pool2d(x, 2, 1, dilation=2), IMG),
    ("max_pool3d", lambda x: F.max_pool3d(x, 2), (2, 4, 4, 4)),
    ("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), (4, 9)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 3, 2, 1), IMG),
    ("avg_pool_exclude", lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), IMG),
    ("avg_pool_divisor", lambda x: F.avg_pool2d(x, 2, divisor_override=3), IMG),
    ("avg_pool3d", lambda x: F.avg_pool3d(x, 2), (2, 4, 4, 4)),
    ("adaptive_avg1d", lambda x: F.adaptive_avg_pool1d(x, 4), (4, 9)),
    ("adaptive_avg2d", lambda x: F.adaptive_avg_pool2d(x, (3, None)), IMG),
    ("adaptive_avg3d", lambda x: F.adaptive_avg_pool3d(x, 2), (2, 4, 5, 4)),
    ("adaptive_max2d", lambda x: F.adaptive_max_pool2d(x, 3), IMG),
    ("lp_pool", lambda x: F.lp_pool2d(x, 2, 2), ("pos", *IMG)),
    ("pad", lambda x: F.pad(x, (1, 2, 0, 3), value=1.5), IMG),
    ("pad_crop", lambda x: F.pad(x, (-1, 2)), IMG),
    ("reflect", lambda x: F.pad(x, (1, 2, 3, 0), "reflect"), IMG),
    ("reflect1d", lambda x: F.pad(x, (1, 2), "reflect"), M),
    ("replicate", lambda x: F.pad(x, (1, 2, 3, 0), "replicate"), IMG),
    ("circular", lambda x: F.pad(x, (1, 2, 3, 0), "circular"), IMG),
    ("pad_int", lambda x: F.pad(x, (1, 0), value=3), ("i", 5)),
    ("pad_bool", lambda x: F.pad(x, (1, 0), value=True), ("b", 5)),
    ("nearest", lambda x: F.interpolate(x, scale_factor=2), IMG),
    ("nearest_size", lambda x: F.interpolate(x, size=(5, 13)), IMG),
    ("nearest_exact", lambda x: F.interpolate(x, size=(5, 13), mode="nearest-exact"), IMG),
    ("nearest1d", lambda x: F.interpolate(x, scale_factor=1.5), M),
    ("nearest3d", lambda x: F.interpolate(x, scale_factor=2), (2, 3, 3, 3)),
    ("bilinear", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), IMG),
    (
        "bilinear_align",
        lambda x: F.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True),
        IMG,
    ),
    ("bilinear_factor", lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"), IMG),
    ("linear", lambda x: F.interpolate(x, size=9, mode="linear"), M),
    ("trilinear", lambda x: F.interpolate(x, size=(4, 5, 6), mode="trilinear"), (2, 3, 3, 3)),
    ("bicubic", lambda x: F.interpolate(x, size=(5, 13), mode="bicubic"), IMG),
    (
        "grid_sample",
        lambda x, g: F.grid_sample(x, g.clamp(-1, 1), align_corners=False),
        IMG,
        (3, 5, 2),
    ),
    (
        "grid_nearest",
        lambda x, g: F.grid_sample(x, g.clamp(-1, 1), "nearest", "border", align_corners=True),
        IMG,
        (3, 5, 2),
    ),
]


GROUPS["products"] = [
    ("matmul", torch.matmul, M, (6, 3)),
    ("matmul_vector", lambda x: x @ torch.arange(6.0), M),
    ("vector_matmul", lambda x: torch.arange(4.0) @ x, M),
    ("matmul_broadcast", lambda x, y: x @ y[:, None], (2, 4, 6), (6, 3)),
    ("mm", lambda x: x.view(-1, 6).mm(torch.ones(6, 2)), M),
    ("bmm", torch.bmm, M, (6, 3)),
    ("baddbmm", lambda x, y, z: torch.baddbmm(x, y, z, beta=0.5, alpha=2), (4, 3), M, (6, 3)),
    ("addmm", lambda x: torch.addmm(torch.ones(2), x, torch.ones(5, 2), alpha=3), V),
    ("einsum", lambda x, y: torch.einsum("bij,bkj->bik", x, y), M, (3, 6)),
    ("einsum_outer", lambda x, y: torch.einsum("bi,bj->bij", x, y), V, V),
    ("outer", lambda x: torch.outer(x[:, 0], torch.arange(3.0)), V),
    ("tensordot", lambda x: torch.tensordot(x, torch.ones(6, 2), 1), M),
    ("cdist", lambda x, y: torch.cdist(x, y), M, (3, 6)),
    ("inner", lambda x: torch.inner(x, torch.ones(3, 5)), V),
    ("sdpa", F.scaled_dot_product_attention, (2, 5, 4), (2, 6, 4), (2, 6, 3)),
    (
        "sdpa_causal",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
        (2, 5, 4),
        (2, 5, 4),
        (2, 5, 4),
    ),
    (
        "sdpa_mask",
        lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m[:, None, None]),
        (2, 5, 4),
        ("b", 5),
    ),
    (
        "sdpa_float_mask",
        lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m[:, None]),
        (2, 5, 4),
        (5, 5),
    ),
    (
        "sdpa_gqa",
        lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True),
        (4, 5, 4),
        (2, 6, 4),
    ),
    ("sdpa_3d", F.scaled_dot_product_attention, (5, 4), (6, 4), (6, 3)),
    ("sdpa_broadcast", lambda q: F.scaled_dot_product_attention(q, q[:1], q[:1]), (2, 5, 4)),
]
