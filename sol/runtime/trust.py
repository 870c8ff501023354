"""Whether a directory can be trusted: nobody but this user may put something into it or replace it.

What is loaded from the cache is code that runs with the rights of this user. So the directory must
belong to the user and be writable by nobody else, and so must everything on the way to it: who can
rename a parent directory can put another one in its place.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from sol.core.errors import CacheError

try:
    import grp
    import pwd
except ImportError:  # not on Windows
    grp = pwd = None  # type: ignore[assignment]

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40


def check_trusted(directory: Path) -> None:
    """Raise CacheError if others may change `directory` or what its path leads to.

    Raises OSError if it cannot be looked at.
    """
    reason = why_not_own(os.lstat(directory))
    if reason:
        raise _refusal(directory, directory, reason)
    for step in _steps(directory):
        reason = _why_replaceable(os.lstat(step))
        if reason:
            raise _refusal(directory, step, reason)


def why_not_own(status: os.stat_result) -> str:
    """Why a directory or file is not this user's alone; empty if it is."""
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to {os.geteuid()}"
    if status.st_mode & _OTHERS_MAY_WRITE:
        return f"may be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _why_replaceable(status: os.stat_result) -> str:
    """Why others may rename what is in this directory on the way, or redirect this link."""
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}"
    if stat.S_ISLNK(status.st_mode):
        return ""  # a link's own mode says nothing; its directory is a step too
    if status.st_mode & stat.S_ISVTX:
        return ""  # as in /tmp: only the owner of a thing may rename it
    if status.st_mode & stat.S_IWOTH:
        return f"may be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    if status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid):
        return f"may be written by group {status.st_gid}"
    return ""


def _is_private_group(gid: int) -> bool:
    """True for the group that many systems make for each user, with that user alone in it."""
    try:
        user = pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(gid)
    except (KeyError, AttributeError):
        return False
    return (
        user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
    )


def _steps(directory: Path) -> list[Path]:
    """All directories and links on the way to `directory`, itself left out, links followed."""
    steps: list[Path] = []
    todo = list(reversed(directory.absolute().parts))
    here = Path(todo.pop())
    links = 0
    while todo:
        steps.append(here)
        part = todo.pop()
        step = here.parent if part == ".." else here / part
        if not todo or not step.is_symlink():
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(f"too many symbolic links on the way to {directory}")
        steps.append(step)
        target = step.readlink()
        todo.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        here = Path(target.anchor) if target.is_absolute() else here
    return steps


def _refusal(directory: Path, step: Path, reason: str) -> CacheError:
    where = "it" if step == directory else str(step)
    return CacheError(
        f"the cache directory {directory} cannot be trusted: {where} {reason}",
        expected="a directory that only this user may change, because Sol runs what is in it",
        do=f"if you trust what is in it, `chmod 700 {shlex.quote(str(step))}`; "
        "or set SOL_CACHE_DIR to a directory of your own",
    )
