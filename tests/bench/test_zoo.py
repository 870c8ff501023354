"""Networks by name: what is found, what is built, and what an unknown name is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from sol.bench import zoo
from sol.core.errors import InputError

SMALL = ["squeezenet1_1", "timm/resnet14t", "bert-tiny", "gpt2-tiny", "vit-tiny", "t5-tiny"]


@pytest.mark.parametrize("name", SMALL)
def test_a_name_is_built_with_inputs_of_the_batch(name: str) -> None:
    network = zoo.build(name, batch=3)
    assert not network.module.training
    assert all(len(x) == 3 for x in network.tensors)
    with torch.no_grad():
        result = network.module(*network.args, **network.kwargs)
    first = result if isinstance(result, torch.Tensor) else next(iter(result.values()))
    assert len(first) == 3
    assert bool(first.isfinite().all())


def test_the_same_seed_gives_the_same_network_in_another_process() -> None:
    code = (
        "import torch, hashlib; torch.set_num_threads(1)\n"
        "from sol.bench.zoo import build; n = build('squeezenet1_1', 2, seed=5)\n"
        "data = b''.join(t.numpy().tobytes() for t in [*n.module.state_dict().values(), *n.args])\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize(
    ("name", "close"),
    [("resnet5O", "resnet50"), ("bert-bse", "bert-base"), ("timm/resnet51", "resnet50")],
)
def test_an_unknown_name_gets_close_ones(name: str, close: str) -> None:
    with pytest.raises(InputError, match="no network is named") as caught:
        zoo.require(name)
    assert close in caught.value.expected


def test_a_model_of_billions_of_weights_is_refused() -> None:
    with pytest.raises(InputError, match=r"llama has 6\.\d billion weights"):
        zoo.build("llama")


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user in the current directory."""
    (tmp_path / "usernets.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "def bare(): return nn.Conv2d(3, 4, 3)\n"
        "def pair(): return nn.Linear(5, 2), torch.ones(1, 5)\n"
        "def named(): return nn.Linear(5, 2), {'input': torch.ones(1, 5)}\n"
        "def sized(batch): return nn.Linear(5, 2), (torch.zeros(batch, 5),)\n"
        "def wrong(): return 3\n"
        "value = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("usernets", None)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("name", "shape"),
    [("bare", (4, 3, 224, 224)), ("pair", (4, 5)), ("named", (4, 5)), ("sized", (4, 5))],
)
def test_a_function_of_the_user(name: str, shape: tuple[int, ...]) -> None:
    network = zoo.build(f"usernets:{name}", batch=4)
    assert isinstance(network.module, nn.Module)
    assert tuple(network.tensors[0].shape) == shape
    network.module(*network.args, **network.kwargs)


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nosuchpackage:net", "there is no module 'nosuchpackage'"),
        ("usernets:nothing", "'usernets' has no function 'nothing'"),
        ("usernets:value", "'usernets' has no function 'value'"),
        ("usernets:wrong", "returned int"),
    ],
)
def test_a_wrong_function_is_told_why(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        zoo.build(spec)


def test_weights_of_the_user_are_not_touched(functions: None) -> None:
    torch.manual_seed(0)
    expected = nn.Linear(5, 2).weight
    assert torch.equal(zoo.build("usernets:pair").module.get_parameter("weight"), expected)
