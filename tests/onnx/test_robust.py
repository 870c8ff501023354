"""Files that nobody should trust: damaged ones, and those that name files elsewhere."""

from __future__ import annotations

import os
import random
import resource
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import sol.onnx
from sol.core.errors import InputError, SolError, UnsupportedError
from tests.onnx import fuzz
from tests.onnx.models import model, node, numbers

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
_MUTATIONS = 400  # thousands with other seeds have been run


def test_models_that_mutations_start_from_are_read() -> None:
    assert [fuzz.survives(m) for m in fuzz.seeds()] == ["read"] * 4


def test_damaged_models_are_read_or_refused() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kinds = Counter(fuzz.survives(m) for m in fuzz.mutations(_MUTATIONS, seed=7))
    assert kinds["InputError"] > 100
    assert kinds["read"] > 50
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 500e6


def test_every_way_to_cut_a_file_off() -> None:
    data = fuzz.seeds()[0].SerializeToString()
    rng = random.Random(0)
    for _ in range(200):
        fuzz.survives(data[: rng.randrange(len(data))])


HUGE = {
    "a constant": node("ConstantOfShape", "big", "y"),
    "a range": node("Range", "zero end one", "y"),
    "copies": node("Tile", "v big", "y"),
    "a broadcast": node("Expand", "v big", "y"),
    "a pad": node("Pad", "v pads", "y"),
    "codes": node("OneHot", "big end values", "y"),
}


@pytest.mark.parametrize("case", HUGE)
def test_few_bytes_do_not_take_all_memory(case: str) -> None:
    big, end = np.array([1 << 40]), np.array(1 << 40)
    weights = {
        "big": big, "end": end, "zero": np.array(0), "one": np.array(1), "v": numbers(1),
        "pads": np.array([0, 1 << 40]), "values": np.float32([0, 1]),
    }  # fmt: skip
    nodes = [HUGE[case], node("ReduceMax", "y", "m", keepdims=0), node("Add", "m x", "z")]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SolError):
        sol.onnx.optimize(model(nodes, {"x": (np.float32, [2])}, ["z"], weights))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


# ---- files beside the model


def beside(folder: Path, location: str, **entries: str) -> Path:
    """A model whose weight is in another file."""
    proto = model([node("Add", "x w", "y")], {"x": (np.float32, [4])}, ["y"], {"w": numbers(4)})
    (weight,) = proto.graph.initializer
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model's data, and a secret outside of it."""
    inside = tmp_path / "model"
    (inside / "deep").mkdir(parents=True)
    for path in (tmp_path / "secret", inside / "data", inside / "deep" / "data"):
        path.write_bytes(numbers(4).tobytes())
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "dir").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe")
    return inside


@pytest.mark.parametrize("location", ["data", "./data", "deep/data"])
def test_files_in_the_folder_are_read(folder: Path, location: str) -> None:
    session = sol.onnx.optimize(beside(folder, location))
    np.testing.assert_array_equal(session(np.zeros(4, np.float32)), numbers(4))


ELSEWHERE = ["../secret", "/etc/passwd", "link", "dir/secret", "deep/../../secret", "", ".", "pipe",
             "..\\secret", "C:/secret", "missing", "deep", "data\0"]  # fmt: skip


@pytest.mark.parametrize("location", ELSEWHERE)
def test_files_elsewhere_are_not_read(folder: Path, location: str) -> None:
    with pytest.raises(InputError, match="'w' is in the file"):
        sol.onnx.optimize(beside(folder, location))


@pytest.mark.parametrize(
    "entries",
    [{"offset": "1"}, {"offset": "-4"}, {"length": "3"}, {"offset": "9" * 30}, {"length": "x"}],
)
def test_parts_of_files_that_are_not_there(folder: Path, entries: dict[str, str]) -> None:
    with pytest.raises(InputError, match="'w'"):
        sol.onnx.optimize(beside(folder, "data", **entries))


def test_a_model_without_a_folder_names_no_files(folder: Path) -> None:
    with pytest.raises(InputError, match="give the path of the model"):
        sol.onnx.optimize(beside(folder, "data").read_bytes())


def test_functions_that_call_themselves_end() -> None:
    call = onnx.helper.make_node("F", ["a"], ["b"], domain="own")
    again = onnx.helper.make_function(
        "own", "F", ["a"], ["b"], [call], [onnx.helper.make_opsetid("own", 1)]
    )
    first = onnx.helper.make_node("F", ["x"], ["y"], domain="own")
    with pytest.raises(UnsupportedError, match="call themselves"):
        sol.onnx.optimize(model([first], {"x": (np.float32, [2])}, ["y"], functions=[again]))
