"""Read a model for given input types: each node by its row, constants folded, control flow and
functions put in place of their calls.

A node whose inputs are all known is computed at once; sizes that depend on the batch are computed
with B (sizes.py); a node with a row becomes operators of Sol; one without a row is a function of
the standard (its nodes are read instead), is left to NumPy (host.py), or is refused by name.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from sol.arrays.captured import Captured
from sol.core import config
from sol.core.dims import Dim
from sol.core.errors import InputError, SolError, UnsupportedError
from sol.ir.graph import Node, TensorType
from sol.onnx.control import CONTROL
from sol.onnx.host import (
    HOST,
    RANDOM,
    REFUSED,
    SIZE,
    Runner,
    check_size,
    folded,
    reason_of,
    result_types,
)
from sol.onnx.model import DAMAGE, STANDARD, Model, sound
from sol.onnx.parts import Parts
from sol.onnx.rest import Rest
from sol.onnx.rows import ROWS
from sol.onnx.sequences import SEQUENCES, Sequence
from sol.onnx.sizes import OF_ANY, OF_SIZES
from sol.onnx.splice import Item, function, reads
from sol.onnx.tensors import array_of
from sol.onnx.types import COMPUTED, edge_type, numpy_of
from sol.onnx.values import (
    Array,
    Call,
    NeedsValueError,
    RefusedError,
    Tensor,
    Typed,
    Value,
    elem_of_dtype,
    elem_of_value,
    is_symbolic,
    tidy,
)

_SIZE_OF_DATA = frozenset(op for op, why in HOST.items() if why == SIZE)
_SPLICED = {**CONTROL, **SEQUENCES}
_TAKE_APART = "give its elements as outputs"
_MOST_NODES = 50_000
_NOT_DOUBLE = ("AffineGrid", "GRU", "GridSample", "LSTM", "RNN", "Resize", "Upsample")
_DOUBLE = onnx.TensorProto.DOUBLE
_FEW = 8  # elements of an input that is like a shape
_LARGE = 1 << 16  # elements of a constant that a program computes once, rather than the reader
_FOLDED_ALWAYS = ("Cast", "ConstantOfShape", "Range", "Reshape", "Squeeze", "Unsqueeze")


class Reader:
    """The work of `read`: values by name, and the parts as they grow."""

    def __init__(self, model: Model, types: Mapping[str, TensorType]) -> None:
        self.model = model
        self.parts = Parts(model)
        self.later: set[str] = set()  # names whose sizes data decides
        self.rest: list[Item] = []  # what reads them
        self._open = any(isinstance(s, Dim) for t in types.values() for s in t.shape)
        self._values: dict[str, Value | Sequence] = dict(model.weights)
        self._count = self._prefixes = 0
        self._sources: dict[str, frozenset[str]] = {}  # of values that follow from small inputs
        for port in model.inputs:
            type = types[port.name]
            self._values[port.name] = Tensor(port.name, port.elem, type)
            if _is_shape_like(type):
                self._sources[port.name] = frozenset((port.name,))

    def captured(self, items: Iterable[Item], outputs: tuple[str, ...]) -> Captured:
        """The steps of a network of these nodes, with these results."""
        with sound(self.model.name):
            todo = list(items)
            while todo:
                todo = self._round(todo)
            if self.rest:
                self._add_rest(outputs)
            return self.parts.captured(tuple(self.result(name) for name in outputs))

    def result(self, name: str) -> Value:
        """An output of the model."""
        if name not in self._values:
            raise InputError(
                f"no node makes the output {name!r}", expected="a model whose outputs are computed"
            )
        value = self._values[name]
        if isinstance(value, Sequence):
            raise UnsupportedError(f"the output {name}", "it is a sequence", do=_TAKE_APART)
        return value

    # ---- what control.py and sequences.py need

    def value(self, name: str, item: Item) -> Value:
        """The array or tensor that a name stands for."""
        value = self.entry(name, item)
        if isinstance(value, Sequence):
            raise InputError(
                f"{item.node.op_type}, node {item.label}, reads {name!r}, a sequence",
                expected="a tensor",
                do="check the model: onnx.checker.check_model",
            )
        return value

    def sequence(self, name: str, item: Item) -> Sequence:
        """The sequence that a name stands for."""
        value = self.entry(name, item)
        if not isinstance(value, Sequence) or not value.there:
            raise InputError(
                f"{item.node.op_type}, node {item.label}, reads {name!r}, which is none",
                expected="a sequence",
                do="check the model: onnx.checker.check_model",
            )
        return value

    def entry(self, name: str, item: Item) -> Value | Sequence:
        """What a name stands for."""
        if name not in self._values:
            raise InputError(
                f"{item.node.op_type}, node {item.label}, reads {name!r}",
                expected="a name that a node before it makes",
                do="check the model: onnx.checker.check_model",
            )
        return self._values[name]

    def put(self, name: str, value: Value | Sequence) -> None:
        """Define a name."""
        if name in self._values:
            raise InputError(f"{name!r} is made twice", do="check the model: onnx.checker")
        self._values[name] = value

    def prefix(self) -> str:
        """A prefix for names that no other body has."""
        self._prefixes += 1
        return f"{self._prefixes}/"

    def placed(self, items: list[Item], weights: Mapping[str, Any]) -> list[Item]:
        """The nodes of a body, after its initialisers are defined."""
        for name, tensor in weights.items():
            self.put(name, array_of(tensor, None))
        return items

    # ---- the walk

    def _round(self, items: list[Item]) -> list[Item]:
        """Read what can be read now; what has to wait for NumPy comes back."""
        waiting: set[str] = set()
        blocked: list[Item] = []
        left: list[tuple[Item, str]] = []
        queue = deque(items)
        while queue:
            item = queue.popleft()
            needs = reads(item.node)
            if needs & self.later:
                self._postpone(item)
            elif needs & waiting:
                blocked.append(item)
                waiting |= set(item.node.output)
            else:
                more = self._read(item)
                if more is None:
                    self._postpone(item)
                elif isinstance(more, str):
                    left.append((item, more))
                    waiting |= set(item.node.output)
                else:
                    queue.extendleft(reversed(more))
            waiting.discard("")
            self.later.discard("")
        if left:
            self.parts.close()
            for item, reason in left:
                self._left_to_numpy(item, reason)
        return blocked

    def _postpone(self, item: Item) -> None:
        """Read a node when values are there that decide about sizes."""
        self.rest.append(item)
        self.later |= set(item.node.output)

    def _read(self, item: Item) -> list[Item] | str | None:
        """Read one node: the nodes that stand for it, or why NumPy has to compute it; None if a
        value that decides about sizes is not known."""
        self._count += 1
        node, op = item.node, item.node.op_type
        if self._count > _MOST_NODES:
            raise UnsupportedError(f"{op}, node {item.label}", f"more than {_MOST_NODES} nodes")
        defined = self.model.functions.get((node.domain, op))
        if defined is not None:
            if item.label.count("/") > 64:
                raise UnsupportedError(f"{op}, node {item.label}", "functions that call themselves")
            opsets = {
                "" if o.domain in STANDARD else o.domain: o.version for o in defined.opset_import
            }
            return function(defined, item, self.prefix(), {**item.opsets, **opsets})
        if node.domain not in (*STANDARD, "ai.onnx.ml", "ai.onnx.preview"):
            raise UnsupportedError(
                f"{op}, node {item.label}",
                f"it is of the domain {node.domain!r}, which is not of the standard",
                do="export the model with operators of the standard only",
            )
        if node.domain in STANDARD:
            if op in _SPLICED:
                return self._spliced(item)
            if op == "Identity" and isinstance(self._values.get(node.input[0]), Sequence):
                self.put(node.output[0], self.entry(node.input[0], item))
                return []
        return self._standard(item)

    def _spliced(self, item: Item) -> list[Item] | None:
        """Control flow and sequences, once what decides about them is known."""
        try:
            return _SPLICED[item.node.op_type](self, item)
        except NeedsValueError as error:
            self._check_decided(error)
            if item.state is not None:
                raise
            return None

    def _check_decided(self, error: NeedsValueError) -> None:
        """Raise the error again if it is an input, or a few small ones, whose elements decide."""
        if error.value in {p.name for p in self.model.inputs}:
            raise error
        for source in sorted(self._sources.get(error.value, ())):
            raise NeedsValueError(error.op, error.reason, source) from error

    def _follows(self, call: Call) -> frozenset[str] | None:
        """The small inputs that a node's results follow from; None if there is more to it."""
        given = [v for v in call.inputs if isinstance(v, Tensor)]
        found = [self._sources[v.name] for v in given if v.name in self._sources]
        return frozenset[str]().union(*found) if len(found) == len(given) else None

    def _standard(self, item: Item) -> list[Item] | str | None:
        node, op = item.node, item.node.op_type
        call = self._call(item)
        try:
            found = self._known(call, item)
            row = ROWS.get(op) if node.domain in STANDARD else None
            if found is None and row is not None and call.version >= row.since:
                _check_double(call)
                found = row.translate(call)
        except NeedsValueError as error:
            self._check_decided(error)
            return None
        except RefusedError as error:
            return self._other_way(call, item, error)
        except UnsupportedError as error:
            if self._open:  # fixed sizes are better than NumPy
                raise _named(error, item) from error
            return self._other_way(call, item, error)
        except SolError as error:
            raise _named(error, item) from error
        except DAMAGE as error:
            if config.CHECK.get():
                raise
            raise InputError(
                f"{op}, node {item.label}, is not as the standard has it: "
                f"{type(error).__name__}: {error}",
                do="check the model: onnx.checker.check_model(model, full_check=True)",
            ) from error
        if found is None:
            return self._other_way(call, item, None)
        self._define(call, item, found)
        return []

    def _call(self, item: Item) -> Call:
        inputs = tuple(self.value(n, item) if n else None for n in item.node.input)
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        attrs = {
            a.name: onnx.helper.get_attribute_value(a)
            for a in item.node.attribute
            if not a.ref_attr_name
        }
        attrs = {
            k: v.decode("utf-8", "replace") if isinstance(v, bytes) else v for k, v in attrs.items()
        }
        domain = "" if item.node.domain in STANDARD else item.node.domain
        version = item.opsets.get(domain, 1)
        return Call(
            self.parts, item.node.op_type, version, inputs, attrs, item.label,
            len(item.node.output),
        )  # fmt: skip

    def _known(self, call: Call, item: Item) -> Any:
        """The results of a node that depends on constants and sizes only, None if it does not."""
        if call.op in OF_ANY:
            return OF_ANY[call.op](call)
        if call.op == "Constant":
            return _constant(call)
        if call.op == "Identity" and isinstance(call.inputs[0], np.ndarray):
            return call.inputs[0]
        arrays = [v for v in call.inputs if isinstance(v, np.ndarray)]
        if call.op in (*REFUSED, *RANDOM) or len(arrays) < sum(v is not None for v in call.inputs):
            return None
        if any(map(is_symbolic, arrays)):
            sizes = call.op in OF_SIZES and all(a.dtype.kind in "Oib" for a in arrays)
            moved = call.op in ("Expand", "Reshape") and is_symbolic(arrays[-1])
            return OF_SIZES[call.op](call) if sizes and not moved else None
        large = any(a.size > _LARGE for a in arrays)
        if large and call.op in ROWS and call.op not in _FOLDED_ALWAYS:
            return None
        known: list[Any] = list(call.inputs)
        known += [None] * (len(item.node.input) - len(known))
        try:
            return folded(item.node, call.version, known)
        except UnsupportedError:  # onnx.reference lacks some versions of what has a row
            if call.op in ROWS and call.version >= ROWS[call.op].since:
                return None
            raise

    # ---- results

    def _define(self, call: Call, item: Item, found: Any) -> None:
        results = found if isinstance(found, tuple) else (found,)
        names = [o for o in item.node.output if o] if _is_numpy(results) else item.node.output
        for place, name in enumerate(names):
            if not name:
                continue
            result = results[place] if place < len(results) else None
            if result is None:
                raise UnsupportedError(f"{call.op}, node {item.label}", f"its result {place}")
            self.put(name, self._valued(call, item, place, name, result))

    def _valued(self, call: Call, item: Item, place: int, name: str, result: Any) -> Value:
        if isinstance(result, np.ndarray):
            return tidy(result)
        node, elem = (result.node, result.elem) if isinstance(result, Typed) else (result, 0)
        assert isinstance(node, Node)
        elem = elem or _result_elem(call, item, place) or elem_of_dtype(node.dtype)
        if elem in COMPUTED and node.dtype != COMPUTED[elem]:
            node = call.cast(node, COMPUTED[elem])
        made = Tensor(self.parts.fresh(name), elem, node.tensor, self.parts.number, node)
        sources = self._follows(call)
        if sources:
            self._sources[made.name] = sources
        return made

    # ---- without a row

    def _other_way(
        self, call: Call, item: Item, error: UnsupportedError | None
    ) -> list[Item] | str:
        """What to do with a node that no row takes: its function, NumPy, or a refusal."""
        op, domain = call.op, item.node.domain
        computable = all(elem_of_value(v) in COMPUTED for v in call.inputs if v is not None)
        if computable and op not in HOST:
            body = self._function_of(call, item)
            if body is not None:
                version = {"" if domain in STANDARD else domain: call.version}
                opsets = {**item.opsets, **version}
                defaults = _defaults(_schema(item, call.version))
                return function(body, item, self.prefix(), opsets, defaults)
        schema = _schema(item, call.version)
        if schema is None:
            raise UnsupportedError(
                f"{op}, node {item.label}",
                f"opset {call.version} has no operator of this name",
                do="check the model, or update onnx",
            )
        numbers = all(_is_numeric(v) for v in call.inputs if v is not None)
        refused = op in REFUSED or (domain in STANDARD and op not in HOST and computable)
        if refused or not numbers:
            raise error or UnsupportedError(
                f"{op}, node {item.label}",
                "Sol has no row for it",
                do="leave it out of the model, or run it before or after in NumPy",
            )
        return error.reason if error is not None else reason_of(op)

    def _function_of(self, call: Call, item: Item) -> Any:
        """The body that the standard gives an operator, None if it has none."""
        schema = _schema(item, call.version)
        if schema is None or not (schema.has_function or schema.has_context_dependent_function):
            return None
        if schema.has_function:
            return schema.function_body
        types = []
        for value in call.inputs:
            kind = onnx.TypeProto()
            if value is not None:
                sizes = [s if isinstance(s, int) else "B" for s in value.shape]
                kind = onnx.helper.make_tensor_type_proto(elem_of_value(value), sizes)
            types.append(kind.SerializeToString())
        versions = schema.context_dependent_function_opset_versions
        fitting = [v for v in versions if v <= call.version] or versions[:1]
        data = schema.get_context_dependent_function_with_opset_version(
            max(fitting), item.node.SerializeToString(), types
        )
        return onnx.FunctionProto.FromString(data) if data else None

    def _left_to_numpy(self, item: Item, reason: str) -> None:
        """Append a step of NumPy for a node."""
        call = self._call(item)
        node = item.node
        types = result_types(node, call.version, call.inputs)
        if types is None and node.op_type not in _SIZE_OF_DATA:
            for value in call.inputs:
                if isinstance(value, Tensor) and value.name in self._sources:
                    self._check_decided(
                        NeedsValueError(node.op_type, "an input decides about sizes", value.name)
                    )
        for shape, _ in (types or ()) if node.op_type in RANDOM else ():
            check_size(node, shape)
        names: list[str] = []
        constants, dtypes = {}, []
        for place, value in enumerate(call.inputs):
            if isinstance(value, Tensor):
                names.append(self.parts.exported(value))
                dtypes.append(numpy_of(value.elem))
            elif value is not None:
                constants[place] = value
        outputs = [o for o in node.output if o]
        made = tuple(self.parts.fresh(o) for o in outputs)
        runner = Runner(node, call.version, constants, tuple(dtypes), item.label)
        self.parts.host(runner, tuple(names), made, call.op, reason, item.label)
        if types is None:
            self.later |= set(outputs)
            for name, key in zip(outputs, made):
                self.put(name, Tensor(key, 0, TensorType((), COMPUTED[1])))
            return
        for name, key, (shape, elem) in zip(outputs, made, types):
            self.put(name, Tensor(key, elem, TensorType(shape, edge_type(elem))))

    def _add_rest(self, outputs: tuple[str, ...]) -> None:
        """What depends on sizes that only data tells is read when they are there."""
        made = {o for item in self.rest for o in item.node.output if o}
        needed = {name for item in self.rest for name in reads(item.node)} - made
        for name in tuple(needed):
            value = self._values.get(name)
            needed |= set(value.names) if isinstance(value, Sequence) else set()
        given = {n: v for n, v in self._values.items() if n in needed and isinstance(v, Tensor)}
        known = {n: v for n, v in self._values.items() if n in needed and n not in given}
        results = tuple(o for o in dict.fromkeys(outputs) if o in made)
        rest = Rest(self.model, tuple(self.rest), tuple(given), known, results)
        names = tuple(self.parts.exported(v) for v in given.values())
        keys = tuple(self.parts.fresh(o) for o in results)
        self.parts.close()
        count = f"{len(self.rest)} operators" if len(self.rest) > 1 else "1 operator"
        why = "their sizes depend on data: Sol compiles them when these are known"
        self.parts.host(rest, names, keys, count, why, self.rest[0].label)
        for name, key in zip(results, keys):
            self.put(name, Tensor(key, 0, TensorType((), COMPUTED[1])))


