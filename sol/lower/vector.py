"""Which axis the lanes of a loop nest run over.

The innermost axis of the result, if its elements are computed alike; or an innermost reduction
axis, with one horizontal combination at the end; or none, then the nest runs element by element.
What the printer can do with lanes is decided here, in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sol.core.dims import Dim, Size
from sol.core.dtypes import BOOL, F32, U8
from sol.ir.expr import SCALAR_OPS, Expr, linear, walk
from sol.lower.ranges import is_index_compare

_INDEX_OPS = ("const", "axis", "linear", "floordiv", "mod")
_WORTH_LANES = 4  # an axis shorter than the narrowest vector is not worth lanes
_WORTH_TURNING = 8  # so for an axis whose vectors are turned before they are stored
_MOST_TURNED = 512
_STORED = (F32, BOOL, U8)  # bytes are loaded, stored and converted; lanes do not compute with them


class Access:
    """How values lie in memory, as lowering sees it."""

    def __init__(
        self,
        flat: Callable[[Expr], Expr],
        safe: Callable[[Expr], bool],
        alike: Callable[[Expr, Expr], bool],
    ) -> None:
        self.flat = flat  # a load with logical indices -> a load with one linear index
        self.safe = safe  # whether a load is in range whatever conditions guard it
        self.alike = alike  # whether a load is in range if another one is


def step(index: Expr, axis: Expr) -> Size | None:
    """Change of a linear index from one value of the axis to the next; None if not constant."""
    _, terms = linear(index)
    if any(atom is not axis and axis in walk(atom) for atom in terms):
        return None
    return terms.get(axis, 0)


def lane_cost(values: Iterable[Expr], axis: Expr, access: Access) -> int | None:
    """Number of gathers if the lanes run over axis; None where they cannot."""
    gathers = 0
    for value in values:
        if value.dtype not in _STORED:
            return None
        parts = _dependent(value, axis)
        for part in parts:
            if not _supported(part, parts, access):
                return None
            if part.op == "load" and step(access.flat(part).args[0], axis) not in (0, 1):
                if part.dtype != F32:
                    return None
                gathers += 1
    return gathers


def _dependent(value: Expr, axis: Expr) -> dict[Expr, None]:
    """The parts of value that differ between lanes."""
    found: dict[Expr, None] = {}
    for part in walk(value):
        if part is axis or any(a in found for a in part.args):
            found[part] = None
    return found


def _supported(part: Expr, dependent: dict[Expr, None], access: Access) -> bool:
    if part.op in _INDEX_OPS and part.dtype.name == "i64":
        return True
    if part.op == "load":
        return part.dtype in _STORED and not any(
            p.op == "load" for a in part.args for p in walk(a) if p in dependent
        )
    if part.op == "where":
        guarded = part.args[0] in dependent
        return part.dtype in (F32, BOOL) and (not guarded or _unguarded(part, access))
    if part.op == "cast":
        source = part.args[0]
        if part.dtype == F32:
            return source.dtype in _STORED or _small_index(source)
        return part.dtype in (BOOL, U8) and source.dtype == F32
    if part.op == "reduce":
        return part.dtype in (F32, BOOL)
    if is_index_compare(part):
        return all(_small_index(a) for a in part.args)
    return (
        part.op in SCALAR_OPS
        and part.dtype in (F32, BOOL)
        and all(a.dtype in (F32, BOOL) for a in part.args)
    )


def _unguarded(choice: Expr, access: Access) -> bool:
    """Whether the loads of both branches may be done whatever the condition says: they are in
    range, or the condition itself loads from there, or they are part of a reduction, which is
    computed before.
    """
    condition, *branches = choice.args
    tested = [p for p in walk(condition) if p.op == "load"]
    loads = (p for branch in branches for p in _loads_in_place(branch))
    return all(access.safe(p) or any(access.alike(p, q) for q in tested) for p in loads)


def _loads_in_place(x: Expr) -> list[Expr]:
    """Loads that are not part of a reduction."""
    if x.op == "reduce":
        return []
    inside = [p for a in x.args for p in _loads_in_place(a)]
    return [x, *inside] if x.op == "load" else inside


def _small_index(x: Expr) -> bool:
    """Whether x is index arithmetic that a vector of int32 can follow."""
    return x.dtype.name == "i64" and all(p.op in _INDEX_OPS for p in walk(x))


def choose_lane(
    axes: tuple[Expr, ...], reduced: Iterable[Expr], values: list[Expr], index: Expr, access: Access
) -> Expr | None:
    """The lane axis:

    among the result's axes the one along which it is contiguous, and the reduction axes; fewest
    gathers win.
    """
    best: tuple[int, int, Expr] | None = None
    stored = [a for a in axes if step(index, a) == 1]
    for rank, axis in enumerate([*stored, *reduced]):
        extent = axis.value[1]
        if not isinstance(extent, Dim) and extent < _WORTH_LANES:
            continue
        if axis not in stored and isinstance(extent, Dim):
            continue
        cost = lane_cost(values, axis, access)
        if cost is not None and (best is None or (cost, rank) < best[:2]):
            best = (cost, rank, axis)
    return best[2] if best else None


def turned_lane(axes: Sequence[Expr], value: Expr, index: Expr, access: Access) -> Expr | None:
    """An axis along which operands are contiguous, where the result is so along another axis.

    Lanes that run over it must be turned before they are stored. None where lanes can run along
    the result, or along no axis of it.
    """
    *others, along = axes
    if value.dtype != F32 or step(index, along) != 1 or lane_cost([value], along, access) == 0:
        return None
    return next((a for a in others if _reads_along(value, a, access)), None)


def _reads_along(value: Expr, axis: Expr, access: Access) -> bool:
    extent = axis.value[1]
    if isinstance(extent, Dim) or not _WORTH_TURNING <= extent <= _MOST_TURNED:
        return False
    loads = [p for p in walk(value) if p.op == "load"]
    contiguous = any(step(access.flat(p).args[0], axis) == 1 for p in loads)
    return contiguous and lane_cost([value], axis, access) == 0
