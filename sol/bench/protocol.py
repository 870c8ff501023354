"""What a session and its workers say to each other: one JSON object per line, over two pipes.

    session -> worker    Job (the first line), then "round" or "stop"
    worker -> session    Ready or Failed (once), then a Round for every "round"

Each message is a frozen record here; `encode` and `decode` are all there is to the wire.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Job:
    """Which rival makes which network ready. `folder` is for its files and for output.npz; `tune`
    is seconds for Sol's tuning; `train` makes a call a step of training; `memory` is what Sol may
    take."""

    spec: str
    batch: int
    rival: str
    threads: int
    seed: int
    folder: str
    tune: float = 0.0
    train: bool = False
    memory: str | None = None


@dataclass(frozen=True)
class Ready:
    """The network ran once. Seconds and bytes; bytes are None where the system does not tell.

    `setup_s` is from the model in memory to its first result; `call_bytes` the peak during a call
    above the process just before it, in training without the gradients; `held_bytes` what is
    occupied after it, above the process with nothing but the model.
    """

    setup_s: float
    call_bytes: int | None
    held_bytes: int | None
    parameters: int
    note: str = ""


@dataclass(frozen=True)
class Failed:
    """Why this rival cannot run this network, in one line."""

    reason: str


@dataclass(frozen=True)
class Round:
    """One round was timed: the duration of each call in milliseconds."""

    times_ms: tuple[float, ...]


@dataclass(frozen=True)
class Command:
    """`round`: time calls for about `seconds`. `stop`: end."""

    do: str
    seconds: float = 0.0


Message = Job | Ready | Failed | Round | Command
_KINDS = {kind.__name__: kind for kind in (Job, Ready, Failed, Round, Command)}


def encode(message: Message) -> bytes:
    """One line: `Failed("x")` -> `{"kind": "Failed", "reason": "x"}`."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The inverse of `encode`."""
    fields = json.loads(line)
    message = _KINDS[fields.pop("kind")](**fields)
    if isinstance(message, Round):
        return Round(tuple(message.times_ms))
    return message
