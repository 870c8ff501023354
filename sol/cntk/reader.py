"""Reading a model: the values so far, and how an operation makes more of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import signature
from math import prod

import sol.cntk.rows  # noqa: F401  (fills the table of rows)
from sol.cntk.codes import name_of
from sol.cntk.model import BATCH, Model, Operation, Variable
from sol.cntk.rows.table import ROWS, Row
from sol.cntk.stepwise import Cut
from sol.cntk.value import Array, Context, Value
from sol.core.dtypes import F32
from sol.core.errors import InputError, UnsupportedError
from sol.ir.graph import Builder, TensorType

_MOST_ELEMENTS = 1 << 31  # of a value, for each image
_FEW = 64  # elements of constants that are written into the graph


@dataclass
class Reader:
    """A model while it is read.

    values: by reference. arrays: values of parameters, by the key of their nodes. longest: steps of
    the longest sequence of a call, where that shows. cuts: loops that are computed step by step.
    """

    model: Model
    builder: Builder
    values: dict[str, Value] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    longest: int = 0
    cuts: list[Cut] = field(default_factory=list)

    @property
    def batch_axis(self) -> tuple[str, ...]:
        """The dynamic axes of something that differs from image to image only."""
        return (BATCH,)

    def value(self, reference: str) -> Value:
        """A value that was computed before, a parameter or a constant."""
        if reference not in self.values:
            self.values[reference] = self._given(self.model.variables[reference])
        return self.values[reference]

    def _given(self, variable: Variable) -> Value:
        array = variable.value
        assert array is not None, f"the input {variable.uid} was not declared"
        if array.size <= _FEW and not variable.uid.startswith("Parameter"):
            return Value(self.builder.constant(array.astype("float32"), F32))
        self.arrays[variable.uid] = array
        shape = tuple(array.shape)
        return Value(self.builder.parameter(variable.uid, TensorType(shape, F32)))

    def context(self, operation: Operation) -> Context:
        """What the row of an operation gets."""
        return Context(self.builder, operation, self.arrays, self.longest)

    def apply(self, operation: Operation, operands: Sequence[Value]) -> tuple[Value, ...]:
        """The results of an operation. Raises UnsupportedError, with its name, for what its row
        does not take."""
        c = self.context(operation)
        function = row_of(operation)
        try:
            signature(function).bind(c, *operands)
        except TypeError:
            raise UnsupportedError(c.origin, f"it has {len(operands)} operands") from None
        try:
            result = function(c, *operands)
        except InputError as error:
            raise UnsupportedError(c.origin, error.what, expected=error.expected) from error
        results = result if isinstance(result, tuple) else (result,)
        for value in results:
            if prod(s for s in value.node.shape if isinstance(s, int)) > _MOST_ELEMENTS:
                raise UnsupportedError(c.origin, f"its result is too large: {value.node.tensor}")
        return results

    def trial(self) -> Reader:
        """A reader to try something with; its nodes are left unused."""
        return Reader(self.model, self.builder, dict(self.values), self.arrays, self.longest)


def row_of(operation: Operation) -> Row:
    """The row of an operation."""
    found = ROWS.get(operation.code)
    if found is None:
        kind = name_of(operation.code)
        raise UnsupportedError(
            operation.name or operation.uid,
            f"Sol has no row for {kind}",
            do="see docs/operators-cntk.md for what Sol takes",
        )
    return found


def check(model: Model) -> None:
    """Raises UnsupportedError for operations that have no row, and for other types than float32."""
    for operation in model.operations.values():
        row_of(operation)
    for variable in model.variables.values():
        if variable.dtype != "float32":
            raise UnsupportedError(
                variable.name or variable.uid,
                f"it is {variable.dtype}",
                expected="float32, in which Sol computes",
                do="save the model in float32",
            )
