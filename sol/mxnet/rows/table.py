"""The table of rows: which function translates which operator of MXNet.

A row's signature says what the operator has: inputs by position, attributes by keyword with type
and default. The text of attributes is read by these types; an attribute that a row does not name is
refused, but for those that no result depends on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, get_type_hints

from sol.core.errors import InputError, SolError, UnsupportedError
from sol.ir.graph import Node
from sol.mxnet.attributes import parse
from sol.mxnet.context import Context, Result

# Attributes that change how something is computed, or only training.
IGNORED = frozenset({
    "ctx", "cudnn_algo_verbose", "cudnn_off", "cudnn_tune", "copy", "forward_stype", "grad_scale",
    "ignore_label", "key", "max_calib_range", "min_calib_range", "momentum", "ndev",
    "normalization", "num_args", "optimize", "out_grad", "smooth_alpha", "sparse_grad", "stype",
    "use_ignore", "valid_thresh", "workspace",
})  # fmt: skip

_MISTAKES = (TypeError, ValueError, LookupError, ArithmeticError, AssertionError)

Function = Callable[..., Result]
_F = TypeVar("_F", bound=Function)


@dataclass(frozen=True)
class Row:
    """How one operator of MXNet is said in Sol's."""

    name: str
    function: Function

    @cached_property
    def attributes(self) -> Mapping[str, tuple[Any, Any]]:
        """The attributes that the row reads: their type, and the default (or `empty`)."""
        kinds = get_type_hints(self.function)
        return {
            p.name: (kinds[p.name], p.default)
            for p in self._parameters
            if p.kind == inspect.Parameter.KEYWORD_ONLY
        }

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs; one in brackets is optional, one with … stands for any number."""
        shown = []
        for p in self._parameters[1:]:
            if p.kind == inspect.Parameter.VAR_POSITIONAL:
                shown.append(f"{p.name}…")
            elif p.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD:
                shown.append(p.name if p.default is inspect.Parameter.empty else f"[{p.name}]")
        return tuple(shown)

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.function).parameters.values())

    def __call__(self, c: Context, inputs: Sequence[Node], attrs: Mapping[str, str]) -> Result:
        """Append what the node computes. Errors name the node."""
        try:
            self._check_count(len(inputs))
            return self.function(c, *inputs, **self.parsed(attrs))
        except SolError as error:
            raise located(error, c) from None
        except _MISTAKES as error:  # attributes that no network of MXNet has
            reason = f"the row failed: {type(error).__name__}: {error}"
            raise located(UnsupportedError(self.name, reason), c) from None

    def _check_count(self, given: int) -> None:
        least = sum(not i.endswith(("]", "…")) for i in self.inputs)
        most = None if self.inputs and self.inputs[-1].endswith("…") else len(self.inputs)
        if given < least or (most is not None and given > most):
            raise InputError(
                f"{self.name} has {given} inputs", expected=", ".join(self.inputs) or "none"
            )

    def parsed(self, attrs: Mapping[str, str]) -> dict[str, Any]:
        """The attributes of a node as values. Raises InputError, UnsupportedError."""
        values = {}
        for name, text in attrs.items():
            if name in self.attributes:
                values[name] = self._parsed(name, text)
            elif name not in IGNORED and not name.startswith("__"):
                raise UnsupportedError(self.name, f"the attribute {name[:40]}={text[:40]!r}")
        for name, (_, default) in self.attributes.items():
            if default is inspect.Parameter.empty and name not in values:
                raise InputError(f"{self.name} has no attribute {name}", expected="a value for it")
        return values

    def _parsed(self, name: str, text: str) -> Any:
        try:
            return parse(text, self.attributes[name][0])
        except InputError as error:
            raise InputError(
                f"{self.name}: {name} is {text[:60]!r}", expected=error.expected
            ) from None


def located(error: SolError, c: Context) -> SolError:
    """The error with the name of the node."""
    if isinstance(error, UnsupportedError):
        return UnsupportedError(
            f"{c.target} (node {c.name})", error.reason, expected=error.expected, do=error.do
        )
    return InputError(f"node {c.name}: {error.what}", expected=error.expected, do=error.do)


ROWS: dict[str, Row] = {}


def row(*names: str) -> Callable[[_F], _F]:
    """Register a function as the row of these operators."""

    def add(function: _F) -> _F:
        for name in names:
            put(name, function)
        return function

    return add


def put(name: str, function: Function) -> None:
    """Register one row."""
    assert name not in ROWS, f"two rows for {name}"
    ROWS[name] = Row(name, function)
