"""What an operator is: the record `OpDef`, and the table of all operators.

One entry says everything about an operator: its kind (where it may run), the rule of its type,
its meaning as an index expression, samples that test it on every backend, and its documentation.
Sol's NumPy reference, the code generator, the tests and docs/operators.md follow from the entry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from sol.core.dims import Shape
from sol.core.dtypes import DType
from sol.core.errors import InputError, UnsupportedError
from sol.ir.expr import Expr, Operand, load
from sol.ir.graph import Builder, Node, TensorType

Kind = Literal["source", "elementwise", "move", "reduce", "window", "norm", "contract", "recurrent"]
Types = TensorType | tuple[TensorType, ...]
Index = Sequence[Expr]


@dataclass(frozen=True, slots=True)
class Read:
    """An input of a node, as `OpDef.compute` sees it: its type, and its element at an index.

    `read(i, j)` is whatever the caller put there: a load, or the expression of the producer.
    """

    type: TensorType
    element: Callable[..., Expr]

    def __call__(self, *index: Operand) -> Expr:
        """The element at `index`: one number or int64 expression per axis of the logical shape."""
        return self.element(*index)

    @property
    def shape(self) -> Shape:
        """The logical shape of the input."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The element type of the input."""
        return self.type.dtype

    @staticmethod
    def of(name: str, type: TensorType) -> Read:
        """Reads of the tensor `name` in memory."""
        return Read(type, lambda *index: load(name, type.dtype, *index))


@dataclass(frozen=True, slots=True)
class Sample:
    """One call of an operator that tests run.

    Types of the inputs, attributes, and the half-open range that the values of inputs come from.
    """

    inputs: tuple[TensorType, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0


@dataclass(frozen=True, slots=True)
class OpDef:
    """An operator.

    infer(*input types, **attrs) -> type of the result (a tuple of types for several results).
    compute(node, index, *reads) -> Expr of the element at `index`; reads[k](*index) reads input k.
        None for inputs, parameters, constants, and operators with `expand` or `reference` only.
    expand(builder, node, *inputs) -> Node: the operator as a graph of simpler ones; used before
        planning, unless a kernel takes the operator whole. A tuple for several results.
    reference(node, *arrays) -> array(s): the meaning in NumPy where an expression would be too
        slow or impossible. Results have the shape of node.type; their dtype is converted to it.
    scalar(node, *elements) -> Expr: what an element-wise operator does to one element.
    gradient(builder, node, dy, *inputs) -> the gradient of each input (ops/gradients); dy is a
        tuple for several results, with None where there is no gradient.
    why: the reason where an operator has no gradient.
    """

    name: str
    kind: Kind
    infer: Callable[..., Types]
    doc: str
    samples: tuple[Sample, ...] = ()
    compute: Callable[..., Expr] | None = None
    expand: Callable[..., Node | tuple[Node, ...]] | None = None
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
    """The type of `op(inputs, attrs)`.

    UnsupportedError if there is no such operator or it cannot take these types, InputError if the
    call is wrong in itself: number of inputs, names of attributes, shapes that do not fit.
    """
    if op not in OPS:
        raise UnsupportedError(op, "Sol has no operator of this name")
    entry = OPS[op]
    try:
        _signature(op).bind(*inputs, **attrs)
    except TypeError as error:
        raise InputError(
            f"{op} got {len(inputs)} inputs and the attributes {sorted(attrs)}: {error}",
            expected=f"attributes {sorted(attribute_names(entry))}",
            do="see docs/operators.md",
        ) from None
    return entry.infer(*inputs, **attrs)


def expanded(graph: Any, node: Node, inputs: Sequence[Node]) -> tuple[Node, ...]:
    """The results of what a composite operator expands into, appended to a graph: a builder, or
    what else adds nodes."""
    expand = OPS[node.op].expand
    assert expand is not None
    found = expand(graph, node, *inputs)
    return found if isinstance(found, tuple) else (found,)


@cache
def _signature(op: str) -> inspect.Signature:
    return inspect.signature(OPS[op].infer)


def builder() -> Builder:
    """A graph builder that knows the operators."""
    return Builder(infer)


def attribute_names(entry: OpDef) -> Sequence[str]:
    """Names of the attributes that an operator takes."""
    parameters = inspect.signature(entry.infer).parameters.values()
    return [p.name for p in parameters if p.kind == inspect.Parameter.KEYWORD_ONLY]
