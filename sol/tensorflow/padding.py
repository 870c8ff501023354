"""TensorFlow's SAME, VALID and causal padding as numbers of elements before and after each axis.

SAME: `ceil(size / stride)` results, what is missing is added half before and half after, and one
more after where it is odd.
"""

from __future__ import annotations

from collections.abc import Sequence

from sol.core.errors import UnsupportedError

Pads = tuple[tuple[int, int], ...]


def same(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(low, high) of one axis with SAME padding."""
    results = -(-size // stride)
    total = max(0, (results - 1) * stride + dilation * (window - 1) + 1 - size)
    return total // 2, total - total // 2


def paddings(
    kind: str, sizes: Sequence[object], window: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int],
) -> Pads:  # fmt: skip
    """(low, high) of each axis for a name of TensorFlow's or Keras'."""
    match kind.lower():
        case "valid":
            return ((0, 0),) * len(sizes)
        case "causal":
            return tuple((d * (k - 1), 0) for k, d in zip(window, dilation))
        case "same":
            found = []
            for n, k, s, d in zip(sizes, window, stride, dilation):
                if not isinstance(n, int):
                    raise UnsupportedError("SAME padding", f"a size that follows the batch, {n}")
                found.append(same(n, k, s, d))
            return tuple(found)
    raise UnsupportedError(f"padding {kind}", "only same, valid and causal are known")


def transposed(
    size: int, results: int, window: int, stride: int, dilation: int, kind: str
) -> tuple[int, int, int]:
    """(padding, output padding, elements to drop at the end) of a transposed convolution's axis.

    It is the gradient of a convolution from `results` to `size` elements with the padding `kind`.
    """
    full = (size - 1) * stride + dilation * (window - 1) + 1
    low = max(0, full - results) // 2 if kind.lower() == "same" else 0
    missing = results - (full - 2 * low)
    return low, max(0, missing), max(0, -missing)
