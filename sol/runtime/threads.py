"""How many threads a call runs on: the argument, else SOL_THREADS, else the framework's number.

Never more than the cores that this process may use: more of them only wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable

from sol.core import config
from sol.core.cores import available_cores
from sol.core.errors import InputError


def count(threads: int | None = None, framework: Callable[[], int] | None = None) -> int:
    """Threads for a call, from 1 to the available cores.

    `framework` is asked when neither `threads` nor SOL_THREADS says a number
    (torch.get_num_threads); without it all cores are used. Raises InputError, ConfigError.
    """
    cores = available_cores()
    if threads is None:
        threads = config.THREADS.get()
    if threads is None:
        threads = framework() if framework else cores
    if threads < 1:
        raise InputError(
            f"threads={threads} is no number of threads",
            expected="1 or more, or None for the default",
            do="leave the argument out",
        )
    return min(threads, cores)
