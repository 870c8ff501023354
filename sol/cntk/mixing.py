"""Whether a model sees how long the other sequences of a call are.

CNTK fills shorter sequences up to the longest where steps become a static axis, and over the batch
it mixes images. Sol computes sequences of each length apart, so it must know where that shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sol.cntk.codes import CODES
from sol.cntk.dictionary import Axis, Shape
from sol.cntk.model import BATCH, Model, Operation

_UNPACK, _REDUCE, _LIKE = (CODES[n] for n in ("UnpackSequence", "ReduceElements", "ToSequenceLike"))
_TRANSPOSE, _STEPS = CODES["TransposeAxes"], CODES["ConvolutionSequenceShape"]
_NEUTRAL = (
    ("Sum", 0.0), ("Max", -math.inf), ("Min", math.inf), ("LogSum", -math.inf), ("Prod", 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Mixing:
    """How the sequences of a call depend on each other, in words; "" where they do not.

    images: images are mixed. steps: something is as long as the longest sequence.
    """

    images: str
    steps: str


def sees_others(model: Model) -> Mixing:
    """How a model mixes what a call gives it."""
    operations = model.operations.values()
    images = [o.name or o.uid for o in operations if _mixes_images(o)]
    return Mixing(f"{images[0]} takes all images together" if images else "", _longest(model))


def _longest(model: Model) -> str:
    users: dict[str, list[Operation]] = {}
    for operation in model.operations.values():
        for reference in operation.inputs:
            users.setdefault(reference, []).append(operation)
    outputs = {o.value for o in model.outputs}
    for operation in model.operations.values():
        if operation.code != _UNPACK or operation.result(1) in users.keys() | outputs:
            continue  # who has the mask knows which steps are there
        steps = operation.result()
        readers = users.get(steps, [])
        source = operation.inputs[0] if operation.inputs else ""
        if steps in outputs or not all(_ignores(operation, r, users, source) for r in readers):
            name = operation.name or operation.uid
            return f"{name} makes an axis as long as the longest sequence"
    return ""


def _mixes_images(operation: Operation) -> bool:
    if operation.code != _REDUCE:
        return operation.code in (CODES["UnpackBatch"], CODES["ToBatch"])
    a = operation.attributes
    axes = a.get("axisVec") if "axisVec" in a else [a.get("axis")]
    named = [x.name for x in axes if isinstance(x, Axis)] if isinstance(axes, list) else []
    return BATCH in named or "AllAxes" in named


def _ignores(
    unpack: Operation, reader: Operation, users: dict[str, list[Operation]], source: str
) -> bool:
    """Whether what is filled in does not show in the result of a reader."""
    if reader.code == _LIKE:
        return True
    if reader.code == _REDUCE:
        value = unpack.attributes.get("sequenceUnpackPaddingValue")
        kind = reader.attributes.get("reductionOpName")
        return any(kind == k and value == v for k, v in _NEUTRAL)
    if reader.code == _TRANSPOSE:  # a convolution over the steps, which are cut off behind it
        kernels = [u for u in users.get(source, []) if u.code == _STEPS]
        strides = [u.attributes.get("strides") for u in kernels]
        return bool(kernels) and all(
            isinstance(s, Shape) and all(n == 1 for n in s.sizes[:1]) for s in strides
        )
    return False
