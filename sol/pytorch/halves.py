"""Making the two programs of a step of Sol in training, within a memory budget if there is one.

With a budget, what is kept without it is computed again in segments (passes/checkpoints.py), in the
first of a few ways with which a step with the batch at hand fits, which is found by halving; where
packed weights are too large, no layer is computed by Winograd's algorithm. Only what fits is
compiled, by the plan that is there already. What does not fit at all is refused with the smallest
possible figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from sol import recorded
from sol.core.device import detect
from sol.core.errors import MemoryBudgetError
from sol.ir.graph import Graph, Node, lent
from sol.ops.registry import OPS
from sol.passes.apart import apart
from sol.passes.autodiff import Joint, differentiate
from sol.passes.checkpoints import checkpoints, kept_bytes
from sol.passes.order import early, late
from sol.passes.partition import Halves, partition
from sol.passes.pipeline import run as run_passes
from sol.plan.inline import Inliner
from sol.plan.kept import keep_orders
from sol.plan.planner import Planned, make_plan
from sol.pytorch import connect
from sol.pytorch.pair import Pair, Ready
from sol.pytorch.program import Compile
from sol.report.text import size
from sol.report.work import node_operations

_WAYS = ((4, 3), (16, 3), (16, 1))  # to find segments (checkpoints.py); each needs less memory


@dataclass(frozen=True)
class Budget:
    """Bytes that a step of training may need beside weights, gradients and results, as the user
    gave them, too; compilers that know nothing of it: the usual one, and one with small weights."""

    bytes: int
    given: object
    usual: Compile
    small: Compile


@dataclass(frozen=True)
class Request:
    """A step of Sol, which of its inputs and parameters want gradients, and a call of it."""

    graph: Graph
    wants: tuple[bool, ...]
    batch: int
    threads: int

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that the step is called with, as nodes."""
        return tuple(n.name for n in (*self.graph.inputs, *self.graph.parameters))

    @property
    def joint(self) -> Joint:
        """The step with its gradients."""
        wanted = [name for name, want in zip(self.names, self.wants, strict=True) if want]
        return differentiate(run_passes(self.graph), wanted)


def make_pair(request: Request, compile_graphs: Compile) -> Pair:
    """The programs of a step."""
    key = _key(request)
    found = recorded.find(key)
    halves = found if isinstance(found, Halves) else _finished(partition(request.joint))
    if found is None:
        recorded.keep(key, halves)
    return _compiled(request, halves, compile_graphs, 0, keep=True)


def _key(request: Request, *limits: int) -> str:
    """What the halves of a step follow from."""
    names = (request.names, request.wants)
    return recorded.key_of(request.graph, "halves", detect(), *names, *limits)


def make_pair_within(request: Request, budget: Budget, left: int) -> Pair:
    """The programs of a step that needs at most `left` bytes of the budget. Raises
    MemoryBudgetError."""
    batch, threads = request.batch, request.threads
    key = _key(request, left, batch, threads)
    known = recorded.find(key)
    if known is not None:
        halves, again, small = known
        pair = _compiled(request, halves, budget.small if small else budget.usual, again)
    else:
        pair, small = _smaller_and_smaller(request, budget, left)
    need = pair.need(batch, threads)
    if need <= left:
        if known is None:
            recorded.keep(key, (pair.halves, pair.again, small))
        return pair
    used = f", {size(budget.bytes - left)} of it in use" if left < budget.bytes else ""
    raise MemoryBudgetError(
        f"a step of training with batch {batch} needs at least {need} bytes beside weights and "
        f"gradients, and memory={budget.given!r} allows {budget.bytes}{used}",
        do="use a smaller batch, or allow more memory",
    )


def _smaller_and_smaller(request: Request, budget: Budget, left: int) -> tuple[Pair, bool]:
    """The first programs that need no more than `left` bytes, else those that need least; and
    whether their packed weights are small ones."""
    batch, threads = request.batch, request.threads
    ways = _ways(request.joint)
    beside = 0  # packed weights and the like, of programs with small ones; they hardly differ
    for way in ways[_first(ways, batch, left) :]:
        for compile_graphs in (budget.usual, budget.small):
            if way.block(batch) + beside > left:
                break
            pair = way.compiled(request, compile_graphs)
            need, small = pair.need(batch, threads), compile_graphs is budget.small
            if need <= left:
                return pair, small
            beside = need - way.block(batch) if small else beside
    least = min(ways, key=lambda way: way.block(batch))
    return least.compiled(request, budget.small), True


def _first(ways: Sequence[_Way], batch: int, left: int) -> int:
    """The number of the first way whose memory is no more than `left` bytes, or else of the last:
    each computes more again than the one before, and needs less."""
    low, high = 0, len(ways) - 1
    while low < high and ways[low].least(batch) > left:
        low += 1
    while low < high:
        middle = (low + high) // 2
        if ways[middle].block(batch) <= left:
            high = middle
        else:
            low = middle + 1
    return low


