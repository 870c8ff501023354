"""Every row against MXNet: values, shapes and types, and its own table of attributes."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from sol.core.errors import InputError
from sol.mxnet.attributes import parse
from sol.mxnet.rows import ROWS
from sol.mxnet.rows.table import IGNORED
from tests.mxnet.calls import CALLS, Call
from tests.mxnet.evaluated import evaluated
from tests.mxnet.framework import mxnet, results, symbol_text

# not called alone in calls.py: other names of rows that are, and what MXNet cannot run on a CPU
_ALIKE = {
    "BatchNorm_v1", "Convolution_v1", "Pooling_v1", "_contrib_SyncBatchNorm",
    "_contrib_BatchNormWithReLU", "_CrossDeviceCopy", "_zeros_without_dtype",
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_an_operator_is_what_it_is_in_mxnet(call: Call) -> None:
    arrays = call.arrays
    text = symbol_text(call.op, call.attrs, list(arrays), call.numpy, call.results)
    expected = results(text, arrays, call.numpy)
    found = evaluated(text, arrays)
    for wanted, got in zip(expected, found, strict=True):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_every_row_is_called_or_another_name_of_one_that_is() -> None:
    called = {ROWS[c.op].function for c in CALLS}
    names = {c.op for c in CALLS}
    left = [n for n, row in ROWS.items() if row.function not in called and n not in names]
    assert not set(left) - _ALIKE


def test_rows_are_operators_of_mxnet_with_its_attributes_and_defaults() -> None:
    mx = mxnet()
    known = set(mx.operator.get_all_registered_operators())
    assert set(ROWS) <= known
    wrong = [line for name in ROWS for line in _differences(mx, name)]
    assert not wrong, "\n".join(wrong)


# attributes that the front end of MXNet hands over under other names, or that one row shares
_OWN = {
    "_npi_concatenate": {"axis"}, "_linspace": {"num", "endpoint", "stop"},
    "_npi_linspace": {"num", "endpoint", "stop"}, "BatchNorm_v1": {"axis"},
    "_contrib_SyncBatchNorm": {"axis"}, "Pooling_v1": {"count_include_pad", "layout", "p_value"},
    **{f"_np_{n}": {"dtype", "initial"} for n in ("max", "amax", "min", "amin", "any", "all",
       "sometrue")},
}  # fmt: skip


# those that it has and does not use
_UNUSED = {
    "_npi_concatenate": {"dim"},
    **{n: {"step", "repeat", "infer_range"} for n in ("_linspace", "_npi_linspace")},
}


def _differences(mx: Any, name: str) -> list[str]:
    told = mx.operator.get_operator_arguments(name)
    theirs = {
        n: t for n, t in zip(told.names, told.types) if "NDArray" not in t and "Symbol" not in t
    }
    ours = ROWS[name].attributes
    found = [f"{name} has no {n}" for n in ours if n not in theirs and n not in _OWN.get(name, ())]
    missing = set(theirs) - set(ours) - IGNORED - _UNUSED.get(name, set())
    found += [f"the row of {name} does not read {n}" for n in missing]
    for attribute, (kind, default) in ours.items():
        said = theirs.get(attribute, "")
        if "default=" not in said or attribute in _OWN.get(name, ()):
            continue
        text = said.split("default=")[1].strip("'").replace("[", "(").replace("]", ")")
        if not _same(text, kind, default):
            found.append(f"{name}: {attribute} is {default}, not {text}")
    return found


def _same(text: str, kind: Any, default: Any) -> bool:
    if default is inspect.Parameter.empty:
        return False
    if text == "None" and default in (None, (), 0):
        return True
    try:
        value = parse(text, kind)
    except InputError:
        return False
    return value == default or np.allclose(np.float32(value), np.float32(default), rtol=1e-6)
