"""Graphs as text and as DOT: `parse_graph(print_graph(graph)) == graph`, exactly.

One line per node, `name: type = op(inputs) {attributes} @ "origin"`, and a last line
`return a, b`. Empty parts are left out; blank lines and lines that start with `#` are ignored.
Values are written as in Python, sizes as `2*B+1`, element types by name, constants as
`f32[2](0.5, 1.0)` or, when long, `f32[64, 3]"base64"`. Text is read, never evaluated. So the graph
of any stage can be dumped, edited and read again; used by SOL_DUMP, tests and the command line.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import zlib
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np

from sol.core.dims import Size, dim
from sol.core.dtypes import DTYPES, DType
from sol.core.errors import InputError
from sol.ir.graph import SOURCES, Attr, Attrs, Graph, Literal, Node, TensorType, types_of

_READABLE = 8  # elements; a longer constant is written as base64
_PACK = 256  # bytes; a longer constant is compressed if that makes it shorter
_DEEPEST = 20  # tuples in tuples; no operator comes near it

T = TypeVar("T")


# ---- printing ---------------------------------------------------------------


def print_graph(graph: Graph) -> str:
    """The text of a graph; `parse_graph` of it is an equal graph."""
    lines = [show_node(n) for n in graph.nodes]
    lines.append(f"return {', '.join(graph.outputs)}".rstrip())
    return "\n".join(lines) + "\n"


def show_node(node: Node) -> str:
    """The line of one node."""
    attrs = ", ".join(f"{key}={show_attr(value)}" for key, value in node.attrs)
    shown = f"{node.name}: {_show_type(node.type)} = {node.op}({', '.join(node.inputs)})"
    if attrs:
        shown += f" {{{attrs}}}"
    return f"{shown} @ {json.dumps(node.origin)}" if node.origin else shown


def show_attr(value: Attr) -> str:
    """One attribute's value as text."""
    match value:
        case str():
            return json.dumps(value)
        case tuple():
            inner = ", ".join(map(show_attr, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case Literal():
            return _show_literal(value)
        case _:  # None, bool, int, float, Dim, DType; the repr of a float is exact
            return str(value)


def _show_type(type: TensorType | tuple[TensorType, ...]) -> str:
    if isinstance(type, TensorType):
        return str(type)
    return f"({', '.join(map(str, type))})"


def _show_literal(literal: Literal) -> str:
    head = f"{literal.dtype}[{', '.join(map(str, literal.shape))}]"
    count = math.prod(literal.shape)
    if count <= _READABLE and len(literal.data) == count * literal.dtype.bytes:
        # str() of a NumPy scalar is the shortest text that gives the same value back, except for
        # a NaN with a payload
        shown = [str(e) for e in literal.array.reshape(-1)]
        if _literal_of([_number(s) for s in shown], literal.dtype, literal.shape) == literal:
            return f"{head}({', '.join(shown)})"
    data, prefix = literal.data, ""
    if len(data) > _PACK:
        packed = zlib.compress(data, 6)
        if len(packed) < len(data):
            data, prefix = packed, "z:"
    return f'{head}"{prefix}{base64.b64encode(data).decode()}"'


def _literal_of(values: list[Any], dtype: DType, shape: tuple[int, ...]) -> Literal:
    return Literal(dtype, shape, np.array(values, dtype=dtype.numpy).tobytes())


def _number(text: str) -> bool | int | float:
    if text in ("True", "False"):
        return text == "True"
    if text in ("nan", "-nan"):
        return math.nan
    return float(text) if _FLOAT(text) else int(text)


# ---- parsing ----------------------------------------------------------------

_STRING = r'"(?:[^"\\]|\\.)*"'
_SIZE = r"-?(?:\d{1,18}\*)?B(?:[+-]\d{1,18})?|-?\d{1,18}"
_SIZES = rf"(?:(?:{_SIZE})(?:, (?:{_SIZE}))*)?"
_TENSOR = rf"[a-z]\w*\[{_SIZES}\]"
_NAMES = r"(?:\w+(?:, \w+)*)?"
_LINE = re.compile(
    rf"(?P<name>[A-Za-z_]\w*): (?P<type>{_TENSOR}|\((?:{_TENSOR}(?:, {_TENSOR})*)?\)) = "
    rf"(?P<op>[A-Za-z_]\w*)\((?P<inputs>{_NAMES})\)"
    rf'(?: \{{(?P<attrs>(?:[^"}}]|{_STRING})*)\}})?(?: @ (?P<origin>{_STRING}))?\s*',
    re.ASCII,
)
_RETURN = re.compile(rf"return(?: (?P<names>{_NAMES}))?\s*", re.ASCII)
_ONE_SIZE = re.compile(r"(?:(-?\d+)\*|(-?))B([+-]\d+)?|(-?\d+)", re.ASCII)
_KEY = re.compile(r"([A-Za-z_]\w*)=", re.ASCII)
_VALUE = re.compile(
    rf"(?P<literal>(?P<dtype>[a-z]\w*)\[(?P<shape>{_SIZES})\](?=[(\"]))"
    rf"|(?P<string>{_STRING})"
    r"|(?P<dim>-?(?:\d{1,18}\*)?B(?:[+-]\d{1,18})?)"
    r"|(?P<number>-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|inf|nan)|True|False)"
    r"|(?P<word>[A-Za-z]\w*)|(?P<open>\()",
    re.ASCII,
)
_FLOAT = re.compile(r"[.enf]").search


def parse_graph(text: str) -> Graph:
    """The graph of a text; InputError with the number of a line that cannot be read.

    Whether the graph makes sense is for ir/check.py to say.
    """
    reader = _Reader()
    nodes: list[Node] = []
    outputs: tuple[str, ...] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        reader.start(number, line)
        if outputs is not None:
            reader.fail("a line after `return`", "`return` to be the last line")
        end = _RETURN.fullmatch(line)
        if end:
            outputs = _names(end["names"] or "")
        else:
            nodes.append(reader.node())
    if outputs is None:
        raise InputError("the text has no `return` line", expected="`return a, b`", do="add one")
    return Graph(tuple(nodes), outputs)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(", ")) if text else ()


def _cached(table: dict[str, T], text: str, read: Callable[[str], T]) -> T:
    found = table.get(text)
    if found is None:
        found = table[text] = read(text)
    return found


class _Reader:
    """Reads nodes line by line; types and attributes repeat a lot, so equal texts are read once."""

    def __init__(self) -> None:
        self._types: dict[str, TensorType] = {}
        self._attrs: dict[str, Attrs] = {}

    def start(self, number: int, line: str) -> None:
        """Go to the next line."""
        self._number, self._line = number, line

    def fail(self, what: str, expected: str) -> NoReturn:
        """Raise the error for the present line."""
        shown = self._line if len(self._line) <= 120 else self._line[:117] + "..."
        raise InputError(
            f"line {self._number} of the graph: {what}\n    {shown}",
            expected=expected,
            do="correct the line, or print the graph again with print_graph",
        )

    def node(self) -> Node:
        """The node of the line."""
        found = _LINE.fullmatch(self._line)
        if found is None:
            self.fail("not a node", 'name: f32[2, B] = op(a, b) {key=value} @ "origin"')
        attrs = found["attrs"]
        return Node(
            found["name"],
            found["op"],
            _names(found["inputs"]),
            _cached(self._attrs, attrs, self._read_attrs) if attrs else (),
            self._type(found["type"]),
            self._string(found["origin"]) if found["origin"] else "",
        )

    def _type(self, text: str) -> TensorType | tuple[TensorType, ...]:
        if not text.startswith("("):
            return _cached(self._types, text, self._tensor)
        inner = re.findall(_TENSOR, text)
        return tuple(_cached(self._types, t, self._tensor) for t in inner)

    def _tensor(self, text: str) -> TensorType:
        dtype, _, sizes = text.partition("[")
        return TensorType(self._shape(sizes[:-1]), self._dtype(dtype))

    def _dtype(self, name: str) -> DType:
        if name not in DTYPES:
            self.fail(f"no element type {name}", f"one of {', '.join(DTYPES)}")
        return DTYPES[name]

    def _shape(self, text: str) -> tuple[Size, ...]:
        return tuple(map(_size, text.split(", "))) if text else ()

    def _string(self, text: str) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            self.fail(f"{text} is not a string", "a string with the escapes of JSON")

    # attributes: a recursive descent over self._text

    def _read_attrs(self, text: str) -> Attrs:
        self._text, self._at, self._depth = text, 0, 0
        attrs: list[tuple[str, Attr]] = []
        while True:
            key = _KEY.match(text, self._at)
            if key is None:
                self.fail(f"no attribute at {self._rest()}", "key=value")
            self._at = key.end()
            attrs.append((key[1], self._value()))
            if self._at == len(text):
                return tuple(attrs)
            self._expect(", ")

    def _rest(self) -> str:
        return f"`{self._text[self._at : self._at + 20]}`"

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._at):
            self.fail(f"`{token.strip()}` is missing at {self._rest()}", "key=value, key=value")
        self._at += len(token)

    def _value(self) -> Attr:
        found = _VALUE.match(self._text, self._at)
        if found is None:
            self.fail(f"no value at {self._rest()}", "None, 1, 0.5, B, f32, (1, 2), a string, …")
        self._at = found.end()
        match found.lastgroup:
            case "string":
                return self._string(found["string"])
            case "number":
                return self._read_number(found["number"])
            case "dim":
                return _size(found["dim"])
            case "open":
                return self._tuple()
            case "literal":
                return self._literal(self._dtype(found["dtype"]), self._shape(found["shape"]))
            case _:
                return None if found["word"] == "None" else self._dtype(found["word"])

    def _read_number(self, text: str) -> bool | int | float:
        try:
            return _number(text)
        except ValueError:
            self.fail(f"{text} is not a number", "an integer of fewer digits, or a float")

    def _tuple(self) -> tuple[Attr, ...]:
        self._depth += 1
        if self._depth > _DEEPEST:
            self.fail("too many tuples in tuples", f"at most {_DEEPEST}")
        values: list[Attr] = []
        while not self._text.startswith(")", self._at):
            values.append(self._value())
            if self._text.startswith(")", self._at):
                break
            self._expect(",")
            if self._text.startswith(" ", self._at):
                self._at += 1
        self._at += 1
        self._depth -= 1
        return tuple(values)

    def _literal(self, dtype: DType, shape: tuple[Size, ...]) -> Literal:
        sizes = tuple(s for s in shape if isinstance(s, int) and s >= 0)
        if len(sizes) != len(shape):
            self.fail("a constant of unknown size", "a shape of numbers that are not negative")
        elements = math.prod(sizes)
        values = self._value()
        if isinstance(values, str):
            return Literal(dtype, sizes, self._unpack(values, elements * dtype.bytes))
        legal = isinstance(values, tuple) and all(isinstance(v, bool | int | float) for v in values)
        if not legal or len(values) != elements:  # type: ignore[arg-type]  # legal says that it is a tuple
            self.fail("a constant without its values", f"{elements} numbers or a string of base64")
        try:
            return _literal_of(list(values), dtype, sizes)  # type: ignore[arg-type]
        except (OverflowError, ValueError) as wrong:
            self.fail(f"a constant that is not {dtype}: {wrong}", f"numbers that fit {dtype}")

    def _unpack(self, text: str, size: int) -> bytes:
        try:
            data = base64.b64decode(text.removeprefix("z:"), validate=True)
            if text.startswith("z:"):
                # never unpack more than the type allows: a text may come from anywhere
                data = zlib.decompressobj().decompress(data, size + 1)
        except (binascii.Error, ValueError, zlib.error) as wrong:
            self.fail(f"a constant that cannot be unpacked: {wrong}", "base64, or z: and base64")
        if len(data) != size:
            self.fail(f"a constant of {len(data)} bytes", f"{size} bytes")
        return data


