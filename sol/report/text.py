"""What `explain` prints: records of clusters and their text, in lines that fit a terminal.

explain.py and roofline.py make the records, frontends join those of the parts of a network and say
what stayed outside. Loads no compiler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sol.report.roofline import Roofline

WIDTH = 120
_MOST_OPERATORS = 8
_FEWEST_LETTERS = 10  # of the operators beside a layer's name
_UNITS = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s"))
LEGEND = (
    "contraction: convolutions and matrix products with what follows them; dfp: depth-first, other "
    "layers patch by patch",
    "saved: bytes per image that do not go through memory because layers are merged",
)


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """One step:

    kind of cluster, layers (names in the user's model), operators, implementation with its reason,
    bytes per image that never reach memory, seconds of a call if it was measured.
    """

    number: int
    kind: str
    layers: tuple[str, ...]
    operators: tuple[str, ...]
    implementation: str
    saved: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Outside:
    """An operator that stays in the framework, where the user's model has it, and why."""

    framework: str
    operator: str
    origin: str
    reason: str

    def __str__(self) -> str:
        where = f", {self.origin}" if self.origin else ""
        return f"{self.operator}{where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All clusters of a program, its memory in bytes, and notes (what was not possible); the
    clusters against the machine's peaks, if that was asked for.

    Intermediates: of each of the images at once and fixed, and of an image that a thread computes
    alone.
    """

    clusters: tuple[ClusterReport, ...]
    arena_per_image: int
    arena_fixed: int
    arena_alone: int
    packed: int
    images_at_once: int
    notes: tuple[str, ...] = ()
    roofline: Roofline | None = None

    def __str__(self) -> str:
        return "\n".join([*table([self]), *summary([self])])


# ---- tables --------------------------------------------------------------------------------------


def table(parts: Sequence[Any], width: int = WIDTH) -> Iterator[str]:
    """The clusters of the parts of a network, numbered through, and what runs between them."""
    explained = [p for p in parts if isinstance(p, Explanation)]
    total = seconds_of(c for e in explained for c in e.clusters)
    if explained:
        timed = f"{'time':>8} {'share':>6} " if total else ""
        yield f"{'#':>3}  {'kind':<12} {timed}{'saved':>10}  layers: operators  [implementation]"
    number = 0
    known: dict[str, int] = {}
    for part in parts:
        if isinstance(part, Explanation):
            for cluster in part.clusters:
                yield from _row(cluster, number, total, known, width)
                known.setdefault(cluster.implementation, number)
                number += 1
        elif isinstance(part, Outside):
            head = f"{'-':>3}  {part.framework:<12} {' ' * (16 if total else 0)}{'':>10}  "
            yield from wrapped(head, str(part), width)
        else:
            yield str(part)


def seconds_of(clusters: Iterable[ClusterReport]) -> float:
    """Seconds of a call in clusters; 0 if they were not measured."""
    return sum(c.seconds or 0.0 for c in clusters)


def _row(
    c: ClusterReport, number: int, total: float, known: Mapping[str, int], width: int
) -> Iterator[str]:
    """known: implementations and the row that has told them; a long one is not told twice."""
    head = f"{number:>3}  {c.kind:<12} "
    if total:
        seconds = c.seconds or 0.0
        head += f"{duration(seconds):>8} {100 * seconds / total:5.1f}% "
    head += f"{size(c.saved):>10}  "
    what = f"{merged(c.layers, c.operators)}  "
    if len(head + what) + len(c.implementation) + 2 > width and c.implementation in known:
        return wrapped(head, f"{what}[as in {known[c.implementation]}]", width)
    return wrapped(head, f"{what}[{c.implementation}]", width)


def merged(layers: Sequence[str], operators: Sequence[str]) -> str:
    """conv1, bn1, relu: conv mul mul -> conv1 + 2: conv mul ×2"""
    more = f" + {len(layers) - 1}" if len(layers) > 1 else ""
    found = [f"{op} ×{n}" if n > 1 else op for op, n in Counter(operators).items()]
    end = " …" if len(found) > _MOST_OPERATORS else ""
    return f"{layers[0] if layers else ''}{more}: {' '.join(found[:_MOST_OPERATORS])}{end}"


def shortened(text: str, room: int) -> str:
    """encoder.layer.2.output.dense: linear gelu -> …ayer.2.output.dense: linear …, to fit in room.

    The end of a layer's name tells it from others, its operators do not.
    """
    name, colon, operators = text.partition(": ")
    most = room - min(len(colon + operators), _FEWEST_LETTERS)
    if len(name) > most:
        name = "…" + name[len(name) - most + 1 :]
    text = name + colon + operators
    return text if len(text) <= room else text[: room - 1] + "…"


def legend(explained: Sequence[Explanation], width: int) -> Iterator[str]:
    """What the figures of these explanations mean; nothing if there are none."""
    plain = all(e.roofline is None for e in explained)
    for text in (LEGEND if plain else LEGEND[:1]) if explained else ():
        yield from wrapped("", text, width)


def wrapped(head: str, text: str, width: int) -> Iterator[str]:
    """A row whose last column continues on further lines, if it must, under itself.

    Lines end where a bracket opens or after a comma, if possible.
    """
    room = max(20, width - len(head))
    while text:
        line, text = _cut(text, room)
        yield (head + line).rstrip()
        head = " " * len(head)


def _cut(text: str, room: int) -> tuple[str, str]:
    """The first line of a text, and the rest."""
    if len(text) <= room:
        return text, ""
    bracket = text.find("  [")
    if 0 < bracket <= room:
        return text[:bracket], text[bracket + 2 :]
    for separator in (", ", "; ", " "):
        place = text.rfind(separator, 0, room)
        if place > room // 3:
            cut = place + len(separator.rstrip())
            return text[:cut], text[cut:].lstrip()
    return text[:room], text[room:]


# ---- summary -------------------------------------------------------------------------------------


def summary(parts: Sequence[Explanation], width: int = WIDTH) -> Iterator[str]:
    """Where the time goes, by kind of cluster, the memory of all parts, and their notes."""
    clusters = [c for e in parts for c in e.clusters]
    total = seconds_of(clusters)
    kinds = Counter(c.kind for c in clusters).most_common()
    if total:
        spent = {k: seconds_of(c for c in clusters if c.kind == k) for k, _ in kinds}
        kinds.sort(key=lambda item: -spent[item[0]])
        shares = (f"{k} {100 * spent[k] / total:.1f}% ({count})" for k, count in kinds)
        yield from _paragraph(
            f"{counted(len(clusters), 'cluster')}, {duration(total)}: {', '.join(shares)}", width
        )
    else:
        counts = ", ".join(f"{count} {k}" for k, count in kinds)
        yield f"{counted(len(clusters), 'cluster')}: {counts or 'nothing to compute'}"
    yield from _paragraph(_memory(parts), width)
    for note in dict.fromkeys(n for e in parts for n in e.notes):
        yield from _paragraph(note, width)


def _memory(parts: Sequence[Explanation]) -> str:
    """Parts run one after the other in one arena; packed weights are there all the time."""
    per_image = max((e.arena_per_image for e in parts), default=0)
    fixed = max((e.arena_fixed for e in parts), default=0)
    alone = max((e.arena_alone for e in parts), default=0)
    groups = {e.images_at_once for e in parts if e.images_at_once}
    at_once = f", {min(groups)} images at a time" if per_image and len(groups) == 1 else ""
    kinds = [f"{size(alone)} per thread"] if alone else []
    if per_image or not alone:
        kinds.append(f"{size(per_image)} per image{at_once}")
    if fixed:
        kinds.append(size(fixed))
    packed = size(sum(e.packed for e in parts))
    return f"intermediates: {' and '.join(kinds)}; packed weights: {packed}"


def outside(operators: Sequence[Outside], width: int = WIDTH) -> Iterator[str]:
    """3 operators stay in PyTorch: sort ×2 (Sol has no row for it), unique (…)"""
    if not operators:
        return
    found = Counter((o.operator, o.reason) for o in operators)
    each = [f"{op}{f' ×{n}' if n > 1 else ''} ({reason})" for (op, reason), n in found.items()]
    stay = "operator stays" if len(operators) == 1 else "operators stay"
    head = f"{len(operators)} {stay} in {operators[0].framework}: "
    yield from _paragraph(head + ", ".join(each), width)


def _paragraph(text: str, width: int) -> Iterator[str]:
    """A text in lines; all but the first are indented."""
    line, rest = _cut(text, width)
    yield line
    if rest:
        yield from wrapped("  ", rest, width)


# ---- numbers -------------------------------------------------------------------------------------


def counted(count: int, word: str) -> str:
    """1 cluster, 2 clusters"""
    return f"{count} {word}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """0.00123 -> 1.23 ms: three digits, in µs, ms or s."""
    factor, unit = next((f, u) for limit, f, u in _UNITS if seconds < limit)
    return f"{digits(seconds * factor)} {unit}"


def digits(value: float) -> str:
    """Three digits, as many as that needs behind the point: 1.23, 12.3, 123"""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def size(count: float) -> str:
    """7654321 -> 7.3 MiB"""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"
