"""The cache of captures: found again exactly when nothing that matters has changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import ops

from sol.pytorch import codec, optimize, store
from sol.pytorch.capture import capture
from sol.pytorch.fingerprint import Unknown, key_of
from sol.pytorch.inputs import signature_of
from sol.runtime.cache import cache
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Counting, Nested, Net, Sorting

X = (3, 3, 6, 6)


@pytest.fixture(autouse=True)
def traces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a network was read."""
    seen: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return capture(*args, **kwargs)

    cache.clear()
    monkeypatch.setattr(store, "capture", counted)
    return seen


# ---- keys


def scale(net: Net) -> None:
    net.scale = 3.0


def stride(net: Net) -> None:
    net.conv.stride = (2, 2)


def size(net: Net) -> None:
    net.fc = nn.Linear(4, 6)


def mode(net: Net) -> None:
    net.bn.eval()


def kind(net: Net) -> None:
    net.bn = nn.Identity()  # type: ignore[assignment]


def extra(net: Net) -> None:
    net.more = nn.Identity()


def tied(net: Net) -> None:
    net.bn.bias = net.bn.weight


def added_hook(net: Net) -> None:
    net.fc.register_forward_hook(lambda m, a, r: r)


@pytest.mark.parametrize("change", [scale, stride, size, mode, kind, extra, tied, added_hook])
def test_a_key_sees_every_change(change: Callable[[Net], None]) -> None:
    net = Net()
    before = key_of(net)
    assert key_of(Net()) == before  # values of weights do not matter
    change(net)
    assert key_of(net) != before


FACTOR = 2
TABLE = {"a": [1, 2]}


def helper(x: Any) -> Any:
    return x * FACTOR


def test_a_key_sees_code_and_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Apply(lambda m, x: helper(x) + TABLE["a"][0])
    before = key_of(net)
    assert key_of(Apply(net.function)) == before
    monkeypatch.setitem(globals(), "FACTOR", 3)
    changed = key_of(net)
    assert changed != before
    monkeypatch.setitem(TABLE, "a", [2, 2])
    assert key_of(net) not in (before, changed)
    monkeypatch.undo()
    assert key_of(net) == before
    monkeypatch.setitem(globals(), "helper", lambda x: x + FACTOR)
    assert key_of(net) != before


def test_a_key_sees_closures_and_defaults() -> None:
    def made(factor: Any) -> Any:
        return lambda m, x, y=1: x * factor

    keys = {key_of(made(f)) for f in (1, 2, 1.0, True, torch.ones(2), torch.zeros(2))}
    assert len(keys) == 6
    assert key_of(made(1)) == key_of(made(1))
    assert key_of(lambda x, y=1: x) != key_of(lambda x, y=2: x)
    assert key_of(lambda x: x + 1) != key_of(lambda x: x + 2)
    assert key_of(lambda x: x.sin()) != key_of(lambda x: x.cos())


def test_a_key_sees_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(Net())
    monkeypatch.setattr(Net, "features", lambda self, x: self.conv(x))
    assert key_of(Net()) != before


def test_a_key_sees_patched_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(nn.Linear(2, 2)), key_of(nn.Sequential(nn.Linear(2, 2)))
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x)
    assert key_of(nn.Linear(2, 2)) != before[0]
    assert key_of(nn.Sequential(nn.Linear(2, 2))) != before[1]


