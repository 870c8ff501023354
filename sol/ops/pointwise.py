"""How element-wise operators are declared: a rule of the result's type and a scalar meaning.

Everything else follows: `compute` reads each input at the broadcast index, `reference` runs the
scalar expression on whole arrays.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from sol.core.dims import concrete
from sol.core.dtypes import BOOL, F32, DType, promote
from sol.ir.expr import Expr, cast, load
from sol.ir.graph import Node, TensorType
from sol.ops.gradients.elementwise import elementwise
from sol.ops.interpret import Scope, dtype_of, interpret
from sol.ops.maps import read_broadcast
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import broadcast, need_kind

Scalar = Callable[..., Expr]
ResultRule = Literal["same", "float", "bool"]
NUMBERS = ("float", "int")
ANY = ("float", "int", "bool")


def pointwise(
    name: str,
    doc: str,
    scalar: Scalar,
    samples: Sequence[Sample],
    *,
    inputs: Sequence[str] = ("x",),
    attrs: Sequence[str] = (),
    result: ResultRule = "same",
    kinds: Sequence[str] = ANY,
) -> OpDef:
    """Register an element-wise operator.

    scalar(node, *elements): the result's element from one element of each input.
    result: the promoted type of the inputs, the same as floating point, or bool.
    kinds: the kinds of element types that it takes.
    """

    def infer(*types: TensorType, **_: Any) -> TensorType:
        for x in types:
            need_kind(name, x, *kinds)
        return TensorType(broadcast(name, *(x.shape for x in types)), _result(result, types))

    infer.__signature__ = signature(inputs, attrs)  # type: ignore[attr-defined]
    truth = result == "bool" or "float" not in kinds
    why = "its result is no floating-point number" if truth else ""
    return declare(name, doc, infer, _lifted(scalar), samples, why=why)


def declare(
    name: str,
    doc: str,
    infer: Callable[..., TensorType],
    scalar: Scalar,
    samples: Sequence[Sample],
    *,
    gradient: Callable[..., Any] = elementwise,
    why: str = "",
) -> OpDef:
    """Register an element-wise operator with a type rule of its own; `why` it has no gradient."""
    return register(
        OpDef(
            name,
            "elementwise",
            infer,
            doc,
            samples=tuple(samples),
            compute=computed(scalar),
            reference=referenced(scalar),
            scalar=scalar,
            gradient=None if why else gradient,
            why=why,
        )
    )


def signature(inputs: Sequence[str], attrs: Sequence[str]) -> inspect.Signature:
    """The signature of a type rule: inputs by position, attributes by name."""
    by_place, by_name = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [inspect.Parameter(i, by_place) for i in inputs]
        + [inspect.Parameter(a, by_name) for a in attrs]
    )


def computed(scalar: Scalar) -> Callable[..., Expr]:
    """The `compute` of a scalar meaning."""

    def compute(node: Node, index: Index, *reads: Read) -> Expr:
        elements = [read_broadcast(x, index) for x in reads]
        return cast(scalar(node, *elements), node.dtype)

    return compute


def referenced(scalar: Scalar) -> Callable[..., Any]:
    """The `reference` of a scalar meaning: its expression, evaluated on whole arrays."""

    def reference(node: Node, *arrays: Any) -> Any:
        names = [f"x{n}" for n in range(len(arrays))]
        elements = [load(n, dtype_of(a)) for n, a in zip(names, arrays)]
        value = interpret(scalar(node, *elements), Scope(dict(zip(names, arrays))))
        return np.broadcast_to(value, concrete(node.shape, 1))

    return reference


def _lifted(scalar: Scalar) -> Scalar:
    """Integers that take part in floating-point arithmetic become of the result's type first."""

    def meaning(node: Node, *elements: Expr) -> Expr:
        if node.dtype.kind == "float":
            elements = tuple(cast(x, node.dtype) for x in elements)
        return scalar(node, *elements)

    return meaning


def _result(rule: ResultRule, types: Sequence[TensorType]) -> DType:
    if rule == "bool":
        return BOOL
    dtype = types[0].dtype
    for x in types[1:]:
        dtype = promote(dtype, x.dtype)
    return F32 if rule == "float" and dtype.kind != "float" else dtype
