"""The command line: what it prints where, its exit status, and that errors are no tracebacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import sol
from sol import cli
from sol.cli import Arguments, Command, Screen, main
from sol.core.errors import CacheError, ConfigError, InputError, SolError
from sol.report.machine import Memory, Peaks

TOYS = """
import torch
from torch import nn

def small(batch):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (torch.rand(batch, 3, 16, 16),)
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a network that is built in no time."""
    (tmp_path / "clinets.py").write_text(TOYS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "clinets:small"
    sys.modules.pop("clinets", None)


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    """PyTorch's thread count belongs to the process."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"sol {sol.__version__}\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command.name in text for command in cli.COMMANDS)


@pytest.mark.parametrize("call", [[], ["optimise"], ["bench"], ["bench", "x", "--batch", "0"]])
def test_a_wrong_call_is_status_2(call: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(call)
    assert left.value.code == 2
    assert "usage: sol" in capsys.readouterr().err


def test_the_installed_command_and_the_module_are_the_same() -> None:
    script = Path(sys.executable).with_name("sol")
    for command in ([str(script)], [sys.executable, "-m", "sol"]):
        run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert run.stdout == f"sol {sol.__version__}\n"


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert sol.devices()[0].isa in text
    assert "compiler: " in text
    assert f"cache: {sol.cache.path}" in text


@pytest.mark.usefixtures("empty_cache")
def test_cache_is_shown_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    sol.cache.put("0" * 64, b"x" * 2**20)
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.split()[-4:] == ["1", "size", "1.0", "MiB"]
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out.split()[-4:] == ["0", "size", "0.0", "MiB"]


def raising(error: BaseException) -> Command:
    def run(arguments: Arguments, screen: Screen) -> int:
        raise error

    return Command("fail", "fails", cli._no_arguments, run)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("wrong [b]name", expected="a right one", do="look"), 2),
        (ConfigError("wrong [b]name"), 2),
        (CacheError("wrong [b]name"), 1),
        (SolError("wrong [b]name"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_are_messages_with_a_status(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", (raising(error),))
    assert main(["fail"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert ("interrupted" if status == 130 else "sol: wrong [b]name") in captured.err


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", (raising(ZeroDivisionError()),))
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


@pytest.mark.parametrize("command", ["optimize", "explain", "bench"])
def test_an_unknown_network(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "resnet5O"]) == 2
    captured = capsys.readouterr()
    assert "no network is named 'resnet5O'" in captured.err
    assert "resnet50" in captured.err
    assert captured.out == ""


def test_bench(toys: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Several batch sizes, rivals with and without commas, a table, and everything as JSON."""
    call = ["bench", toys, "--batch", "1", "2", "--no-sol", "--against", "eager,channels_last"]
    options = ["eager", "--threads", "1", "--rounds", "2", "--seconds", "0.01", "--seed", "7"]
    path = tmp_path / "out.json"
    assert main([*call, *options, "--json", str(path)]) == 0
    captured = capsys.readouterr()
    assert "clinets:small: 0.0 million weights, batch 2, 1 thread" in captured.out
    assert "round 2 of 2" in captured.err
    tree = json.loads(path.read_text())
    assert tree["settings"]["batches"] == [1, 2]
    assert tree["settings"]["seed"] == 7
    for comparison in tree["comparisons"]:
        assert [m["rival"] for m in comparison["measurements"]] == ["eager", "channels_last"]
        assert all(m["min_ms"] > 0 for m in comparison["measurements"])


def test_bench_fails_if_sol_does(
    toys: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOL_CC", "/nonexistent/cc")
    call = ["bench", toys, "--against", "eager", "--threads", "1", "--rounds", "1"]
    assert main(call) == 1
    captured = capsys.readouterr().out
    assert "\nsol: " in captured
    assert "/nonexistent/cc" in captured
    assert "fastest call of eager" in captured


@pytest.mark.usefixtures("_threads_as_before")
def test_optimize_checks_what_it_made(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", toys, "--batch", "2", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert "clinets:small" in captured.out
    assert "float64" in captured.out
    assert "optimizing clinets:small" in captured.err


@pytest.fixture
def _known_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Peaks(1, 1e11, (Memory("DRAM", None, 1e10),))
    monkeypatch.setattr("sol.report.machine.peaks", lambda device, threads: found)


@pytest.mark.usefixtures("_known_peaks", "_threads_as_before")
def test_explain_against_the_peaks(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", toys, "--roofline", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "peaks of 1 thread: 100 GFLOP/s, DRAM 10 GB/s" in out
    assert "\ntotal " in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.usefixtures("_known_peaks", "_threads_as_before")
def test_bench_against_the_peaks(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["bench", toys, "--batch", "1", "2", "--no-sol", "--against", "eager", "--roofline"]
    assert main([*call, "--threads", "1", "--rounds", "1", "--seconds", "0.01"]) == 0
    out = capsys.readouterr().out
    assert out.count("peaks of 1 thread") == 2
    assert "clinets:small, batch 2" in out


def test_explain_names_the_layers(toys: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", toys]) == 0
    assert "relu" in capsys.readouterr().out.lower()


def _keras_file(folder: Path) -> str:
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="relu")])
    model.save(folder / "net.keras")
    return str(folder / "net.keras")


def _saved_model(folder: Path) -> str:
    tf = pytest.importorskip("tensorflow")
    module = tf.Module()
    spec = tf.TensorSpec([None, 6], tf.float32, "x")
    module.serve = tf.function(lambda x: {"y": tf.nn.relu(x) * 2.0}, input_signature=[spec])
    tf.saved_model.save(module, str(folder / "saved"), {"serving_default": module.serve})
    return str(folder / "saved")


def _symbol_file(folder: Path) -> str:
    from tests.mxnet.networks import written

    return f"{written(folder)}-symbol.json@data=12"


def _cntk_file(folder: Path) -> str:
    return str(Path(__file__).parents[1] / "cntk" / "fixtures" / CNTK)


CNTK = "residual_cnn.model"


@pytest.mark.parametrize("make", [_keras_file, _saved_model, _symbol_file, _cntk_file])
def test_files_of_other_frameworks(
    make: Callable[[Path], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = make(tmp_path)
    assert main(["optimize", file, "--batch", "2"]) == 0
    printed = capsys.readouterr().out
    errors = [float(e) for e in re.findall(r"output \d: (\S+) of its", printed)]
    assert errors
    assert max(errors) < 1e-4
    assert main(["explain", file]) == 0
    assert "program for" in capsys.readouterr().out


def test_sizes_behind_the_name_of_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import onnx

    from tests.onnx.models import model, node

    proto = model([node("Relu", "x", "y")], {"x": (np.float32, ["n", "k"])}, ["y"])
    onnx.save_model(proto, tmp_path / "net.onnx")
    assert main(["explain", f"{tmp_path / 'net.onnx'}"]) == 2
    assert "FILE@x=3x224x224" in " ".join(capsys.readouterr().err.split())
    assert main(["optimize", f"{tmp_path / 'net.onnx'}@x=5"]) == 0
    assert "error against float64" in capsys.readouterr().out
    file = _symbol_file(tmp_path).partition("@")[0]
    assert main(["explain", file]) == 2
    assert "does not say the sizes of data" in " ".join(capsys.readouterr().err.split())
    assert main(["explain", f"{file}@data=twelve"]) == 2
    assert "expected: NAME=SIZES" in " ".join(capsys.readouterr().err.split())
