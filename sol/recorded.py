"""What the compiler made of a network, kept between processes: a second one need not plan and lower
it again.

The key is everything that the result follows from: the text of the captured graph, options, device,
settings and the code of Sol itself. A record is a pickle in the cache, which is verified when it is
read and refuses a directory that others may write: as the programs beside it, it is code. Called by
sol/compiler.py; `changed` by sol/tune, whose findings change what is made.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
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
_GENERATION = content_key("generation of tuning")


def key_of(graph: Graph, *parts: object) -> str:
    """The key of a network and what else decides what is made of it."""
    rest = (_sources(), config.cache_key(), _generation(), *(repr(p) for p in parts))
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


def changed() -> None:
    """Something that keys do not say has changed: nothing that was kept before is found again."""
    try:
        cache.replace(_GENERATION, _SUFFIX, os.urandom(16))
    except OSError as error:
        log.warning("the cache could not be written: %s", error)


def _generation() -> str:
    data = cache.get(_GENERATION, _SUFFIX)
    return data.hex() if data else ""


@functools.cache
def _sources() -> str:
    """A digest of Sol's code: other code, other programs."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.h"), *root.rglob("*.c")]):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
