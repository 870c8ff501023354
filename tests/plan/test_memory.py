"""The arena: buffers that are alive together never overlap, others share memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sol.core.dims import B, Dim, Size, evaluate
from sol.plan.memory import Arena, Lifetime, plan_arena

sizes = st.one_of(
    st.integers(1, 5000),
    st.builds(Dim, st.integers(1, 3000), st.integers(0, 200)),
    st.builds(lambda n: Dim(n, -n), st.integers(1, 300)),
)


@st.composite
def lifetimes(draw: st.DrawFn, held: bool = False) -> list[Lifetime]:
    """Buffers of fixed and of scaled size, in use from some step to some later one."""
    found = []
    for k in range(draw(st.integers(0, 12))):
        first, last = sorted((draw(st.integers(0, 8)), draw(st.integers(0, 8))))
        found.append(Lifetime(f"b{k}", draw(sizes), first, last, held and draw(st.booleans())))
    return found


def span(arena: Arena, item: Lifetime, batch: int) -> range:
    """The bytes of a buffer in the arena of so many images."""
    per_image, constant = arena.offsets[item.name]
    begin = per_image * batch + constant
    return range(begin, begin + evaluate(item.size, batch))


def overlapping(arena: Arena, items: Sequence[Lifetime], batch: int) -> list[tuple[str, str]]:
    """Pairs of buffers that are alive together and share bytes."""
    found = []
    for a, b in itertools.combinations(items, 2):
        x, y = span(arena, a, batch), span(arena, b, batch)
        together = a.first <= b.last and b.first <= a.last
        if together and x.start < y.stop and y.start < x.stop:
            found.append((a.name, b.name))
    return found


@given(lifetimes(held=True), st.integers(1, 17))
def test_what_is_alive_together_never_overlaps(items: list[Lifetime], batch: int) -> None:
    arena = plan_arena(items)
    assert set(arena.offsets) == {i.name for i in items}
    assert not overlapping(arena, items, batch)


@given(lifetimes(held=True), st.integers(1, 17))
def test_all_is_inside_and_aligned(items: list[Lifetime], batch: int) -> None:
    arena = plan_arena(items)
    for item in items:
        where = span(arena, item, batch)
        assert 0 <= where.start <= where.stop <= arena.bytes(batch)
        assert where.start % 64 == 0


@given(lifetimes())
def test_sharing_never_takes_more_memory(items: list[Lifetime]) -> None:
    apart = plan_arena([Lifetime(i.name, i.size, 0, 9) for i in items])
    arena = plan_arena(items)
    assert arena.per_image <= apart.per_image
    assert arena.constant <= apart.constant


@given(lifetimes())
def test_the_order_of_buffers_does_not_matter(items: list[Lifetime]) -> None:
    assert plan_arena(items) == plan_arena(items[::-1])


@given(lifetimes(held=True), lifetimes(), st.integers(1, 17))
def test_what_is_held_lies_where_it_lies_in_every_arena(
    items: list[Lifetime], others: list[Lifetime], batch: int
) -> None:
    held = [i for i in items if i.held]
    beside = plan_arena(
        [Lifetime(i.name, i.size, 0, 0, held=True) for i in held]
        + [Lifetime(f"other {i.name}", i.size, i.first, i.last) for i in others]
    )
    arena = plan_arena(items)
    assert all(span(arena, i, batch) == span(beside, i, batch) for i in held)


@pytest.mark.parametrize("size", [1024, B * 1024])
def test_memory_is_used_again(size: Size) -> None:
    """A chain of any length needs two buffers."""
    chain = [Lifetime(f"b{k}", size, k, k + 1) for k in range(10)]
    assert plan_arena(chain).bytes(1) == 2048


def test_a_gap_is_filled() -> None:
    items = [
        Lifetime("large", 4096, 0, 1),
        Lifetime("long", 1024, 0, 9),
        Lifetime("later", 2048, 2, 3),
        Lifetime("too", 1024, 2, 3),
    ]
    arena = plan_arena(items)
    assert arena.constant == 4096 + 1024
    assert not overlapping(arena, items, 1)


def test_no_buffers_need_no_memory() -> None:
    assert plan_arena([]).bytes(7) == 0
