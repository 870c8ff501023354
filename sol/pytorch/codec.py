"""A captured network as text and back: graphs in Sol's own notation, the rest as JSON.

Nothing that is read is executed, and classes are only looked up among those that are loaded
already. `Unstorable` is raised for what has no such form: then the network is read anew each time.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sol.core.dims import Dim
from sol.ir.show import parse_graph, print_graph
from sol.pytorch.steps import Captured, Lifted, Parameter, Seed, SolStep, Step, TorchStep, Value
from sol.pytorch.trace import Signature
from sol.pytorch.tree import Branch, Constant, Leaf, Tree

_REFERENCES: dict[str, type[Any]] = {"value": Value, "parameter": Parameter, "lifted": Lifted}
_TORCH = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


class Unstorable(Exception):
    """A captured network that has no text."""


def write(captured: Captured) -> str:
    """The text of a captured network; its signature is left out but for whether it is open."""
    return json.dumps(
        {
            "symbolic": captured.signature.symbolic,
            "inputs": captured.inputs,
            "steps": [_write_step(s) for s in captured.steps],
            "results": _write(captured.results),
            "mutations": captured.mutations,
            "tree": _write_tree(captured.tree),
            "lifted": {k: _write_tensor(t) for k, t in captured.lifted.items()},
            "least_batch": captured.least_batch,
            "computing": captured.computing,
            "why_fixed": captured.why_fixed,
        }
    )


def read(text: str, signature: Signature) -> Captured:
    """The network of a text, for the signature under which it was stored."""
    made = json.loads(text)
    return Captured(
        signature if made["symbolic"] else signature.fixed(),
        tuple(made["inputs"]),
        tuple(_read_step(s) for s in made["steps"]),
        tuple(_read(made["results"])),
        tuple((target, name) for target, name in made["mutations"]),
        _read_tree(made["tree"]),
        {k: _read_tensor(t) for k, t in made["lifted"].items()},
        made["least_batch"], made["computing"], made["why_fixed"],
    )  # fmt: skip


# ---- steps


def _write_step(step: Step) -> dict[str, Any]:
    if isinstance(step, SolStep):
        graph = print_graph(step.graph)
        return {"graph": graph, "inputs": _write(step.inputs), "outputs": step.outputs}
    fields = {f.name: getattr(step, f.name) for f in dataclasses.fields(step)}
    return fields | {"args": _write(step.args), "kwargs": _write(step.kwargs)}


def _read_step(made: dict[str, Any]) -> Step:
    if "graph" in made:
        inputs, outputs = tuple(_read(made["inputs"])), tuple(made["outputs"])
        return SolStep(parse_graph(made["graph"]), inputs, outputs)
    step = TorchStep(**made)
    kwargs = tuple((name, value) for name, value in _read(step.kwargs))
    return replace(step, args=tuple(_read(step.args)), kwargs=kwargs)


# ---- values: JSON's own, else {"kind": …}


def _write(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return {"float": value.hex()}
        case tuple() | list():
            return [_write(v) for v in value]
        case Value(name) | Parameter(name) | Lifted(name):
            return {type(value).__name__.lower(): name}
        case Seed():
            return {"seed": None}
        case Dim(coef, const):
            return {"dim": [coef, const]}
        case torch.device():
            return {"device": str(value)}
        case type():
            return {"type": [value.__module__, value.__qualname__]}
    for kind, cls in _TORCH.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    raise Unstorable(f"a {type(value).__name__}")


def _read(made: Any) -> Any:
    if isinstance(made, list):
        return [_read(v) for v in made]
    if not isinstance(made, dict):
        return made
    ((kind, value),) = made.items()
    if kind in _REFERENCES:
        return _REFERENCES[kind](value)
    if kind in _TORCH:
        found = getattr(torch, value)
        assert isinstance(found, _TORCH[kind])
        return found
    match kind:
        case "seed":
            return Seed()
        case "float":
            return float.fromhex(value)
        case "dim":
            return Dim(*value)
        case "device":
            return torch.device(value)
        case "type":
            return _class(*value)
    raise ValueError(f"no value of kind {kind!r}")


def _write_tensor(tensor: torch.Tensor) -> dict[str, Any]:
    if tensor.dtype not in _DTYPES:
        raise Unstorable(f"a tensor of {tensor.dtype}")
    array = tensor.detach().contiguous().numpy()
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": array.shape, "data": data}


_DTYPES = (
    torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
)  # fmt: skip


def _read_tensor(made: dict[str, Any]) -> torch.Tensor:
    array = np.frombuffer(base64.b64decode(made["data"]), np.dtype(made["dtype"]))
    return torch.from_numpy(array.reshape(made["shape"]).copy())


# ---- the structure of results


def _write_tree(tree: Tree) -> Any:
    match tree:
        case Leaf(index):
            return index
        case Constant(value):
            return {"constant": _write(value)}
    if tree.context is not None:
        raise Unstorable(f"a {tree.type.__name__} in the result")
    return {
        "kind": tree.kind,
        "type": [tree.type.__module__, tree.type.__qualname__],
        "keys": _write(tree.keys),
        "children": [_write_tree(c) for c in tree.children],
    }


def _read_tree(made: Any) -> Tree:
    if isinstance(made, int):
        return Leaf(made)
    if "constant" in made:
        return Constant(_read(made["constant"]))
    children = tuple(_read_tree(c) for c in made["children"])
    return Branch(made["kind"], _class(*made["type"]), tuple(_read(made["keys"])), children)


def _class(module: str, name: str) -> type:
    """A class among the loaded ones; nothing is imported for it."""
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    assert isinstance(found, type)
    return found
