"""Networks called with arrays: open and fixed batches, wrong calls, parameters, steps in NumPy."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sol.arrays.network import Captured, Host, Input, Network, Part, whole
from sol.core.dims import B
from sol.core.dtypes import F32, I64
from sol.core.errors import InputError, MemoryBudgetError
from sol.ir.graph import TensorType
from sol.ops.registry import builder
from sol.options import Options

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((5, 4)).astype(np.float32)
INPUTS = (Input("x", F32, ("batch", 4)), Input("unused", I64, (None,)))


def read_linear(types: Mapping[str, TensorType]) -> Captured:
    """y = relu(W x), and x as it came."""
    b = builder()
    x = b.input("x", types["x"])
    b.input("unused", types["unused"])
    weight = b.parameter("a/w", TensorType((5, 4), F32))
    y = b.add("relu", b.add("linear", x, weight, origin="fc"), origin="act")
    return whole(b, {"y": y, "same": x}, {"a/w": WEIGHT})


def numbers(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def linear() -> Network:
    return Network(INPUTS, ("y", "same"), read_linear, name="two layers")


def expected(x: Any, weight: Any = WEIGHT) -> Any:
    return np.maximum(x @ weight.T, 0)


def call(network: Network, x: Any) -> Any:
    found = network({"x": x, "unused": np.zeros(7, np.int64)})
    np.testing.assert_array_equal(found["same"], x)
    return found["y"]


def test_one_program_serves_every_batch() -> None:
    network = linear()
    for batch in (3, 1, 8, 2):
        x = numbers(batch, 4)
        np.testing.assert_allclose(call(network, x), expected(x), rtol=1e-5)
    assert len(network.entries) == 1
    x = numbers(4, 6)[:, ::-1][:, :4]  # neither contiguous nor forward
    np.testing.assert_allclose(call(network, x), expected(x), rtol=1e-5)
    assert call(network, numbers(0, 4)).shape == (0, 5)


def test_explain_names_the_layers_and_the_signature() -> None:
    network = linear()
    assert "nothing was read yet" in network.explain()
    call(network, numbers(3, 4))
    text = network.explain()
    assert text.startswith(
        "two layers by Sol: 1 program\nprogram for (x: f32[B, 4], unused: i64[7]"
    )
    assert "fc + 1: linear relu" in text


WRONG = {
    "missing": ({"x": numbers(2, 4)}, "no array for unused"),
    "unknown": ({"x": numbers(2, 4), "z": 1}, "no input is called z"),
    "dtype": ({"x": np.zeros((2, 4)), "unused": np.zeros(1, int)}, 'array.astype("float32")'),
    "rank": ({"x": numbers(2, 4, 1), "unused": np.zeros(1, int)}, "has the shape (2, 4, 1)"),
    "size": ({"x": numbers(2, 5), "unused": np.zeros(1, int)}, "expected: x: f32[batch, 4]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_says_what_was_expected(case: str) -> None:
    arrays, text = WRONG[case]
    with pytest.raises(InputError) as error:
        linear()(arrays)
    assert text in str(error.value)


def test_sizes_of_one_name_are_one_number() -> None:
    inputs = (Input("a", F32, ("n", "k")), Input("b", F32, ("k",)))
    network = Network(inputs, ("y",), lambda types: pytest.fail("it was read"))
    with pytest.raises(InputError, match="the size k is 3 in a, and 4 in b"):
        network({"a": numbers(2, 3), "b": numbers(4)})


def test_updated_parameters_count_in_programs_that_are_there_and_in_new_ones() -> None:
    network = linear()
    x = numbers(2, 4)
    call(network, x)
    other = numbers(5, 4)
    network.update({"a/w": other})
    np.testing.assert_allclose(call(network, x), expected(x, other), rtol=1e-5)
    fresh = network({"x": x, "unused": np.zeros(3, np.int64)})["y"]
    np.testing.assert_allclose(fresh, expected(x, other), rtol=1e-5)
    with pytest.raises(InputError, match="parameter a/w is now"):
        network.update({"a/w": numbers(5, 3)})


def read_squeezed(types: Mapping[str, TensorType]) -> Captured:
    """x without axes of size 1, plus 1: another network for one image."""
    b = builder()
    x = b.input("x", types["x"])
    shape = tuple(s for s in types["x"].shape if s != 1)
    y = b.add("add", b.add("reshape", x, shape=shape), b.constant(1.0, F32))
    return whole(b, {"y": y}, {})


def test_one_image_may_be_another_network() -> None:
    network = Network((Input("x", F32, (None, 3, 1)),), ("y",), read_squeezed)
    for batch in (1, 2, 3, 1):
        x = numbers(batch, 3, 1)
        np.testing.assert_array_equal(network({"x": x})["y"], np.squeeze(x) + 1)
    assert [(e.least, e.signature.symbolic) for e in network.entries] == [(2, True), (0, False)]
    assert "B of at least 2" in network.explain()


def read_not_linear(types: Mapping[str, TensorType]) -> Captured:
    b = builder()
    x = b.input("x", types["x"])
    (n, _) = types["x"].shape
    y = b.add("add", b.add("expand", x, shape=(n, n * n)), b.constant(1.0, F32))
    return whole(b, {"y": y}, {})


def test_what_is_not_linear_in_the_batch_is_read_for_each() -> None:
    network = Network((Input("x", F32, (None, 1)),), ("y",), read_not_linear)
    for batch in (2, 3):
        assert network({"x": numbers(batch, 1)})["y"].shape == (batch, batch**2)
    assert "for this batch size only: (B) * (B) is not linear" in network.explain()


def read_in_steps(types: Mapping[str, TensorType]) -> Captured:
    """relu, then a sort in NumPy, then the double."""
    kind = types["x"]
    first, second = builder(), builder()
    x = first.input("x", kind)
    part = Part(first.finish([first.add("relu", x)]), ("x",), ("positive",))
    host = Host(lambda a: (np.sort(a, axis=1),), ("positive",), ("sorted",), "Sort", "no row", "s1")
    s = second.input("s", kind)
    last = Part(second.finish([second.add("add", s, s)]), ("sorted",), ("y",))
    return Captured((part, host, last), {}, ("y", "positive"))


def test_numpy_between_two_parts() -> None:
    network = Network((Input("x", F32, (None, 9)),), ("y", "p"), read_in_steps)
    x = numbers(3, 9)
    found = network({"x": x})
    np.testing.assert_array_equal(found["p"], np.maximum(x, 0))
    np.testing.assert_array_equal(found["y"], 2 * np.sort(found["p"], axis=1))
    assert "Sort, s1: no row" in network.explain()
    with pytest.raises(MemoryBudgetError):
        Network((INPUTS[0],), ("y", "p"), read_in_steps, Options(memory=1))({"x": numbers(2, 4)})


def test_many_threads_get_their_own_results() -> None:
    network = linear()
    failures: list[str] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).standard_normal((seed + 1, 4)).astype(np.float32)
        for _ in range(20):
            if not np.allclose(call(network, x), expected(x), rtol=1e-5, atol=1e-6):
                failures.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(network.entries) == 1


def test_few_programs_are_kept() -> None:
    network = Network((Input("x", F32, ("b", "n")),), ("y",), read_rows)
    for n in range(1, 19):
        assert network({"x": numbers(2, n)})["y"].shape == (2,)
    assert len(network.entries) == 16


def read_rows(types: Mapping[str, TensorType]) -> Captured:
    b = builder()
    x = b.input("x", types["x"])
    return whole(b, {"y": b.add("sum", x, axes=(1,), keepdims=False)}, {})


def test_the_batch_is_what_stands_open_first() -> None:
    seen: list[Mapping[str, TensorType]] = []
    inputs = (
        Input("a", F32, (2, "n")),
        Input("b", F32, ("n", "k")),
        Input("c", F32, (None, 3)),
        Input("d", F32, ("other", 3)),
    )

    def read(types: Mapping[str, TensorType]) -> Captured:
        seen.append(types)
        b = builder()
        return whole(b, {"y": b.input("c", types["c"])}, {})

    arrays = {"a": numbers(2, 5), "b": numbers(5, 4), "c": numbers(5, 3), "d": numbers(4, 3)}
    Network(inputs, ("y",), read)(arrays)
    assert [t.shape for t in seen[0].values()] == [(2, B), (B, 4), (B, 3), (4, 3)]
