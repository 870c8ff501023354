"""Damaged files by the thousand: each is refused by a SolError, or read as a network that computes.

    python -m tests.fuzz                              5000 files of each format
    python -m tests.fuzz onnx params --count 20000    these formats
    python -m tests.fuzz onnx --seed 3 --first 417 --count 1    one again, in this process

Mutations are made in processes of their own, so that a crash or a call without end is a line of the
report: a mutation gets 60 seconds of processor time. Of each hundred, one that is read with small
sizes is compiled, and its results are compared with the NumPy reference. The table says what became
of them, the longest time of one, and by how much the process has grown from first to last, in MB.
Exit status 1 if anything but a SolError or a right result was seen. The test suite has a few
hundred mutations of each format.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sol.arrays.captured import Captured, Part
from sol.compiler import compile_graph
from sol.core.dims import concrete
from sol.core.errors import SolError
from sol.ir.check import verify
from sol.ir.graph import Graph, types_of
from sol.ops.reference import evaluate
from sol.ops.registry import infer

SECONDS = 60
_COMPILED = 100  # each hundredth
_SMALL = 1 << 16  # elements of all values of a graph that is compiled
Attempt = Callable[[random.Random], Captured | None]  # reads a damaged file, or raises


# ---- formats -------------------------------------------------------------------------------------


def onnx(rng: random.Random) -> Captured | None:
    """Bytes and fields of models with convolutions, loops, functions, NumPy, whole numbers."""
    from tests.onnx import fuzz

    return fuzz.read(fuzz.mutation(rng, fields=rng.random() < 0.5))


def symbol(rng: random.Random) -> Captured | None:
    """Bytes and nodes of a symbol of MXNet."""
    from sol.mxnet.symbol import parse_symbol
    from sol.mxnet.translate import read
    from tests.mxnet import test_fuzz as fuzz

    data = rng.choice((fuzz.damaged, fuzz.restructured))(rng)
    return read(parse_symbol(data), fuzz.TYPES, fuzz.PARAMETERS)


def params(rng: random.Random) -> Captured | None:
    """Bytes of a file of MXNet's parameters."""
    from sol.mxnet.params import parse_params
    from tests.mxnet import test_fuzz as fuzz

    data = fuzz.parameter_file()
    arrays = parse_params(fuzz.mutated(data, rng))
    assert sum(a.nbytes for a in arrays.values()) <= 2 * len(data)
    return None


def cntk(rng: random.Random) -> Captured | None:
    """Bytes and entries of models of CNTK."""
    from sol.cntk.model import from_dictionary, load
    from tests.cntk import test_hostile as hostile

    case = hostile.cases()[rng.choice(hostile.NAMES)]
    if rng.randrange(2):
        return hostile.captured(case, load(hostile.changed(case.data, rng)))
    return hostile.captured(case, from_dictionary(hostile.rewritten(case.data, rng)))


def graphdef(rng: random.Random) -> Captured | None:
    """Bytes and nodes of a frozen graph of TensorFlow."""
    from tests.tensorflow import broken

    file = _folder() / f"{os.getpid()}.pb"
    file.write_bytes(broken.mutated(rng))
    return broken.captured(file)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp())


FORMATS: dict[str, Attempt] = {
    "onnx": onnx,
    "symbol": symbol,
    "params": params,
    "cntk": cntk,
    "graphdef": graphdef,
}


# ---- one mutation --------------------------------------------------------------------------------


def outcome(attempt: Attempt, name: str, seed: int, number: int) -> str:
    """What became of a mutation: the kind of SolError, or what is read."""
    rng = random.Random(f"{name} {seed} {number}")
    try:
        captured = attempt(rng)
        if captured is None:
            return "read"
        for graph in captured.graphs:
            verify(graph, infer)
        if number % _COMPILED == 0:
            return computed(captured)
    except SolError as error:
        return type(error).__name__
    return "read"


