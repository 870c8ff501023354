"""A model of Keras by Sol: a model itself, on the same variables, that can be called, put into
other models, asked to predict, trained and saved."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import in_stateless_scope
from tensorflow.python.eager import record
from tensorflow.python.saved_model import save_context

from sol.arrays.captured import Captured
from sol.arrays.program import Progress
from sol.arrays.signature import Types
from sol.core.errors import UnsupportedError
from sol.tensorflow.context import Reading
from sol.tensorflow.cut import cut
from sol.tensorflow.models import (
    Wrapper,
    as_nodes,
    drawing,
    graph_of,
    layers_of,
    packed,
    read_function,
    read_model,
    traced,
)
from sol.tensorflow.session import Handle, Session, Settings, Source, input_of, options_of
from sol.tensorflow.training import Trainer
from sol.tensorflow.variables import Variables


@keras.saving.register_keras_serializable(package="sol")
class Optimized(keras.Model, Wrapper):  # type: ignore[misc]
    """What `optimize` makes of a model. `sol` is the handle to explanations and the original."""

    def __init__(
        self, original: Any, options: dict[str, Any] | None = None,
        progress: Progress | None = None, **keywords: Any,
    ) -> None:  # fmt: skip
        super().__init__(**{"name": original.name, **keywords})
        self._options = dict(options or {})
        chosen = options_of(self._options)
        self.original = original
        self.supports_jit = False  # XLA cannot call Sol
        self.built = True  # by its first call, if the original is not
        self._session = _session(original, Settings(chosen, progress))
        self._loaded_as_original = False
        if getattr(original, "compiled", False):
            self._compile_as_original()

    @property
    def sol(self) -> Handle:
        """Explanations, reasons, and the original."""
        return Handle(self._session, self.original)

    def __getattr__(self, name: str) -> Any:
        """What the original has beside what every model has: `output_names`, its own methods."""
        if name.startswith("_") or "original" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        return getattr(self.original, name)

    # ---- calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the original computes. A plain call from outside needs no more of Keras."""
        if len(args) == 1 and not kwargs and self._is_plain(args[0]):
            return self._session(args, kwargs)
        return super().__call__(*args, **kwargs)

    def _is_plain(self, x: Any) -> bool:
        """Whether an argument is a tensor or array without a mask, and no layer is being called."""
        return (
            isinstance(x, (tf.Tensor, np.ndarray))
            and tf.executing_eagerly()
            and global_state.get_global_attribute("current_call_ctx") is None
            and getattr(x, "_keras_mask", None) is None
            and graph_of(self.original) is not None
            and not self._drawing
        )

    @cached_property
    def _drawing(self) -> str:
        return drawing(self.original)

    def call(self, *args: Any, training: Any = None, mask: Any = None, **kwargs: Any) -> Any:
        """What the original computes, by Sol where it can."""

        masked = any(m is not None for m in tree.flatten(mask))

        def original(*a: Any, **k: Any) -> Any:
            more = {"mask": mask} if masked else {}
            return self.original(*a, **k, **more, training=training)

        if masked:
            return self._session.by_original(original, "a mask", args, kwargs)
        if save_context.in_save_context() or in_stateless_scope():
            return original(*args, **kwargs)
        if training is None and self._drawing:
            reason = f"{self._drawing} is in training mode unless training=False"
            return self._session.by_original(original, reason, args, kwargs)
        if training or record.could_possibly_record():
            return self._session.train(args, kwargs, original, bool(training))
        if tf.executing_eagerly():
            return self._session(args, kwargs, original)
        return _in_graph(self, args, kwargs)

    def build(self, *shapes: Any, **named: Any) -> None:
        """Build the original."""
        self.original.build(*shapes, **named)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Shapes and types of the original's results."""
        return self.original.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """Shapes of the original's results."""
        return self.original.compute_output_shape(*args, **kwargs)

    def compute_mask(self, *args: Any, **kwargs: Any) -> Any:
        """The original's mask."""
        return self.original.compute_mask(*args, **kwargs)

    @property
    def layers(self) -> list[Any]:
        """The layers of the original, so that `get_layer` finds them."""
        return list(self.original.layers)

    # ---- compiling and saving

    def _compile_as_original(self) -> None:
        """With the original's optimizer itself: it goes on from where it is."""
        self.compile(**{**self.original._compile_config.config, "jit_compile": False})

    def _is_as_original(self) -> bool:
        own = getattr(self, "optimizer", None)
        return own is not None and own is getattr(self.original, "optimizer", None)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """As it was saved; an optimizer that was the original's is so again."""
        if not self._loaded_as_original:
            super().compile_from_config(config)

    @property
    def _default_save_signature(self) -> Any:
        """How a SavedModel is called: as that of the original."""
        return self.original._default_save_signature

    def get_config(self) -> dict[str, Any]:
        """The original and the options."""
        original = keras.saving.serialize_keras_object(self.original)
        return {
            "original": original, "options": self._options, "name": self.name,
            "compiled as original": self._is_as_original(),
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The model of a configuration."""
        original = keras.saving.deserialize_keras_object(
            config["original"], custom_objects=custom_objects
        )
        made = cls(original, config.get("options"), name=config.get("name", original.name))
        made._loaded_as_original = config.get("compiled as original", False) and made.compiled
        return made

    def save_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Write the weights as the original does: either can read what the other has written."""
        return self.original.save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Read weights that this model or the original has written."""
        return self.original.load_weights(*args, **kwargs)

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Write the original as a SavedModel: it needs no Sol where it is loaded."""
        return self.original.export(*args, **kwargs)


# ---- what computes calls of a model --------------------------------------------------------------


def _session(model: Any, settings: Settings) -> Session:
    variables = Variables()

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Sequence[Any]]:
        graph = graph_of(model)
        if graph is not None and len(args) == 1 and not kwargs:
            return ("graph", id(graph)), _standardised(graph, args[0])
        return kind_of(args, kwargs)

    def make(kind: Any, tensors: Sequence[Any]) -> Source:
        if isinstance(kind, tuple):
            return _by_layers(model, settings, variables)
        if not model.built:
            raise UnsupportedError(model.name, "it is built by its first call")

        def call(*args: Any, **kwargs: Any) -> Any:
            result = model(*args, **kwargs, training=False)
            _check_losses(model)
            return result

        source = by_trace(call, kind, tensors, settings, variables, model.name)
        for layer in layers_of(model):
            variables.watch.add_plain(layer)
        return source

    trainer = Trainer(model, variables, settings.options, settings.progress)
    return Session(model, find, make, variables, model.name, trainer)


