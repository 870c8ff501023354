"""What this machine can do at best: multiply-adds a second, and bytes a second from each memory.

Measured by generated C on as many threads as a call uses, in a fraction of a second, the fastest of
some rounds, once: the cache keeps it for the processor and the number of threads. roofline.py
compares clusters with it, benchmarks/kernels.py single kernels.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sol.backends.toolchain import build
from sol.core.cores import usable_cpus
from sol.core.device import CpuDevice
from sol.core.keys import content_key
from sol.runtime.cache import Cache, cache

_TURNS = 500_000  # of the loop of multiply-adds: about a millisecond
_CHAINS = 12  # enough for two units with a latency of four cycles, and some more
_SECONDS = 0.1  # for each figure
_AT_ONCE = 16 << 20  # bytes that a thread reads in a round, if its part of a cache is smaller
_MOST_BYTES = 512 << 20  # of the buffers for reading from DRAM

_SOURCE = """
typedef float v __attribute__((vector_size({bytes})));
#define API __attribute__((visibility("default")))

API float spin(long n)
{{
    v a[{chains}], b = (v){{}} + 1.0001f, c = (v){{}} + 0.5f, s = (v){{}};
    for (int i = 0; i < {chains}; i++) a[i] = (v){{}} + (float)i;
    for (long k = 0; k < n; k++)
        for (int i = 0; i < {chains}; i++) a[i] = a[i] * b + c;
    for (int i = 0; i < {chains}; i++) s += a[i];
    return s[0];
}}

API float stream(const v *x, long n, long times)
{{
    v a[8] = {{}}, s = (v){{}};
    for (long t = 0; t < times; t++)
        for (long k = 0; k + 8 <= n; k += 8)
            for (int i = 0; i < 8; i++) a[i] += x[k + i];
    for (int i = 0; i < 8; i++) s += a[i];
    return s[0];
}}
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """A level of the cache, or DRAM: bytes that it holds for all threads (None: any number), and
    bytes that all threads together read from it in a second.
    """

    name: str
    capacity: int | None
    rate: float


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of all `threads` together: float32 operations a second, a multiply-add being two, and the
    memories, the smallest and fastest first.
    """

    threads: int
    flops: float
    memories: tuple[Memory, ...]

    def memory(self, size: int) -> Memory:
        """The smallest memory that holds that many bytes."""
        fitting = (m for m in self.memories if m.capacity is None or size <= m.capacity)
        return next(fitting, self.memories[-1])

    def __str__(self) -> str:
        reads = ", ".join(f"{m.name} {m.rate / 1e9:.0f} GB/s" for m in self.memories)
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{threads}: {self.flops / 1e9:.0f} GFLOP/s, {reads}"


def peaks(device: CpuDevice, threads: int, store: Cache = cache) -> Peaks:
    """What the device does at best on some threads: measured now, or known from before."""
    key = content_key("peaks", device.name, device.identity, str(threads))
    known = store.get(key)
    if known is not None:
        return decode(known)
    measured = measure(device, threads, store)
    store.put(key, encode(measured))
    return measured


def encode(found: Peaks) -> bytes:
    """As JSON."""
    return json.dumps(asdict(found)).encode()


def decode(data: bytes) -> Peaks:
    """The inverse of `encode`."""
    tree = json.loads(data)
    memories = tuple(Memory(**m) for m in tree["memories"])
    return Peaks(tree["threads"], tree["flops"], memories)


def measure(device: CpuDevice, threads: int, store: Cache = cache) -> Peaks:
    """Measure all peaks."""
    library = _library(device, store)
    spins = [_spinner(library)] * threads
    flops = threads * _spin_operations(device) / seconds_together(spins)
    sizes = buffer_sizes(device, threads)
    buffers = [np.ones(max(sizes) // 4 + device.vector_bytes, np.float32) for _ in range(threads)]
    memories = []
    capacities = (threads * device.l2, device.l3, None)
    for name, capacity, size in zip(("L2", "L3", "DRAM"), capacities, sizes):
        times = max(1, _AT_ONCE // size)
        readers = [_reader(library, device, b, size, times) for b in buffers]
        rate = threads * size * times / seconds_together(readers)
        memories.append(Memory(name, capacity, rate))
    return Peaks(threads, flops, tuple(memories))


def buffer_sizes(device: CpuDevice, threads: int) -> tuple[int, int, int]:
    """Bytes that each thread reads again and again, so that they come from L2, L3 and memory."""
    l2 = device.l2 // 2
    l3 = max(2 * device.l2, device.l3 // 2 // threads)
    dram = min(_MOST_BYTES, 4 * device.l3) // threads
    return l2, l3, max(dram, 2 * l3)


def multiply_adds(device: CpuDevice) -> Callable[[], float]:
    """A function that measures the rate of multiply-adds on registers of one thread, in
    operations a second.
    """
    spin = _spinner(_library(device, cache))
    return lambda: _spin_operations(device) / seconds_together([spin], 0.01)


def seconds_together(calls: Sequence[Callable[[], object]], budget: float = _SECONDS) -> float:
    """Seconds from the first begin to the last end of calls that begin together, each in a thread
    on a processor of its own: the least of the rounds that fit into `budget` seconds.
    """
    cpus = sorted(usable_cpus())
    end = time.perf_counter() + budget
    over = [False]

    def look() -> None:  # by one thread, while all wait for the next round
        over[0] = time.perf_counter() > end

    barrier = threading.Barrier(len(calls), action=look)
    spans: list[list[tuple[float, float]]] = [[] for _ in calls]

    def turn(number: int) -> None:
        if number < len(cpus) and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {cpus[number]})  # of this thread only
        calls[number]()
        while not over[0]:
            barrier.wait()
            begin = time.perf_counter()
            calls[number]()
            spans[number].append((begin, time.perf_counter()))

    workers = [threading.Thread(target=turn, args=(k,)) for k in range(len(calls))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return min(_span(together) for together in zip(*spans))


def _span(together: Sequence[tuple[float, float]]) -> float:
    return max(end for _, end in together) - min(begin for begin, _ in together)


def _library(device: CpuDevice, store: Cache) -> ctypes.CDLL:
    source = _SOURCE.format(bytes=device.vector_bytes, chains=_CHAINS)
    library = store.load(build([source], device, store))
    library.spin.argtypes, library.spin.restype = [ctypes.c_long], ctypes.c_float
    library.stream.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    library.stream.restype = ctypes.c_float
    return library


def _spinner(library: ctypes.CDLL) -> Callable[[], object]:
    return lambda: library.spin(_TURNS)


def _spin_operations(device: CpuDevice) -> int:
    return _TURNS * _CHAINS * 2 * device.vector_lanes(4)


def _reader(
    library: ctypes.CDLL, device: CpuDevice, buffer: NDArray[np.float32], size: int, times: int
) -> Callable[[], object]:
    width = device.vector_bytes
    start = buffer.ctypes.data + -buffer.ctypes.data % width
    return lambda: library.stream(start, size // width, times)
