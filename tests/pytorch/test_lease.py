"""Memory of tensors that is used again when they are gone."""

from __future__ import annotations

import gc

import torch

from sol.pytorch.lease import lease, one_after_the_other
from sol.runtime.arena import ArenaPool

KINDS = [((3, 5), torch.float32), ((7,), torch.uint8), ((2, 0), torch.float32), ((4,), torch.int64)]
LAYOUT = one_after_the_other(KINDS)


def test_tensors_of_a_lease_are_apart() -> None:
    tensors = lease(ArenaPool(), KINDS, LAYOUT)
    for n, tensor in enumerate(tensors):
        tensor.fill_(n)
    for n, (tensor, (shape, dtype)) in enumerate(zip(tensors, KINDS)):
        assert tensor.shape == shape
        assert tensor.dtype == dtype
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == 0 or not tensor.numel()
        assert (tensor == n).all()


def test_memory_is_used_again_only_when_all_tensors_are_gone() -> None:
    pool = ArenaPool()
    first = lease(pool, KINDS, LAYOUT)
    place = first[0].data_ptr()
    kept = first[1]
    del first
    gc.collect()
    other = lease(pool, KINDS, LAYOUT)
    assert other[0].data_ptr() != place
    assert pool.bytes == 0
    del kept, other
    gc.collect()
    assert pool.bytes > 0
    assert lease(pool, KINDS, LAYOUT)[0].data_ptr() % 4096 == 0


def test_what_autograd_frees_comes_back() -> None:
    pool = ArenaPool()

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            kinds = [((1000,), torch.float32)]
            (saved,) = lease(pool, kinds, one_after_the_other(kinds))
            ctx.save_for_backward(saved)
            return x * 2

        @staticmethod
        def backward(ctx, dy):  # type: ignore[no-untyped-def]
            assert ctx.saved_tensors
            return dy * 2

    x = torch.ones(3, requires_grad=True)
    loss = Doubled.apply(x).sum()
    assert pool.bytes == 0
    loss.backward()
    gc.collect()
    assert pool.bytes > 0  # although `loss` is still there
