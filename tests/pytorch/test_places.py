"""Words of memory that tell whether anything changed: every change is seen, and no reading."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from sol.pytorch import places
from sol.pytorch.watch import Watch

pytestmark = pytest.mark.skipif(
    places._object_words() is None or places._tensor_words() is None,
    reason="dictionaries or tensors of these versions of Python and PyTorch show no changes",
)


class Net(nn.Module):
    """Two layers, one of them within another module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 40), nn.BatchNorm1d(40))
        self.last = nn.Linear(40, 2)
        self.scale = 2.0


def swapped_table(net: Net) -> None:
    net.inner.__dict__ = dict(net.inner.__dict__)


MODULE_CHANGES: list[Callable[[Net], object]] = [
    lambda net: net.train(),
    lambda net: net.inner[1].train(),
    lambda net: setattr(net.inner[1], "eps", 1.0),
    lambda net: setattr(net, "scale", 3.0),
    lambda net: setattr(net.inner[0], "weight", nn.Parameter(torch.ones(40, 3))),
    lambda net: setattr(net.last, "bias", None),
    lambda net: net.inner.append(nn.ReLU()),
    lambda net: net.inner.__setitem__(1, nn.Identity()),
    lambda net: net.register_buffer("more", torch.ones(1)),
    lambda net: net.inner[1].__dict__.update(training=True),
    lambda net: setattr(net, "_modules", OrderedDict(net._modules)),
    lambda net: delattr(net, "scale"),
    swapped_table,
]


@pytest.mark.parametrize("change", MODULE_CHANGES)
def test_changes_of_modules(change: Callable[[Net], object]) -> None:
    net = Net().eval()
    look = places.of_modules(net.modules())
    assert look is not None
    assert net.inner[1].training is False
    assert len(list(net.parameters())) == 6
    assert look()
    change(net)
    assert not look()


def written(tensor: torch.Tensor) -> None:
    tensor.numpy()[...] = 7


TENSOR_CHANGES: list[Callable[[torch.Tensor], object]] = [
    lambda t: t.add_(1),
    lambda t: t[1].zero_(),
    lambda t: t.copy_(torch.ones(t.shape)),
    lambda t: setattr(t, "data", torch.ones(t.shape)),
    lambda t: setattr(t, "data", t.data.clone()),
    lambda t: t.data.fill_(7),
    lambda t: t.set_(torch.ones(t.shape)),  # type: ignore[call-overload]
    lambda t: t.untyped_storage().resize_(1 << 20),
    lambda t: setattr(t, "data", t.data[1:]),
    written,
]


@pytest.mark.parametrize("change", TENSOR_CHANGES)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_changes_of_tensors(change: Callable[[torch.Tensor], object], number: int) -> None:
    tensors = [torch.rand(2), torch.rand(3000), torch.from_numpy(np.zeros((2, 2), np.float32))]
    look = places.of_tensors(tensors, [t.nbytes for t in tensors])
    assert look is not None
    assert tensors[number]._version == 0
    assert float(tensors[number].sum()) >= 0
    assert look()
    if number == 2 and change is TENSOR_CHANGES[7]:
        pytest.skip("memory of NumPy cannot be resized")
    change(tensors[number])
    assert not look()


def test_looking_draws_no_random_numbers() -> None:
    state = torch.get_rng_state()
    for look in (places._object_words, places._tensor_words):
        look.__wrapped__()
    assert torch.equal(torch.get_rng_state(), state)


def test_tensors_without_version() -> None:
    with torch.inference_mode():
        made = torch.ones(3)
        assert places.of_tensors([torch.ones(3)], [12]) is None
    assert places.of_tensors([torch.ones(3), made], [12, 12]) is None


def test_a_watch_that_settled() -> None:
    net = Net().eval()
    watch = Watch(net, lambda addresses, sizes: 0, ["last.weight"])
    assert watch.settled()
    state = watch.values()
    assert watch.values() is state
    net.scale = 3.0  # no change that a watch asks for
    assert watch.settled()
    net.inner.train()
    assert not watch.settled()
    net.eval()
    assert watch.settled()
    with torch.no_grad():
        net.last.weight.add_(1)
    assert watch.values() != state
    assert watch.values() is watch.values()
    net.last.weight = nn.Parameter(torch.ones(2, 40))
    assert not watch.settled()
