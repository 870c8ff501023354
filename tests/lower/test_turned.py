"""Results in another order than their operands: lanes along the operands, turned before a store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ir.loop import Array, For, If, Stmt
from sol.ops.registry import builder
from tests.compiler.programs import Case, Joined, build_joined, compare, same_bits

Make = Callable[[Builder, Node], Node]
_AXES = (0, 3, 1, 2)


def _pooled(b: Builder, x: Node) -> Node:
    ones = (1, 1)
    return b.add("max_pool", x, kernel=(3, 3), stride=ones, padding=ones, dilation=ones, ceil=False)


def _resized(b: Builder, x: Node) -> Node:
    return b.add("interpolate", x, size=(28, 44), mode="linear", align_corners=False, scales=None)


TURNED: dict[str, tuple[tuple[int, ...], Make]] = {
    "operator": ((9, 40, 21), lambda b, x: b.add("exp", x)),
    "pooling": ((9, 14, 16), _pooled),
    "interpolation": ((14, 22, 19), _resized),
    "long vectors": ((2, 8, 512), lambda b, x: b.add("tanh", x)),
}

NOT: dict[str, tuple[tuple[int, ...], Make]] = {
    "few channels": ((9, 40, 7), lambda b, x: b.add("exp", x)),
    "very many channels": ((1, 8, 513), lambda b, x: b.add("exp", x)),
    "lines that have no blocks": ((3, 37, 16), lambda b, x: b.add("exp", x)),
    "operands of both orders": (
        (5, 64, 8),
        lambda b, x: b.add("add", x, b.input("other", x.tensor)),
    ),
    "lines shorter than a block": ((3, 6, 16), lambda b, x: b.add("exp", x)),
}


def _case(name: str, shape: tuple[int, ...], make: Make) -> Case:
    """A network that reads channels-last images and returns row-major ones."""
    b = builder()
    x = b.add("permute", b.input("x", TensorType((B, *shape), F32)), axes=_AXES)
    graph: Graph = b.finish([make(b, x)])
    return Case(name, graph)


def _arrays(stmts: tuple[Stmt, ...]) -> set[str]:
    found: set[str] = set()
    for s in stmts:
        match s:
            case Array(name=name):
                found.add(name)
            case For(body=body):
                found |= _arrays(body)
            case If(body=body, orelse=orelse):
                found |= _arrays(body) | _arrays(orelse)
    return found


def _is_turned(joined: Joined) -> bool:
    kernels = [call.kernel for m in joined.compiled.steps for call in m.calls]
    return any("turned" in _arrays(k.body) for k in kernels)


@pytest.mark.parametrize("name", [*TURNED, *NOT])
def test_results_are_right_in_either_way(name: str) -> None:
    joined = build_joined([_case(name, *{**TURNED, **NOT}[name])])
    assert _is_turned(joined) == (name in TURNED)
    compare(joined, batch=1)
    compare(joined, batch=3)
    assert same_bits(joined.run(3, threads=1), joined.run(3, threads=2))
