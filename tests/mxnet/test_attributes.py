"""Attributes are text: what is read of it, and that nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from sol.core.dtypes import F32, DType
from sol.core.errors import InputError, UnsupportedError
from sol.mxnet.attributes import Bounds, Floats, Ints, Pairs, parse


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3), ("-1", int, -1), ("3L", int, 3), ("1e-05", float, 1e-5), (".5", float, 0.5),
        ("inf", float, float("inf")), ("True", bool, True), ("0", bool, False), ("a b", str, "a b"),
        ("(3, 3)", Ints, (3, 3)), ("[3,3]", Ints, (3, 3)), ("(3L, 3L)", Ints, (3, 3)),
        ("()", Ints, ()), ("(3,)", Ints, (3,)), ("3", Ints, (3,)), ("(0.1, 2)", Floats, (0.1, 2.0)),
        ("(None, 2)", Bounds, (None, 2)), ("None", int | None, None), ("None", Ints | None, None),
        ("((1, 2), (0, 3))", Pairs, ((1, 2), (0, 3))), ("(1, 2)", Pairs, ((1, 2),)),
        ("float32", DType, F32), ("None", DType | None, None),
    ],
)  # fmt: skip
def test_what_is_read(text: str, kind: Any, value: Any) -> None:
    assert parse(text, kind) == value


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("3.5", int), ("9" * 19, int), ("0x3", int), ("1_000", int), ("", int), ("yes", bool),
        ("nan1", float), ("1" * 99, float), ("__import__('os')", float), ("(1, 2", Ints),
        ("((1, 2), 3)", Ints), ("(1, , 2)", Ints), ("(a,)", Ints), ("(1, 2, 3)", Pairs),
        ("[x for x in ()]", Ints), ("None", int),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, kind: Any) -> None:
    with pytest.raises(InputError, match="the attribute is"):
        parse(text, kind)


def test_types_that_sol_does_not_have() -> None:
    with pytest.raises(UnsupportedError, match="float16"):
        parse("float16", DType)
