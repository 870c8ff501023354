"""Shows long work: a bar of rich on a terminal, a function of the user, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Progress = Callable[[str, int, int], None]


@contextlib.contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """What to tell progress to: `tell(text, done, total)`, with 0 for an unknown total.

    None means a bar if stderr is a terminal and rich is there, True a bar in any case.
    """
    if callable(progress):
        yield progress
    elif progress is False or (progress is None and not sys.stderr.isatty()):
        yield _nothing
    else:
        with _bar() as tell:
            yield tell


def _nothing(text: str, done: int, total: int) -> None:
    pass


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total or None)

        yield tell
