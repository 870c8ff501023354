"""What an operator is: the record `OpDef`, and the table of all operators.

One entry says everything about an operator: its kind (where it may run), the rule of its type, its meaning as an index expression, samples that test
it on every backend, and its documentation. Sol's NumPy reference, the code generator, the tests and docs/operators.md follow from the entry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from sol.core.dims import Shape
from sol.core.dtypes import DType
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr
from sol.ir.graph import Builder, Node, TensorType

Kind = Literal["source", "elementwise", "move", "reduce", "window", "norm", "contract", "recurrent"]
Types = Union[TensorType, tuple[TensorType, ...]]
Read = Callable[..., Expr]


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of an operator that tests run: types of the inputs, attributes, and the range that input values come from."""

    inputs: tuple[TensorType, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0


@dataclass(frozen=True, slots=True)
class OpDef:
    """An operator.

    infer(*input types, **attrs) -> type of the result (a tuple of types for several results).
    compute(node, index, *inputs) -> Expr of the element at `index`; inputs[k](*index) reads input k. None for sources and for operators with `expand` or `reference` only.
    expand(builder, node, *inputs) -> Node: the operator as a graph of simpler ones; used before planning, unless a kernel takes the operator whole.
    reference(node, *arrays) -> array(s): NumPy meaning where an expression would be too slow or impossible.
    gradient: room for training; why: the reason where there is none.
    """

    name: str
    kind: Kind
    infer: Callable[..., Types]
    doc: str
    samples: tuple[Sample, ...] = ()
    compute: Callable[..., Expr] | None = None
    expand: Callable[..., Node] | None = None
    reference: Callable[..., Any] | None = None
    scalar: Callable[..., Expr] | None = None
    gradient: Callable[..., Any] | None = None
    why: str = ""


OPS: dict[str, OpDef] = {}


def register(entry: OpDef) -> OpDef:
    """Add an operator to the table."""
    assert entry.name not in OPS, f"operator {entry.name} is defined twice"
    OPS[entry.name] = entry
    return entry


def infer(op: str, inputs: tuple[Types, ...], attrs: dict[str, Any]) -> Types:
    """The type of `op(inputs, attrs)`; UnsupportedError if there is no such operator or it cannot take them."""
    if op not in OPS:
        raise UnsupportedError(op, "Sol has no operator of this name")
    return OPS[op].infer(*inputs, **attrs)


def builder() -> Builder:
    """A graph builder that knows the operators."""
    return Builder(infer)


def attribute_names(entry: OpDef) -> Sequence[str]:
    """Names of the attributes that an operator takes."""
    parameters = inspect.signature(entry.infer).parameters.values()
    return [p.name for p in parameters if p.kind == inspect.Parameter.KEYWORD_ONLY]


def same_shape(first: TensorType, *_: TensorType, **__: Any) -> TensorType:
    """The result has the type of the first input."""
    return first


def with_dtype(shape: Shape, dtype: DType) -> TensorType:
    """A tensor type."""
    return TensorType(tuple(shape), dtype)
