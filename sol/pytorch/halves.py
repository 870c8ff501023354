"""Making the two programs of a step of Sol in training, within a memory budget if there is one.

With a budget, what is kept without it is computed again in segments (passes/checkpoints.py), in one
way after the other until a step with the batch at hand fits; where packed weights are too large, no
layer is computed by Winograd's algorithm. What does not fit at all is refused with the smallest
possible figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

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
from sol.plan.planner import make_plan
from sol.pytorch.pair import Pair, Ready
from sol.pytorch.program import Compile
from sol.report.text import size
from sol.report.work import node_operations

_WAYS = ((4, 3), (16, 3), (16, 1))  # to find segments (checkpoints.py), tried in turn


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
    return _compiled(request, halves, compile_graphs, 0)


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
    tried: list[tuple[int, int, Halves]] = []
    beside = 0  # packed weights and the like, of programs with small ones; they hardly differ
    for halves, again in _ways(request.joint):
        block = _block(halves, batch)
        tried.append((block, again, halves))
        for compile_graphs in (budget.usual, budget.small):
            if block + beside > left:
                break
            pair = _compiled(request, halves, compile_graphs, again)
            need, small = pair.need(batch, threads), compile_graphs is budget.small
            if need <= left:
                return pair, small
            beside = need - block if small else beside
    _, again, halves = min(tried, key=lambda t: t[:2])
    return _compiled(request, halves, budget.small, again), True


def _ways(joint: Joint) -> Iterator[tuple[Halves, int]]:
    """The usual halves, others in segments, with cheap values computed once or twice, and how many
    contractions these compute again: which of them need least, is known when they are planned."""
    usual = partition(joint)
    yield _finished(usual), 0
    total, before = kept_bytes(usual), frozenset[str]()
    for way in _WAYS:
        borders = checkpoints(usual, *way)
        halves = partition(joint, borders) if borders != before else usual
        before = borders
        if kept_bytes(halves) < total:
            again = _again(usual, halves)
            yield _finished(halves, usual), again
            yield _finished(halves), again


def _again(usual: Halves, halves: Halves) -> int:
    """Contractions of the backward half that are there because less is kept."""
    counts = [_contractions(h.backward.nodes) for h in (usual, halves)]
    return counts[1] - counts[0]


def _contractions(nodes: Sequence[Node]) -> int:
    return sum(OPS[n.op].kind == "contract" for n in nodes)


def _block(halves: Halves, batch: int) -> int:
    """Bytes of the memory that both halves share, as it is planned."""
    lanes = detect().vector_lanes(4)
    plans = [make_plan(run_passes(g), lanes=lanes) for g in (halves.forward, halves.backward)]
    return max((p.arena.bytes(batch) for p in plans if not p.plan.splittable), default=0)


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


def _compiled(request: Request, halves: Halves, compile_graphs: Compile, again: int) -> Pair:
    wanted = any(request.wants)
    graphs = [halves.forward, *([halves.backward] if wanted else [])]
    made = [
        Ready(e, tuple(n["key"] for n in g.parameters))
        for g, e in zip(graphs, compile_graphs(graphs))
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