def _size(text: str) -> Size:
    found = _ONE_SIZE.fullmatch(text)
    assert found, f"{text} is not a size"
    coef, sign, const, number = found.groups()
    if number is not None:
        return int(number)
    return dim(int(coef) if coef else int(f"{sign}1"), int(const or 0))


# ---- DOT --------------------------------------------------------------------

_SHAPES = {"input": "invhouse", "parameter": "cylinder", "constant": "note"}


def to_dot(graph: Graph) -> str:
    """The graph in the language of Graphviz: a box per node, thick where it is a result."""
    outputs = set(graph.outputs)
    lines = ["digraph sol {", '  node [shape=box, fontname="sans-serif"];']
    for node in graph.nodes:
        kind = node.op if node.op in SOURCES else ""
        label = [f"{node.name} = {node.op}", *map(str, types_of(node)), node.origin]
        style = f", shape={_SHAPES[kind]}" if kind else ""
        style += ", penwidth=3" if node.name in outputs else ""
        lines.append(f"  {_quote(node.name)} [label={_quote(*filter(None, label))}{style}];")
        lines.extend(f"  {_quote(i)} -> {_quote(node.name)};" for i in node.inputs)
    return "\n".join([*lines, "}"]) + "\n"


def _quote(*lines: str) -> str:
    """A string of DOT, with everything escaped that could end it or start an escape."""
    plain = (re.sub(r"[\x00-\x1f]", " ", line) for line in lines)
    return '"' + "\\n".join(p.replace("\\", "\\\\").replace('"', '\\"') for p in plain) + '"'
