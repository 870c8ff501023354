"""`optimize` of files and symbols: what is found, checked, computed; none of it needs MXNet."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sol
from sol.core.errors import ConfigError, InputError, UnsupportedError
from sol.mxnet import optimize
from sol.race import Verdict
from tests.mxnet import networks
from tests.mxnet.framework import mxnet


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.written(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((3, 3, 4), np.float32)


def check(model: Any, prefix: Path, x: np.ndarray) -> None:
    for got, wanted in zip(model(x), networks.expected(prefix, x), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_files_become_a_function_of_arrays(prefix: Path, x: np.ndarray) -> None:
    model = optimize(str(prefix), inputs={"data": (None, 3, 4)})
    assert model.inputs == ("data",)
    assert model.outputs == ("softmax_output", "relu_output")
    for batch in (3, 1, 2):
        check(model, prefix, x[:batch])
    check(lambda a: model(data=a), prefix, x)
    assert "fc" in model.explain()
    assert len(model.reports[0].programs) == 1


def test_inputs_may_be_read_off_the_first_call(prefix: Path, x: np.ndarray) -> None:
    check(optimize(prefix), prefix, x)
    check(optimize(prefix, inputs={"data": x}), prefix, x)
    check(optimize(prefix, inputs={"data": ("N", 12), "label": (3,)}), prefix, x.reshape(3, 12))


def test_parameters_may_be_changed(prefix: Path, x: np.ndarray) -> None:
    model = optimize(prefix)
    first = model(x)[1]
    model.update({"w": np.zeros((5, 12), np.float32), "b": np.ones(5, np.float32)})
    assert not np.allclose(first, 1)
    np.testing.assert_array_equal(model(x)[1], 1)


def test_no_mxnet_is_imported(prefix: Path) -> None:
    code = (
        "import sys, numpy; from sol.mxnet import optimize; "
        f"optimize({str(prefix)!r})(numpy.ones((1, 12), 'f')); assert 'mxnet' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arrays_of_mxnet_in_and_out(prefix: Path, x: np.ndarray) -> None:
    mx = mxnet()
    symbol, args, states = mx.model.load_checkpoint(str(prefix), 0)
    model = optimize(symbol, (args, states))
    given = mx.nd.array(x)
    made = model(given)
    assert all(isinstance(y, mx.nd.NDArray) for y in made)
    check(lambda _: [y.asnumpy() for y in made], prefix, x)
    wanted = symbol.bind(mx.cpu(), {**args, "data": given, "label": mx.nd.zeros(3)}).forward()
    for y, theirs in zip(made, wanted, strict=True):
        np.testing.assert_allclose(y.asnumpy(), theirs.asnumpy(), rtol=1e-5, atol=1e-6)


def test_which_files_are_meant(prefix: Path, x: np.ndarray, tmp_path: Path) -> None:
    symbol, params = f"{prefix}-symbol.json", f"{prefix}-0000.params"
    check(optimize(symbol), prefix, x)
    check(optimize(symbol, params), prefix, x)
    shutil.copy(symbol, tmp_path / "a-symbol.json")
    with pytest.raises(InputError, match=r"there is no a-NNNN\.params"):
        optimize(tmp_path / "a")
    check(optimize(tmp_path / "a", params), prefix, x)
    for name in ("a-0001.params", "a-0002.params", "a-best.params"):
        shutil.copy(params, tmp_path / name)
    with pytest.raises(InputError, match=r"there are 2 files.*a-0001\.params, a-0002\.params"):
        optimize(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": {"date": (1, 12)}}, InputError, "inputs names date"),
        ({"inputs": {"data": 12}}, InputError, "data is 12"),
        ({"inputs": {"data": ((1, 12), "floaty")}}, InputError, "data is of 'floaty'"),
        ({"inputs": [(1, 12)]}, InputError, "inputs is a list"),
        ({"inputs": {"data": (None, 13)}}, InputError, "node fc"),
        ({"inputs": {"data": ((None, 12), "float64")}}, UnsupportedError,
         "the input data is not supported: it is f64"),
        ({"params": {"w": np.zeros((5, 12), np.float32)}, "inputs": {"data": (None, 12)}},
         InputError, "no array for b"),
        ({"params": {"w": 3}}, InputError, "the parameter w is a int"),
        ({"params": 3}, InputError, "params is a int"),
        ({"params": {"w": np.zeros((5, 12)), "b": np.zeros(5)}, "inputs": {"data": (None, 12)}},
         UnsupportedError, "the parameter w is not supported: it is float64"),
        ({"precision": "float8"}, ConfigError, "precision"),
    ],
)  # fmt: skip
def test_what_does_not_fit(
    prefix: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        optimize(prefix, **change)


def test_calls_that_do_not_fit(prefix: Path, x: np.ndarray) -> None:
    model = optimize(prefix, inputs={"data": (None, 3, 4)})
    for arrays, named, message in (
        ((x, x), {}, "2 arrays"),
        ((x,), {"data": x}, "by position and by name"),
        ((), {}, "no array for data"),
        ((x[:, :2],), {}, r"the shape \(3, 2, 4\)"),
        ((x.astype(np.float64),), {}, "an array of float64"),
    ):
        with pytest.raises(InputError, match=message):
            model(*arrays, **named)


def test_what_is_no_network() -> None:
    with pytest.raises(InputError, match="optimize got a int"):
        optimize(3)


def test_sol_optimize_finds_symbol_files(prefix: Path, x: np.ndarray) -> None:
    for name in (f"{prefix}-symbol.json", prefix):
        check(sol.optimize(name, inputs={"data": (None, 3, 4)}), prefix, x)


def test_the_faster_way_is_kept(
    prefix: Path, x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOL_NEVER_SLOWER", "1")
    mx = mxnet()
    symbol, *params = mx.model.load_checkpoint(str(prefix), 0)
    weights = {"w": np.zeros((5, 12), np.float32), "b": np.ones(5, np.float32)}
    for given in ((str(prefix),), (symbol, params)):
        for seconds, text in ((1.0, "Sol runs"), (3.0, "MXNet runs, Sol takes 1.50 times as")):
            found = Verdict(seconds, 2.0, seconds, 2.0, 3)
            monkeypatch.setattr("sol.race.race", lambda *_, v=found, **__: v)
            model = optimize(*given, inputs={"data": x})
            assert text in model.explain()
            if seconds > 2:
                (network,) = model._networks.values()
                monkeypatch.setattr(network, "_entry", pytest.fail)  # Sol is not called
            check(model, prefix, x)
            assert isinstance(model(mx.nd.array(x))[0], mx.nd.NDArray)
            model.update(weights)
            np.testing.assert_array_equal(model(x)[1], 1)
