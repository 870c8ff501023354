"""Sol makes existing neural networks faster and smaller without changing them.

    fast = sol.optimize(model, input.size())     a PyTorch module
    fast = sol.optimize("model.onnx")            an ONNX file
    fast = sol.optimize("net.model")             a file that CNTK 2 saved
    fast = sol.optimize(keras_model)             a model of Keras, a tf.function, a SavedModel
    fast = sol.optimize("net-symbol.json")       files of MXNet, its symbols and blocks

This module is thin and lazy: `import sol` loads no framework, no NumPy and no command line. What it
offers beside the frontends (`sol.pytorch`, `sol.onnx`, …) is listed in `__all__`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sol.core.device import devices as devices
    from sol.core.errors import SolError as SolError
    from sol.frontends import optimize as optimize
    from sol.runtime.cache import cache as cache

__version__ = "0.1.0"
__all__ = ["SolError", "__version__", "cache", "devices", "optimize"]

# name -> where it is defined; loaded at first use
_LAZY = {
    "SolError": "sol.core.errors",
    "cache": "sol.runtime.cache",
    "devices": "sol.core.device",
    "optimize": "sol.frontends",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'sol' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
