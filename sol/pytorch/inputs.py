"""What a network is called with: example tensors, sizes, nested and keyword arguments.

Comes in: what a user hands to `optimize`. Goes out: `(args, kwargs)` of tensors, and the
`Signature` that says which of their sizes is the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sol.core.errors import InputError
from sol.pytorch.trace import Signature, Tensor
from sol.pytorch.tree import flatten


def examples(
    example: Sequence[Any],
    kwargs: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    most: int = 2,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as a call would have them: each size becomes a tensor of `dtype`.

    A size is a torch.Size, or a tuple or list of whole numbers. Its tensor has random numbers:
    normal ones, or whole ones below `most`.
    """
    random = torch.Generator().manual_seed(0)

    def made(size: Sequence[int]) -> torch.Tensor:
        if dtype.is_floating_point:
            return torch.randn(tuple(size), dtype=dtype, generator=random, device="cpu")
        return torch.randint(most, tuple(size), dtype=dtype, generator=random, device="cpu")

    return (
        tuple(_tensors(e, made) for e in example),
        {name: _tensors(e, made) for name, e in kwargs.items()},
    )


def is_size(value: Any) -> bool:
    """Whether a value stands for a tensor of this size."""
    if isinstance(value, torch.Size):
        return True
    if type(value) not in (tuple, list) or not value:
        return False
    return all(isinstance(s, int) and not isinstance(s, bool) for s in value)


def has_sizes(value: Any) -> bool:
    """Whether a size is somewhere among the examples."""
    if is_size(value):
        return True
    if isinstance(value, Mapping):
        return any(map(has_sizes, value.values()))
    return type(value) in (tuple, list) and any(map(has_sizes, value))


def _tensors(value: Any, made: Callable[[Sequence[int]], torch.Tensor]) -> Any:
    if is_size(value):
        _check_size(value)
        return made(value)
    if type(value) in (tuple, list):
        return type(value)(_tensors(v, made) for v in value)
    if type(value) is dict:
        return {k: _tensors(v, made) for k, v in value.items()}
    return value


def _check_size(size: Sequence[int]) -> None:
    if any(s < 1 for s in size):
        raise InputError(
            f"the size {tuple(size)} of an example input",
            expected="whole numbers of at least 1",
            do="pass input.size() of a tensor that the model will be called with",
        )


def signature_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], Signature]:
    """The tensors of a call and its signature, the batch left open.

    The batch is the first size of the first tensor, and of every other tensor whose first size is
    the same. Keyword arguments are taken in the order of their names.
    """
    leaves, tree = flatten((tuple(args), dict(sorted(kwargs.items()))))
    batch = next((t.shape[0] for t in leaves if t.ndim), None)
    return leaves, Signature(tree, tuple(_tensor(t, batch) for t in leaves))


def _tensor(tensor: torch.Tensor, batch: int | None) -> Tensor:
    batched = tensor.ndim > 0 and tensor.shape[0] == batch and batch > 0
    return Tensor(tuple(tensor.shape), tensor.dtype, batched)


def takes_indices(model: nn.Module) -> bool:
    """Whether a model has an embedding: an input of which only a size is known may be ids."""
    return any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in model.modules())


def most_indices(model: nn.Module) -> int:
    """A number that indices must be below, whichever embedding of the model they are for."""
    kinds = (nn.Embedding, nn.EmbeddingBag)
    return min((m.num_embeddings for m in model.modules() if isinstance(m, kinds)), default=2)
