"""oneDNN is found where it is, and whatever cannot be used has a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sol import libraries
from sol.cli import main
from sol.core import config
from sol.core.errors import ConfigError
from sol.libraries import onednn
from sol.libraries.base import Absent, Found

_FAKE = """
struct {{ int major, minor, patch; const char *hash; unsigned cpu, gpu; }} version =
    {{ {major}, 4, 1, "", {runtime}, 0 }};
const void *dnnl_version(void) {{ return &version; }}
"""


def fake(folder: Path, major: int, runtime: int) -> Path:
    """A library that says it is oneDNN."""
    source, path = folder / "fake.c", folder / "libdnnl.so.3"
    source.write_text(_FAKE.format(major=major, runtime=runtime))
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    return path


@pytest.mark.parametrize(("runtime", "name"), [(1, "sequential"), (2, "OpenMP")])
def test_a_library_that_fits_is_found(tmp_path: Path, runtime: int, name: str) -> None:
    path = fake(tmp_path, 3, runtime)
    found = onednn.find((tmp_path / "no", tmp_path))
    assert isinstance(found, Found), name
    assert (found.path, found.version) == (path, "3.4.1")
    assert str(path) in found.link


@pytest.mark.parametrize(
    ("major", "runtime", "reason"),
    [(2, 2, "version 2.4.1"), (4, 2, "version 4.4.1"), (3, 4, "(TBB)"), (3, 99, "(runtime 99)")],
)
def test_others_are_refused(tmp_path: Path, major: int, runtime: int, reason: str) -> None:
    path = fake(tmp_path, major, runtime)
    found = onednn.find((tmp_path,))
    assert isinstance(found, Absent)
    assert str(path) in found.reason
    assert reason in found.reason
    assert "pip install onednn-cpu-gomp" in found.reason


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "libdnnl.so.3").write_text("no library")
    found = onednn.find((tmp_path,))
    assert isinstance(found, Absent)
    assert "cannot be loaded" in found.reason


def test_a_library_without_a_version_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "fake.c"
    source.write_text("int other;")
    path = tmp_path / "libdnnl.so.3"
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    assert isinstance(onednn.find((tmp_path,)), Absent)


def test_nothing_installed_has_a_reason() -> None:
    """In a process of its own: here the loader may already know oneDNN."""
    code = "from sol.libraries import onednn; print(onednn.find(()).reason)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if "has no attribute 'reason'" in done.stderr:
        pytest.skip("oneDNN is installed for the whole system")
    assert "pip install onednn-cpu-gomp" in done.stdout, done.stderr


# ---- what may be used ----------------------------------------------------------------------------


def test_all_are_wanted_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOL_LIBRARIES", raising=False)
    assert libraries.wanted() == libraries.LIBRARIES
    monkeypatch.setenv("SOL_LIBRARIES", "onednn")
    assert [library.name for library in libraries.wanted()] == ["onednn"]
    monkeypatch.setenv("SOL_LIBRARIES", "none")
    assert libraries.wanted() == ()


def test_an_unknown_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_LIBRARIES", "onedn")
    with pytest.raises(ConfigError, match="names onedn, which is no library") as caught:
        libraries.wanted()
    assert "write onednn" in str(caught.value)


def test_describe_says_where_or_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = fake(tmp_path, 3, 2)
    monkeypatch.setattr(onednn, "folders", lambda: (tmp_path,))
    monkeypatch.delenv("SOL_LIBRARIES", raising=False)
    assert libraries.describe() == (f"library: oneDNN 3.4.1, {path}",)
    monkeypatch.setenv("SOL_LIBRARIES", "none")
    assert libraries.describe() == (f"library: oneDNN 3.4.1, {path}, not used (SOL_LIBRARIES)",)
    old = tmp_path / "old"
    old.mkdir()
    fake(old, 2, 2)
    monkeypatch.setattr(onednn, "folders", lambda: (old,))
    (line,) = libraries.describe()
    assert line.startswith(f"library: no oneDNN: {old}")


def test_sol_devices_shows_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    assert libraries.describe()[0] in capsys.readouterr().out


def test_the_setting_is_part_of_cache_keys() -> None:
    assert config.LIBRARIES.in_cache_key
