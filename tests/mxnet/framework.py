"""MXNet for tests, beside a NumPy that it does not know; tests without it are skipped, with reason.

MXNet 1.9.1, the last release, uses names that NumPy has removed. `mxnet()` gives them back before
it imports it. `results` runs a network of one operator in MXNet.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

_NAMED: dict[str, Any] = {
    "bool": bool, "int": int, "float": float, "object": object, "complex": complex, "str": str,
    "PZERO": 0.0, "NZERO": -0.0, "PINF": np.inf, "NINF": -np.inf, "NaN": np.nan, "NAN": np.nan,
    "Inf": np.inf, "infty": np.inf,
}  # fmt: skip


def _give_back_names() -> None:
    before = np.__getattr__

    def lookup(name: str) -> Any:
        if name in _NAMED:
            return _NAMED[name]
        try:
            return before(name)
        except AttributeError:
            if name.startswith("__"):
                raise

            def gone(*_: Any, **__: Any) -> None:
                raise NotImplementedError(f"numpy.{name} was removed")

            gone.__name__ = name
            return gone

    np.__getattr__ = lookup


@cache
def _imported() -> Any:
    before = np.__getattr__
    _give_back_names()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mxnet

            return mxnet
    except Exception as error:
        return error
    finally:
        np.__getattr__ = before


def mxnet() -> Any:
    """The package; skips the test that asks for it where it is not there."""
    found = _imported()
    if isinstance(found, Exception):
        pytest.skip(f"MXNet cannot be imported: {found}", allow_module_level=True)
    return found


def symbol_text(
    op: str, attrs: Mapping[str, Any], inputs: Sequence[str], numpy: bool = False, results: int = 1
) -> str:
    """A file with one operator, `y`."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": n, "inputs": []} for n in inputs]
    given = {k: str(v) for k, v in attrs.items()}
    reads = [[k, 0, 0] for k in range(len(inputs))]
    nodes.append({"op": op, "name": "y", "attrs": given, "inputs": reads})
    graph = {
        "nodes": nodes,
        "arg_nodes": list(range(len(inputs))),
        "heads": [[len(inputs), k, 0] for k in range(results)],
        "attrs": {"mxnet_version": ["int", 10901], "is_np_shape": ["int", int(numpy)]},
    }
    return json.dumps(graph)


def results(text: str, arrays: Mapping[str, np.ndarray], numpy: bool = False) -> list[np.ndarray]:
    """What MXNet computes of a file on these arrays."""
    mx = mxnet()
    with mx.util.np_shape(numpy):
        symbol = mx.sym.load_json(text)
        known = {k: mx.nd.array(v, dtype=v.dtype) for k, v in arrays.items()}
        states = {k: known[k] for k in symbol.list_auxiliary_states()}
        given = {k: known[k] for k in symbol.list_arguments()}
        made = symbol.bind(mx.cpu(), given, aux_states=states).forward(is_train=False)
        return [y.asnumpy() for y in made]
