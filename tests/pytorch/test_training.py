"""A module in training mode: gradients, statistics and hooks as PyTorch has them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional

from sol.pytorch import optimize
from tests.pytorch.conftest import Compiler
from tests.pytorch.networks import Apply, Net, Tied

X = (4, 3, 6, 6)


def trained(net: nn.Module) -> tuple[Any, nn.Module]:
    """The network by Sol, and a copy that stays PyTorch's, both in training mode."""
    own = copy.deepcopy(net).train()
    return optimize(net.train(), never_slower=False), own


def same_gradients(fast: nn.Module, own: nn.Module, tolerance: float = 1e-5) -> None:
    for (name, a), b in zip(fast.named_parameters(), own.parameters()):
        if b.grad is None:
            assert a.grad is None, name
            continue
        assert a.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=tolerance, msg=name)
    for (name, a), b in zip(fast.named_buffers(), own.buffers()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def test_a_step(compiler: Compiler) -> None:
    fast, own = trained(Net())
    x = torch.randn(X)
    for model in (fast, own):
        functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 3])).backward()
    same_gradients(fast, own)
    assert fast.bn.num_batches_tracked == 1
    assert fast.sol.graphs == ()
    assert compiler.runs == 2  # forward and backward


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    ],
)
def test_optimisers(make: Callable[..., Any], compiler: Compiler) -> None:
    fast, own = trained(Net())
    optimisers = [make(m.parameters()) for m in (fast, own)]
    losses: list[list[float]] = [[], []]
    for _ in range(5):
        x, target = torch.randn(X), torch.randint(0, 5, (4,))
        for model, optimiser, found in zip((fast, own), optimisers, losses):
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(x), target)
            loss.backward()
            optimiser.step()
            found.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert compiler.runs == 10


def test_scaled_and_clipped_gradients() -> None:
    fast, own = trained(Net())
    x = torch.randn(X)
    norms = []
    for model in (fast, own):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        scaler.scale(model(x).square().sum()).backward()
        scaler.unscale_(optimiser)
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
        scaler.step(optimiser)
        scaler.update()
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] > 0.5
    same_gradients(fast, own)
    for a, b in zip(fast.parameters(), own.parameters()):
        torch.testing.assert_close(a, b)


def test_gradients_accumulate_and_batches_may_differ() -> None:
    fast, own = trained(Net())
    for batch in (4, 7, 2):
        x = torch.randn(batch, *X[1:])
        for model in (fast, own):
            model(x).square().sum().backward()
    same_gradients(fast, own, 1e-3)


def test_gradients_of_inputs_that_are_not_dense() -> None:
    fast, own = trained(Net())
    given = [torch.randn(4, 6, 6, 3).permute(0, 3, 1, 2).requires_grad_() for _ in range(2)]
    given[1].data.copy_(given[0].data)
    for model, x in zip((fast, own), given):
        model(x).square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-4, atol=1e-5)


def test_what_wants_no_gradient_gets_none(compiler: Compiler) -> None:
    fast, own = trained(Net())
    x = torch.randn(X)
    for model in (fast, own):
        model.conv.requires_grad_(False)
        model(x).sum().backward()
    same_gradients(fast, own)
    backward = compiler.made[1].graph
    assert not any(n.op.startswith("conv") for n in backward)
    for model in (fast, own):  # and again, when it does
        model.conv.requires_grad_(True)
        model(x).sum().backward()
    same_gradients(fast, own)


def test_hooks_of_parameters() -> None:
    fast, _ = trained(Net())
    called: list[str] = []
    fast.fc.weight.register_hook(lambda g: called.append("hook") or g * 0)
    fast.fc.weight.register_post_accumulate_grad_hook(lambda p: called.append("after"))
    fast(torch.randn(X)).sum().backward()
    assert called == ["hook", "after"]
    assert fast.fc.weight.grad.eq(0).all()


