"""Nothing that a model calls its layers, parameters and inputs reaches generated C.

Neither names that would end a comment, a string or a line, nor those that a compiler reads in
another way or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sol.backends.clike import print_kernel
from sol.compiler import Compiled, compile_graph
from sol.core.dims import B
from sol.core.dtypes import F32
from sol.core.errors import VerifyError
from sol.ir.expr import axis, load
from sol.ir.graph import Builder, Graph, TensorType
from sol.ir.loop import BufferArg, Kernel, Store
from sol.ir.show import parse_graph, print_graph
from sol.pytorch import optimize
from tests.compiler.programs import Array, Case, expected, network, planned_steps, wrong
from tests.compiler.test_goldens import DEVICE

MARK = "Q7x"  # is in every name below, and in nothing that Sol writes
HOSTILE = (
    f'"{MARK}',
    f"'{MARK}'",
    f"*/ {MARK} /*",
    f"// {MARK} \\",
    f"{MARK}\nint main(void) {{ return 1; }}\n#error {MARK}",
    f"{MARK}\r\v\f\u2028",
    f"??/{MARK}??/\n",
    f"\\u000a{MARK}\\",
    f"{MARK} größe 名前 \N{PILE OF POO}",
    f"\0{MARK}",
    f"%s%n{MARK}{{}}",
    f"{MARK}(1); system({MARK})",
    f"int {MARK}",
    MARK + "n" * 20_000,
)


def check_texts(texts: Sequence[str]) -> None:
    """That C texts have no part of a name, and nothing that compilers read differently."""
    assert texts
    for text in texts:
        assert MARK not in text
        assert text.isascii()
        assert "??" not in text
        assert not re.search(r"\\$", text, re.MULTILINE)
        assert max(map(len, text.splitlines())) < 2_000


def _everything(b: Builder) -> Any:
    """A network with kernels of every kind, and with values in registers and scratch memory."""
    x = b.input("x", TensorType((B, 8, 6, 6), F32))
    attrs = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    y = b.add("conv", x, b.parameter("w", TensorType((8, 8, 3, 3), F32)), groups=1, **attrs)
    y = b.add("relu", y)
    z = b.add("conv", y, b.parameter("d", TensorType((8, 1, 3, 3), F32)), groups=8, **attrs)
    z = b.add("reshape", b.add("concat", y, z, axis=1), shape=(B, 16, 36))
    q = b.add("linear", z, b.parameter("m", TensorType((36, 36), F32)))
    a = b.add("attention", q, z, z, scale=0.2, causal=False, groups=1)
    return b.add("softmax", a, axis=2), b.add("matmul", q, b.add("permute", z, axes=(0, 2, 1)))


def renamed(graph: Graph, name: str) -> Graph:
    """The graph with this name for everything that has one."""
    nodes = []
    for k, node in enumerate(graph):
        attrs = (("key", f"{name}{k}"),) if node.op == "parameter" else node.attrs
        inputs = tuple(_name(graph, i, name) for i in node.inputs)
        own = _name(graph, node.name, name)
        nodes.append(replace(node, name=own, inputs=inputs, attrs=attrs, origin=name))
    return Graph(tuple(nodes), tuple(_name(graph, o, name) for o in graph.outputs))


def _name(graph: Graph, old: str, name: str) -> str:
    number = [n.name for n in graph].index(old)
    return f"{name}_{number}"


def run(compiled: Compiled, case: Case, batch: int) -> list[Array]:
    """The results of a compiled network."""
    graph = compiled.planned.plan.graph
    inputs = [case.array(n, batch) for n in case.graph.inputs]
    compiled.prepare({n["key"]: case.array(n, batch) for n in case.graph.parameters})
    results = [np.empty((batch, *graph[o].shape[1:]), np.float32) for o in graph.outputs]
    compiled.run(
        [a.ctypes.data for a in inputs], [a.ctypes.data for a in results], batch, threads=1
    )
    return results


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_in_a_graph_stay_there(name: str) -> None:
    """Names of nodes, which frontends clean, as if they had not."""
    _, made = planned_steps(renamed(network(_everything), name), DEVICE, optimise=True)
    kernels = [call.kernel for m in made for call in m.calls]
    assert {m.cluster.kind for m in made} >= {"dfp", "contraction", "attention"}
    check_texts([print_kernel(k, "kernel")[0] for k in kernels])


@pytest.mark.parametrize("optimise", ["0", ""], ids=["as given", "optimised"])
def test_a_hostile_graph_is_compiled_and_right(
    optimise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if optimise:
        monkeypatch.setenv("SOL_FUEL", optimise)
    case = Case("hostile", renamed(network(_everything), "".join(HOSTILE[:-1])))
    compiled = compile_graph(case.graph)
    check_texts(compiled.source.units)
    assert not wrong(case, run(compiled, case, 2), expected(case, 2))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_builders_clean_names(name: str) -> None:
    def make(b: Builder) -> Any:
        x = b.input(name, TensorType((B, 3), F32))
        w = b.parameter(name, TensorType((3,), F32))
        return b.add("mul", x, w, name=name, origin=name)

    graph = network(make)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,70}", n.name) for n in graph)
    assert len({n.name for n in graph}) == len(graph)
    assert graph.parameters[0]["key"] == name  # the framework's own, to find it again
    assert parse_graph(print_graph(graph)) == graph


def test_a_name_that_no_buffer_has_is_never_printed() -> None:
    """If a bug lets a kernel read what it was not given, that is said, and not written as C."""
    unit, out = axis("unit", 4), BufferArg("out", F32, written=True)
    store = Store("out", unit, load(f"x; {MARK}", F32, unit))
    kernel = Kernel((out,), unit, 4, (store,), 0)
    with pytest.raises(VerifyError, match="none of its buffers"):
        print_kernel(kernel, "kernel")


# ---- through PyTorch -----------------------------------------------------------------------------


class Hostile(nn.Module):
    """A network whose layers, parameters and buffers have the names given."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = [n.replace(".", "_") for n in names]
        for name in self.names:
            layer = nn.Conv2d(4, 4, 3, padding=1)
            self.add_module(name, layer)
            layer.register_parameter(f"scale {name}", nn.Parameter(torch.rand(4, 1, 1)))
            layer.register_buffer(f"shift {name}", torch.rand(4, 1, 1))

    def forward(self, x: torch.Tensor, größe: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {}
        for name in self.names:
            layer = self.get_submodule(name)
            scale, shift = getattr(layer, f"scale {name}"), getattr(layer, f"shift {name}")
            x = torch.relu(layer(x) * scale + shift) + größe
            found[name] = x.mean((2, 3))
        return found


def units(dump: Path) -> list[str]:
    """All C texts of a dump."""
    return [p.read_text("utf-8") for p in dump.rglob("*.c")]


def test_names_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_DUMP", str(tmp_path / "dump"))
    kind = type(f'Net "{MARK}" */\n', (Hostile,), {})
    torch.manual_seed(0)
    net = kind(HOSTILE).eval()
    example = (torch.rand(2, 4, 5, 5), torch.rand(2, 4, 5, 5))
    fast: Any = optimize(net, *example)
    with torch.no_grad():
        found, wanted = fast(*example), net(*example)
    assert fast.sol.graphs, fast.sol.explain()
    assert not fast.sol.report.fallbacks
    check_texts(units(tmp_path / "dump"))
    assert list(found) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5)
    assert set(fast.state_dict()) == set(net.state_dict())
    assert fast.sol.explain()
    assert fast.sol.check(*example).ok


class Named(nn.Module):
    """Takes its inputs by names that may be any text."""

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        total = torch.zeros(())
        for value in inputs.values():
            total = torch.tanh(total + value)
        return total


def test_names_of_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_DUMP", str(tmp_path / "dump"))
    net = Named().eval()
    example = {name: torch.rand(3, 7) for name in HOSTILE}
    fast: Any = optimize(net, example)
    with torch.no_grad():
        torch.testing.assert_close(fast(example), net(example), rtol=1e-5, atol=1e-6)
    assert fast.sol.graphs, fast.sol.explain()
    check_texts(units(tmp_path / "dump"))
