"""The type rules: symbolic sizes, promotion, and an error with a reason for every wrong call."""

from __future__ import annotations

from typing import Any

import pytest

import sol.ops  # noqa: F401  fills the table
from sol.core.dims import B, Dim
from sol.core.dtypes import BOOL, F32, I16, I64, U8, DType
from sol.core.errors import InputError, SolError, UnsupportedError
from sol.ir.graph import TensorType
from sol.ops.registry import infer


def t(*shape: int | Dim, dtype: DType = F32) -> TensorType:
    return TensorType(shape, dtype)


WINDOW = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}
CONV = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
STATES = {"layers": 1, "bidirectional": False, "bias": False, "batch_first": True}


def test_recurrent_layers_have_several_results() -> None:
    state = t(1, B, 4)
    weights = (t(16, 3), t(16, 4))
    assert infer("lstm", (t(B, 5, 3), state, state, *weights), STATES) == (
        t(B, 5, 4),
        state,
        state,
    )
    assert infer("item", ((t(2), t(3)),), {"index": 1}) == t(3)


@pytest.mark.parametrize(
    ("op", "dtypes", "expected"),
    [
        ("add", (F32, I64), F32),
        ("mul", (U8, BOOL), U8),
        ("sub", (I64, I16), I64),
        ("div", (I64, I64), F32),
        ("eq", (F32, I64), BOOL),
        ("logical_and", (F32, BOOL), BOOL),
        ("max", (BOOL, BOOL), BOOL),
        ("exp", (I64,), F32),
        ("relu", (I64,), I64),
        ("isnan", (F32,), BOOL),
    ],
)
def test_element_types(op: str, dtypes: tuple[DType, ...], expected: DType) -> None:
    result = infer(op, tuple(t(3, dtype=d) for d in dtypes), {})
    assert isinstance(result, TensorType)
    assert result.dtype == expected


