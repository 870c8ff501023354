"""What was measured or compared once, kept in the cache as a few numbers under a key."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from sol.core.errors import CacheError
from sol.runtime.cache import cache

log = logging.getLogger(__name__)


def find(key: str) -> list[Any] | None:
    """The numbers under a key, None if there are none or the key is empty."""
    data = cache.get(key) if key else None
    try:
        return None if data is None else list(json.loads(data))
    except (ValueError, TypeError):
        return None


def keep(key: str, values: Sequence[Any]) -> None:
    """Keep numbers under a key, unless it is empty. A cache that cannot be written forgets them."""
    try:
        if key:
            cache.put(key, json.dumps(values).encode())
    except CacheError:
        raise
    except OSError as error:
        log.warning("what was measured could not be kept in the cache: %s", error)