class _Way:
    """A step cut into halves. Their order and their plans are made when they are asked for, and
    kept. usual: the halves without a budget, if these have one; again: how many contractions they
    compute again."""

    def __init__(self, cut: Halves, usual: Halves | None = None) -> None:
        self.cut, self._usual = cut, usual
        self.again = _again(usual, cut) if usual else 0

    @cached_property
    def halves(self) -> Halves:
        """As they are compiled."""
        return _finished(self.cut, self._usual)

    @cached_property
    def plans(self) -> tuple[Planned, Planned]:
        """Of the forward and the backward half."""
        lanes = detect().vector_lanes(4)
        forward, backward = self.halves.forward, self.halves.backward
        return make_plan(run_passes(forward), lanes=lanes), make_plan(
            run_passes(backward), lanes=lanes
        )

    def least(self, batch: int) -> int:
        """Bytes that they need at least: what they keep."""
        return int(kept_bytes(self.cut, batch))

    def block(self, batch: int) -> int:
        """Bytes of the memory that both halves share."""
        shared = (p.arena.bytes(batch) for p in self.plans if not p.plan.splittable)
        return max(shared, default=0)

    def compiled(self, request: Request, compile_graphs: Compile) -> Pair:
        """Its programs, by these plans."""
        return _compiled(
            request, self.halves, partial(compile_graphs, plans=self.plans), self.again
        )


def _ways(joint: Joint) -> list[_Way]:
    """The usual halves, and others in segments that need less and less."""
    usual = partition(joint)
    ways = [_Way(usual)]
    total, before = kept_bytes(usual), frozenset[str]()
    for way in _WAYS:
        borders = checkpoints(usual, *way)
        if borders == before:
            continue
        before, halves = borders, partition(joint, borders)
        if kept_bytes(halves) < total:
            ways.append(_Way(halves, usual))
    return ways


def _again(usual: Halves, halves: Halves) -> int:
    """Contractions of the backward half that are there because less is kept."""
    counts = [_contractions(h.backward.nodes) for h in (usual, halves)]
    return counts[1] - counts[0]


def _contractions(nodes: Sequence[Node]) -> int:
    return sum(OPS[n.op].kind == "contract" for n in nodes)


def _finished(halves: Halves, usual: Halves | None = None) -> Halves:
    """What is kept in the planner's order, lent to the backward half; what is computed only to be
    kept comes early, what is computed again late, and, where layers are, for one purpose. usual:
    the halves without a budget, if these have one."""
    before = halves.forward
    forward = early(before, before.outputs[: halves.results])
    halves = keep_orders(_in_turn(replace(halves, forward=forward)))
    kept = halves.forward.outputs[halves.results :]
    nodes = tuple(
        lent(n) if n.op == "input" and n.name in kept else n for n in halves.backward.nodes
    )
    seeds = [s for s in halves.seeds if s]
    backward = Graph(nodes, halves.backward.outputs)
    backward = late(apart(backward, seeds, usual.saved) if usual else backward, seeds)
    return replace(halves, backward=backward)


def _in_turn(halves: Halves) -> Halves:
    """What is saved in the order in which the forward half computes it, from the begin of the
    memory on: the backward half reads the first of it last, and the rest of the memory is whole."""
    forward, backward = halves.forward, halves.backward
    turn = {n.name: k for k, n in enumerate(forward)}
    saved = tuple(sorted(halves.saved, key=turn.__getitem__))
    kept = sorted(forward.outputs[halves.results :], key=turn.__getitem__)
    others = (n for n in backward if n.name not in saved)
    return replace(
        halves,
        forward=Graph(forward.nodes, (*forward.outputs[: halves.results], *kept)),
        backward=Graph((*(backward[n] for n in saved), *others), backward.outputs),
        saved=saved,
    )


def _compiled(
    request: Request, halves: Halves, compile_graphs: Compile, again: int, keep: bool = False
) -> Pair:
    """keep: weights of parameters that want no gradient stay packed from step to step.

    What gradients of ReLU and maxima follow from rounds little: a value that rounds to the other
    side of a kink changes them by far more than rounding does.
    """
    wanted = any(request.wants)
    graphs = [halves.forward, *([halves.backward] if wanted else [])]
    wants = dict(zip(request.names, request.wants, strict=True))
    frozen = {n["key"] for n in request.graph.parameters if keep and not wants[n.name]}
    made = [
        Ready(
            e,
            tuple(n["key"] for n in g.parameters),
            frozen=connect.steady_keys(e, frozen) if frozen else (),
        )
        for g, e in zip(graphs, compile_graphs(graphs, careful=(0, 1) if again else (0,)))
    ]
    backward = made[1] if wanted else None
    share = _share(halves) if again else 0.0
    return Pair(request.graph, halves, request.names, made[0], backward, again, share)


def _share(halves: Halves) -> float:
    """Of the operations of the forward half's contractions, what the backward half does again."""
    graph = halves.forward
    alone = Inliner(graph, frozenset(n.name for n in graph))
    done = {
        n.name: node_operations(graph, n, alone, 1) for n in graph if OPS[n.op].kind == "contract"
    }
    contractions = (n.name for n in halves.backward if OPS[n.op].kind == "contract")
    again = sum(done.get(name, 0) for name in contractions)
    return again / max(1, sum(done.values()))
