"""Tuning finds the fastest methods, keeps them, and is not fooled; no test measures real time."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import numpy as np
import pytest

from sol.compiler import Compiled, Made, Options
from sol.core.errors import ConfigError
from sol.report.explain import explain
from sol.runtime.cache import cache
from tests.tune.laboratory import (
    TUNED,
    Stopwatch,
    alternatives,
    compiled,
    entries,
    error,
    network,
    preferring,
    tuned,
)


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    """Each test begins without results of tuning; kernels are shared."""
    forget()
    yield
    forget()


def forget() -> None:
    """Remove what is stored of tuning."""
    for entry in entries():
        entry.path.unlink()


def methods(made: Compiled) -> list[str]:
    """Of two equal layers of 3x3, and one of 1x1."""
    return [step.method for step in made.steps[1:]]


def fast_ones() -> list[str]:
    """A method for the layers of 3x3 and one for that of 1x1."""
    return [alternatives(network(), 1)[0], alternatives(network(), 3)[1]]


def never(made: Compiled) -> float:
    raise AssertionError("nothing is to be measured")


# ---- what is chosen ------------------------------------------------------------------------------


def test_the_fastest_methods_are_chosen() -> None:
    three, one = fast_ones()
    graph = network()
    found = tuned(graph, Stopwatch(preferring([three, one])))
    assert methods(found) == [three, three, one]
    assert error(found, graph) < 1e-5
    assert f"{TUNED}2.00 times the default's speed" in found.steps[1].why
    assert "2.00 times the default's speed" in str(explain(found))


def test_the_default_stays_if_it_is_the_fastest() -> None:
    found = tuned(network(), Stopwatch(lambda made: 1.0))
    assert methods(found) == methods(compiled(network()))
    assert "other methods are no faster" in found.steps[1].why


@pytest.mark.parametrize("seed", range(3))
def test_noise_flips_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = iter(lambda: float(rng.exponential(100)), None)
    found = tuned(network(), Stopwatch(lambda made: 1.0, noise))
    assert methods(found) == methods(compiled(network()))


def test_winners_that_are_slower_together_are_not_taken() -> None:
    """Each wins where the others do not: their weights do not fit the cache together."""
    three, one = alternatives(network(), 1)[0], alternatives(network(), 3)[1]

    def whole(made: Compiled) -> float:
        return 4.0 if {three, one} <= set(methods(made)) else 1.0

    watch = Stopwatch(preferring([three, one]), whole=whole)
    found = tuned(network(), watch)
    assert methods(watch.measured[-1]) == [three, three, one]
    assert methods(found) == methods(compiled(network()))
    assert all(TUNED not in s.why or "no faster" in s.why for s in found.steps)


def test_what_takes_no_time_is_not_tuned() -> None:
    three, one = fast_ones()
    times = preferring({three: 0.5, one: 0.0005})
    default = methods(compiled(network()))[2]
    found = tuned(network(), Stopwatch(lambda m: 0.001 if m.method == default else times(m)))
    assert methods(found) == [three, three, default]


def test_strict_precision_is_kept() -> None:
    options = Options(precision="strict")
    seen: set[str] = set()

    def speed(made: Made) -> float:
        seen.add(made.method)
        return 1.0

    tuned(network(), Stopwatch(speed), options)
    assert len(seen) > 4
    assert all(name.startswith("direct") for name in seen)


def test_a_memory_budget_is_kept() -> None:
    graph = network()
    free = compiled(graph)
    least = sum(compiled(graph, Options(precision="strict", threads=2)).reserved)
    budget = (least + sum(free.reserved)) // 2
    options = Options(memory=budget, threads=2)
    winograd = [name for name in alternatives(graph, 1) if name.startswith("winograd")]
    found = tuned(graph, Stopwatch(preferring(winograd)), options)
    assert found.memory(2, 2) <= budget
    assert error(found, graph) < 1e-5


def test_too_few_seconds_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = tuned(network(), Stopwatch(preferring(fast_ones())), seconds=0.3)
    assert "too short" in caplog.text
    assert methods(found) == methods(compiled(network()))
    assert not entries()


def test_it_ends_when_the_time_is_over() -> None:
    watch = Stopwatch(preferring(fast_ones()))
    tuned(network(), watch, seconds=8)
    assert watch.now < 9


# ---- what is kept --------------------------------------------------------------------------------


def test_what_was_found_is_used_again_and_not_measured_again() -> None:
    three, one = fast_ones()
    tuned(network(), Stopwatch(preferring([three, one])))
    assert len(entries()) == 3
    for found in (compiled(network()), tuned(network(), Stopwatch(never))):  # type: ignore[arg-type]
        assert methods(found) == [three, three, one]
        assert f"{TUNED}2.00 times the default's speed" in found.steps[1].why
        assert error(found, network()) < 1e-5


def test_other_networks_with_the_same_layer_have_it() -> None:
    three, one = fast_ones()
    tuned(network(), Stopwatch(preferring([three, one])))
    other = compiled(network(last=56))
    assert methods(other)[:2] == [three, three]
    assert methods(other)[2] != one
    assert error(other, network(last=56)) < 1e-5
    watch = Stopwatch(lambda made: 1.0)
    tuned(network(last=56), watch)  # only the new layer is measured
    assert all(methods(made)[:2] == [three, three] for made in watch.measured)
    assert len(entries()) == 4


def test_other_machines_and_precisions_have_their_own() -> None:
    three, one = fast_ones()
    tuned(network(), Stopwatch(preferring([three, one])))
    assert one not in methods(compiled(network(), Options(precision="strict")))


def test_batches_of_another_class_are_measured_anew() -> None:
    tuned(network(), Stopwatch(preferring(fast_ones())))
    other = alternatives(network(), 3)[2]
    watch = Stopwatch(preferring([other]))
    found = tuned(network(), watch, batch=8)
    assert methods(found)[2] == other
    assert len(entries()) == 3  # in place of the older ones
    assert methods(compiled(network()))[2] == other


def test_a_second_time_goes_on_where_the_first_was_too_short() -> None:
    wanted = alternatives(network(), 3)[-1]
    watch = Stopwatch(preferring([wanted]))
    assert wanted not in methods(tuned(network(), watch, seconds=1.2))
    assert wanted in methods(tuned(network(), watch, seconds=60))


@pytest.mark.usefixtures("empty_cache")
def test_the_cache_knows_the_entries() -> None:
    tuned(network(), Stopwatch(preferring(fast_ones())))
    assert {e.kind for e in cache.entries()} >= {"o", "so", "tuned"}
    cache.clear()
    assert not entries()
    assert all(TUNED not in s.why for s in compiled(network()).steps)


def _rewrite(data: bytes) -> None:
    for entry in entries():
        cache.replace(entry.key, "tuned", data)


_UNUSABLE = (
    b"", b"\xff\xfe", b"[]", b"7", b"{", b'{"method": "direct"}',
    json.dumps({"method": 1, "gain": 2, "methods": 3, "batches": 4}).encode(),
    json.dumps({"method": "direct 999x9", "gain": 2.0, "methods": 9, "batches": 2}).encode(),
)  # fmt: skip


@pytest.mark.parametrize("data", _UNUSABLE)
def test_an_entry_of_no_use_is_ignored(data: bytes) -> None:
    tuned(network(), Stopwatch(preferring(fast_ones())))
    _rewrite(data)
    found = compiled(network())
    assert all(TUNED not in step.why for step in found.steps)
    assert error(found, network()) < 1e-5


@pytest.mark.usefixtures("empty_cache")
def test_a_damaged_entry_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    tuned(network(), Stopwatch(preferring(fast_ones())))
    for entry in entries():
        entry.path.write_bytes(entry.path.read_bytes()[:-3])
    with caplog.at_level(logging.WARNING):
        found = compiled(network())
    assert "damaged" in caplog.text
    assert all(TUNED not in step.why for step in found.steps)


def test_entries_can_be_copied() -> None:
    """Export and import are copies of files."""
    three, one = fast_ones()
    tuned(network(), Stopwatch(preferring([three, one])))
    copies = [(e.path, e.path.read_bytes()) for e in entries()]
    forget()
    assert methods(compiled(network())) != [three, three, one]
    for path, data in copies:
        path.write_bytes(data)
    assert methods(compiled(network())) == [three, three, one]


# ---- around it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [1, 3, 8])
def test_an_interrupt_leaves_no_trace(when: int) -> None:
    watch = Stopwatch(preferring(fast_ones()), interrupt=when)
    with pytest.raises(KeyboardInterrupt):
        tuned(network(), watch)
    assert not entries()
    assert error(watch.measured[0], network()) < 1e-5


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    watch = Stopwatch(preferring(fast_ones()))
    tuned(network(), watch, progress=lambda *what: told.append(what))
    assert {(text, total) for text, _, total in told} == {("tuning", 30)}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize("tune", [-1, float("nan"), float("inf"), "long", True])
def test_the_option_is_a_number_of_seconds(tune: float) -> None:
    with pytest.raises(ConfigError, match="is no number of seconds"):
        Options(tune=tune)