def _check_losses(model: Any) -> None:
    """What a call adds to losses is not among its results."""
    if any(layer._losses for layer in layers_of(model)):
        model._clear_losses()
        raise UnsupportedError(model.name, _LOSSES)


def _standardised(graph: Any, inputs: Any) -> list[Any]:
    """The tensors of a call, as Keras itself converts them for this model."""
    try:
        found = graph._standardize_inputs(inputs)
        graph._assert_input_compatibility(inputs)
    except Exception as error:  # the original says it better
        raise UnsupportedError("the call", str(error).splitlines()[0]) from None
    if any(not isinstance(t, tf.Tensor) for t in found):
        raise UnsupportedError("the call", "inputs that are missing, sparse or ragged")
    return list(found)


def _by_layers(model: Any, settings: Settings, variables: Variables) -> Source:
    """A model with a graph of layers."""
    graph = graph_of(model)
    tensors = graph._inputs
    names = tuple(f"{t.name}" for t in tensors)
    if len(set(names)) < len(names):
        names = tuple(f"{name}_{k}" for k, name in enumerate(names))
    outputs = tuple(f"output {k}" for k in range(len(graph._outputs)))

    def read(types: Types) -> Captured:
        reading = Reading(variables)
        inputs = [reading.builder.input(name, types[name]) for name in names]
        return cut(reading, as_nodes(reading, read_model(reading, model, inputs)))

    inputs = [input_of(n, t.shape, str(t.dtype)) for n, t in zip(names, tensors)]
    network = settings.network(inputs, outputs, read, model.name)
    return Source(network, names, outputs, lambda r: packed(graph._outputs_struct, r))


# ---- what is traced as a whole -------------------------------------------------------------------


def kind_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[Any]]:
    """The structure of a call with its plain values, and its tensors."""
    leaves = tree.flatten((args, kwargs))
    flat = [_tensor(x) for x in leaves]
    tensors = [x for x in flat if isinstance(x, tf.Tensor)]
    marks = tuple(
        (x.dtype.name, x.shape.rank) if isinstance(x, tf.Tensor) else (type(x).__name__, x)
        for x in flat
    )
    structure = tree.map_structure(lambda x: None, (args, kwargs))
    kind = Kind(repr(structure), marks, (args, kwargs))
    try:
        hash(kind)
    except TypeError:
        raise UnsupportedError(
            "the call", "an argument that is neither tensor nor number"
        ) from None
    return kind, tensors


class Kind:
    """A structure of arguments: equal for calls that one network computes."""

    def __init__(self, structure: str, marks: tuple[Any, ...], example: Any) -> None:
        self.structure, self.marks = structure, marks
        self.example = tree.map_structure(lambda x: x, example)
        self._key = (structure, marks)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kind) and self._key == other._key

    def filled(self, tensors: Sequence[Any]) -> Any:
        """(args, kwargs) with these tensors."""
        given = iter(tensors)
        flat = tree.flatten(self.example)
        return tree.pack_sequence_as(
            self.example, [next(given) if _is_array(x) else x for x in flat]
        )


def _is_array(x: Any) -> bool:
    return isinstance(x, (tf.Tensor, tf.Variable, np.ndarray, np.generic))


