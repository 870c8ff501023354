"""`optimize`: whatever TensorFlow has of models, and what Sol makes of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from sol.arrays.judge import wanted
from sol.arrays.program import Progress
from sol.core.errors import InputError
from sol.tensorflow.files import load
from sol.tensorflow.function import OptimizedFunction, optimized_function
from sol.tensorflow.model import Optimized


def optimize(model: Any, *example: Any, progress: Progress | None = None, **options: Any) -> Any:
    """A model or function that computes what `model` computes, by Sol.

    model: a model or layer of Keras; a `tf.function` or concrete function; what
    `tf.saved_model.load` returns; or the path of a SavedModel, of a frozen graph (.pb) or of a
    model of Keras (.keras, .h5). example: what it will be called with, tensors, arrays, or sizes
    that stand for float32; without it Sol reads the model at its first call. options: threads,
    precision, memory, tune, never_slower, see docs/using.md. progress: told what happens, steps
    done, steps in all. Variables stay TensorFlow's: assignments are seen at the next call. Raises
    ConfigError for options that do not exist, InputError for what is no model.
    """
    made = _optimized(model, progress, options)
    if example:
        given = tuple(_filled(e) for e in example)
        made(*given)
        if wanted(options.get("never_slower", True)):
            made.sol.measure(*given)
    return made


def _optimized(model: Any, progress: Progress | None, options: dict[str, Any]) -> Any:
    if isinstance(model, (Optimized, OptimizedFunction)):
        return model
    if isinstance(model, (str, os.PathLike)):
        return _optimized(load(Path(model)), progress, options)
    if isinstance(model, keras.Model):
        return Optimized(model, options, progress)
    if isinstance(model, keras.layers.Layer):
        return Optimized(_as_model(model), options, progress)
    if callable(model) or hasattr(model, "signatures"):
        return optimized_function(model, options, progress)
    raise InputError(
        f"optimize got a {type(model).__name__}",
        expected="a model of Keras, a tf.function, or the path of a SavedModel",
    )


def _filled(example: Any) -> Any:
    """Zeros where an example is sizes."""
    sizes = isinstance(example, Sequence) and all(isinstance(s, int) for s in example)
    return np.zeros(example, np.float32) if sizes else example


def _as_model(layer: Any) -> Any:
    if not layer.built or getattr(layer, "_build_shapes_dict", None) is None:
        raise InputError(
            f"the layer {layer.name} was not called yet", expected="a layer that is built"
        )
    return keras.Sequential([layer], name=layer.name)
