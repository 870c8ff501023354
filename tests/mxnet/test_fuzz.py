"""Broken files: each of thousands is read as a network or refused by a SolError, in little memory.

Mutations are of bytes (flipped, cut out, doubled, cut off) and of the structure of symbols
(numbers, names, operators, attributes exchanged). They are the same ones in every run.
"""

from __future__ import annotations

import copy
import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sol.core.dims import B
from sol.core.dtypes import F32
from sol.core.errors import InputError, SolError
from sol.ir.check import verify
from sol.ir.graph import TensorType
from sol.mxnet.params import parse_params
from sol.mxnet.rows import ROWS
from sol.mxnet.symbol import parse_symbol
from sol.mxnet.translate import read
from sol.ops.registry import infer
from tests.mxnet.written import file_of, record

COUNT = 800  # of each kind
OF_FILE = 40  # bytes of memory for each byte of a symbol, at most: Python's objects are larger


def node(op: str, *inputs: int, **attrs: Any) -> dict[str, Any]:
    given = {k: str(v) for k, v in attrs.items()}
    return {"op": op, "name": f"{op}_{len(inputs)}", "attrs": given,
            "inputs": [[i, 0, 0] for i in inputs]}  # fmt: skip


NODES: list[dict[str, Any]] = [
    *({"op": "null", "name": n, "inputs": []} for n in ("data", "w", "b", "gamma", "mean", "v")),
    node("Convolution", 0, 1, 2, kernel=(3, 3), num_filter=4, pad=(1, 1), stride=(2, 2)),
    node("BatchNorm", 6, 3, 2, 4, 3, fix_gamma=False, eps=1e-3),
    node("LeakyReLU", 7, act_type="elu", slope=0.5),
    node("Pooling", 8, kernel=(2, 2), pool_type="avg", stride=(1, 1), pooling_convention="full"),
    node("Reshape", 9, shape=(0, -1)),
    node("slice_axis", 10, axis=1, begin=0, end=12),
    node("FullyConnected", 11, 5, num_hidden=3, no_bias=True),
    node("SliceChannel", 12, num_outputs=3, axis=1),
    node("Concat", 12, 13, num_args=2, dim=1),
    node("tile", 14, reps=(1, 2)),
    node("softmax", 15, axis=-1),
]
SYMBOL = {
    "nodes": NODES, "heads": [[len(NODES) - 1, 0, 0], [13, 1, 0]],
    "attrs": {"mxnet_version": ["int", 10901]},
}  # fmt: skip
PARAMETERS = {
    "w": np.ones((4, 3, 3, 3), np.float32), "b": np.zeros(4, np.float32),
    "gamma": np.ones(4, np.float32), "mean": np.ones(4, np.float32),
    "v": np.ones((3, 12), np.float32),
}  # fmt: skip
TYPES = {"data": TensorType((B, 3, 8, 8), F32)}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with one to three changes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place, length = rng.randrange(len(made) or 1), rng.randint(1, 12)
        match rng.randrange(5):
            case 0:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[place : place + length]
            case 2:
                made[place:place] = made[place : place + length]
            case 3:
                made[place : place + 8] = rng.choice((0, 1, 255, 127)).to_bytes(1, "big") * 8
            case _:
                del made[place:]
    return bytes(made)


def damaged(rng: random.Random) -> bytes:
    """The symbol with bytes changed."""
    return mutated(json.dumps(SYMBOL).encode(), rng)


def restructured(rng: random.Random) -> bytes:
    """The symbol with one to three values exchanged for others of the kind, or for nonsense."""
    symbol: Any = copy.deepcopy(SYMBOL)
    for _ in range(rng.randint(1, 3)):
        chosen = rng.choice(symbol["nodes"])
        match rng.randrange(6):
            case 0:
                chosen["op"] = rng.choice((*ROWS, "null", ""))
            case 1 if isinstance(chosen.get("attrs"), dict) and chosen["attrs"]:
                name = rng.choice(list(chosen["attrs"]))
                chosen["attrs"][name] = rng.choice(
                    ("", "None", "-1", "0", "7", "1e9", "(0, 0)", "(9, 9, 9)", "999999999999999",
                     "(2, -1)", "nan", "True", "__import__('os').system('x')", "(" * 40)
                )  # fmt: skip
            case 2 if isinstance(chosen["inputs"], list) and chosen["inputs"]:
                chosen["inputs"][0] = [rng.randrange(-1, 18), rng.randrange(-1, 4), 0]
            case 3 if isinstance(chosen["inputs"], list):
                chosen["inputs"] = chosen["inputs"][1:] or [[0, 0, 0]] * rng.randrange(4)
            case 4:
                chosen[rng.choice(("op", "name", "inputs", "attrs"))] = rng.choice(
                    (3, None, [], {})
                )
            case _:
                symbol["heads"] = [[rng.randrange(-1, 18), 0, 0]]
    return json.dumps(symbol).encode()


def parameter_file() -> bytes:
    """The parameters, each as another version of MXNet writes them."""
    return file_of({k: record(v, n % 4) for n, (k, v) in enumerate(PARAMETERS.items())})


def symbols(seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    yield from (damaged(rng) for _ in range(COUNT))
    yield from (restructured(rng) for _ in range(COUNT))


def test_the_symbol_itself_is_read() -> None:
    graph = parse_symbol(json.dumps(SYMBOL))
    (part,) = read(graph, TYPES, PARAMETERS).graphs
    verify(part, infer)


def test_broken_symbols_are_refused_or_networks(tmp_path: Path) -> None:
    good = 0
    for text in symbols(0):
        try:
            captured = read(parse_symbol(text), TYPES, PARAMETERS)
        except SolError:
            continue
        good += 1
        for graph in captured.graphs:
            verify(graph, infer)
    assert 0 < good < COUNT
    assert not list(tmp_path.iterdir())


def test_broken_parameters_are_refused_or_arrays() -> None:
    rng = random.Random(1)
    data = parameter_file()
    good = 0
    for _ in range(2 * COUNT):
        try:
            arrays = parse_params(mutated(data, rng))
        except SolError:
            continue
        good += 1
        assert all(a.nbytes <= len(data) + 36 for a in arrays.values())
    assert 0 < good < 2 * COUNT


def test_a_shape_that_numpy_does_not_have() -> None:
    data = file_of({"w": record(np.zeros((7, 0), np.float32))})
    broken = data.replace((7).to_bytes(8, "little"), (1 << 62).to_bytes(8, "little"))
    with pytest.raises(InputError, match="has the shape"):
        parse_params(broken)


def test_memory_is_a_multiple_of_the_file() -> None:
    rng = random.Random(2)
    data = file_of({"w": record(np.ones(200_000, np.float32))})
    broken = data[:16] + (1 << 60).to_bytes(8, "little") + data[24:]
    long_name = data[:-9] + (1 << 50).to_bytes(8, "little") + b"w"
    for given in (data, broken, long_name, mutated(data, rng)):
        assert peak(lambda d=given: parse_params(d)) < 1.1 * len(data)
    nodes, end = b'{"nodes": [', b"0]}"
    for text in (
        b"[" * 10_000,
        b"{}," * 10_000,
        nodes + b"{}," * 30_000 + end,
        nodes + b"[0]," * 30_000 + end,
    ):
        assert peak(lambda t=text: parse_symbol(t)) < OF_FILE * len(text) + 100_000


def peak(call: Any) -> int:
    """Bytes that a call, which may be refused, has at most."""
    tracemalloc.start()
    try:
        call()
    except SolError:
        pass
    finally:
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found
