"""Tests of the frontend for TensorFlow: left out where TensorFlow is not installed."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow")


@pytest.fixture
def by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sol in NumPy: what is read is tested without a compiler."""
    monkeypatch.setattr("sol.arrays.program._has_empty", lambda graph: True)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """The same weights in each test."""
    import keras

    keras.utils.set_random_seed(0)
