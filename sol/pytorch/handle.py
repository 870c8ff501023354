"""`model.sol`: what Sol made of a network, and how it can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sol.ir.graph import Graph

if TYPE_CHECKING:
    from sol.pytorch.session import Session


class Handle:
    """Explanations, checks and numbers of one optimised module."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs that Sol runs, of the program that was used last."""
        entries = self._session.entries
        return entries[0].captured.graphs if entries else ()
