"""Operators in NumPy where ONNX's own reference has none, is wrong, or takes minutes.

A function gets a node's attributes and its inputs, None for those that are left out, and returns
all results. host.py asks this table first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sol.onnx.hosted.detection import max_roi_pool, non_max_suppression
from sol.onnx.hosted.recurrent import gru, lstm, rnn
from sol.onnx.hosted.unique import unique
from sol.onnx.values import Array

Hosted = Callable[[Mapping[str, Any], Sequence[Array | None]], tuple[Array, ...]]

HOSTED: dict[str, Hosted] = {
    "GRU": gru,
    "LSTM": lstm,
    "MaxRoiPool": max_roi_pool,
    "NonMaxSuppression": non_max_suppression,
    "RNN": rnn,
    "Unique": unique,
}