def test_a_key_is_that_of_every_session(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(ops.SqueezeExcitation(1, 1))
    for session in ("6e03f0980fa9493ab0ff0e05f35d320b", "5688b422-c748-481e-af91-670e7a6836c0"):
        monkeypatch.setattr(ops.misc, "SESSION", session, raising=False)
        assert key_of(ops.SqueezeExcitation(1, 1)) == before
    monkeypatch.setattr(ops.misc, "SESSION", "6e03", raising=False)
    assert key_of(ops.SqueezeExcitation(1, 1)) != before


def test_what_cannot_be_known() -> None:
    for value in (torch.Generator(), iter([1]), threading.Lock()):
        with pytest.raises(Unknown):
            key_of(Apply(lambda m, x: x, part=value))


def test_cycles() -> None:
    net = Net()
    net.parts = [net.fc, [net]]  # type: ignore[assignment]
    assert key_of(net) == key_of(net)


# ---- text


@pytest.mark.parametrize(
    ("net", "args"),
    [
        (Net(), (torch.ones(X),)),
        (Sorting(), (torch.ones(2, 4),)),
        (Counting(), (torch.ones(2, 4),)),
        (nn.LSTM(4, 5, batch_first=True), (torch.ones(2, 3, 4),)),
        (Nested(), ({"x": torch.ones(2, 4), "rest": [torch.ones(2, 4), torch.ones(2, 2)]},)),
        (Apply(lambda m, x: (x.view(-1), torch.erfc(x + torch.tensor([1.0, float("nan")])))),
         (torch.ones(3, 2),)),
        (Apply(lambda m, x: torch.sort(x, dim=1, descending=True).values.to(torch.float64)),
         (torch.ones(3, 2),)),
    ],
)  # fmt: skip
def test_text_and_back(net: nn.Module, args: Any) -> None:
    captured = capture(net.eval(), args)
    text = codec.write(captured)
    again = codec.read(text, captured.signature)
    assert codec.write(again) == text
    assert again.steps == captured.steps
    assert again.tree == captured.tree
    assert again.results == captured.results


# ---- the cache


def test_found_again(traces: list[int], compiler: Compiler) -> None:
    x = torch.randn(X)
    for _ in range(3):
        net = Net().eval()
        torch.testing.assert_close(optimize(net, X)(x), net(x), rtol=1e-4, atol=1e-5)
    assert len(traces) == 1
    assert compiler.runs == 3


def test_functions_in_the_place_of_pytorchs(
    traces: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network is what its functions are at the moment."""
    x = torch.randn(2, 3)
    net = nn.Sequential(nn.ReLU()).eval()
    assert torch.equal(optimize(net, x)(x), x.relu())
    monkeypatch.setattr(nn.functional, "relu", lambda x, inplace=False: x * 3)
    assert torch.equal(optimize(nn.Sequential(nn.ReLU()).eval(), x)(x), x * 3)
    assert len(traces) == 2


def test_found_for_another_batch(traces: list[int]) -> None:
    for batch in (3, 1, 8):
        optimize(Net().eval(), (batch, 3, 6, 6))
    assert len(traces) == 1
    optimize(Net().eval(), (3, 3, 6, 7))
    assert len(traces) == 2


def test_a_fixed_batch_is_found_for_that_batch_only(traces: list[int]) -> None:
    function = lambda m, x: (x @ x.T).reshape(x.shape[0] * x.shape[0])  # noqa: E731
    for batch, count in ((3, 1), (3, 1), (4, 2), (3, 2)):
        net = Apply(function).eval()
        x = torch.randn(batch, 4)
        torch.testing.assert_close(optimize(net, x)(x), net(x), rtol=1e-4, atol=1e-5)
        assert len(traces) == count


def test_all_kinds_of_steps_from_the_cache(traces: list[int]) -> None:
    for make in (Sorting, Counting):
        for _ in range(2):
            net = make().eval()
            x = torch.randn(2, 4)
            with torch.no_grad():
                found = optimize(net, (2, 4))(x)
                if make is Counting:
                    net.count.zero_()
                torch.testing.assert_close(found, net(x), rtol=1e-4, atol=1e-5)
    assert len(traces) == 2


def test_a_damaged_text_is_read_anew(traces: list[int], caplog: pytest.LogCaptureFixture) -> None:
    net = Net().eval()
    _, signature = signature_of((torch.ones(X),), {})
    general, _ = store._keys(net, net.forward, signature)
    store.read(net, net.forward, signature)
    for text in (b"", b"{}", b"\xff", b'{"symbolic": true}', cache.get(general)[:-30]):  # type: ignore[index]
        cache.clear()
        cache.put(general, text)
        with caplog.at_level(logging.CRITICAL):
            assert store.read(net, net.forward, signature).graph
    assert len(traces) == 6


def test_nothing_is_kept_without_a_key(traces: list[int]) -> None:
    for _ in range(2):
        optimize(Apply(lambda m, x: x + 1, part=torch.Generator()).eval(), (2, 3))
    assert len(traces) == 2