def _tensor(x: Any) -> Any:
    return tf.convert_to_tensor(x) if _is_array(x) else x


def by_trace(
    call: Any, kind: Kind, tensors: Sequence[Any], settings: Settings, variables: Variables,
    name: str,
) -> Source:  # fmt: skip
    """A function of TensorFlow, or a model that is more than its layers."""
    names = tuple(f"argument {k}" for k in range(len(tensors)))
    shapes = [_open(t.shape.as_list()) for t in tensors]
    inputs = [
        input_of(n, (None,) * len(s), t.dtype.name) for n, s, t in zip(names, shapes, tensors)
    ]

    def on_tensors(*given: Any) -> Any:
        args, kwargs = kind.filled(given)
        return call(*args, **kwargs)

    def read(types: Types) -> Captured:
        reading = Reading(variables)
        nodes = [reading.builder.input(n, types[n]) for n in names]
        function = traced(on_tensors, [types[n] for n in names])
        if not _is_alike(function.structured_outputs, structure):
            raise UnsupportedError(name, "its results have another structure for these sizes")
        return cut(reading, as_nodes(reading, read_function(reading, function, nodes)))

    example = tf.function(on_tensors, autograph=False).get_concrete_function(
        *(tf.TensorSpec(s, t.dtype) for s, t in zip(shapes, tensors))
    )
    structure = example.structured_outputs
    outputs = tuple(f"output {k}" for k in range(len(tf.nest.flatten(structure))))
    network = settings.network(inputs, outputs, read, name)
    return Source(network, names, outputs, lambda r: tf.nest.pack_sequence_as(structure, r))


def _is_alike(structure: Any, other: Any) -> bool:
    try:
        tf.nest.assert_same_structure(structure, other)
    except (TypeError, ValueError):
        return False
    return True


def _open(shape: list[int]) -> tuple[int | None, ...]:
    """The first size is the batch."""
    return (None, *shape[1:]) if shape else ()


_LOSSES = "it adds to its loss while it is called"


# ---- inside a function of TensorFlow -------------------------------------------------------------


def _in_graph(model: Optimized, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call while TensorFlow traces: an operation that calls Sol. Its gradient is TensorFlow's."""
    session, original = model._session, model.original
    if session.judge.why_not(("graph", id(graph_of(original))), None):
        return original(*args, **kwargs, training=False)
    flat = tree.flatten((args, kwargs))
    tensors = [x for x in flat if isinstance(x, tf.Tensor)]
    weights = [v.value for v in original.variables]
    losses = [(layer, layer._losses[:]) for layer in layers_of(original)]

    def called(*given: Any) -> Any:
        own_args, own_kwargs = _refilled(args, kwargs, flat, given)
        return original(*own_args, **own_kwargs, training=False)

    specs = (tf.TensorSpec(t.shape, t.dtype) for t in tensors)
    structure = (
        tf.function(called, autograph=False).get_concrete_function(*specs).structured_outputs
    )
    if any(len(layer._losses) > len(before) for layer, before in losses):
        for layer, before in losses:
            layer._losses = before
        return session.by_original(called, _LOSSES, tensors, {})
    results = tf.nest.flatten(structure)

    def compute(*arrays: Any) -> list[Any]:
        given = [tf.convert_to_tensor(a) for a in arrays]
        own_args, own_kwargs = _refilled(args, kwargs, flat, given)
        found = session(own_args, own_kwargs, lambda *a, **k: original(*a, **k, training=False))
        return [np.asarray(r) for r in tf.nest.flatten(found)]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*values: Any) -> Any:
        inputs = values[: len(tensors)]
        found = tf.numpy_function(compute, inputs, [r.dtype for r in results])
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        for each, known in zip(found, results):
            each.set_shape(known.shape)

        def gradient(*upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(values)
                replayed = _replayed(original, args, kwargs, flat, values, len(tensors))
            return tape.gradient(tf.nest.flatten(replayed), list(values), list(upstream))

        return found, gradient

    return tf.nest.pack_sequence_as(structure, run(*tensors, *weights))


def _refilled(args: Any, kwargs: Any, flat: Sequence[Any], tensors: Sequence[Any]) -> Any:
    given = iter(tensors)
    filled = [next(given) if isinstance(x, tf.Tensor) else x for x in flat]
    return tree.pack_sequence_as((args, kwargs), filled)


def _replayed(
    original: Any, args: Any, kwargs: Any, flat: Sequence[Any], values: Sequence[Any], count: int
) -> Any:
    """The original's results, with these values for its inputs and its variables."""
    own_args, own_kwargs = _refilled(args, kwargs, flat, values[:count])
    weights = dict(zip((id(v) for v in original.variables), values[count:]))
    trainable = [weights[id(v)] for v in original.trainable_variables]
    others = [weights[id(v)] for v in original.non_trainable_variables]
    found, _ = original.stateless_call(trainable, others, *own_args, **own_kwargs, training=False)
    return found
