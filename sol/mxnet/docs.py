"""Writes docs/operators-mxnet.md: every operator of MXNet that has a row, and what the row reads.

`python -m sol.mxnet.docs > docs/operators-mxnet.md` renews the page; a test fails where it is not
fresh.
"""

from __future__ import annotations

import inspect
from collections import defaultdict

from sol.mxnet.rows import ROWS
from sol.mxnet.rows.table import Row

_HEAD = """# Operators of MXNet

Generated from the rows in `sol/mxnet/rows/` by
`python -m sol.mxnet.docs > docs/operators-mxnet.md`; do not edit. Operators of one row stand
together, under the names that they have in files. Inputs in brackets are optional, `…` is any
number of them; attributes have MXNet's defaults. What a row cannot take, such as float16, is
refused by the name of the node; what is not here runs in MXNet where a gluon block is given, and is
refused in files.
"""


def page() -> str:
    """The whole page, in Markdown."""
    families: dict[str, dict[object, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in ROWS.values():
        families[row.function.__module__][row.function].append(row)
    parts = [_HEAD]
    for module in sorted(families):
        parts.append(f"## {module.rpartition('.')[2].capitalize()}\n")
        parts.append("\n".join(map(_line, families[module].values())) + "\n")
    return "\n".join(parts)


def _line(rows: list[Row]) -> str:
    names = ", ".join(f"`{row.name}`" for row in rows)
    doc = " ".join((rows[0].function.__doc__ or "").split())
    return f"- {names} — `({_signature(rows[0])})`: {doc}"


def _signature(row: Row) -> str:
    attributes = [
        name if default is inspect.Parameter.empty else f"{name}={default}"
        for name, (_, default) in row.attributes.items()
    ]
    return "; ".join(filter(None, (", ".join(row.inputs), ", ".join(attributes))))


if __name__ == "__main__":
    print(page(), end="")
