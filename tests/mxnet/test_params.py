"""Parameter files: those that MXNet writes, those of older versions, and those that are broken."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sol.core.errors import InputError, UnsupportedError
from sol.mxnet.params import parse_params, read_params, without_prefix
from tests.mxnet.framework import mxnet
from tests.mxnet.written import file_of, record


def test_the_files_that_mxnet_writes(tmp_path: Path) -> None:
    mx = mxnet()
    arrays = {
        name: mx.nd.array(np.arange(6).reshape(shape), dtype=dtype)
        for name, shape, dtype in (
            ("arg:a", (2, 3), "float32"), ("b", (6,), "float64"), ("c", (1, 6), "float16"),
            ("d", (3, 2), "uint8"), ("e", (6, 1), "int32"), ("f", (6,), "int8"),
            ("aux:g", (2, 1, 3), "int64"),
        )
    }  # fmt: skip
    mx.nd.save(str(tmp_path / "a.params"), arrays)
    found = read_params(tmp_path / "a.params")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.asnumpy().dtype
        np.testing.assert_array_equal(found[name], array.asnumpy())
    assert set(without_prefix(found)) == set("abcdefg")


def test_arrays_without_axes_of_the_numpy_interface(tmp_path: Path) -> None:
    mx = mxnet()
    with mx.util.np_shape(True), mx.util.np_array(True):
        scalar, none = mx.np.array(2.5), mx.np.zeros((0, 3))
        mx.npx.save(str(tmp_path / "a.params"), {"s": scalar, "n": none})
    found = read_params(tmp_path / "a.params")
    assert found["s"].shape == ()
    assert found["s"] == 2.5
    assert found["n"].shape == (0, 3)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_every_version_of_the_format(version: int) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (found,) = parse_params(file_of({"w": record(array, version)})).values()
    np.testing.assert_array_equal(found, array)


def test_arrays_are_aligned_wherever_they_stand() -> None:
    bytes_first = {"a": record(np.zeros(3, np.uint8)), "b": record(np.ones(5, np.float32))}
    found = parse_params(file_of(bytes_first))
    assert found["b"].flags.aligned
    np.testing.assert_array_equal(found["b"], np.ones(5))


ARRAY = record(np.zeros((2, 3), np.float32))
GOOD = file_of({"w": ARRAY})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends too early: the head"),
        (b"PK" + GOOD[2:], "begins with"),
        (GOOD[:16] + struct.pack("<Q", 1 << 62) + GOOD[24:], "array 1"),
        (GOOD[:-4], "ends too early"),
        (GOOD[:40], "ends too early"),
        (file_of({"w": ARRAY, "v": ARRAY}).replace(b"v", b"w"), "two arrays the same"),
        (GOOD[:-1] + b"\xff", "is no text"),
        (file_of({"w": ARRAY[:8] + struct.pack("<i", 99) + ARRAY[12:]}), "99 axes"),
        (file_of({"w": ARRAY[:12] + struct.pack("<q", -1) + ARRAY[20:]}), "sizes from 0"),
        (file_of({"w": ARRAY[:12] + struct.pack("<q", 1 << 60) + ARRAY[20:]}), "ends too early"),
        (file_of({"w": record(np.zeros(1, np.float32)).replace(
            struct.pack("<iii", 1, 0, 0), struct.pack("<iii", 1, 0, 77))}), "element type 77"),
        (file_of({"w": struct.pack("<Iii", 0xF993FAC9, 0, 0)}), "has no value"),
    ],
)  # fmt: skip
def test_broken_files(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_params(data)


def test_sparse_arrays_and_bfloat16() -> None:
    with pytest.raises(UnsupportedError, match="row_sparse"):
        parse_params(file_of({"w": struct.pack("<Ii", 0xF993FAC9, 1)}))
    half = record(np.zeros(1, np.float32)).replace(
        struct.pack("<iii", 1, 0, 0), struct.pack("<iii", 1, 0, 12)
    )
    with pytest.raises(UnsupportedError, match="bfloat16"):
        parse_params(file_of({"w": half}))
