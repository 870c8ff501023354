"""What the compiler made of a network, kept between processes: a second one need not plan and lower
it again.

The key is everything that the result follows from: the text of the captured graph, options, device,
settings and the code of Sol itself. A record is a pickle in the cache, which is verified when it is
read and refuses a directory that others may write: as the programs beside it, it is code. Called by
sol/compiler.py. What tuning has found (sol/tune/) changes what is made, so it is part of the keys.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import pickle
import zlib
from pathlib import Path
from typing import Any

from sol.core import config
from sol.core.keys import content_key
from sol.ir.graph import Graph
from sol.ir.show import print_graph
from sol.runtime.cache import cache

log = logging.getLogger(__name__)
_SUFFIX = "made"
_FAST = 1  # level of compression
_TUNED = "??/*.tuned"  # findings of tuning in the cache, by content


def key_of(graph: Graph, *parts: object) -> str:
    """The key of a network and what else decides what is made of it."""
    rest = (_sources(), config.cache_key(), *_findings(), *(repr(p) for p in parts))
    return content_key("made", print_graph(graph), *rest)


def find(key: str) -> Any:
    """What was kept under a key, None if there is nothing that can be read."""
    data = cache.get(key, _SUFFIX)
    if data is None:
        return None
    try:
        return pickle.loads(zlib.decompress(data))
    except Exception as error:  # whatever is wrong with it, it can be made again
        log.warning("a stored program cannot be read and is made again: %r", error)
        return None


def keep(key: str, made: object) -> None:
    """Keep this under a key. A cache that cannot be written forgets it."""
    try:
        cache.replace(key, _SUFFIX, zlib.compress(pickle.dumps(made), _FAST))
    except OSError as error:
        log.warning("a program could not be kept in the cache: %s", error)


def _findings() -> list[str]:
    """Names of all findings of tuning, which say what is in them; some may be copied from afar."""
    return sorted(path.name for path in cache.path.glob(_TUNED))


@functools.cache
def _sources() -> str:
    """A digest of Sol's code: other code, other programs."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.h"), *root.rglob("*.c")]):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
