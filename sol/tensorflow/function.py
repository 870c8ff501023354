"""A function of TensorFlow by Sol: `tf.function`, a concrete function, or a loaded SavedModel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from sol.arrays.program import Progress
from sol.core.errors import InputError, SolError, UnsupportedError
from sol.tensorflow.model import by_trace, kind_of
from sol.tensorflow.session import Handle, Session, Settings, Source, options_of
from sol.tensorflow.variables import Variables


class OptimizedFunction:
    """What `optimize` makes of a function: called as the function is, with the same results."""

    def __init__(
        self, original: Any, function: Callable[..., Any], options: dict[str, Any],
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.original = original
        self.__name__ = str(getattr(function, "__name__", type(original).__name__))
        variables = Variables()
        settings = Settings(options_of(options), progress)

        def make(kind: Any, tensors: Sequence[Any]) -> Source:
            try:
                return by_trace(function, kind, tensors, settings, variables, self.__name__)
            except SolError:
                raise
            except Exception as error:
                reason = f"TensorFlow cannot trace it: {error}".splitlines()[0]
                raise UnsupportedError(self.__name__, reason) from None

        self._session = Session(function, kind_of, make, variables, self.__name__)

    @property
    def sol(self) -> Handle:
        """Explanations, reasons, and the original."""
        return Handle(self._session, self.original)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        if not tf.executing_eagerly():
            return self._session.original(*args, **kwargs)
        return self._session(args, kwargs)


def optimized_function(
    original: Any, options: dict[str, Any], progress: Progress | None = None
) -> OptimizedFunction:
    """A function, or the serving function of a loaded SavedModel."""
    return OptimizedFunction(original, _function(original), options, progress)


def _function(original: Any) -> Callable[..., Any]:
    if callable(original):
        return original  # type: ignore[no-any-return]
    signatures = getattr(original, "signatures", {})
    for name in ("serving_default", *signatures):
        if name in signatures:
            found: Callable[..., Any] = signatures[name]
            return found
    serve = getattr(original, "serve", None)
    if callable(serve):
        return serve  # type: ignore[no-any-return]
    raise InputError(
        "the SavedModel has no function to call",
        expected="a signature, such as serving_default, or a function `serve`",
    )
