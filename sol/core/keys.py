"""Keys for things that are stored by content: equal inputs, equal key, on every machine."""

from __future__ import annotations

import hashlib

_FORMAT = b"sol-1"  # another number here, and nothing that was stored before is found
_HEX_DIGITS = 40  # 160 bits


def content_key(*parts: str | bytes) -> str:
    """A key of 40 hexadecimal digits for a sequence of texts and bytes; their borders count."""
    digest = hashlib.sha256(_FORMAT)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:_HEX_DIGITS]


def checksum(data: bytes) -> str:
    """40 hexadecimal digits that tell whether stored bytes are still what was stored."""
    return hashlib.sha256(data).hexdigest()[:_HEX_DIGITS]
