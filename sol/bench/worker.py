"""The process that one rival runs in: `python -m sol.bench.worker`, started by session.py.

It reads a Job from its standard input, makes the network ready, saves what the first call returned
in the job's folder, and then times rounds on command. Between commands it waits. Whatever
libraries print goes to standard error; the protocol has the original standard output for itself.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from sol.bench import memory, rivals, zoo
from sol.bench.protocol import Command, Failed, Job, Ready, Round, decode, encode
from sol.bench.rivals import Array, Rival, Runner, Setting

_MOST_CALLS = 500  # of one round


def main() -> None:
    """Serve one session, until it says stop or closes the pipe."""
    _die_with_the_session()
    with os.fdopen(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)
        job = decode(sys.stdin.buffer.readline())
        assert isinstance(job, Job)
        try:
            ready, runner = _make_ready(job)
        except Exception as error:  # every rival has its own; the reason becomes a row of the table
            out.write(encode(Failed(_one_line(error))))
            raise
        out.write(encode(ready))
        _serve(runner.call, out)


def _die_with_the_session() -> None:
    """A worker that sleeps cannot see its pipe close: let the kernel end it with its parent."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _serve(call: Callable[[], Any], out: BinaryIO) -> None:
    for line in sys.stdin.buffer:
        command = decode(line)
        if not isinstance(command, Command) or command.do == "stop":
            return
        out.write(encode(time_calls(call, command.seconds)))


def time_calls(call: Callable[[], Any], seconds: float) -> Round:
    """One call that is not counted, since others ran meanwhile, then calls for about `seconds`."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or (time.perf_counter() < end and len(times) < _MOST_CALLS):
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1e3)
    return Round(tuple(times))


def _make_ready(job: Job) -> tuple[Ready, Runner]:
    warnings.simplefilter("ignore")  # the rivals' own business
    torch.set_num_threads(job.threads)
    torch.set_num_interop_threads(1)
    rival = rivals.find(job.rival)
    network = zoo.build(job.spec, job.batch, seed=job.seed)
    memory.settle()
    before = memory.resident()

    begin = time.perf_counter()
    setting = Setting(job.threads, Path(job.folder), job.tune, job.train, job.memory)
    runner = rival.prepare(network, setting)
    prepared = time.perf_counter() - begin
    first = _first_step if job.train else _first_call
    arrays, first_call, call_bytes = first(rival, runner)

    np.savez(Path(job.folder) / "output.npz", *arrays)
    del arrays
    memory.settle()
    held = _difference(memory.resident(), before)
    setup = prepared + first_call
    note = runner.note or runner.describe()
    return Ready(setup, call_bytes, held, network.parameters, note), runner


def _first_call(rival: Rival, runner: Runner) -> tuple[list[Array], float, int | None]:
    """Arrays, seconds and peak bytes of the first call; of the second, if the first one compiles.

    Later calls would show less than they need: most rivals keep their buffers from call to call.
    """
    seconds = 0.0
    if rival.first_call_compiles:
        begin = time.perf_counter()
        runner.call()
        seconds = time.perf_counter() - begin
    memory.settle()
    mark = memory.start_peak()
    begin = time.perf_counter()
    result = runner.call()
    if not rival.first_call_compiles:
        seconds = time.perf_counter() - begin
    peak = memory.peak_since(mark)
    return runner.outputs(result), seconds, peak


def _first_step(rival: Rival, runner: Runner) -> tuple[list[Array], float, int | None]:
    """Gradients and seconds of the first step of training, which compiles for whoever does; peak
    bytes of the second one, without its gradients, above the process without gradients and without
    what is kept between steps."""
    begin = time.perf_counter()
    result = runner.call()
    seconds = time.perf_counter() - begin
    arrays = [np.array(a) for a in runner.outputs(result)]
    runner.release()
    memory.settle()
    mark = memory.start_peak()
    runner.call()
    peak = memory.peak_since(mark)
    gradients = sum(a.nbytes for a in arrays)
    return arrays, seconds, None if peak is None else max(0, peak - gradients)


def _difference(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else max(0, now - before)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


if __name__ == "__main__":
    main()
