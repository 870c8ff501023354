"""Models in files on the command line: a session by Sol, numbers for its inputs, float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from sol.bench import other_files
from sol.frontends import file_of, frontend_of, optimize
from sol.onnx import example
from sol.onnx.model import load
from sol.onnx.networks import Networks
from sol.onnx.reference import in_float64 as results_in_float64

Array = NDArray[Any]
Tell = Callable[[str, int, int], None]


def opened(
    path: str, batch: int, threads: int | None, tell: Tell, tune: float = 0.0
) -> tuple[Any, dict[str, Array]]:
    """A session, and inputs of this batch. Raises what the frontend raises."""
    options = {"threads": threads, "tune": tune or None, "progress": tell}
    if _is_onnx(path):
        session = optimize(path, **options)
        return session, example(session, batch)
    model = other_files.opened(path, **options)
    return model, other_files.numbers(model, batch)


def session_of(path: str, threads: int, tune: float = 0.0) -> Any:
    """A session."""
    make = optimize if _is_onnx(path) else other_files.opened
    return make(path, threads=threads, tune=tune or None)


def example_of(path: str, batch: int, seed: int) -> dict[str, Array]:
    """Numbers for the inputs of the model; nothing is compiled."""
    if not _is_onnx(path):
        return other_files.numbers(other_files.opened(path), batch, seed)
    return example(Networks(load(path)), batch, seed)


def parameters_of(path: str) -> int:
    """How many numbers the weights of the model are; 0 where that is not known before a call."""
    return load(path).parameters if _is_onnx(path) else 0


def in_float64(path: str, arrays: Mapping[str, Array]) -> list[Array]:
    """The results of the model by NumPy in float64."""
    if not _is_onnx(path):
        return other_files.opened(path).in_float64(arrays)
    return list(results_in_float64(Networks(load(path)), arrays).values())


def _is_onnx(path: str) -> bool:
    return frontend_of(file_of(path)[0]).package == "sol.onnx"