def _check_double(call: Call) -> None:
    """Refuse float64 where Sol's operators have parts in float32."""
    double = (v for v in call.inputs if v is not None and elem_of_value(v) == _DOUBLE)
    if call.op in _NOT_DOUBLE and any(double):
        call.refuse("in double precision")


def _is_shape_like(type: TensorType) -> bool:
    """Whether an input may decide about sizes as a shape does: a few whole numbers."""
    fixed = all(isinstance(s, int) for s in type.shape)
    few = fixed and math.prod(s for s in type.shape if isinstance(s, int)) <= _FEW
    return few and type.rank <= 1 and type.dtype.kind != "float"


def _constant(call: Call) -> Array:
    """The value of a Constant, in whichever attribute it stands."""
    for name, value in call.attrs.items():
        match name:
            case "value":
                return array_of(value, None)
            case "value_float" | "value_floats":
                return np.asarray(value, np.float32)
            case "value_int" | "value_ints":
                return np.asarray(value, np.int64)
    raise UnsupportedError(f"Constant, node {call.label}", "it is neither numbers nor a tensor")


def _is_numeric(value: Value) -> bool:
    try:
        numpy_of(elem_of_value(value))
    except SolError:
        return False
    return True


def _is_numpy(results: tuple[Any, ...]) -> bool:
    return bool(results) and all(isinstance(r, np.ndarray) for r in results)


