"""Never slower in training: a whole step, forward and backward, by Sol and by TensorFlow.

Measured once for each kind of call, when it first comes: eagerly on the tensors of the call, or,
while a function is traced (`fit`), as functions on random numbers of the same sizes. What a step
changes (moving statistics, generators of random numbers) is put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from sol.arrays.judge import Judge, wanted
from sol.tensorflow.models import graph_of

_BATCH = 32  # where it is not known, Keras' own
Forward = Callable[[Sequence[Any]], Any]  # the results of a model for its tensors


class TrainingRace:
    """What was measured of a model's steps of training."""

    def __init__(self, model: Any, never_slower: bool) -> None:
        self._model, self._never_slower = model, never_slower
        self.judge = Judge("TensorFlow", what="a step of training, ")
        self._measured: set[Any] = set()

    def why_not(self, tensors: Sequence[Any], training: bool, sol: Forward) -> str:
        """Why TensorFlow trains on such tensors, "" if Sol does. sol: its forward step."""
        if not wanted(self._never_slower):
            return ""
        eager = tf.executing_eagerly()
        batch = next((t.shape[0] for t in tensors if t.shape.rank), None)
        kind = (training, eager, tuple((t.dtype, tuple(t.shape[1:])) for t in tensors))
        seen = (kind, (batch or 0).bit_length())
        if seen not in self._measured:
            self._measured.add(seen)
            apart(self._measure, kind, batch or _BATCH, tensors, training, sol, eager)
        return self.judge.why_not(kind, batch)

    def forget(self) -> None:
        """Nothing was measured."""
        self._measured.clear()
        self.judge.forget()

    def _measure(
        self, kind: Any, batch: int, tensors: Sequence[Any], training: bool, sol: Forward,
        eager: bool,
    ) -> None:  # fmt: skip
        structure = graph_of(self._model)._inputs_struct
        tensors = tensors if eager else [_random(t) for t in tensors]

        def own(given: Sequence[Any]) -> Any:
            return self._model(tf.nest.pack_sequence_as(structure, given), training=training)

        ways = [lambda f=f: self._step(f, tensors) for f in (sol, own)]
        if not eager:
            ways = [tf.function(way, autograph=False) for way in ways]
        with _put_back(self._model):
            self.judge.measure(kind, batch, *ways)

    def _step(self, forward: Forward, tensors: Sequence[Any]) -> list[Any]:
        """All results, and the gradients of their sum: a graph computes nothing that it does not
        return."""
        with tf.GradientTape() as tape:
            made = tf.nest.flatten(forward(tensors))
            loss = tf.add_n([tf.reduce_sum(y) for y in made if y.dtype.is_floating])
        found = tape.gradient(loss, self._model.trainable_variables)
        return [*made, *(g for g in found if g is not None)]


def apart(function: Callable[..., None], *args: Any) -> None:
    """Call a function in a thread of its own, where no tape records and no graph is made."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function, *args).result()


def _random(tensor: Any) -> Any:
    """Numbers in place of a tensor that has none yet; whole ones may be places, so they are 0."""
    shape = [_BATCH if size is None else size for size in tensor.shape]
    if not tensor.dtype.is_floating:
        return tf.zeros(shape, tensor.dtype)
    values = np.random.default_rng(0).standard_normal(shape)
    return tf.constant(values, tensor.dtype)


@contextlib.contextmanager
def _put_back(model: Any) -> Iterator[None]:
    """Leave the variables as they were."""
    before = [(v, tf.identity(v.value)) for v in model.variables if not v.trainable]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)
