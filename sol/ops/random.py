"""Random numbers from a counter: each is a hash of a seed, a stream and its place, so that they are
the same for any number of threads, and the backward computation makes them again."""

from __future__ import annotations

from sol.core.dims import Shape, product
from sol.core.dtypes import F32, I64
from sol.ir.expr import Expr, apply, cast, const, where
from sol.ir.graph import Builder, Node, TensorType
from sol.ops.maps import reshape_index
from sol.ops.registry import Index, OpDef, Read, Sample, register
from sol.ops.rules import need, need_kind
from sol.ops.sampling import i64

_WORD = 1 << 32
_MIX = 0x45D9F3B  # T. Mueller's multiplier for 32-bit hashes; products stay below 2^63
_STREAM = 0x9E3779B1  # 2^32 / golden ratio: streams start far from each other
_BITS = 1 << 24  # of a float32's mantissa


def _infer_random(seed: TensorType, *, shape: Shape, stream: int) -> TensorType:
    need_kind("random", seed, "int")
    need(seed.shape == (1,), "random", f"a seed {seed}", "one number: shape [1]")
    need(stream >= 0, "random", f"{stream=}", "at least 0")
    return TensorType(tuple(shape), F32)


def _hashed(x: Expr) -> Expr:
    """A number below 2^32 as another one, each bit of which depends on all bits."""
    for _ in range(2):
        x = apply("xor", x, x // (1 << 16)) * _MIX % _WORD
    return apply("xor", x, x // (1 << 16))


def _expand_random(graph: Builder, node: Node, seed: Node) -> Node:
    """What depends on the seed alone is computed once."""
    key = graph.add("random_key", seed, stream=node["stream"])
    numbers = graph.add("random_numbers", key, shape=node["shape"])
    return numbers if node.dtype == F32 else graph.add("cast", numbers, dtype=node.dtype)


def _infer_key(seed: TensorType, *, stream: int) -> TensorType:
    return TensorType((2,), I64)


def _compute_key(node: Node, index: Index, seed: Read) -> Expr:
    given = cast(seed(0), I64)
    low, high = given % _WORD, given // _WORD % _WORD
    first = _hashed((low + node["stream"] * _STREAM) % _WORD)
    return where(apply("eq", index[0], 0), first, _hashed(apply("xor", high, first)))


def _infer_numbers(key: TensorType, *, shape: Shape) -> TensorType:
    need(key.shape == (2,), "random_numbers", f"a key {key}", "two numbers: shape [2]")
    return TensorType(tuple(shape), F32)


def _compute_numbers(node: Node, index: Index, key: Read) -> Expr:
    (place,) = reshape_index(index, node.shape, (product(node.shape),)) if index else (const(0),)
    counted = apply("xor", (place + key(0)) % _WORD, key(1))
    return cast(_hashed(counted) // (_WORD // _BITS), node.dtype) * (1.0 / _BITS)


register(
    OpDef(
        "random_key",
        "source",
        _infer_key,
        "Two numbers below 2^32, hashes of `seed` and `stream`.",
        samples=tuple(Sample((i64(1),), {"stream": n}, 0, 1 << 40) for n in (0, 3)),
        compute=_compute_key,
        why="chance depends on nothing",
    )
)
register(
    OpDef(
        "random_numbers",
        "source",
        _infer_numbers,
        "Numbers from 0 to 1 (exclusive), evenly distributed: hashes of `key` and place.",
        samples=tuple(
            Sample((i64(2),), {"shape": shape}, 0, 1 << 32) for shape in ((3, 17), (2, 5, 1))
        ),
        compute=_compute_numbers,
        why="chance depends on nothing",
    )
)
register(
    OpDef(
        "random",
        "source",
        _infer_random,
        "Numbers from 0 to 1 (exclusive), evenly distributed: hashes of `seed`, `stream`, place.",
        samples=(
            Sample((i64(1),), {"shape": (3, 5), "stream": 0}, 0, 1 << 40),
            Sample((i64(1),), {"shape": (2, 3, 1, 17), "stream": 7}, 0, 1 << 40),
            Sample((i64(1),), {"shape": (), "stream": 1}, 0, 9),
        ),
        expand=_expand_random,
        why="chance depends on nothing",
    )
)
