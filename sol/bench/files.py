"""Models in files on the command line: a session by Sol, numbers for its inputs, float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from sol.frontends import optimize
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
    session = optimize(path, threads=threads, tune=tune or None, progress=tell)
    return session, example(session, batch)


def session_of(path: str, threads: int, tune: float = 0.0) -> Any:
    """A session."""
    return optimize(path, threads=threads, tune=tune or None)


def example_of(path: str, batch: int, seed: int) -> dict[str, Array]:
    """Numbers for the inputs of the model; nothing is compiled."""
    return example(Networks(load(path)), batch, seed)


def parameters_of(path: str) -> int:
    """How many numbers the weights of the model are."""
    return load(path).parameters


def in_float64(path: str, arrays: Mapping[str, Array]) -> list[Array]:
    """The results of the model by NumPy in float64."""
    return list(results_in_float64(Networks(load(path)), arrays).values())