INT = {"dtype": I64}
WRONG: list[tuple[str, tuple[TensorType, ...], dict[str, Any], type[SolError], str]] = [
    ("nonsense", (), {}, UnsupportedError, "no operator of this name"),
    ("add", (t(3),), {}, InputError, r"add got 1 inputs.*missing a required argument: 'b'"),
    ("add", (t(3), t(3)), {"alpha": 1}, InputError, r"got an unexpected keyword argument 'alpha'"),
    ("clamp", (t(3),), {"low": 0.0}, InputError, r"expected: attributes \['high', 'low'\]"),
    ("add", (t(3), t(4)), {}, InputError, r"shapes \[3\] and \[4\] do not broadcast"),
    ("add", (t(B), t(2 * B)), {}, UnsupportedError, r"shapes \[B\] and \[2\*B\] do not broadcast"),
    ("sub", (t(3, dtype=BOOL), t(3)), {}, UnsupportedError, "sub is not supported.*bool"),
    ("bitwise_and", (t(3), t(3)), {}, UnsupportedError, "int or bool input"),
    ("where", (t(3), t(3), t(3)), {}, UnsupportedError, "expected: bool input"),
    ("prelu", (t(2, 3, 4), t(4)), {}, InputError, r"shape \[\] or \[3\], one slope"),
    ("reshape", (t(2, 3),), {"shape": (4, 2)}, InputError, "6 elements, the shape .* has 8"),
    ("reshape", (t(B, 3),), {"shape": (B, B)}, UnsupportedError, "not linear in the batch size"),
    ("permute", (t(2, 3),), {"axes": (0, 0)}, InputError, "each axis at most once"),
    ("permute", (t(2, 3),), {"axes": (0,)}, InputError, r"axes=\(0,\).*\n.*2 numbers"),
    ("permute", (t(2, 3),), {"axes": (-1, 0)}, InputError, "axis -1 of a value with 2 axes"),
    ("expand", (t(2, 3),), {"shape": (2,)}, InputError, "that the input broadcasts to"),
    ("slice", (t(7),), {"axis": 0, "start": 2, "stop": 9, "step": 1}, InputError, "2:9:1 of an"),
    ("slice", (t(7),), {"axis": 0, "start": 0, "stop": 7, "step": 0}, InputError, r"step=\(0,\)"),
    ("slice", (t(B),), {"axis": 0, "start": 0, "stop": B, "step": 2}, UnsupportedError, "batch"),
    ("concat", (), {"axis": 0}, InputError, "no inputs"),
    ("concat", (t(2, 3), t(2, 4)), {"axis": 0}, InputError, "equal sizes on all axes but 0"),
    ("interleave", (t(3),), {"axes": (0,), "steps": (2,)}, InputError, "2, one per phase"),
    ("interleave", (t(3), t(4)), {"axes": (0,), "steps": (2,)}, InputError, r"the part at \(0,\)"),
    ("interleave", (t(B), t(B)), {"axes": (0,), "steps": (2,)}, UnsupportedError, "axis 0"),
    ("pad", (t(7),), {"low": (7,), "high": (0,), "mode": "reflect", "value": 0.0}, InputError,
     "at most 6 elements on a side"),
    ("pad", (t(7),), {"low": (-8,), "high": (0,), "mode": "constant", "value": 0.0}, InputError,
     "at most 7 elements"),
    ("pad", (t(7),), {"low": (0,), "high": (0,), "mode": "spiral", "value": 0.0},
     UnsupportedError, "mode='spiral'"),
    ("pad", (t(B),), {"low": (1,), "high": (0,), "mode": "circular", "value": 0.0},
     UnsupportedError, "mode circular on the batch axis"),
    ("roll", (t(3),), {"axes": (0,), "shifts": (1, 2)}, InputError, r"shifts=\(1, 2\)"),
    ("roll", (t(B),), {"axes": (0,), "shifts": (1,)}, UnsupportedError, "axis 0 is B"),
    ("repeat", (t(2, 3),), {"repeats": (2,)}, InputError, "at least 2 numbers"),
    ("tril", (t(3),), {"diagonal": 0}, InputError, "at least 2 axes"),
    ("pixel_shuffle", (t(3, 4, 4),), {"factor": 2}, InputError, "a multiple of factor² = 4"),
    ("pixel_unshuffle", (t(3, 5, 4),), {"factor": 2}, InputError, "multiples of 2"),
    ("channel_shuffle", (t(1, 5, 4),), {"groups": 2}, InputError, "a multiple of 2"),
    ("unfold", (t(5),), {"axis": 0, "size": 6, "step": 1}, InputError, "size=6 of an axis of 5"),
    ("gather", (t(3, 4), t(3, 4)), {"axis": 0}, UnsupportedError, "int input"),
    ("gather", (t(3, 4), t(3, 5, dtype=I64)), {"axis": 0}, InputError, "on axes but 0"),
    ("take", (t(3), t(3)), {"axis": 0}, UnsupportedError, "int input"),
    ("index", (t(3), t(3, dtype=I64)), {"axes": ()}, InputError, "1 indices"),
    ("index", (t(3), t(3, dtype=BOOL)), {"axes": (0,)}, UnsupportedError, "bool"),
    ("slice_assign", (t(7), t(3)), {"axis": 0, "start": 0, "stop": 4, "step": 1}, InputError,
     r"the value is f32\[3\]\n.*shape \[4\]"),
    ("select_assign", (t(7, 2), t(2)), {"axis": 0, "index": 7}, InputError, "0 <= index < 7"),
    ("one_hot", (t(3),), {"classes": 3}, UnsupportedError, "int input"),
    ("interpolate", (t(1, 1, 4),), {"size": (8,), "mode": "cubic", "align_corners": False,
     "scales": None}, UnsupportedError, "mode='cubic' with 1 spatial axes"),
    ("grid_sample", (t(1, 1, 4, 4), t(2, 3, 3, 2)), {"mode": "nearest", "padding_mode": "zeros",
     "align_corners": False}, InputError, r"shape \[1, 3, 3, 2\]"),
    ("sum", (t(3),), {"axes": (0, 0), "keepdims": False}, InputError, "at most once"),
    ("mean", (t(3, dtype=I64),), {"axes": (0,), "keepdims": False}, UnsupportedError, "i64"),
    ("max_reduce", (t(3, 0),), {"axes": (1,), "keepdims": False}, InputError, "no elements"),
    ("max_pool", (t(3, 4),), {**WINDOW, "dilation": (1, 1), "ceil": False}, InputError, "4 axes"),
    ("max_pool", (t(1, 1, 4, 4),), {"kernel": (2, 2), "stride": (1, 1), "padding": (2, 2),
     "dilation": (1, 1), "ceil": False}, InputError, "at most half of the window"),
    ("max_pool", (t(1, 1, 2, 2),), {"kernel": (4, 4), "stride": (1, 1), "padding": (0, 0),
     "dilation": (1, 1), "ceil": False}, InputError, "a window that fits"),
    ("max_pool", (t(1, 1, B, 2),), {**WINDOW, "dilation": (1, 1), "ceil": False},
     UnsupportedError, "depends on the batch size B"),
    ("avg_pool", (t(1, 1, 8, 8),), {**WINDOW, "ceil": False, "count_include_pad": True,
     "divisor": 0}, InputError, "divisor=0"),
    ("adaptive_avg_pool", (t(1, 1, 8, 8),), {"size": (0, 1)}, InputError, "at least 1"),
    ("batch_norm", (t(2, 3, 4), t(3), t(4)), {"eps": 0.1, "affine": False}, InputError,
     r"the var is f32\[4\]"),
    ("batch_norm", (t(2, 3, 4), t(3), t(3)), {"eps": 0.1, "affine": True}, InputError,
     "0 of the inputs weight and bias\n.*2, as affine=True"),
    ("layer_norm", (t(2, 3), t(2)), {"axes_count": 1, "eps": 0.1, "has_weight": True,
     "has_bias": False}, InputError, r"shape \[3\]"),
    ("layer_norm", (t(2, 3),), {"axes_count": 3, "eps": 0.1, "has_weight": False,
     "has_bias": False}, InputError, "axes_count=3"),
    ("group_norm", (t(2, 5, 4),), {"groups": 2, "eps": 0.1, "affine": False}, InputError,
     "a multiple of groups=2"),
    ("softmax", (t(2, 3),), {"axis": 2}, InputError, "axis 2 of a value with 2 axes"),
    ("conv", (t(1, 4, 9, 9), t(8, 3, 3, 3)), CONV, InputError, "3 channels"),
    ("conv", (t(1, 3, 9, 9), t(8, 3, 3)), CONV, InputError, "4 axes"),
    ("conv", (t(1, 3, 9, 9), t(8, 3, 3, 3), t(7)), CONV, InputError, r"shape \[8\]"),
    ("conv", (t(1, 3, 9, 9), t(7, 1, 3, 3)), {**CONV, "groups": 3}, InputError, "multiple of"),
    ("conv", (t(1, 3, 9, 9), t(8, 3, 3, 3)), {**CONV, "stride": (0, 1)}, InputError, r"stride=\(0"),
    ("conv", (t(1, 3, 9, 9), t(8, 3, 3, 3)), {**CONV, "padding": ((1, 1),)}, InputError,
     "2 numbers"),
    ("conv", (t(3, 9, 9), t(8, 3, 3, 3)), CONV, InputError, "4 axes|3 axes"),
    ("linear", (t(2, 3), t(4, 5)), {}, InputError, "5 features"),
    ("matmul", (t(2, 3), t(4, 5)), {}, InputError, "as many columns of a as rows of b"),
    ("matmul", (t(3), t(3, 4)), {}, InputError, "at least 2 axes"),
    ("attention", (t(2, 3, 4), t(2, 3, 5), t(2, 3, 5)), {"scale": 1.0, "causal": False,
     "groups": 1}, InputError, "vectors of equal length"),
    ("attention", (t(4, 3, 5), t(2, 3, 5), t(2, 3, 5)), {"scale": 1.0, "causal": False,
     "groups": 1}, InputError, "queries .* keys"),
    ("attention", (t(2, 3, 5), t(2, 3, 5), t(2, 3, 5), t(4, 3)), {"scale": 1.0, "causal": False,
     "groups": 1}, InputError, "mask"),
    ("lstm", (t(1, 5, 3), t(1, 1, 4), t(1, 1, 4), t(16, 3)), STATES, InputError, "1 weights"),
    ("gru", (t(1, 5, 3), t(1, 1, 4), t(12, 3), t(16, 4)), STATES, InputError, "w_hh of run 0"),
    ("rnn", (t(1, 5, 3), t(1, 1, 4), t(4, 3), t(4, 4)), {**STATES, "nonlinearity": "sin"},
     UnsupportedError, "nonlinearity='sin'"),
    ("input", (), {}, UnsupportedError, "Builder.input"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs", "error", "message"), WRONG)
def test_a_wrong_call_says_what_is_wrong(
    op: str,
    inputs: tuple[TensorType, ...],
    attrs: dict[str, Any],
    error: type[SolError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        infer(op, inputs, attrs)
