"""What the tests of the runtime share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.sample_program import PROGRAM, build_library


@pytest.fixture(scope="session")
def library() -> Path:
    """The compiled program of sample_program.py."""
    return build_library(PROGRAM)
