"""Programs run: any batch, any groups, any threads, many at once, after a fork, very often."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import threading
from array import array
from pathlib import Path

import numpy as np
import pytest

from sol.core.errors import CacheError, InputError, MemoryBudgetError
from sol.runtime.arena import Arena, ArenaPool, arenas
from sol.runtime.native import fingerprint, look
from sol.runtime.program import Program
from tests.runtime.sample_program import PROGRAM, PROGRAMS, Call, build_library, make_call

PAGE = 4096


@pytest.fixture
def program(library: Path) -> Program:
    return Program(library)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


# ---- results -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("group", [0, 1, 2, 5, 100])
@pytest.mark.parametrize("batch", [1, 2, 5, 33])
def test_batches_groups_and_threads(library: Path, batch: int, group: int, threads: int) -> None:
    call = make_call(batch, seed=batch)
    Program(library, group=group).run(call.pointers, batch, threads)
    call.check()


def test_results_do_not_depend_on_threads_or_groups(library: Path) -> None:
    results = set()
    for group, threads in ((0, 1), (0, 3), (2, 1), (3, 2)):
        call = make_call(9)
        Program(library, group=group).run(call.pointers, 9, threads)
        results.add(call.y.tobytes() + call.s.tobytes())
    assert len(results) == 1


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("group", [0, 2])
def test_a_call_again(
    library: Path, group: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On other inputs with the weights of the first call, until what it depends on changes."""
    program, first, watched = Program(library, group=group), make_call(5), array("Q", [11])
    seen = look(array("Q", [watched.buffer_info()[0]]), array("Q"))
    x, w, y, s = first.pointers
    others = [Call(np.float32(k) * first.x, first.w) for k in range(3)]
    again = program.again(array("Q", [0, w, y, s]), 1, 5, threads, seen)
    for other in others:
        assert again(struct.pack("Q", other.pointers[0]))
        np.testing.assert_array_equal(first.y, (other.x * first.w)[:, ::-1])
    first.y[:] = 3
    watched[0] = 12
    assert not again(struct.pack("Q", x))
    watched[0] = 11
    assert again(struct.pack("Q", x))
    first.check()
    monkeypatch.setattr("sol.runtime.program.QUOTA_SECONDS", -1.0)
    late = program.again(array("Q", [0, w, y, s]), 1, 5, threads, seen)
    assert not late(struct.pack("Q", x))


def test_no_images_no_work(program: Program) -> None:
    assert program.run([0, 0, 0, 0], 0, 2) == ()
    assert program.run([0, 0, 0, 0], 0, 2, profile=True) == (0, 0, 0)


def test_default_threads_and_packed_pointers(program: Program) -> None:
    call = make_call(4)
    program.run(array("Q", call.pointers), 4)
    call.check()


def test_the_number_of_threads_may_change(program: Program) -> None:
    for threads in (1, 3, 2, 5, 1, 4):
        call = make_call(8, seed=threads)
        program.run(call.pointers, 8, threads)
        call.check()


def test_more_threads_than_the_pool_can_have(program: Program) -> None:
    call = make_call(300)
    program.run(call.pointers, 300, 1000)
    call.check()


def test_profile(library: Path) -> None:
    call = make_call(50)
    times = Program(library, group=3).run(call.pointers, 50, 2, profile=True)
    assert len(times) == 3
    assert all(0 < ns < 10**10 for ns in times)
    call.check()


def test_two_programs_take_turns(library: Path) -> None:
    other = Program(build_library(PROGRAM.replace("* *(const float", "* -*(const float")))
    first = Program(library)
    for _ in range(3):
        call, negated = make_call(4), make_call(4)
        first.run(call.pointers, 4, 2)
        other.run(negated.pointers, 4, 2)
        call.check()
        np.testing.assert_array_equal(call.y, -negated.y)


# ---- many at once ------------------------------------------------------------------------------


def test_concurrent_calls(library: Path) -> None:
    """Four threads, each with its own program, tensors and number of threads."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            program = Program(library, group=seed % 3)
            for i in range(200):
                call = make_call(1 + i % 7, seed)
                program.run(call.pointers, len(call.x), 1 + (seed + i) % 3)
                call.check()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


FORK = """
import os, sys, threading
sys.path.insert(0, {folder!r})
from pathlib import Path
from tests.runtime.sample_program import make_call
from sol.runtime.program import Program
program = Program(Path({library!r}), group=2)

