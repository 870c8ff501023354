"""What the tests of the runtime share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.sample_program import PROGRAMS, build_library


@pytest.fixture(scope="session", params=PROGRAMS)
def library(request: pytest.FixtureRequest) -> Path:
    """The compiled programs of sample_program.py: one after the other."""
    return build_library(PROGRAMS[request.param])
