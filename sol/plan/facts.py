"""What the planner knows about each node:

its cost per element, whether it reduces, how many elements it has, whether a contraction kernel
takes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from sol.core.dims import Dim, Shape, evaluate
from sol.ir.expr import Expr, walk
from sol.ir.graph import SOURCES, Graph, Node
from sol.ops.registry import OPS
from sol.plan.inline import Inliner, axes_for, scalar_constant

NOMINAL_BATCH = 4  # the batch for which sizes are compared

_COSTLY = {
    "exp": 10,
    "expm1": 12,
    "log": 10,
    "log1p": 12,
    "log2": 10,
    "log10": 10,
    "sin": 12,
    "cos": 12,
    "tan": 16,
    "tanh": 14,
    "erf": 14,
    "ndtr": 14,
    "sigmoid": 14,
    "pow": 24,
    "sinh": 16,
    "cosh": 16,
    "asin": 14,
    "acos": 14,
    "atan": 14,
    "atan2": 18,
    "div": 4,
    "sqrt": 4,
    "rsqrt": 5,
    "fmod": 8,
}
_FREE = ("const", "axis", "linear", "load", "cast", "reduce")
# operators whose inputs are written where they lie in the result
JOINS = ("concat", "interleave", "kept")
SCANS = ("scan", "scan_gradient")
# operators that a kernel of their own executes
WHOLE_OPS = ("attention", "masked_attention", *SCANS)
WEIGHT_GRADIENTS = ("conv_weight_gradient", "conv_weight_gradients", "linear_weight_gradient")
FEWEST_ACROSS = 32  # rows of a linear layer whose lanes run along rows
FEWEST_ROWS = 8  # a linear layer with fewer rows per image reads its weights as they are


def nominal_size(shape: Shape) -> int:
    """Elements of a shape at the nominal batch."""
    total = 1
    for s in shape:
        total *= evaluate(s, NOMINAL_BATCH)
    return total


class Facts:
    """Lazily computed properties of a graph's nodes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.position = {n.name: k for k, n in enumerate(graph)}
        self._natures: dict[str, _Nature] = {}

    def is_source(self, name: str) -> bool:
        """Inputs, constants, and values that depend on parameters only:

        in memory before the program starts.
        """
        return self.graph[name].op in SOURCES or name in self.graph.static

    def users(self, name: str) -> tuple[Node, ...]:
        """Users that run in the program."""
        return tuple(u for u in self.graph.users[name] if u.name not in self.graph.static)

    def size(self, name: str) -> int:
        """Elements at the nominal batch."""
        return nominal_size(self.graph[name].shape)

    def reduces(self, name: str) -> bool:
        """Whether the node's own expression holds a reduction."""
        return self._nature(name).reduces

    def cost(self, name: str) -> int:
        """Arithmetic per element of the node alone; index arithmetic and plain moves are free."""
        return self._nature(name).cost

    def _nature(self, name: str) -> _Nature:
        if name not in self._natures:
            node = self.graph[name]
            new = {i: f"x{k}" for k, i in enumerate(dict.fromkeys(node.inputs))}
            given = tuple(_given(self.graph[i], name) for i, name in new.items())
            inputs = tuple(new[i] for i in node.inputs)
            alone = replace(node, name="y", inputs=inputs, origin="")
            self._natures[name] = _nature(Graph((*given, alone), ("y",)))
        return self._natures[name]

    def contraction(self, node: Node) -> bool:
        """Whether a contraction kernel takes the node."""
        static = self.graph.static
        if node.op in ("conv", "conv_transpose"):
            return (
                node.inputs[1] in static
                and not is_depthwise(self.graph, node)
                and node.dtype.name == "f32"
            )
        if node.op == "linear":
            return node.inputs[1] in static and node.dtype.name == "f32"
        return node.op == "packed_matmul"

    def widens(self, node: Node) -> bool:
        """Whether a first layer reads a copy of its input with more channels (plan/prepare.py)."""
        return (
            node.op == "pad"
            and node["high"][1:2] not in ((), (0,))
            and all(
                u.op == "conv" and u.inputs[0] == node.name and self.taps(u) > 1
                for u in self.users(node.name)
            )
        )

    def taps(self, node: Node) -> int:
        """Kernel positions of a convolution."""
        return nominal_size(self.graph[node.inputs[1]].shape[2:])

    def whole(self, node: Node) -> bool:
        """Whether the node is executed by a kernel of its own kind."""
        return node.op in WHOLE_OPS or self.weight_gradient(node) or self.scatter(node)

    def scatter(self, node: Node) -> bool:
        """Whether the kernel for rows that are added where an index says takes the node."""
        return node.op == "scatter_add" and node.dtype.name == "f32"

    def weight_gradient(self, node: Node) -> bool:
        """Whether the kernel for gradients of weights takes the node."""
        return node.op in WEIGHT_GRADIENTS and node.dtype.name == "f32"

    def multiplies(self, node: Node) -> bool:
        """Whether an element of an input is used for many elements of the result, so that work
        inlined into the input would be repeated.
        """
        return node.op in (
            "conv",
            "conv_transpose",
            "linear",
            "matmul",
            "packed_matmul",
            *WHOLE_OPS,
            *WEIGHT_GRADIENTS,
            "scatter_add",
        )


