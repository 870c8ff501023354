"""Weights that change with each call, packed piece by piece.

Packed weights take as much memory as the weights themselves, by Winograd's algorithm up to four
times as much. A program in training needs each of them for one step of a run only. So its steps
are cut into pieces, and a run packs the weights of a piece into the memory of those before. In:
the steps of a program. Out: `Piece`s, which sol/compiled.py runs one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sol.assembly import way_of
from sol.libraries.base import Packer
from sol.plan.planner import Planned
from sol.steps import Made

_BYTES = 8 << 20  # of the packed weights of a piece, if each of them is smaller
_LINE = 64


@dataclass(frozen=True, slots=True)
class Weight:
    """A packed weight: its number among the tensors of the program, what it is made of, and how."""

    tensor: int
    source: str
    packer: Packer


@dataclass(frozen=True, slots=True)
class Piece:
    """Steps [begin, end) of a program, their packed weights, and the bytes of these."""

    begin: int
    end: int
    weights: tuple[Weight, ...]
    bytes: int


def pieces_of(planned: Planned, steps: Sequence[Made], tensors: Sequence[str]) -> tuple[Piece, ...]:
    """The pieces of a program; one for all steps where each group of images takes all of them. A
    segment that runs apart is in one piece."""
    sizes = [-(-way_of(planned, m).kept // _LINE) * _LINE for m in steps]
    blocks = [(block, sum(sizes[k] for k in block)) for block in _blocks(planned)]
    most = sum(sizes) if planned.plan.splittable else max([_BYTES, *(size for _, size in blocks)])
    found: list[Piece] = []
    begin = end = total = 0
    weights: list[Weight] = []
    for block, size in blocks:
        if total + size > most:
            found.append(Piece(begin, end, tuple(weights), total))
            begin, total, weights = end, 0, []
        total += size
        for made in (steps[k] for k in block):
            end += len(made.calls)
            if made.packed is not None:
                name, source, packer = made.packed
                weights.append(Weight(tensors.index(name), source, packer))
    return (*found, Piece(begin, end, tuple(weights), total))


def _blocks(planned: Planned) -> list[range]:
    """Clusters that are in the same piece."""
    found = []
    for s in planned.plan.segments:
        length = max(1, s.end - s.begin) if s.apart else 1
        found += [range(k, k + length) for k in range(s.begin, s.end, length)]
    return found