def _named(error: SolError, item: Item) -> SolError:
    """The error with the node's name, if it does not say it."""
    if item.label in error.what:
        return error
    where = f"{item.node.op_type}, node {item.label}"
    if isinstance(error, UnsupportedError):
        return UnsupportedError(
            where, f"{error.op}: {error.reason}", expected=error.expected, do=error.do
        )
    return InputError(f"{where}: {error.what}", expected=error.expected, do=error.do)


def _schema(item: Item, version: int) -> Any:
    try:
        domain = "" if item.node.domain in STANDARD else item.node.domain
        return onnx.defs.get_schema(item.node.op_type, version, domain)
    except Exception:
        return None


def _defaults(schema: Any) -> dict[str, Any]:
    """The attributes that a node of the standard need not have."""
    found = ((name, a.default_value) for name, a in schema.attributes.items())
    return {name: value for name, value in found if value.name}


def _result_elem(call: Call, item: Item, place: int) -> int:
    """The type of a result by the standard: that of an input, or a fixed one; 0 if neither."""
    schema = _schema(item, call.version)
    if schema is None:
        return 0
    outputs = schema.outputs
    formal = outputs[min(place, len(outputs) - 1)].type_str
    fixed = _FIXED.get(formal)
    if fixed:
        return int(fixed)
    inputs = schema.inputs
    for number, value in enumerate(call.inputs):
        if value is not None and inputs[min(number, len(inputs) - 1)].type_str == formal:
            return int(elem_of_value(value))
    return 0


_FIXED = {
    "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(bool)": onnx.TensorProto.BOOL,
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(uint8)": onnx.TensorProto.UINT8,
}