def once(seed):
    call = make_call(6, seed)
    program.run(call.pointers, 6, 3)
    call.check()

once(1)
stop = threading.Event()
def busy():
    while not stop.is_set():
        once(2)
other = threading.Thread(target=busy)
if {busy}:
    other.start()
children = []
for i in range(10):
    child = os.fork()
    if child == 0:
        once(3); once(4)
        grandchild = os.fork()
        once(5)
        if grandchild == 0:
            os._exit(0)
        os._exit(os.waitpid(grandchild, 0)[1])
    children.append(child)
    once(6)
statuses = [os.waitpid(child, 0)[1] for child in children]
stop.set()
assert statuses == [0] * 10, statuses
once(7)
if {busy}:
    other.join()
print("done")
"""


@pytest.mark.parametrize("busy", [False, True])
def test_fork(library: Path, busy: bool) -> None:
    """Children have a pool of their own, also when the parent's was running at that moment."""
    code = FORK.format(folder=str(Path(__file__).parents[2]), library=str(library), busy=busy)
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout == "done\n", run.stderr


# ---- the pool ----------------------------------------------------------------------------------


def workers() -> dict[int, str]:
    """The pool's threads of this process: id -> name."""
    names = {}
    for task in Path("/proc/self/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("sol-"):
            names[int(task.name)] = name
    return names


def test_workers_are_made_when_needed_and_kept(program: Program) -> None:
    call = make_call(8)
    program.run(call.pointers, 8, 4)
    before = workers()
    assert {"sol-1", "sol-2", "sol-3"} <= set(before.values())
    for threads in (1, 4, 2):
        program.run(call.pointers, 8, threads)
    assert workers() == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_workers_run_where_the_caller_may(program: Program) -> None:
    allowed = os.sched_getaffinity(0)
    call = make_call(8)
    try:
        for cpus in ({min(allowed)}, {max(allowed)}, allowed):
            os.sched_setaffinity(0, cpus)
            program.run(call.pointers, 8, 3)
            assert all(os.sched_getaffinity(task) == cpus for task in workers())
            call.check()
    finally:
        os.sched_setaffinity(0, allowed)


FLUSH = """
SOL_EXPORT unsigned get_mode(void) { return __builtin_ia32_stmxcsr(); }
SOL_EXPORT void set_mode(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
"""


def test_workers_take_over_the_floating_point_mode() -> None:
    """Denormals stay, unless the calling thread flushes them; then all threads do."""
    if os.uname().machine != "x86_64":
        pytest.skip("sets the mode of an x86 processor")
    path = build_library(PROGRAM + FLUSH)
    program, mode = Program(path), ctypes.CDLL(str(path))
    before = mode.get_mode()
    try:
        for bits, expected in ((0, 1e-40), (0x8040, 0.0), (0, 1e-40)):
            call = make_call(64)
            call.x[:] = 5e-41
            mode.set_mode(before & ~0x8040 | bits)
            program.run(call.pointers, 64, 4)
            mode.set_mode(before)
            assert (call.y == np.float32(expected)).all()
    finally:
        mode.set_mode(before)


# ---- memory ------------------------------------------------------------------------------------


def test_ten_thousand_calls_take_no_memory(program: Program) -> None:
    call = make_call(3)
    pointers = call.pointers
    for _ in range(1000):
        program.run(pointers, 3, 2)
    before = resident_bytes()
    for i in range(10_000):
        program.run(pointers, 3, 1 + i % 2)
    assert resident_bytes() - before < 2**20
    call.check()


def test_arena_bytes() -> None:
    library = build_library(PROGRAM)
    whole, grouped = Program(library), Program(library, group=4)
    tables = 3 * 64  # seven pointers for each of three threads
    scratch = 3 * PAGE + PAGE  # one page for each thread, one to align them
    assert whole.arena_bytes(100, 3) == 256 + 256 * 100 + tables + scratch
    assert grouped.arena_bytes(100, 3) == 256 + 256 * 4 + tables + scratch
    assert grouped.arena_bytes(2, 3) == whole.arena_bytes(2, 3)


def test_arena_bytes_of_images_apart() -> None:
    """As many images as there are threads, at most, whatever the batch."""
    program = Program(build_library(PROGRAMS["apart"]))
    for images, threads, alone in ((1, 3, 1), (2, 3, 2), (100, 3, 3), (100, 1, 1)):
        fixed = threads * (64 + PAGE) + PAGE
        assert program.arena_bytes(images, threads) == alone * 512 + fixed


def test_a_program_that_cannot_be_split_keeps_its_batch_together() -> None:
    text = PROGRAM.replace(".splittable = 1", ".splittable = 0")
    program = Program(build_library(text), group=1)
    call = make_call(5)
    assert program.images_at_once(5) == 5
    program.run(call.pointers, 5, 2)
    call.check()


def test_arenas_are_kept_grown_and_given_back(program: Program) -> None:
    arenas.trim()
    small, large = make_call(2), make_call(50)
    program.run(small.pointers, 2, 1)
    assert program.arena_bytes(2, 1) <= arenas.bytes
    program.run(large.pointers, 50, 1)
    grown = arenas.bytes
    assert grown >= program.arena_bytes(50, 1)
    program.run(small.pointers, 2, 1)
    assert arenas.bytes == grown
    program.close()
    assert arenas.bytes == 0
    program.run(small.pointers, 2, 1)
    small.check()


def test_arenas_in_use_are_apart() -> None:
    pool = ArenaPool()
    first, second = pool.take(100), pool.take(100)
    assert first.address != second.address
    assert first.address % PAGE == second.address % PAGE == 0
    pool.give(first)
    pool.give(second)
    assert pool.take(1) is second
    assert pool.trim() == PAGE


def test_large_arenas_are_not_resident_until_used() -> None:
    before = resident_bytes()
    arena = Arena(2**30)
    assert resident_bytes() - before < 2**24
    arena.close()


def test_too_much_memory_is_an_error() -> None:
    with pytest.raises(MemoryBudgetError, match="smaller batch"):
        Arena(2**62)


# ---- wrong use ---------------------------------------------------------------------------------


def test_wrong_calls(program: Program) -> None:
    with pytest.raises(InputError, match="a call with 3 tensors") as caught:
        program.run([1, 2, 3], 1)
    assert "4 tensors" in str(caught.value)
    with pytest.raises(InputError, match="batch of -1"):
        program.run(make_call(1).pointers, -1)
    with pytest.raises(InputError, match="on 0 threads"):
        program.run(make_call(1).pointers, 1, 0)


def test_another_abi_is_refused() -> None:
    path = build_library(PROGRAM.replace(".abi = SOL_ABI", ".abi = 99"))
    with pytest.raises(CacheError, match="version 99"):
        Program(path)


# ---- fingerprints ------------------------------------------------------------------------------


def test_fingerprints_see_sampled_words() -> None:
    tensors = [np.zeros(n, np.uint8) for n in (0, 1, 7, 8, 9, 64, 4096, 4097, 10000)]
    pointers = array("Q", [t.ctypes.data for t in tensors])
    sizes = array("q", [t.nbytes for t in tensors])
    before = fingerprint(pointers, sizes)
    assert fingerprint(list(pointers), list(sizes)) == before
    seen = {before}
    for tensor in tensors[1:]:
        ends = (0, -1) if tensor.nbytes > 4096 else ()
        for position in (tensor.nbytes // 2, *ends):
            tensor[position] ^= 1
            seen.add(fingerprint(pointers, sizes))
            tensor[position] ^= 1
    assert len(seen) == 1 + 6 + 3 * 2
    assert fingerprint(pointers, sizes) == before


def test_fingerprints_see_a_whole_tensor_change_and_swap() -> None:
    a, b = np.ones(1000, np.float32), np.full(1000, 2, np.float32)
    sizes = [a.nbytes, b.nbytes]
    before = fingerprint([a.ctypes.data, b.ctypes.data], sizes)
    assert fingerprint([b.ctypes.data, a.ctypes.data], sizes) != before
    a *= 1.0001
    assert fingerprint([a.ctypes.data, b.ctypes.data], sizes) != before
