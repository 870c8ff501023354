"""The cache on disk: what goes in comes out, or nothing does; whatever happens to the files."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import sol
from sol.backends.toolchain import build
from sol.core.device import detect
from sol.core.errors import CacheError
from sol.core.keys import content_key
from sol.runtime.cache import Cache, Entry

KEY = content_key("a key")
OTHER = content_key("another key")
ADD = '__attribute__((visibility("default"))) int add(int a, int b) { return a + b; }\n'


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def only_entry(cache: Cache) -> Entry:
    (entry,) = cache.entries()
    return entry


# ---- in and out --------------------------------------------------------------------------------


def test_what_goes_in_comes_out(cache: Cache) -> None:
    assert cache.get(KEY) is None
    for data in (b"data", b"", bytes(range(256)) * 1000):
        cache.clear()
        cache.put(KEY, data)
        assert cache.get(KEY) == data
    assert cache.get(OTHER) is None
    assert cache.file(KEY, "so") is None


def test_the_directories_are_for_the_owner_alone(cache: Cache) -> None:
    path = cache.add(KEY, "so", b"library")
    cache.put(OTHER, b"data")
    assert cache.path.stat().st_mode & 0o777 == 0o700
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {entry.kind: entry.path.stat().st_mode & 0o777 for entry in cache.entries()}
    assert modes == {"so": 0o700, "bin": 0o600}


def test_the_directory_is_the_configured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache()
    monkeypatch.setenv("SOL_CACHE_DIR", str(tmp_path / "mine"))
    assert cache.path == tmp_path / "mine"
    monkeypatch.delenv("SOL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.path == tmp_path / "xdg" / "sol"


def test_sol_cache_is_the_public_one(empty_cache: Path) -> None:
    sol.cache.put(KEY, b"data")
    assert sol.cache.path == empty_cache
    assert sol.cache.size == 4
    assert repr(sol.cache) == f"<sol cache {empty_cache}: 1 entries, 0.0 MiB>"
    assert sol.cache.clear() == 4
    assert sol.cache.entries() == ()


def test_foreign_files_are_left_alone(cache: Cache) -> None:
    cache.put(KEY, b"data")
    (cache.path / "notes.txt").write_text("mine")
    (cache.path / "more").mkdir()
    assert len(cache.entries()) == 1
    cache.clear()
    assert sorted(path.name for path in cache.path.iterdir()) == ["more", "notes.txt"]


# ---- damage ------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def replace_by_a_link(path: Path) -> None:
    copy = path.with_name("copy")
    path.rename(copy)
    path.symlink_to(copy)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, open_to_others, replace_by_a_link])
def test_a_damaged_entry_is_removed_aloud(
    cache: Cache, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(KEY, b"some data")
    path = only_entry(cache).path
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert cache.get(KEY) is None
    assert "removed and made again" in caplog.text
    assert not path.is_symlink()
    assert not path.exists()
    cache.put(KEY, b"some data")
    assert cache.get(KEY) == b"some data"


def test_a_library_is_verified_when_it_is_loaded(cache: Cache) -> None:
    path = build([ADD], detect(), cache)
    assert cache.load(path).add(1, 2) == 3
    flip_a_bit(path)
    with pytest.raises(CacheError, match="damaged"):
        cache.load(path)
    with pytest.raises(CacheError, match="gone from the cache"):
        cache.load(path)


def test_what_is_no_library_is_an_error_with_advice(cache: Cache) -> None:
    path = cache.add(KEY, "so", b"no library")
    with pytest.raises(CacheError, match="cannot be loaded") as caught:
        cache.load(path)
    assert "noexec" in str(caught.value)


# ---- a directory that cannot be written --------------------------------------------------------


def test_a_directory_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(Path("/proc/sol-cache"))
    with caplog.at_level(logging.WARNING):
        cache.put(KEY, b"data")
        cache.put(OTHER, b"data")
    assert cache.get(KEY) == b"data"
    assert cache.path.parent == Path(tempfile.gettempdir())
    assert cache.path.stat().st_mode & 0o777 == 0o700
    (record,) = caplog.records  # said once
    assert "/proc/sol-cache cannot be used" in record.getMessage()


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_directory_that_takes_nothing_more(
    cache: Cache, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put(KEY, b"before")
    wanted = cache.path
    make = tempfile.mkstemp

    def refuse(dir: Path, prefix: str, suffix: str) -> tuple[int, str]:
        if dir.is_relative_to(wanted):
            raise OSError(code, os.strerror(code))
        return make(dir=dir, prefix=prefix, suffix=suffix)

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with caplog.at_level(logging.WARNING):
        cache.put(OTHER, b"after")
    assert os.strerror(code) in caplog.text
    assert cache.path != wanted
    assert cache.get(OTHER) == b"after"
    assert cache.get(KEY) == b"before"  # still read from where it is
    assert Cache(wanted).get(OTHER) is None


def test_a_disk_that_fills_while_writing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def full_once(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    wanted = cache.path
    monkeypatch.setattr(os, "fsync", full_once)
    cache.put(KEY, b"data")
    assert cache.get(KEY) == b"data"
    assert not list((wanted / KEY[:2]).iterdir())  # no unfinished file


def test_no_place_at_all_is_an_error(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CacheError, match="No space left") as caught:
        cache.put(KEY, b"data")
    assert "TMPDIR" in str(caught.value)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_private_directory_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from sol.runtime.cache import Cache\n"
        "cache = Cache(Path('/proc/sol-cache')); cache.put('ab' * 20, b'data')\n"
        "child = os.fork()\n"
        "if child == 0: raise SystemExit(0)\n"  # runs the exit handlers too
        "os.waitpid(child, 0); assert cache.get('ab' * 20) == b'data'; print(cache.path)"
    )
    run = run_python(code, TMPDIR=str(tmp_path))
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().startswith(str(tmp_path))
    assert not Path(run.stdout.strip()).exists()


# ---- two at once -------------------------------------------------------------------------------

HAMMER = """
import sys
from pathlib import Path
from sol.runtime.cache import Cache
cache = Cache(Path(sys.argv[1]))
hits = 0
for i in range(300):
    key = f"{i % 20:040x}"
    data = cache.get(key)
    hits += data is not None
    assert data in (None, key.encode() * 500), "half an entry"
    cache.put(key, key.encode() * 500)
    if i % 50 == 49:
        cache.clear() if len(sys.argv) > 2 else cache.prune(100_000)
