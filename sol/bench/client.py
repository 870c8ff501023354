"""A worker as its session sees it: start it, ask it, make it sleep, end it.

A worker that sleeps is stopped by a signal, with all its threads. So threads that spin for a
while after their work (OpenMP's do, by default for up to 0.2 s) do not take cores from the worker
whose turn it is, and no rival has to be run with other settings than its own.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from sol.bench.protocol import Command, Failed, Job, Message, decode, encode

_GOODBYE_S = 5.0


class Worker:
    """One process for one rival. A context manager: leaving it ends the process."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.job = job
        self._log = Path(job.folder) / "stderr.txt"
        threads = str(job.threads)
        inherited = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sol.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**inherited, **environment},
                bufsize=0,
                start_new_session=True,  # a group of its own: its children sleep with it
            )
        self._buffer = b""
        self._ended = False
        self._send(job)

    def ask(self, command: Command, timeout_s: float) -> Message:
        """Send a command and wait for the answer."""
        self._send(command)
        return self.answer(timeout_s)

    def answer(self, timeout_s: float) -> Message:
        """The next message. A worker that died or is late answers with Failed, and is ended."""
        line = self._line(time.monotonic() + timeout_s)
        if line is not None:
            return decode(line)
        late = not self._closed()
        self.end(now=True)
        if late:
            return Failed(f"no answer within {timeout_s:.0f} s")
        return Failed(self._obituary())

    def sleep(self) -> None:
        """Stop all its threads."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def end(self, *, now: bool = False) -> None:
        """Ask it to end, and see to it. Harmless if it has ended."""
        if self._ended:
            return
        self._ended = True
        self.wake()
        if not now:
            self._send(Command("stop"))
            try:
                self._process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                now = True
        self._signal(signal.SIGKILL)  # the group: helper processes of a rival, too
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.end(now=kind is not None)

    def _send(self, message: Message) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(message))
        except (BrokenPipeError, ValueError):
            return  # it is gone, or was ended: the next answer says so

    def _line(self, deadline: float) -> bytes | None:
        """One whole line, or None at the end of the pipe or of the time."""
        assert self._process.stdout is not None
        if self._ended:
            return None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return None
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _closed(self) -> bool:
        """Whether the process ended or is about to: its pipe was closed before the deadline."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return  # it is gone already

    def _obituary(self) -> str:
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        said = self._log.read_text(errors="replace").strip().splitlines()
        return f"its process ended with {how}" + (f": {said[-1][:300]}" if said else "")