def test_several_backward_passes() -> None:
    fast, own = trained(Net())
    x = torch.randn(X)
    for model in (fast, own):
        loss = model(x).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()
    same_gradients(fast, own, 1e-4)


def test_a_parameter_that_changes_in_between() -> None:
    fast, _ = trained(Net())
    loss = fast(torch.randn(X)).sum()
    with torch.no_grad():
        fast.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_two_forward_passes_before_one_backward() -> None:
    fast, own = trained(Net())
    a, b = torch.randn(X), torch.randn(X)
    for model in (fast, own):
        (model(a).sum() * model(b).square().sum()).backward()
    same_gradients(fast, own, 1e-2)


def test_gradients_of_gradients_are_refused_clearly() -> None:
    fast, _ = trained(Net())
    x = torch.randn(X, requires_grad=True)
    (g,) = torch.autograd.grad(fast(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


def test_modes_may_change(compiler: Compiler) -> None:
    fast, own = trained(Net())
    x = torch.randn(X)
    for model in (fast, own):
        model(x).sum().backward()
        model.eval()
        with torch.no_grad():
            model(x)
        model.bn.train()
        model(x).sum().backward()
        model.train()
        model(x).sum().backward()
    same_gradients(fast, own, 1e-4)
    assert compiler.runs == 6


def test_frozen_statistics() -> None:
    fast, own = trained(Net())
    for model in (fast, own):
        model.bn.eval()
        model(torch.ones(X)).sum().backward()
    same_gradients(fast, own, 1e-4)


def test_tied_weights_get_both_gradients() -> None:
    fast, own = trained(Tied())
    x = torch.randn(3, 4)
    for model in (fast, own):
        model(x).square().sum().backward()
    same_gradients(fast, own)


def test_autocast_stays_in_pytorch(compiler: Compiler) -> None:
    fast, _ = trained(Net())
    with torch.autocast("cpu", torch.bfloat16):
        fast(torch.randn(X)).sum().backward()
    assert compiler.runs == 0
    assert "autocast" in str(fast.sol.report)


def test_an_operator_without_a_gradient_stays_in_pytorch(compiler: Compiler) -> None:
    class Uneven(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Linear(3, 4), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            maxima = nn.functional.adaptive_max_pool1d(torch.tanh(self.before(x)), 3)
            return torch.sigmoid(self.after(maxima))

    fast, own = trained(Uneven())
    x = torch.randn(3, 6, 3)
    for model in (fast, own):
        model(x).square().sum().backward()
    same_gradients(fast, own)
    assert compiler.runs == 4
    assert "that overlap" in str(fast.sol.report)


def test_what_cannot_be_read_trains_in_pytorch(compiler: Compiler) -> None:
    net = Apply(lambda m, x: m.fc(x) * (2 if x.sum() > 0 else 3), fc=nn.Linear(4, 2))
    fast, own = trained(net)
    x = torch.randn(3, 4)
    for model in (fast, own):
        model(x).sum().backward()
    same_gradients(fast, own)
    assert compiler.runs == 0
    assert "training: " in str(fast.sol.report)


def test_blocks_without_gradients() -> None:
    def function(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            size = m.fc(x).norm()
        return m.fc(x) / size + m.fc(x).detach()

    fast, own = trained(Apply(function, fc=nn.Linear(4, 2)))
    x = torch.randn(3, 4)
    for model in (fast, own):
        model(x).square().sum().backward()
    same_gradients(fast, own)


def test_embeddings_with_padding_and_losses_inside() -> None:
    def function(m: Any, i: torch.Tensor) -> Any:
        scores = m.fc(m.table(i)).flatten(0, 1)
        return functional.cross_entropy(scores, i.flatten(), ignore_index=2), scores

    fast, own = trained(
        Apply(function, table=nn.Embedding(7, 4, padding_idx=1), fc=nn.Linear(4, 7))
    )
    i = torch.randint(0, 7, (3, 5))
    i[0, :3] = torch.tensor([1, 2, 1])
    for model in (fast, own):
        model(i)[0].backward()
    same_gradients(fast, own)


def test_large_tables_and_bags(compiler: Compiler) -> None:
    def function(m: Any, i: torch.Tensor) -> Any:
        return m.fc(m.table(i)).sum(1) + m.bag(i)

    modules = {"fc": nn.Linear(70, 3), "bag": nn.EmbeddingBag(700, 3)}
    fast, own = trained(Apply(function, table=nn.Embedding(5000, 70, padding_idx=4), **modules))
    i = torch.randint(0, 700, (3, 5))
    i[0, :3] = torch.tensor([4, 2, 4])
    for model in (fast, own):
        model(i).square().sum().backward()
    same_gradients(fast, own)
    assert compiler.runs == 2
    assert not fast.sol.report.programs[0].left


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers(kind: Any) -> None:
    """Given states, of which one wants a gradient; all results are used."""

    def function(m: Any, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        y, last = m.rnn(x, (h, c) if kind is nn.LSTM else h)
        last = last if kind is nn.LSTM else (last, c)
        return m.fc(y[:, -1]) + last[0].sum(0) + 2 * last[1].sum(0)

    fast, own = trained(
        Apply(function, rnn=kind(3, 6, 2, batch_first=True), fc=nn.Linear(6, 6, bias=False))
    )
    x, c = torch.randn(4, 5, 3), torch.randn(2, 4, 6)
    found = []
    for model in (fast, own):
        h = torch.ones(2, 4, 6, requires_grad=True)
        model(x, h, c).square().sum().backward()
        found.append(h.grad)
    same_gradients(fast, own)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
    assert not fast.sol.report.programs[0].left


def test_dropout_between_recurrent_layers() -> None:
    """Runs differ, and are the same with the same seed."""
    fast, _ = trained(Apply(lambda m, x: m.rnn(x)[0], rnn=nn.GRU(3, 4, 2, dropout=0.5)))
    x = torch.randn(5, 2, 3)
    torch.manual_seed(3)
    first = fast(x)
    other = fast(x)
    torch.manual_seed(3)
    torch.testing.assert_close(first, fast(x), rtol=0, atol=0)
    assert not torch.equal(first, other)
    first.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in fast.parameters())
    assert not fast.sol.report.programs[0].left


def test_results_that_are_views_or_inputs() -> None:
    def function(m: Any, x: torch.Tensor) -> Any:
        y = m.fc(x)
        return y, y[:, :1], x, y.argmax(1)

    fast, own = trained(Apply(function, fc=nn.Linear(4, 2)))
    x = torch.randn(3, 4)
    for model in (fast, own):
        y, part, same, place = model(x)
        assert same is x or same.data_ptr() == x.data_ptr()
        assert not place.requires_grad
        (y.sum() + part.square().sum()).backward()
    same_gradients(fast, own)


def test_a_network_that_writes_its_input_trains_in_pytorch(compiler: Compiler) -> None:
    fast, own = trained(Apply(lambda m, x: m.fc(x.mul_(2)), fc=nn.Linear(4, 2)))
    for model in (fast, own):
        model(torch.ones(3, 4)).sum().backward()
    same_gradients(fast, own)


# ---- random numbers ------------------------------------------------------------------------------


def test_dropout_is_reproducible_and_has_its_rate() -> None:
    fast: Any = optimize(
        Apply(lambda m, x: m.drop(x), drop=nn.Dropout(0.3)).train(), never_slower=False
    )
    x = torch.ones(500, 100, requires_grad=True)
    torch.manual_seed(3)
    first, second = fast(x), fast(x)
    torch.manual_seed(3)
    assert torch.equal(fast(x), first)
    assert not torch.equal(first, second)
    kept = (first != 0).float()
    assert abs(kept.mean().item() - 0.7) < 0.01
    assert abs((kept[:, 1:] * kept[:, :-1]).mean().item() - 0.49) < 0.01
    assert abs((kept * (second != 0)).mean().item() - 0.49) < 0.01
    torch.testing.assert_close(first, kept / 0.7)
    (gradient,) = torch.autograd.grad(first.sum(), x)  # the same mask
    torch.testing.assert_close(gradient, kept / 0.7)


def test_layers_have_masks_of_their_own() -> None:
    def function(m: Any, x: torch.Tensor) -> Any:
        return (
            functional.dropout(x),
            functional.dropout(x),
            functional.dropout2d(x[:, :, None, None].expand(-1, -1, 3, 3)),
        )

    fast: Any = optimize(Apply(function).train(), never_slower=False)
    a, b, c = fast(torch.ones(50, 40, requires_grad=True))
    assert not torch.equal(a, b)
    assert torch.equal(c.amax((2, 3)), c.amin((2, 3)))
    assert 0.4 < (c != 0).float().mean() < 0.6


# ---- PyTorch's own doors -------------------------------------------------------------------------


def test_torch_compile(compiler: Compiler) -> None:
    net = Net()
    own = copy.deepcopy(net)
    fast = torch.compile(net, backend="sol")
    for _ in range(3):
        x = torch.randn(X)
        for model in (fast, own):
            model(x).square().sum().backward()
    same_gradients(net, own, 1e-3)
    assert compiler.runs >= 4  # from the second call on, when it is known that gradients matter


def test_distributed_data_parallel(tmp_path: Path, compiler: Compiler) -> None:
    """With one process; autograd calls the hooks that exchange gradients between several."""
    distributed.init_process_group(
        "gloo", rank=0, world_size=1, init_method=f"file://{tmp_path}/meeting"
    )
    try:
        fast, own = trained(Net())
        models = [nn.parallel.DistributedDataParallel(m) for m in (fast, own)]
        for _ in range(2):
            x = torch.randn(X)
            for model in models:
                model(x).square().sum().backward()
    finally:
        distributed.destroy_process_group()
    same_gradients(fast, own, 1e-3)
    assert compiler.runs == 4


def test_evaluation_mode_once_gradients_are_asked_for(compiler: Compiler) -> None:
    net = Net().eval()
    own = copy.deepcopy(net)
    fast = optimize(net, X, never_slower=False)
    before = compiler.runs
    for _ in range(3):
        x = torch.randn(X)
        for model in (fast, own):
            model(x).square().sum().backward()
    same_gradients(net, own, 1e-3)
    assert compiler.runs == before + 1 + 2 * 2


# ---- never slower --------------------------------------------------------------------------------


def test_the_judge_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_NEVER_SLOWER", "1")
    net = Net()
    own = copy.deepcopy(net)
    fast: Any = optimize(net.train())
    called: list[int] = []
    net.fc.weight.register_hook(lambda g: called.append(1))
    x = torch.randn(X)
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    fast(x).sum().backward()
    own(x).sum().backward()
    assert torch.equal(torch.randn(3), expected)
    assert called == [1]
    same_gradients(net, own)
    (entry,) = fast.__dict__["_sol_session"].trainer.entries
    assert len(entry.verdicts) == 1
    assert entry.accuracy.error < 1e-4
    assert "of the norm of a result or gradient" in entry.accuracy.text("PyTorch")


def test_a_buffer_that_its_own_gradient_reads() -> None:
    """spectral_norm writes its vectors in each step, and the gradient needs them as they were."""
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.ReLU())
    other = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), nn.ReLU())
    other.load_state_dict(net.state_dict())
    fast = optimize(other.train(), (3, 4), never_slower=False)
    for _ in range(2):
        x = torch.randn(3, 4)
        for model in (net.train(), fast):
            model(x).square().sum().backward()
    for expected, found in zip(net.parameters(), other.parameters()):
        torch.testing.assert_close(found.grad, expected.grad)
    for expected, found in zip(net.buffers(), other.buffers()):
        torch.testing.assert_close(found, expected)
