"""A minimal cut of a directed graph with capacities: the maximal flow, by Dinic's algorithm.

E. A. Dinic, "Algorithm for solution of a problem of maximum flow in a network with power
estimation", Soviet Math. Doklady 11, 1970.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable


class Network:
    """A flow network that is made edge by edge; `cut` gives what the source still reaches."""

    def __init__(self) -> None:
        self._number: dict[Hashable, int] = {}
        self._edges: list[list[int]] = []  # of each node: numbers of edges
        self._to: list[int] = []
        self._left: list[float] = []  # capacity; an edge and its reverse have numbers 2k, 2k + 1

    def _node(self, name: Hashable) -> int:
        if name not in self._number:
            self._number[name] = len(self._edges)
            self._edges.append([])
        return self._number[name]

    def edge(self, begin: Hashable, end: Hashable, capacity: float) -> None:
        """Add an edge."""
        for a, b, c in ((begin, end, capacity), (end, begin, 0.0)):
            self._edges[self._node(a)].append(len(self._to))
            self._to.append(self._node(b))
            self._left.append(c)

    def cut(self, source: Hashable, sink: Hashable) -> frozenset[Hashable]:
        """The nodes on the source's side of a minimal cut, the one nearest to the source."""
        begin, end = self._node(source), self._node(sink)
        while True:
            level = self._levels(begin)
            if level[end] < 0:
                return frozenset(name for name, n in self._number.items() if level[n] >= 0)
            following = [0] * len(self._edges)
            while self._augment(begin, end, level, following):
                pass

    def _levels(self, begin: int) -> list[int]:
        level = [-1] * len(self._edges)
        level[begin] = 0
        queue = deque([begin])
        while queue:
            node = queue.popleft()
            for e in self._edges[node]:
                if self._left[e] > 0 and level[self._to[e]] < 0:
                    level[self._to[e]] = level[node] + 1
                    queue.append(self._to[e])
        return level

    def _augment(self, begin: int, end: int, level: list[int], following: list[int]) -> bool:
        """Send flow along one path; False if there is none left in these levels."""
        path: list[int] = []
        node = begin
        while node != end:
            edges = self._edges[node]
            while following[node] < len(edges):
                e = edges[following[node]]
                if self._left[e] > 0 and level[self._to[e]] == level[node] + 1:
                    break
                following[node] += 1
            else:
                if not path:
                    return False
                node = self._to[path.pop() ^ 1]
                following[node] += 1
                continue
            path.append(e)
            node = self._to[e]
        flow = min(self._left[e] for e in path)
        for e in path:
            self._left[e] -= flow
            self._left[e ^ 1] += flow
        return True
