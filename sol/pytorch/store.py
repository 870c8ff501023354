"""Captures kept between processes: reading a network takes seconds, finding it again does not.

The key says everything that the capture depends on (fingerprint.py); where it cannot be made, or
the network has no text (codec.py), nothing is stored. A text that cannot be used is read anew.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sol
from sol.core.errors import CacheError
from sol.core.keys import content_key
from sol.pytorch.capture import capture, check_types
from sol.pytorch.codec import Unstorable
from sol.pytorch.codec import read as read_text
from sol.pytorch.codec import write as write_text
from sol.pytorch.fingerprint import Unknown, key_of, patched
from sol.pytorch.module import Optimized, original
from sol.pytorch.steps import Captured
from sol.pytorch.trace import Signature, describe
from sol.pytorch.tree import Branch, Constant, Leaf, Tree

log = logging.getLogger(__name__)

# what of Sol decides how a network is read
_PARTS = ("core", "ir", "ops", "pytorch")


def read(
    model: nn.Module, call: Callable[..., Any], signature: Signature, training: bool = False
) -> Captured:
    """The network that `call` runs: from the cache, else captured, and then kept. training: with
    what matters for gradients (capture.py)."""
    check_types(model, signature, training)
    try:
        general, exact = _keys(model, call, signature, training)
    except (Unknown, RecursionError, OSError) as error:
        log.info("%s is not kept in the cache: %s", describe(signature), error)
        return capture(model, call=call, signature=signature, training=training)
    for key in (general, exact):
        found = _stored(key, signature)
        if found is not None:
            return replace(found, key=key)
    captured = capture(model, call=call, signature=signature, training=training)
    key = general if captured.signature.symbolic else exact
    _keep(key, captured)
    return replace(captured, key=key)


def _stored(key: str, signature: Signature) -> Captured | None:
    from sol.runtime.cache import cache

    data = cache.get(key)
    if data is None:
        return None
    try:
        return read_text(data.decode(), signature)
    except Exception as error:  # whatever is wrong with it, the network can be read anew
        log.warning("a stored network cannot be used: %r", error)
        return None


def _keep(key: str, captured: Captured) -> None:
    from sol.runtime.cache import cache

    try:
        cache.put(key, write_text(captured).encode())
    except Unstorable as error:
        log.info("%s is not kept in the cache: %s", describe(captured.signature), error)
    except CacheError:
        raise
    except OSError as error:
        log.warning("a network could not be kept in the cache: %s", error)


def _keys(
    model: nn.Module, call: Callable[..., Any], signature: Signature, training: bool = False
) -> tuple[str, str]:
    """The key of a network for every batch, and for exactly this one."""
    plain = original(model) if isinstance(model, Optimized) else model
    # the class says what its forward is; another function counts by itself
    forward = None if isinstance(call, functools.partial) else call
    parts = [_sources(), sol.__version__, platform.python_version(), torch.__version__]
    parts += [_settings(), _shown(signature.tree), key_of(plain, forward, patched())]
    general = repr(signature.of_any_batch().tensors)
    exact = repr(signature.fixed().tensors)
    what = "capture for training" if training else "capture"
    return content_key(what, *parts, general), content_key(what, *parts, exact)


def _settings() -> str:
    """Global settings of PyTorch that a forward may follow."""
    return repr((torch.get_default_dtype(), torch.backends.mha.get_fastpath_enabled()))


def _shown(tree: Tree) -> str:
    """A structure as text that says everything about it."""
    match tree:
        case Leaf(index):
            return f"#{index}"
        case Constant(value):
            return f"{type(value).__name__}:{value!r}"
        case Branch():
            name = f"{tree.type.__module__}.{tree.type.__qualname__}"
            context = "" if tree.context is None else key_of(tree.context)
            inner = ", ".join(map(_shown, tree.children))
            return f"{tree.kind} {name} {tree.keys!r} {context}({inner})"


@functools.cache
def _sources() -> str:
    """A digest of the code that reads networks: other code, other captures."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for part in _PARTS:
        for path in sorted((root / part).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
