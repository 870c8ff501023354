"""What Sol keeps between processes: compiled objects, libraries and captured graphs, by content.

An entry is one file, KEY.CHECKSUM.SUFFIX, written under another name and renamed when complete, so
that any number of processes may read and write at once. It is verified whenever it is read; a
damaged one is removed and made again. If the directory cannot be written (read-only, full), entries
go to a private directory that lives as long as the process. `sol.cache` is the object to look at.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sol.core import config
from sol.core.errors import CacheError
from sol.core.keys import checksum
from sol.runtime.trust import check_trusted, why_not_own

log = logging.getLogger(__name__)
_GRACE_SECONDS = 600.0  # another process may be about to load an entry: leave it that long
_STALE_SECONDS = 3600.0  # an unfinished file of that age has no writer any more
_ATTEMPTS = 8
_BLOB = "bin"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the cache. `kind` is o (object), so (library), tuned (the fastest method for a
    kind of layer) or bin; `used` is seconds since the epoch."""

    key: str
    kind: str
    bytes: int
    used: float
    path: Path


class Cache:
    """A cache directory: `directory`, else SOL_CACHE_DIR, else the user's cache directory.

    Every method raises CacheError if others may write to the directory.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._instead: dict[Path, Path] = {}  # directory that cannot be used -> private one
        self._written = 0  # bytes since the last pruning

    # ---- where ---------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The directory in use: the configured one, or this process's private one in its place."""
        wanted = self._wanted()
        if wanted in self._instead:
            return self._instead[wanted]
        try:
            wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_trusted(wanted)
        except OSError as error:
            return self._use_private(wanted, error)
        return wanted

    def _wanted(self) -> Path:
        path = self._directory or config.CACHE_DIR.get() or _user_directory()
        return path.absolute()

    def _use_private(self, wanted: Path, reason: OSError) -> Path:
        """Stop using a directory for the rest of this process."""
        if wanted not in self._instead:
            private = _private_directory(wanted, reason)
            log.warning("the cache %s cannot be used (%s); using %s", wanted, reason, private)
            self._instead[wanted] = private
        return self._instead[wanted]

    # ---- one entry -----------------------------------------------------------------------------

    def get(self, key: str, suffix: str = _BLOB) -> bytes | None:
        """The bytes stored under a key, or None."""
        found = self._find(key, suffix)
        return found[1] if found else None

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key."""
        self.add(key, _BLOB, data)

    def file(self, key: str, suffix: str) -> Path | None:
        """The file stored under a key, its contents verified, or None."""
        found = self._find(key, suffix)
        return found[0] if found else None

    def add(self, key: str, suffix: str, data: bytes) -> Path:
        """Store a file under a key and return its path."""
        path = self._write(key, suffix, data)
        self._written += len(data)
        if self._written > config.CACHE_SIZE.get() // 16:
            self.prune(grace=_GRACE_SECONDS)
        return path

    def replace(self, key: str, suffix: str, data: bytes) -> Path:
        """Store a file under a key, in place of others under it."""
        path = self.add(key, suffix, data)
        for other in path.parent.glob(f"{key}.*.{suffix}"):
            if other != path:
                other.unlink(missing_ok=True)
        return path

    def _write(self, key: str, suffix: str, data: bytes) -> Path:
        base = self.path
        for _ in range(_ATTEMPTS):
            base = self.path
            try:
                return _write(base, key, suffix, data)
            except FileNotFoundError:
                continue  # another process has just cleared the cache
            except OSError as error:
                if base in self._instead.values():
                    raise _nothing_can_be_written(base, error) from error
                self._use_private(base, error)
        raise CacheError(
            f"another process removes {base} again and again",
            do="set SOL_CACHE_DIR to a directory of your own",
        )

    def _find(self, key: str, suffix: str) -> tuple[Path, bytes] | None:
        base = self.path
        # The original of a private directory may still be readable, as a full disk is.
        originals = (wanted for wanted, private in self._instead.items() if private == base)
        for place in (base, *originals):
            shard = place / key[:2]
            try:
                check_trusted(shard)
            except OSError:
                continue
            for path in sorted(shard.glob(f"{key}.*.{suffix}")):
                data = read_verified(path)
                if data is not None:
                    return path, data
        return None

    def load(self, path: Path) -> ctypes.CDLL:
        """Load a library that this cache stored, verified immediately before."""
        if read_verified(path) is None:
            raise CacheError(
                f"the library {path} is gone from the cache, or damaged",
                do="make the call again: it is compiled anew",
            )
        try:
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise CacheError(
                f"the library {path} cannot be loaded: {error}",
                expected="a file system that allows execution",
                do="set SOL_CACHE_DIR to a directory on another one, if this is mounted noexec",
            ) from error

    # ---- all entries ---------------------------------------------------------------------------

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the ones used last first."""
        found = (_entry(path) for path in _files(self.path))
        return tuple(sorted((e for e in found if e), key=lambda e: e.used, reverse=True))

    @property
    def size(self) -> int:
        """Bytes of all entries together."""
        return sum(entry.bytes for entry in self.entries())

    def prune(self, limit: int | None = None, *, grace: float = 0.0) -> int:
        """Remove the entries used longest ago until at most `limit` bytes are left.

        The default limit is SOL_CACHE_SIZE. Entries used in the last `grace` seconds stay.
        Returns the number of bytes removed.
        """
        limit = config.CACHE_SIZE.get() if limit is None else limit
        self._written = 0
        _remove_stale(self.path)
        entries = self.entries()
        left = total = sum(entry.bytes for entry in entries)
        newest = time.time() - grace
        for entry in reversed(entries):
            if left <= limit or entry.used > newest:
                break
            entry.path.unlink(missing_ok=True)
            left -= entry.bytes
        return total - left

    def clear(self) -> int:
        """Remove everything. Returns the number of bytes of the entries removed."""
        removed = self.size
        for child in self.path.iterdir():
            if _is_shard(child) or child.name == "zig":
                shutil.rmtree(child, ignore_errors=True)
        return removed

    def __repr__(self) -> str:
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        return f"<sol cache {self.path}: {len(entries)} entries, {total / 2**20:.1f} MiB>"


