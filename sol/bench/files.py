"""Models in files on the command line: a session by Sol, numbers for its inputs, float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from sol.arrays.signature import Input
from sol.bench import other_files
from sol.frontends import file_of, frontend_of, optimize
from sol.onnx.model import load
from sol.onnx.networks import Networks
from sol.onnx.reference import in_float64 as results_in_float64

Array = NDArray[Any]
Tell = Callable[[str, int, int], None]


def opened(
    spec: str, batch: int, threads: int | None, tell: Tell, tune: float = 0.0
) -> tuple[Any, dict[str, Array]]:
    """A session, and inputs of this batch. Raises what the frontend raises."""
    options = {"threads": threads, "tune": tune or None, "progress": tell}
    path, sizes = file_of(spec)
    if _is_onnx(spec):
        session = optimize(path, **options)
        return session, _numbers(session.inputs, sizes, batch)
    model = other_files.opened(spec, **options)
    return model, _numbers(model.inputs, {}, batch)


def session_of(spec: str, threads: int, tune: float = 0.0) -> Any:
    """A session."""
    options = {"threads": threads, "tune": tune or None}
    if _is_onnx(spec):
        return optimize(file_of(spec)[0], **options)
    return other_files.opened(spec, **options)


def example_of(spec: str, batch: int, seed: int) -> dict[str, Array]:
    """Numbers for the inputs of the model; nothing is compiled."""
    if not _is_onnx(spec):
        return _numbers(other_files.opened(spec).inputs, {}, batch, seed)
    path, sizes = file_of(spec)
    return _numbers(Networks(load(path)).inputs, sizes, batch, seed)


def parameters_of(spec: str) -> int:
    """How many numbers the weights of the model are; 0 where that is not known before a call."""
    return load(file_of(spec)[0]).parameters if _is_onnx(spec) else 0


def in_float64(spec: str, arrays: Mapping[str, Array]) -> list[Array]:
    """The results of the model by NumPy in float64."""
    if not _is_onnx(spec):
        return other_files.opened(spec).in_float64(arrays)
    return list(results_in_float64(Networks(load(file_of(spec)[0])), arrays).values())


def _is_onnx(spec: str) -> bool:
    return frontend_of(file_of(spec)[0]).package == "sol.onnx"


def _numbers(
    inputs: Sequence[Input], sizes: other_files.Sizes, batch: int, seed: int = 0
) -> dict[str, Array]:
    """Numbers for the inputs of a model, whose sizes the command line may say."""
    return other_files.numbers(other_files.sized(inputs, sizes), batch, seed)
