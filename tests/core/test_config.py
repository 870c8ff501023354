"""Settings: read when used, refused when wrong, and none that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from sol.core import config
from sol.core.errors import ConfigError


def test_every_knob_is_listed_once_and_explained() -> None:
    declared = [value for value in vars(config).values() if isinstance(value, config.Knob)]
    assert list(config.KNOBS) == declared
    assert len({knob.variable for knob in declared}) == len(declared)
    assert all(knob.help and knob.values for knob in declared)


@pytest.mark.parametrize("knob", config.KNOBS, ids=lambda k: k.variable)
def test_default_without_a_variable(
    knob: config.Knob[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(knob.variable, raising=False)
    assert knob.get() == knob.default
    monkeypatch.setenv(knob.variable, "  ")
    assert knob.get() == knob.default


@pytest.mark.parametrize(
    ("knob", "text", "value"),
    [
        (config.CC, "ccache clang", "ccache clang"),
        (config.CACHE_DIR, "/x/y", Path("/x/y")),
        (config.CACHE_SIZE, "1.5 KiB", 1536),
        (config.CHECK, "1", True),
        (config.CHECK, "Off", False),
        (config.DUMP, "out", Path("out")),
        (config.THREADS, "3", 3),
        (config.FUEL, "0", 0),
        (config.ISA, "AVX2", "avx2"),
        (config.LIBRARIES, "onednn, blas", ("onednn", "blas")),
        (config.LIBRARIES, "none", ()),
    ],
)
def test_values(
    knob: config.Knob[object], text: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(knob.variable, text)
    assert knob.get() == value


@pytest.mark.parametrize(
    ("knob", "text"),
    [
        (config.CACHE_SIZE, "much"),
        (config.CACHE_SIZE, "-1"),
        (config.CHECK, "perhaps"),
        (config.THREADS, "0"),
        (config.THREADS, "two"),
        (config.FUEL, "-1"),
        (config.ISA, "mmx"),
        (config.LIBRARIES, "a b"),
    ],
)
def test_wrong_values_are_refused(
    knob: config.Knob[object], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(knob.variable, text)
    with pytest.raises(ConfigError) as caught:
        knob.get()
    message = str(caught.value)
    assert knob.variable in message
    assert repr(text) in message
    assert knob.values in message
    assert knob.help in message


def test_an_unknown_variable_is_an_error_with_a_proposal() -> None:
    with pytest.raises(ConfigError, match="SOL_TREADS") as caught:
        config.check_environment({"SOL_TREADS": "2", "PATH": ""})
    assert "do: set SOL_THREADS" in str(caught.value)
    config.check_environment({"SOL_THREADS": "2", "SOLAR": "x"})


def test_the_cache_key_has_what_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = config.cache_key()
    monkeypatch.setenv("SOL_THREADS", "2")
    monkeypatch.setenv("SOL_CHECK", "1")
    assert config.cache_key() == before
    monkeypatch.setenv("SOL_FUEL", "7")
    assert config.cache_key() != before


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("2K", 2048), ("32768K", 2**25), ("512MB", 2**29), ("2 GiB", 2**31)],
)
def test_bytes(text: str, size: int) -> None:
    assert config.parse_bytes(text) == size