# ---- files -------------------------------------------------------------------------------------


def read_verified(path: Path) -> bytes | None:
    """The contents of an entry's file. A damaged or foreign file is removed, and gives None."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:  # a symbolic link, for one
        _discard(path, "is no plain file")
        return None
    with os.fdopen(handle, "rb") as file:
        reason = why_not_own(os.fstat(file.fileno()))
        data = b"" if reason else file.read()
    if not reason and checksum(data) != path.name.split(".")[1]:
        reason = f"is damaged ({len(data)} bytes)"
    if reason:
        _discard(path, reason)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return data


def _discard(path: Path, reason: str) -> None:
    log.warning("cache entry %s %s: it is removed and made again", path, reason)
    with contextlib.suppress(OSError):
        path.unlink()


def _write(base: Path, key: str, suffix: str, data: bytes) -> Path:
    """Write an entry so that others see all of it or nothing. Raises OSError."""
    shard = base / key[:2]
    with contextlib.suppress(FileExistsError):  # exist_ok is none where others remove it meanwhile
        shard.mkdir(mode=0o700)
    check_trusted(shard)
    path = shard / f"{key}.{checksum(data)}.{suffix}"
    handle, unfinished = tempfile.mkstemp(dir=shard, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o700 if suffix == "so" else 0o600)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return path


def _is_shard(path: Path) -> bool:
    return len(path.name) == 2 and set(path.name) <= set("0123456789abcdef") and path.is_dir()


def _files(base: Path) -> Iterator[Path]:
    for shard in base.iterdir():
        if _is_shard(shard) and not shard.is_symlink():
            yield from shard.iterdir()


def _entry(path: Path) -> Entry | None:
    """What a file is, or None for an unfinished one or one that has just been removed."""
    parts = path.name.split(".")
    if len(parts) != 3 or not all(parts):
        return None
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Entry(parts[0], parts[2], status.st_size, status.st_mtime, path)


def _remove_stale(base: Path) -> None:
    oldest = time.time() - _STALE_SECONDS
    for path in _files(base):
        with contextlib.suppress(OSError):
            if path.suffix == ".tmp" and path.lstat().st_mtime < oldest:
                path.unlink()


def _nothing_can_be_written(base: Path, error: OSError) -> CacheError:
    return CacheError(
        f"nothing can be written to {base}: {error}",
        expected="a directory with free space",
        do="free some space, or set SOL_CACHE_DIR and TMPDIR to another disk",
    )


# ---- directories -------------------------------------------------------------------------------


def _user_directory() -> Path:
    from platformdirs import user_cache_path  # slow to import, and mostly not needed

    return Path(user_cache_path("sol", appauthor=False))


def _private_directory(wanted: Path, reason: OSError) -> Path:
    try:
        private = Path(tempfile.mkdtemp(prefix="sol-cache-"))
    except OSError as error:
        raise CacheError(
            f"the cache {wanted} cannot be used ({reason}), and a temporary one neither ({error})",
            expected="a directory that can be written",
            do="set SOL_CACHE_DIR or TMPDIR to one",
        ) from error
    atexit.register(functools.partial(_remove_own, private, os.getpid()))
    return private


def _remove_own(directory: Path, process: int) -> None:
    if os.getpid() == process:  # a forked child leaves it to its parent
        shutil.rmtree(directory, ignore_errors=True)


cache = Cache()
