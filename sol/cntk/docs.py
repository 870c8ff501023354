"""The page docs/operators-cntk.md: every operation of CNTK, from the rows."""

from __future__ import annotations

import inspect

import sol.cntk.rows  # noqa: F401  (fills the table of rows)
from sol.cntk.codes import BLOCK, COMBINE, NAMES
from sol.cntk.rows.table import ROWS

_HEAD = """\
# Operations of CNTK

Generated from the rows in `sol/cntk/rows/` by `python -m sol.cntk.docs > docs/operators-cntk.md`;
do not edit. The numbers are those of CNTK's files. How to use a model: [cntk.md](cntk.md).

CNTK says most of its layers and functions in these operations, so the list is shorter than that of
Python's functions: Dense, LSTM, softmax, LayerNormalization and the like are blocks, into which Sol
looks.

| | operation | what Sol computes |
|--:|---|---|
"""
_WRITTEN_OUT = {
    BLOCK: "what is inside",
    COMBINE: "several outputs",
}
_TAIL = """
## Refused

A model with another operation is refused by `optimize`, which names it. There are these; they
belong to training, to random numbers, to code of a user, to files of older versions, or to kernels
that CNTK has for GPUs only.

{names}
"""


def page() -> str:
    """The whole page, in Markdown."""
    known = {code: inspect.getdoc(function) or "" for code, function in ROWS.items()}
    known |= _WRITTEN_OUT
    lines = [f"| {code} | {NAMES[code]} | {_line(known[code])} |" for code in sorted(known)]
    names = [f"- {name}" for code, name in NAMES.items() if code not in known]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL.format(names="\n".join(names))


def _line(doc: str) -> str:
    return " ".join(doc.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
