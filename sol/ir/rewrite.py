"""Local rewriting: rules `before -> after` applied to a graph until none applies any more.

A `Rule` is a pattern (ir/pattern.py) and a function `(rewriter, match) -> node or None` that makes
what replaces the matched node; for simple rules the right side of the text is enough. `rewrite`
sweeps over the graph in topological order until a sweep changes nothing. A `Fuel` stops it after
some number of rewrites, so that a wrong one is found by bisection. Passes (passes/) are tables of
rules.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sol.core.errors import SolError, VerifyError
from sol.ir.graph import Graph, Node, TypeRule
from sol.ir.pattern import Call, Number, Scalar, Term, Var, match, parse_rule
from sol.ir.rewriter import Rewriter
from sol.ir.show import show_node

_MOST_SWEEPS = 100
_MOST_AT_ONE_NODE = 100
_REMEMBERED = 200  # rewrites that are looked at when rules do not come to an end


class Fuel:
    """How many more rewrites are allowed: `limit` in all, None for no limit.

    `spent` counts them and `last` describes the latest, over all passes that share the fuel.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.spent = 0
        self.last = ""

    def take(self, what: str) -> bool:
        """Whether one more rewrite is allowed; counts it if so."""
        if self.limit is not None and self.spent >= self.limit:
            return False
        self.spent += 1
        self.last = what
        return True


@dataclass(frozen=True, slots=True)
class Match:
    """The node at which a rule matched, and the nodes that its pattern names."""

    root: Node
    found: Mapping[str, Node]

    def __getitem__(self, name: str) -> Node:
        return self.found[name]


Build = Callable[[Rewriter, Match], "Node | None"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of a table of rules; `text` is its pattern, maybe with a right side."""

    text: str
    before: Call
    build: Build


def rule(text: str, build: Build | None = None) -> Rule:
    """A rule of a text `before -> after`, or of a text `before` and a function.

    The function returns None where the rule does not apply. A replacement must have the type of
    the node it replaces; where it has another, or cannot be made (SolError), the rule does not
    apply either.
    """
    before, after = parse_rule(text)
    if build is not None:
        assert after is None, f"either a right side or a function: {text}"
        return Rule(text, before, build)
    assert after is not None, f"neither a right side nor a function: {text}"
    return Rule(text, before, _template(after))


def _template(after: Term) -> Build:
    def build(rewriter: Rewriter, found: Match) -> Node:
        if isinstance(after, Number):
            shape, dtype = found.root.shape, found.root.dtype
            return rewriter.add("full", shape=shape, value=after.value, dtype=dtype)
        return _construct(after, rewriter, found)

    return build


def _construct(term: Term, rewriter: Rewriter, found: Match) -> Node:
    match term:
        case Var(name=name) | Scalar(name=name):
            return found[name]
        case Number(value=value):
            return rewriter.constant(value, found.root.dtype)
        case Call(ops=(op,), label=label, args=args):
            assert args is not None, "the right side of a rule names all inputs"
            inputs = [_construct(a, rewriter, found) for a in args]
            return rewriter.add(op, *inputs, **(dict(found[label].attrs) if label else {}))
        case _:
            raise AssertionError("the right side of a rule names one operator")


def rewrite(
    graph: Graph, rules: Sequence[Rule], infer: TypeRule, fuel: Fuel | None = None
) -> Graph:
    """`graph` with `rules` applied until none applies; VerifyError if that never happens.

    Earlier rules come first. A sweep takes time linear in the size of the graph; two or three
    sweeps are common.
    """
    run = _Run(Rewriter(graph, infer), _by_operator(rules), fuel or Fuel())
    for _ in range(_MOST_SWEEPS):
        changed = sum(run.visit(name) for name in run.rewriter.order())
        if not changed:
            return run.rewriter.finish() if run.log else graph
    raise _endless(run.log)


def _by_operator(rules: Sequence[Rule]) -> Mapping[str, Sequence[Rule]]:
    table: defaultdict[str, list[Rule]] = defaultdict(list)
    for r in rules:
        for op in r.before.ops:
            table[op].append(r)
    return table


@dataclass(frozen=True, slots=True)
class _Event:
    """One rewrite: the rule, and the lines of the node before and after."""

    rule: str
    name: str
    before: str
    after: str


@dataclass(slots=True)
class _Run:
    rewriter: Rewriter
    rules: Mapping[str, Sequence[Rule]]
    fuel: Fuel
    log: deque[_Event] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def visit(self, name: str) -> bool:
        """Apply rules at one node until none applies; whether one did."""
        for count in range(_MOST_AT_ONE_NODE):
            after = self._step(name)
            if after is None:
                return count > 0
            name = after.name
        raise _endless(self.log)

    def _step(self, name: str) -> Node | None:
        """Apply the first rule that applies at a node: what then stands there."""
        if name not in self.rewriter:
            return None
        node = self.rewriter[name]
        for candidate in self.rules.get(node.op, ()):
            after = self._attempt(candidate, node)
            if after is not None:
                event = _Event(candidate.text, name, show_node(node), show_node(after))
                self.log.append(event)
                return after
        return None

    def _attempt(self, candidate: Rule, node: Node) -> Node | None:
        for found in match(candidate.before, node, self.rewriter, {}):
            self.rewriter.begin(node)
            after = _built(candidate, self.rewriter, Match(node, found))
            fits = after is not None and after.type == node.type and after.name != node.name
            if fits and self.fuel.take(f"{candidate.text} at {node.name}"):
                assert after is not None
                return self.rewriter.replace(node, after)
            self.rewriter.abandon()
        return None


def _built(candidate: Rule, rewriter: Rewriter, found: Match) -> Node | None:
    try:
        return candidate.build(rewriter, found)
    except SolError:  # the operator refuses it: a size that would not be linear in B, for example
        return None


def _endless(log: Iterable[_Event]) -> VerifyError:
    events = list(log)
    keys = [(e.rule, e.name) for e in events]
    periods = (p for p in range(1, len(keys) // 2 + 1) if keys[-p:] == keys[-2 * p : -p])
    cycle = events[-next(periods, 10) :]
    shown = [f"    {e.rule}\n        {e.before[:200]}\n     -> {e.after[:200]}" for e in cycle]
    return VerifyError(
        "rewriting does not come to an end; this repeats:\n" + "\n".join(shown),
        expected="rules that do not undo each other",
        do="remove one of these rules, or let it apply in fewer cases",
    )
