"""`sol.cntk.optimize("net.model")`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sol.cntk.function import Function
from sol.cntk.model import load
from sol.core.errors import ConfigError, InputError
from sol.options import Options


def optimize(model: str | os.PathLike[str] | bytes, *examples: Any, **options: Any) -> Function:
    """A function that computes what a saved CNTK 2 model computes, by Sol.

    model: the file that `Function.save` wrote, or its bytes. examples: values for its inputs, in
    order, for which a program is made now; others are made at the first call of a kind, one for
    every batch size and for each length of sequences. options: threads=…, precision=…, memory=…,
    tune=… as in sol/options.py. Raises InputError for what is no such file, ConfigError for an
    option that does not exist; what Sol has no row for raises UnsupportedError at the first call.
    """
    made = _function(model, options)
    if examples:
        made(*examples)
    return made


def _function(model: Any, options: dict[str, Any]) -> Function:
    known = {"threads", "precision", "memory", "tune"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(f"optimize has no option {unknown[0]}", expected=", ".join(sorted(known)))
    if isinstance(model, bytes):
        return Function(load(model), Options(**options))
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(
            f"optimize got a {type(model).__name__}",
            expected="the name of a file that CNTK 2 saved, or its bytes",
            do='model.save("net.model"), then optimize("net.model")',
        )
    path = Path(model)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", expected="a file that CNTK 2 saved"
        ) from None
    return Function(load(data), Options(**options), path.name)
