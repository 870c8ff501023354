"""Tuning on an example of the user: each part of a network that Sol computes gets a share of the
seconds, on the numbers that reach it. The programs are exchanged when all is done, so whatever
happens before leaves the default ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sol.core import config
from sol.pytorch import connect
from sol.pytorch.guard import dense
from sol.pytorch.inputs import signature_of
from sol.pytorch.program import Executable, as_array
from sol.pytorch.progress import Progress
from sol.pytorch.session import Entry, Session

log = logging.getLogger(__name__)


def tune(
    session: Session, entry: Entry, args: Sequence[Any], kwargs: Mapping[str, Any],
    seconds: float, tell: Progress,
) -> None:  # fmt: skip
    """Find faster methods for the layers of a program. An error leaves it as it is."""
    try:
        found = _tuned(session, entry, args, kwargs, seconds, tell)
    except Exception as error:
        if config.CHECK.get():
            raise
        log.warning("the network could not be tuned: %r", error)
        return
    entry.program.exchange(found)


def _tuned(
    session: Session, entry: Entry, args: Sequence[Any], kwargs: Mapping[str, Any],
    seconds: float, tell: Progress,
) -> list[Executable]:  # fmt: skip
    session.ready(entry)
    program = entry.program
    tensors = [dense(t) for t in signature_of(args, kwargs)[0]]
    batch, threads = entry.guard.batch(tensors), program.threads()
    each = seconds / len(program.executables)
    found = []
    with torch.no_grad():
        for executable, (graph, inputs) in zip(
            program.executables, program.traffic(tensors, batch)
        ):
            arrays = [as_array(t) for t in inputs]
            known = {n["key"]: as_array(session.tensors[n["key"]]) for n in graph.parameters}
            found.append(connect.tuned(executable, known, arrays, batch, threads, each, tell))
    return found