def computed(captured: Captured) -> str:
    """Compile the parts of a model, and compare what they compute with the reference."""
    graphs = [s.graph.at_batch(2) for s in captured.steps if isinstance(s, Part)]
    if any(_elements(g) > _SMALL for g in graphs):
        return "read"
    for graph in graphs:
        rng = np.random.default_rng(0)
        inputs = {n.name: _values(n, rng) for n in graph.inputs}
        parameters = {n["key"]: np.asarray(captured.parameters[n["key"]]) for n in graph.parameters}
        with np.errstate(all="ignore"):
            wanted = evaluate(graph, inputs, parameters)
        compiled = compile_graph(graph)
        compiled.prepare(parameters)
        found = [np.empty(w.shape, w.dtype) for w in wanted]
        compiled.run(
            [a.ctypes.data for a in inputs.values()], [a.ctypes.data for a in found], 2, threads=1
        )
        for a, b in zip(found, wanted):
            if a.dtype.kind == "f":  # what is huge or no number may be so in another way
                sane = np.isfinite(a) & np.isfinite(b) & (abs(b) < 1e6)
                a, b = a[sane], b[sane]
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    return "computed"


def _elements(graph: Graph) -> int:
    return sum(math.prod(concrete(t.shape, 2)) for n in graph for t in types_of(n))


def _values(node: Any, rng: np.random.Generator) -> Any:
    dtype = np.dtype(node.dtype.numpy)
    if dtype.kind == "f":
        return rng.standard_normal(node.shape).astype(dtype)
    return rng.integers(0, 2, node.shape).astype(dtype)


# ---- many, in processes of their own -------------------------------------------------------------


def work(name: str, seed: int, first: int, count: int) -> None:
    """Try mutations and print a line for each; ended from outside if it dies."""
    warnings.simplefilter("ignore")
    attempt = FORMATS[name]
    with contextlib.suppress(SolError):
        attempt(random.Random(0))  # imports and seeds are not counted
    for number in range(first, first + count):
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
        print("try", number, flush=True)
        began = time.process_time()
        try:
            text = outcome(attempt, name, seed, number)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{last.filename.rpartition('/')[2]}:{last.lineno}"
            text = f"BUG {type(error).__name__} at {place}: {error!s:.200}".replace("\n", " ")
        seconds = time.process_time() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print("end", f"{seconds:.3f}", memory, text, flush=True)


def report(name: str, seed: int, first: int, count: int) -> bool:
    """Print what became of the mutations of a format; whether all is well."""
    kinds: Counter[str] = Counter()
    longest, least, most = (0.0, first), 0, 0
    bugs: list[str] = []
    number, end = first, first + count
    while number < end:
        command = [sys.executable, "-m", "tests.fuzz", "--work", name]
        command += ["--seed", str(seed), "--first", str(number), "--count", str(end - number)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdout is not None
            tried = False
            for line in process.stdout:
                word, _, rest = line.strip().partition(" ")
                if word == "try":
                    number, tried = int(rest), True
                elif word == "end":
                    seconds, memory, text = rest.split(" ", 2)
                    longest = max(longest, (float(seconds), number))
                    least, most = least or int(memory), int(memory)
                    kinds[text.split(" ", 1)[0]] += 1
                    bugs += [f"{number}: {text}"] if text.startswith("BUG") else []
                    number, tried = number + 1, False
        if tried or (process.returncode and number < end):
            kinds["BUG"] += 1
            what = "no end" if process.returncode == -signal.SIGPROF else "crash"
            bugs.append(f"{number}: {what} (status {process.returncode})")
            number += 1
    found = "  ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    print(
        f"{name:9} {count} mutations, seed {seed}: {found}; longest {longest[0]:.1f} s "
        f"({longest[1]}), grown by {(most - least) / 1024:.0f} MB",
        flush=True,
    )
    print(*(f"   {b}" for b in bugs), sep="\n", end="\n" if bugs else "", flush=True)
    return not bugs


def main(arguments: list[str]) -> int:
    """Run; the exit code is 1 if there is a bug."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("formats", nargs="*", help=", ".join(FORMATS))
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        work(given.work, given.seed, given.first, given.count)
        return 0
    if given.count == 1:
        (name,) = given.formats
        print(outcome(FORMATS[name], name, given.seed, given.first))
        return 0
    found = [
        report(name, given.seed, given.first, given.count) for name in given.formats or FORMATS
    ]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
