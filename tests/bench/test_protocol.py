"""The wire between a session and its workers."""

from __future__ import annotations

import pytest

from sol.bench.protocol import Command, Failed, Job, Message, Ready, Round, decode, encode

MESSAGES: list[Message] = [
    Job("resnet18", 1, "eager", 2, 0, "/tmp/x y"),
    Ready(1.5, None, 12, 11_000_000, "a note"),
    Failed("line\nbreak"),
    Round((1.0, 2.5)),
    Command("round", 0.2),
    Command("stop"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_is_one_line_and_comes_back(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == message
