"""Attributes of layers that networks were read from: where one changes, they are read again.

Keras runs the Python of a layer at each call, so what a user sets on it, an activation or a number,
holds from the next call on. Sol compares identities, which takes some microseconds for a model of
hundreds of layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import Any

_PLAIN = (bool, int, float, str, type(None))
_OF_ROWS = ("activation", "lora_enabled", "_kernel", "mean", "variance", "rate", "momentum")
_MISSING = object()
_OWN = ("built", "supports_jit", "supports_masking", "autocast", "name", "trainable")


class Watch:
    """Attributes as they were when something was read."""

    def __init__(self) -> None:
        self._owners: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._values: list[Any] = []

    def add(self, owner: Any, names: Iterable[str]) -> None:
        """Watch attributes of an object, as far as it has them."""
        table = vars(owner)
        for name in names:
            if name in table:
                self._owners.append(table)
                self._names.append(name)
                self._values.append(table[name])

    def add_row(self, layer: Any) -> None:
        """Watch what rows look at."""
        self.add(layer, _OF_ROWS)

    def add_plain(self, layer: Any) -> None:
        """Watch all plain values of a layer whose Python was traced."""
        plain = (
            name
            for name, value in vars(layer).items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _OWN
        )
        self.add(layer, (*plain, *_OF_ROWS))

    def same(self) -> bool:
        """Whether all attributes are what they were."""
        get: Any = dict.get
        missing = [_MISSING] * len(self._names)
        return all(map(is_, map(get, self._owners, self._names, missing), self._values))

    def clear(self) -> None:
        """Watch nothing."""
        for kept in (self._owners, self._names, self._values):
            kept.clear()
