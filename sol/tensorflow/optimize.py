"""`optimize`: whatever TensorFlow has of models, and what Sol makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from sol.core.errors import InputError
from sol.tensorflow.function import OptimizedFunction, optimized_function
from sol.tensorflow.model import Optimized


def optimize(model: Any, **options: Any) -> Any:
    """A model or function that computes what `model` computes, by Sol.

    model: a model or layer of Keras; a `tf.function` or concrete function; what
    `tf.saved_model.load` returns; or the path of a SavedModel, of a frozen graph (.pb) or of a
    model of Keras (.keras, .h5). options: see sol.Options. Variables stay TensorFlow's: assignments
    are seen at the next call. Raises ConfigError for options that do not exist, InputError for what
    is no model.
    """
    if isinstance(model, (Optimized, OptimizedFunction)):
        return model
    if isinstance(model, (str, Path)):
        from sol.tensorflow.files import load

        return optimize(load(Path(model)), **options)
    if isinstance(model, keras.Model):
        return Optimized(model, options)
    if isinstance(model, keras.layers.Layer):
        return Optimized(_as_model(model), options)
    if callable(model) or hasattr(model, "signatures"):
        return optimized_function(model, options)
    raise InputError(
        f"optimize got a {type(model).__name__}",
        expected="a model of Keras, a tf.function, or the path of a SavedModel",
    )


def _as_model(layer: Any) -> Any:
    if not layer.built or getattr(layer, "_build_shapes_dict", None) is None:
        raise InputError(
            f"the layer {layer.name} was not called yet", expected="a layer that is built"
        )
    return keras.Sequential([layer], name=layer.name)