print(hits)
"""


@pytest.mark.parametrize("more", [[], ["clear"]], ids=["prune", "clear"])
def test_two_processes_at_once(tmp_path: Path, more: list[str]) -> None:
    arguments = [sys.executable, "-c", HAMMER, str(tmp_path / "cache"), *more]
    both = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert "cannot be used" not in errors
        assert int(output) > 100


def test_two_builds_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sol.runtime.cache import Cache\n"
        "from sol.backends.toolchain import build; from sol.core.device import detect\n"
        f"cache = Cache(Path({str(tmp_path / 'cache')!r}))\n"
        f"assert cache.load(build([{ADD!r}], detect(), cache)).add(1, 2) == 3"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors


# ---- size --------------------------------------------------------------------------------------


def fill(cache: Cache, count: int, size: int) -> list[str]:
    """`count` entries, each used a minute after the one before, the last a minute ago."""
    keys = [content_key(str(i)) for i in range(count)]
    for i, key in enumerate(keys):
        cache.put(key, bytes([i]) * size)
        used = time.time() - 60 * (count - i)
        os.utime(next(e.path for e in cache.entries() if e.key == key), (used, used))
    return keys


def test_the_entries_used_longest_ago_go_first(cache: Cache) -> None:
    keys = fill(cache, 5, 1000)
    assert [entry.key for entry in cache.entries()] == keys[::-1]
    cache.get(keys[0])  # now used last
    assert cache.prune(2500) == 3000
    assert {entry.key for entry in cache.entries()} == {keys[0], keys[4]}
    assert cache.size == 2000


def test_recent_entries_can_be_spared(cache: Cache) -> None:
    fill(cache, 5, 1000)
    assert cache.prune(0, grace=150) == 3000
    assert cache.size == 2000


def test_the_limit_is_kept_while_writing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOL_CACHE_SIZE", "16K")
    keys = fill(cache, 20, 1000)
    for entry in cache.entries():
        os.utime(entry.path, (time.time() - 7200,) * 2)
    cache.put(KEY, b"x" * 2000)
    assert cache.size <= 16 * 1024
    assert cache.get(KEY) is not None
    assert any(cache.get(key) is None for key in keys)


def test_unfinished_files_of_dead_writers_go(cache: Cache) -> None:
    cache.put(KEY, b"data")
    shard = only_entry(cache).path.parent
    old, new = shard / ".old.tmp", shard / ".new.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    cache.prune()
    assert not old.exists()
    assert new.exists()
    assert len(cache.entries()) == 1
