"""What tests of models share: weights and inputs that mean something, and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Spec = tuple[Any, ...]  # sizes without the batch, before them "i" for numbers below 4, "b" for bool


def randomise(model: Any, seed: int = 0) -> Any:
    """All weights random, variances positive, so that nothing is 0 or 1 by chance."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" in variable.path:
            continue
        fan = max(1, int(np.prod(variable.shape[:-1])))
        value = rng.standard_normal(variable.shape) / np.sqrt(fan)
        if "variance" in variable.path or "gamma" in variable.path:
            value = 0.5 + rng.random(variable.shape)
        variable.assign(value.astype(str(variable.dtype)))
    return model


def example(spec: Spec, batch: int, seed: int = 1) -> Any:
    """An array of `batch` samples."""
    rng = np.random.default_rng(seed)
    kind, sizes = (spec[0], spec[1:]) if spec and isinstance(spec[0], str) else ("f", spec)
    if kind == "i":
        return rng.integers(0, 4, (batch, *sizes)).astype(np.int32)
    if kind == "b":
        return rng.random((batch, *sizes)) > 0.4
    return rng.standard_normal((batch, *sizes)).astype(np.float32)


def inputs_of(specs: Sequence[Spec]) -> list[Any]:
    """Symbolic inputs of a model."""
    names = {"i": "int32", "b": "bool"}
    found = []
    for spec in specs:
        kind, sizes = (spec[0], spec[1:]) if spec and isinstance(spec[0], str) else ("f", spec)
        found.append(keras.Input(sizes, dtype=names.get(kind, "float32")))
    return found


def alone(structure: Any) -> Any:
    """The one element of a list."""
    return structure[0] if len(structure) == 1 else structure


def assert_same(found: Any, expected: Any, tolerance: float = 2e-5) -> None:
    """Results of the same structure, types, shapes and values."""
    tf.nest.assert_same_structure(found, expected)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if a.dtype.is_floating:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def in_float64(model: Any) -> Any:
    """The same model in double precision, with the same weights."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(changed(v) for v in value)
        return "float64" if value == "float32" else value

    config = changed(keras.saving.serialize_keras_object(model))
    double = keras.saving.deserialize_keras_object(config, safe_mode=False)
    double.set_weights([w.astype(np.float64) for w in model.get_weights()])
    return double
