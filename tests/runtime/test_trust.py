"""A cache directory that others may write or replace is refused: what is loaded from it is code."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from sol.core.errors import CacheError
from sol.runtime import trust
from sol.runtime.cache import Cache
from sol.runtime.trust import check_trusted

STRANGER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a parent that a test may spoil."""
    path = tmp_path / "parent" / "cache"
    path.mkdir(parents=True, mode=0o700)
    path.parent.chmod(0o755)
    return path


def refused(path: Path, reason: str) -> str:
    with pytest.raises(CacheError, match=reason) as caught:
        check_trusted(path)
    return str(caught.value)


def test_an_own_directory_is_fine(home: Path) -> None:
    check_trusted(home)
    home.chmod(0o755)  # others may read
    check_trusted(home)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_others_may_write(home: Path, mode: int) -> None:
    home.chmod(mode)
    message = refused(home, r"may be written by others \(mode")
    assert f"chmod 700 {home}" in message
    assert "SOL_CACHE_DIR" in message
    assert "Sol runs what is in it" in message


@pytest.mark.parametrize("mode", [0o757, 0o777])
def test_others_may_replace_it(home: Path, mode: int) -> None:
    home.parent.chmod(mode)
    message = refused(home, f"{home.parent} may be written by others")
    assert f"chmod 700 {home.parent}" in message


def test_a_sticky_parent_is_fine(home: Path) -> None:
    home.parent.chmod(0o1777)
    check_trusted(home)


def test_a_group_may_replace_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.parent.chmod(0o775)
    gid = home.parent.stat().st_gid
    user = SimpleNamespace(pw_gid=gid, pw_name="me")
    monkeypatch.setattr(trust, "pwd", SimpleNamespace(getpwuid=lambda _: user))

    def group(name: str, *members: str) -> None:
        answer = SimpleNamespace(gr_name=name, gr_mem=list(members))
        monkeypatch.setattr(trust, "grp", SimpleNamespace(getgrgid=lambda _: answer))

    group("me")  # the group of one that many systems make for each user
    check_trusted(home)
    group("me", "me", "you")
    refused(home, f"may be written by group {gid}")
    group("users")
    refused(home, f"may be written by group {gid}")


def test_a_symbolic_link_is_refused(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home)
    refused(link, "it is a symbolic link")


def test_a_link_on_the_way_is_followed(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(home.parent)
    check_trusted(link / "cache")
    check_trusted(link / ".." / home.parent.name / "cache")
    home.parent.chmod(0o777)
    refused(link / "cache", f"{home.parent} may be written")


def test_a_link_that_others_may_turn_is_refused(home: Path, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (open_to_all / "second").symlink_to(home.parent)
    first = tmp_path / "first"
    first.symlink_to(Path("open") / "second")  # relative, and through another link
    refused(first / "cache", f"{open_to_all} may be written")


def test_a_circle_of_links_is_an_os_error(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=r"symbolic links|Too many levels"):
        check_trusted(tmp_path / "a" / "cache")


@needs_root
def test_somebody_elses_directory_is_refused(home: Path) -> None:
    os.chown(home, STRANGER, STRANGER)
    refused(home, f"it belongs to user {STRANGER}, not to 0")


@needs_root
def test_somebody_elses_parent_is_refused(home: Path) -> None:
    os.chown(home.parent, STRANGER, STRANGER)
    refused(home, f"{home.parent} belongs to user {STRANGER}")


def test_every_use_of_the_cache_checks(home: Path) -> None:
    cache = Cache(home)
    cache.put("ab" * 20, b"data")
    home.chmod(0o777)
    for use in (
        lambda: cache.get("ab" * 20),
        lambda: cache.put("ab" * 20, b""),
        lambda: cache.file("ab" * 20, "so"),
        lambda: cache.entries(),
        lambda: cache.size,
        lambda: cache.prune(),
        lambda: cache.clear(),
    ):
        with pytest.raises(CacheError, match="cannot be trusted"):
            use()


def test_a_shard_that_others_may_write_is_refused(home: Path) -> None:
    """Planted while the directory was open to all, before somebody ran chmod 700."""
    cache = Cache(home)
    (home / "ab").mkdir()
    (home / "ab").chmod(0o777)
    with pytest.raises(CacheError, match="cannot be trusted"):
        cache.get("ab" * 20)
    with pytest.raises(CacheError, match="cannot be trusted"):
        cache.put("ab" * 20, b"data")
