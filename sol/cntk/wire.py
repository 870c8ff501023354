"""The wire format of protocol buffers: the fields of one message, without a schema.

A message is a run of fields; each begins with a number `field << 3 | type` and is a variable-length
integer, 4 or 8 bytes, or a length and that many bytes. Values stay views of the file, so reading
copies nothing. (https://protobuf.dev/programming-guides/encoding)
"""

from __future__ import annotations

from collections.abc import Iterator

from sol.core.errors import InputError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST = 10  # bytes of a variable-length integer of 64 bits

Field = tuple[int, int, "int | memoryview"]  # number, type on the wire, value


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in order."""
    at, end = 0, len(message)
    while at < end:
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise broken("a field has the number 0")
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = varint(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise broken(f"a field has the unknown type {kind}")
        if size > end - at:
            raise broken(f"a field of {size} bytes where {end - at} are left")
        yield number, kind, message[at : at + size]
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer of 7 bits a byte, least first, that stands at a place, and the place behind."""
    if at < len(message) and message[at] < 128:  # nearly always
        return message[at], at + 1
    value = 0
    for count, byte in enumerate(message[at : at + _LONGEST]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value & (1 << 64) - 1, at + count + 1
    raise broken("an integer does not end")


def varints(packed: memoryview) -> list[int]:
    """A packed run of integers."""
    values, at = [], 0
    while at < len(packed):
        value, at = varint(packed, at)
        values.append(value)
    return values


def broken(what: str) -> InputError:
    """The error of a file that is not what it should be."""
    return InputError(
        f"this is not a whole CNTK model: {what}",
        expected="a file that CNTK 2 saved: model.save('net.model')",
        do="save the model again; the file may have been cut off or changed",
    )
