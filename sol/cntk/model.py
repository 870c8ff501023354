"""A saved model as records: variables, operations, outputs. Blocks are gone.

`load` takes the bytes of a file. CNTK keeps layers as blocks: an operation of its own whose inside
stands beside it in the same list, on placeholders. Here every reference leads to what computes the
value: through placeholders to arguments, through blocks and Combine to operations. Shapes are in
NumPy's order; the file has them the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from sol.cntk.codes import BLOCK, COMBINE, TIMES, TRANSPOSE_TIMES, results_of
from sol.cntk.dictionary import DTYPES, Axis, Shape, Tensor, parse
from sol.cntk.wire import broken
from sol.core.errors import InputError, UnsupportedError

Array = NDArray[Any]
Sizes = tuple[int | None, ...]  # None stands open
BATCH = "defaultBatchAxis"
_INPUT, _PARAMETER, _CONSTANT, _PLACEHOLDER = 0, 2, 3, 4
_OUTPUT = "_Output_"  # between the name of an operation and the number of its result


@dataclass(frozen=True)
class Variable:
    """An input (without a value), parameter or constant.

    axes: dynamic axes: none, the batch, or the batch and the axis of steps.
    """

    uid: str
    name: str
    shape: Sizes
    dtype: str
    axes: tuple[str, ...] = ()
    value: Array | None = None

    @property
    def is_sequence(self) -> bool:
        """Whether it has steps."""
        return len(self.axes) == 2


@dataclass(frozen=True)
class Operation:
    """One operation; `inputs` are uids of variables, or references to results of operations."""

    uid: str
    name: str
    code: int
    inputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def result(self, number: int = 0) -> str:
        """The reference to a result."""
        return f"{self.uid}{_OUTPUT}{number}"


@dataclass(frozen=True)
class Output:
    """A result of the model: what CNTK calls it, and the value that it is."""

    uid: str
    name: str
    value: str


@dataclass(frozen=True)
class Model:
    """A model: `operations` by uid, those that an output depends on.

    shapes: what the file says about the shapes of some values, by reference.
    """

    inputs: tuple[Variable, ...]
    variables: Mapping[str, Variable]
    operations: Mapping[str, Operation]
    outputs: tuple[Output, ...]
    shapes: Mapping[str, Sizes] = field(default_factory=dict)

    def producer(self, reference: str) -> Operation | None:
        """The operation that computes a value; None if it is a variable."""
        return None if reference in self.variables else self.operations[split(reference)[0]]


def split(reference: str) -> tuple[str, int]:
    """The operation and the number of the result that a reference names."""
    uid, _, number = reference.rpartition(_OUTPUT)
    return uid, int(number) if number.isascii() and number.isdigit() and len(number) < 9 else -1


def load(data: bytes | memoryview) -> Model:
    """The model in a file. Raises InputError for what is no CNTK 2 model."""
    _check_magic(bytes(data[:16]))
    return from_dictionary(parse(data))


def from_dictionary(top: dict[str, Any]) -> Model:
    """The model in the dictionary that a file is."""
    if top.get("type") != "CompositeFunction":
        raise broken(f"it holds {str(top.get('type'))[:40]!r}, not a function")
    return _Reader(top).model()


def _check_magic(start: bytes) -> None:
    if start.startswith(b"B\0C\0N\0"):
        raise UnsupportedError(
            "a model of CNTK 1",
            "its format is another one",
            expected="the format of CNTK 2",
            do="load it in CNTK 2 and save it again: cntk.load_model(…).save(…)",
        )
    if not start:
        raise broken("the file is empty")


class _Reader:
    """The lists of a file, and the way from a reference to what it stands for."""

    def __init__(self, top: dict[str, Any]) -> None:
        self.root = _text(top, "root")
        self.variables: dict[str, Variable] = {}
        self.placeholders: dict[str, Sizes] = {}
        self.operations: dict[str, Operation] = {}
        self.roots: dict[str, str] = {}  # of blocks
        self.arguments: dict[str, str] = {}  # of placeholders
        for entry in _dictionaries(top, "inputs"):
            self._add_variable(entry)
        for entry in _dictionaries(top, "primitive_functions"):
            self._add_operation(entry)

    def model(self) -> Model:
        """What the lists say, from the outputs back to the inputs."""
        if self.root not in self.operations:
            raise broken(f"its root {self.root[:80]!r} is not there")
        outputs = tuple(
            Output(uid, self._name(uid), self.resolve(uid)) for uid in self._results(self.root)
        )
        operations = {o.uid: o for o in self._reachable(outputs)}
        used = {i for o in operations.values() for i in o.inputs} | {o.value for o in outputs}
        variables = {uid: v for uid, v in self.variables.items() if uid in used}
        inputs = [variables[uid] for uid in self._arguments() if uid in variables]
        inputs += [v for v in variables.values() if v.value is None and v not in inputs]
        return Model(tuple(inputs), variables, operations, outputs, self._shapes())

    # ---- references

    def resolve(self, reference: str) -> str:
        """The variable or result that a reference stands for in the end."""
        seen: set[str] = set()
        while reference not in self.variables:
            if reference in seen:
                raise broken(f"{reference[:80]!r} stands for itself")
            seen.add(reference)
            if reference in self.arguments:
                reference = self.arguments[reference]
                continue
            uid, number = split(reference)
            operation = self.operations.get(uid)
            if operation is None or number < 0:
                raise broken(f"nothing computes {reference[:80]!r}")
            if operation.code == BLOCK:
                reference = f"{self.roots[uid]}{_OUTPUT}{number}"
            elif operation.code == COMBINE:
                if number >= len(operation.inputs):
                    raise broken(f"{uid[:80]!r} has no result {number}")
                reference = operation.inputs[number]
            elif number >= results_of(operation.code, operation.attributes):
                raise broken(f"{uid[:80]!r} has no result {number}")
            else:
                return reference
        return reference

    def _arguments(self) -> Iterator[str]:
        """Inputs in the order in which CNTK's `arguments` has them: as they are met from the root,
        blocks not entered. Python sees the operands of a product the other way round."""
        waiting, seen = [f"{self.root}{_OUTPUT}0"], set[str]()
        while waiting:
            reference = waiting.pop()
            variable = self.variables.get(reference)
            uid = reference if variable else split(reference)[0]
            if uid in seen:
                continue
            seen.add(uid)
            operation = self.operations.get(uid)
            if variable is not None:
                if variable.value is None:
                    yield uid
            elif operation is not None:
                turned = operation.code in (TIMES, TRANSPOSE_TIMES)
                waiting.extend(operation.inputs if turned else reversed(operation.inputs))

    def _results(self, root: str) -> list[str]:
        """References to the results of the model, as CNTK calls them."""
        operation = self.operations[root]
        if operation.code == COMBINE:
            return list(operation.inputs)
        inner, seen = operation, {root}
        while inner.code == BLOCK:
            uid = self.roots[inner.uid]
            if uid in seen or uid not in self.operations:
                raise broken(f"the block {inner.uid[:80]!r} has no inside")
            seen.add(uid)
            inner = self.operations[uid]
        count = (
            len(inner.inputs) if inner.code == COMBINE else results_of(inner.code, inner.attributes)
        )
        return [operation.result(number) for number in range(count)]

    def _name(self, reference: str) -> str:
        variable = self.variables.get(reference)
        if variable is not None:
            return variable.name
        operation = self.operations.get(split(reference)[0])
        return operation.name if operation else ""

    def _reachable(self, outputs: tuple[Output, ...]) -> Iterator[Operation]:
        """Operations that outputs depend on, with resolved inputs."""
        waiting = [o.value for o in reversed(outputs)]
        seen: set[str] = set()
        while waiting:
            reference = waiting.pop()
            uid = split(reference)[0]
            if reference in self.variables or uid in seen:
                continue
            seen.add(uid)
            found = self.operations[uid]
            inputs = tuple(map(self.resolve, found.inputs))
            waiting.extend(reversed(inputs))
            yield Operation(uid, found.name, found.code, inputs, found.attributes)

    def _shapes(self) -> dict[str, Sizes]:
        """Shapes of values that placeholders were made for."""
        found: dict[str, Sizes] = {}
        for uid, shape in self.placeholders.items():
            try:
                found[self.resolve(uid)] = shape
            except InputError:
                continue  # one that nobody uses
        return found

    # ---- entries of the lists

    def _add_variable(self, entry: dict[str, Any]) -> None:
        uid, kind = _text(entry, "uid"), entry.get("kind")
        stored = entry.get("shape")
        if not isinstance(stored, Shape):
            raise broken(f"the variable {uid[:80]!r} has no shape")
        shape = tuple(s if s >= 0 else None for s in reversed(stored.sizes))
        if kind == _PLACEHOLDER:
            self.placeholders[uid] = shape
            return
        if kind not in (_INPUT, _PARAMETER, _CONSTANT):
            raise broken(f"the variable {uid[:80]!r} is of the unknown kind {str(kind)[:40]}")
        data_type = entry.get("data_type")
        dtype = DTYPES.get(data_type) if isinstance(data_type, int) else None
        if dtype is None:
            raise broken(f"the variable {uid[:80]!r} has no type of elements")
        value = None
        if kind != _INPUT:
            tensor = entry.get("value")
            if not isinstance(tensor, Tensor):
                raise broken(f"the parameter {uid[:80]!r} has no value")
            value = tensor.array
            if value.shape != shape:
                raise broken(f"the parameter {uid[:80]!r} is {value.shape} and should be {shape}")
        if uid in self.variables:
            raise broken(f"two variables are called {uid[:80]!r}")
        name = entry.get("name")
        self.variables[uid] = Variable(
            uid, name if isinstance(name, str) else "", shape, dtype, _axes(entry, uid), value
        )

    def _add_operation(self, entry: dict[str, Any]) -> None:
        uid, code = _text(entry, "uid"), entry.get("op")
        if entry.get("type") != "PrimitiveFunction":
            raise UnsupportedError(
                f"the function {uid[:80]!r}",
                "its code is not in the file: it is a user's own",
                do="say it in CNTK's own operators, or leave it out of what is saved",
            )
        if type(code) is not int:
            raise broken(f"the operation {uid[:80]!r} has no code")
        inputs = entry.get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
            raise broken(f"the inputs of {uid[:80]!r} are no names")
        attributes = entry.get("attributes")
        name = entry.get("name")
        if code == BLOCK:
            self._add_block(uid, entry)
        if uid in self.operations:
            raise broken(f"two operations are called {uid[:80]!r}")
        self.operations[uid] = Operation(
            uid,
            name if isinstance(name, str) else "",
            code,
            tuple(inputs),
            attributes if isinstance(attributes, dict) else {},
        )

    def _add_block(self, uid: str, entry: dict[str, Any]) -> None:
        """A block: the inside computes it, on placeholders that stand for arguments."""
        inside = entry.get("block_function_composite")
        keys = entry.get("block_function_composite_arguments_map_keys")
        values = entry.get("block_function_composite_arguments_map_values")
        if (
            not isinstance(inside, dict)
            or not isinstance(keys, list)
            or not isinstance(values, list)
        ):
            raise broken(f"the block {uid[:80]!r} has no inside")
        self.roots[uid] = _text(inside, "root")
        if len(keys) != len(values) or not all(isinstance(k, str) for k in (*keys, *values)):
            raise broken(f"the arguments of the block {uid[:80]!r} do not fit")
        self.arguments.update(zip(keys, values))


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise broken(f"an entry has no {key}")
    return value


def _dictionaries(top: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = top.get(key)
    if not isinstance(value, list) or not all(isinstance(e, dict) for e in value):
        raise broken(f"it has no list of {key}")
    return value


def _axes(entry: dict[str, Any], uid: str) -> tuple[str, ...]:
    """The dynamic axes, the batch first; the file has them the other way round."""
    axes = entry.get("dynamic_axis", [])
    if not isinstance(axes, list) or not all(isinstance(a, Axis) for a in axes) or len(axes) > 2:
        raise broken(f"the variable {uid[:80]!r} has dynamic axes of another kind")
    names = tuple(a.name for a in reversed(axes))
    if names and names[0] != BATCH:
        raise UnsupportedError(
            entry.get("name") or uid[:80], f"its dynamic axes are {names}", expected="a batch first"
        )
    return names
