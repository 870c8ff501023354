"""Writes docs/operators-tensorflow.md: every layer and operation that has a row.

`python -m sol.tensorflow.docs > docs/operators-tensorflow.md` renews the page; a test fails where
it is not fresh.
"""

from __future__ import annotations

from sol.report.support import Section, page
from sol.tensorflow.activations import ACTIVATIONS
from sol.tensorflow.layers import LAYERS
from sol.tensorflow.operations import OPERATIONS

_HEAD = """# What Sol takes from TensorFlow and Keras

Generated from the rows of `sol/tensorflow/` by `python -m sol.tensorflow.docs >
docs/operators-tensorflow.md`; do not edit. What is not here, or has arguments that its row refuses,
runs in TensorFlow between parts of Sol, and `explain` names it with the reason. How to use it:
[tensorflow.md](tensorflow.md).
"""
_LAYERS = """Layers of exactly these classes. Any other layer, operations of `keras.ops` and layers
of your own among them, is traced and read as the operations of TensorFlow below."""
_OPERATIONS = """What graphs of TensorFlow are made of: traced functions and layers, SavedModels,
frozen graphs. Functions that graphs call are read as well; control flow (`If`, `While`) runs in
TensorFlow. Shapes may be computed, and follow the batch."""


def text() -> str:
    """The page."""
    names = ", ".join(f"`{f.__name__}`" for f in ACTIVATIONS)
    layers = {kind.__name__: row for kind, row in LAYERS.items()}
    return page(
        _HEAD,
        Section("Layers of Keras", f"{_LAYERS}\n\nActivations of layers: {names}.", layers),
        Section("Operations of TensorFlow", _OPERATIONS, OPERATIONS),
    )


if __name__ == "__main__":
    print(text(), end="")