@dataclass(frozen=True, slots=True)
class _Nature:
    """What an operator does for an element of its result, over loads of its inputs."""

    cost: int
    reduces: bool


def _given(node: Node, name: str) -> Node:
    """A node as an input of another one: a constant number, or whatever has its type."""
    if scalar_constant(node) is not None:
        return replace(node, name=name, origin="")
    return Node(name, "input", (), (), node.type)


@lru_cache(maxsize=8192)  # networks repeat their layers, and are planned in several ways
def _nature(graph: Graph) -> _Nature:
    """Of the last node of a graph of its own."""
    node = graph.nodes[-1]
    if OPS[node.op].compute is None:
        return _Nature(0, False)
    everything = frozenset(n.name for n in graph)
    own = Inliner(graph, everything).meaning(node.name, axes_for(node))
    return _Nature(arithmetic(own), any(p.op == "reduce" for p in walk(own)))


def arithmetic(x: Expr) -> int:
    """Cost of the floating-point and logical operations of an expression."""
    return sum(operations(x).values())


def operations(x: Expr) -> dict[Expr, int]:
    """The parts of an expression that compute, and what one evaluation of each costs."""
    parts = walk(x)
    index = _index_parts(parts)
    return {p: _COSTLY.get(p.op, 1) for p in parts if p.op not in _FREE and p not in index}


def _index_parts(parts: Iterable[Expr]) -> set[Expr]:
    """Parts that only compute indices or compare them."""
    found: set[Expr] = set()
    for p in parts:
        if (
            p.op in ("axis", "linear")
            or (p.op == "const" and p.dtype.name == "i64")
            or (
                p.args
                and p.op not in ("load", "reduce", "cast", "where")
                and all(a in found or a.op == "const" for a in p.args)
            )
        ):
            found.add(p)
        elif (
            p.op == "where"
            and p.args[0] in found
            and any(a.op in ("const", "load", "where") for a in p.args[1:])
        ):
            found.add(p)  # a border: padding or concatenation
    return found


def rows_per_image(leading: Shape) -> int:
    """Rows of a matrix product per image of the batch (all rows where nothing depends on the
    batch).
    """
    total = 1
    for s in leading:
        total *= s.coef + s.const if isinstance(s, Dim) else s
    return total


def is_thin(root: Node) -> bool:
    """Whether a contraction is a linear layer with few rows per image, whose weights are read as
    they are, once for all images at hand."""
    return root.op == "linear" and rows_per_image(root.shape[:-1]) < FEWEST_ROWS


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether a convolution has one input channel per group, so that it is a window reduction."""
    weight = graph[node.inputs[1]]
    channels = graph[node.inputs[0]].shape[1]
    return bool(
        node["groups"] == channels
        and node["groups"] > 1
        and (weight.shape[1] == 1 or node.op == "conv_transpose")
    )


def is_depthwise_gradient(node: Node) -> bool:
    """Whether a gradient of a weight is that of a convolution with one channel and one result for
    each group."""
    if not node.op.startswith("conv_weight_gradient") or node["groups"] == 1:
        return False
    return node.shape[-2 - len(node["kernel"]) :][:2] == (node["groups"], 1)


def is_scalar(graph: Graph, name: str) -> bool:
    """Whether a value is a constant number that expressions hold as a literal."""
    return scalar_constant(graph[name]) is not None
