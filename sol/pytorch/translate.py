"""From ATen operators to Sol's: every node of a traced network through its row.

`Translator` walks FX nodes and appends Sol nodes to a builder. A node whose row refuses it, or that
has no row, is noted in `left` with the reason; readers see its result as an input. Every result is
compared with the type that PyTorch inferred, so a wrong row shows here and not in numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx

from sol.core.dims import Shape
from sol.core.dtypes import I64
from sol.core.errors import SolError, UnsupportedError
from sol.ir.graph import Builder, Node, TensorType, types_of
from sol.ops.registry import builder as new_builder
from sol.passes.autodiff import why_no_gradient
from sol.pytorch.context import Context, Missing
from sol.pytorch.rows import ROWS
from sol.pytorch.trace import Source, Traced, is_lifted, origin
from sol.pytorch.types import result_type, size_of, tensor_type

# nothing to compute: facts that export notes for itself
_NOTES = (
    "aten._assert_tensor_metadata.default", "aten.sym_constrain_range.default",
    "aten.sym_constrain_range_for_size.default", "aten._functional_sym_constrain_range.default",
)  # fmt: skip
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool, int, float, bool)


class Translator:
    """One graph being made of some nodes of a traced network."""

    def __init__(self, traced: Traced) -> None:
        self.builder: Builder = new_builder()
        self.left: dict[fx.Node, str] = {}
        self.values: dict[fx.Node, Any] = {}
        self.inputs: list[fx.Node] = []  # in the order of the graph's inputs
        self._state = {key for key, _ in traced.mutations if isinstance(key, str)}
        self._sources: Mapping[fx.Node, Source] = {s.node: s for s in traced.sources}
        self._tensors = traced.tensors
        self._training = traced.training
        self.seed: Node | None = None  # the input that random numbers follow from
        self._streams = 0

    def translate(self, nodes: Iterable[fx.Node]) -> None:
        """Append what these nodes compute."""
        for node in nodes:
            if node.op == "call_function" and not is_note(node):
                self._call(node)

    def value(self, node: fx.Node) -> Any:
        """What a node stands for: a Sol node, a tuple of them, a size."""
        if node not in self.values:
            source = self._sources.get(node)
            self.values[node] = self._source(source) if source else self._outside(node)
        return self.values[node]

    def _source(self, source: Source) -> Node:
        kind = _readable(source.node)
        if source.role == "input" or source.key in self._state:
            return self._input(source.node, kind)
        if source.role == "constant" and is_lifted(source.key):
            value = self._tensors[source.key].detach().cpu().numpy()
            return self.builder.constant(value, kind.dtype, name=source.node.name)
        return self.builder.parameter(source.key, kind)

    def _outside(self, node: fx.Node) -> Any:
        """The result of a node that is computed elsewhere, as an input."""
        value = node.meta.get("val")
        if isinstance(value, _SYMBOLIC):
            return symbolic(value)
        if not isinstance(value, torch.Tensor):
            raise UnsupportedError(str(node.target), "it runs in PyTorch")
        return self._input(node, _readable(node))

    def _input(self, node: fx.Node, kind: TensorType) -> Node:
        self.inputs.append(node)
        return self.builder.input(node.name, kind)

    def _call(self, node: fx.Node) -> None:
        try:
            self.values[node] = self._translated(node)
        except SolError as error:
            self.left[node] = getattr(error, "reason", "") or str(error)
        except (TypeError, ValueError, LookupError, AssertionError) as error:
            # a mistake in a row must not stop a network: PyTorch runs it, and `explain` says so
            self.left[node] = f"the row failed: {type(error).__name__}: {error}"

    def _translated(self, node: fx.Node) -> Any:
        expected = node.meta.get("val")
        if isinstance(expected, _SYMBOLIC):
            return symbolic(expected)
        if str(node.target) == "<built-in function getitem>":
            return self._item(node)
        row = ROWS.get(str(node.target))
        if row is None:
            raise UnsupportedError(str(node.target), "Sol has no row for it")
        kind = result_type(expected)
        _computable(str(node.target), kind)
        place = origin(node)
        chance = self._random if self._training else None
        context = Context(self.builder, str(node.target), kind, place, place, node, chance)
        before = len(self.builder)
        args = fx.node.map_arg(node.args, self._argument)
        kwargs = fx.node.map_arg(node.kwargs, self._argument)
        result = _checked(str(node.target), row(context, *args, **kwargs), kind)
        if self._training:
            _differentiable(self.builder, before)
        return result

    def _random(self, shape: Shape) -> Node:
        """Random numbers of a stream of their own."""
        if self.seed is None:
            self.seed = self.builder.input("seed", TensorType((1,), I64))
        self._streams += 1
        return self.builder.add("random", self.seed, shape=tuple(shape), stream=self._streams)

    def _argument(self, node: fx.Node) -> Any:
        value = self.value(node)
        if isinstance(value, Missing):
            raise UnsupportedError(node.name, f"it reads {value.reason}")
        return value

    def _item(self, node: fx.Node) -> Any:
        source, index = node.args
        assert isinstance(source, fx.Node)
        if source in self.left:
            raise UnsupportedError(str(source.target), "it runs in PyTorch")
        found = self.value(source)[index]
        if isinstance(found, Missing):
            raise UnsupportedError(str(source.target), f"Sol does not compute {found.reason}")
        return found


def is_note(node: fx.Node) -> bool:
    """Whether a node computes nothing: an assertion that export itself added about sizes."""
    if str(node.target) in _NOTES:
        return True
    if str(node.target) == "aten._assert_scalar.default":
        return not _depends_on_values(node.args[0])
    return False


def _depends_on_values(condition: Any) -> bool:
    value = condition.meta.get("val") if isinstance(condition, fx.Node) else condition
    if not isinstance(value, torch.SymBool):
        return False
    symbols = value.node.expr.free_symbols
    return any(str(s).startswith(("u", "zu")) for s in symbols)


def symbolic(value: Any) -> Any:
    """A number or size; UnsupportedError if it is not linear in B, or known only at run time."""
    if isinstance(value, (int, float, bool)):
        return value
    if isinstance(value, torch.SymInt):
        return size_of(value)
    expr = value.node.expr
    if expr.is_number:
        return bool(expr) if isinstance(value, torch.SymBool) else float(expr)
    raise UnsupportedError("a number", f"{expr} depends on the batch size B or on values")


def _readable(node: fx.Node) -> TensorType:
    """The type of what Sol reads from outside."""
    kind = tensor_type(node.meta["val"])
    if kind.dtype.kind == "float" and kind.dtype.name != "f32":
        raise UnsupportedError(node.name, f"Sol computes in float32, not in {kind.dtype}")
    return kind


def _computable(op: str, kind: Any) -> None:
    """Sol computes in float32."""
    part = kind[0] if isinstance(kind, tuple) and kind else kind  # the others are by-products
    if not isinstance(part, TensorType):
        return
    if part.dtype.kind == "float" and part.dtype.name != "f32":
        raise UnsupportedError(op, f"Sol computes in float32, not in {part.dtype}")


def _checked(op: str, result: Any, kind: Any) -> Any:
    """The result if it has the type that PyTorch says."""
    pairs = zip(result, kind) if isinstance(result, tuple) else [(result, kind)]
    for got, wanted in pairs:
        if isinstance(got, Node) and isinstance(wanted, TensorType) and got.type != wanted:
            raise UnsupportedError(op, f"Sol infers {got.type}, PyTorch {wanted}")
        if isinstance(got, Node) and got.op != "constant" and _is_empty(got):
            raise UnsupportedError(op, "a result without elements")
    return result


def _differentiable(builder: Builder, before: int) -> None:
    """UnsupportedError if an operator that was appended since has no gradient."""
    for node in builder.since(before):
        inputs = [builder[i] for i in node.inputs]
        reason = why_no_gradient(node, inputs)
        if reason:
            raise UnsupportedError(node.op, f"it has no gradient in Sol: {reason}")


def _is_empty(node: Node) -> bool:
    return any(size == 0 for kind in types_of(node) for size in kind.shape)
