"""Pages of what a frontend supports, generated from its tables of rows.

A page has sections; a section has rows: the framework's names that one function translates, and the
first line of its docstring. Frontends call `page`; a test fails where a page is not fresh.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence about it, and the rows of a table: function by name."""

    title: str
    remark: str
    rows: Mapping[str, Callable[..., Any]]


def page(head: str, *sections: Section) -> str:
    """The page, in Markdown: functions by module, names in the order of the table."""
    parts = [head]
    for section in sections:
        parts.append(f"## {section.title}\n\n{section.remark}\n")
        for module, rows in _by_module(section.rows).items():
            parts.append(f"**{module}**\n")
            parts.append("\n".join(f"- {_names(names)}{text}" for text, names in rows) + "\n")
    return "\n".join(parts)


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


_Rows = list[tuple[str, list[str]]]


def _by_module(rows: Mapping[str, Callable[..., Any]]) -> dict[str, _Rows]:
    """The names of each function with what it does, under the first line of its module."""
    functions: dict[tuple[str, str], list[str]] = {}
    for name, function in rows.items():
        functions.setdefault((_title(function), _does(function)), []).append(name)
    found: dict[str, _Rows] = {}
    for (module, text), names in functions.items():
        found.setdefault(module, []).append((text, names))
    return found


def _title(function: Callable[..., Any]) -> str:
    doc = inspect.getdoc(inspect.getmodule(function)) or ""
    title = doc.splitlines()[0].removeprefix("Rows of ").removesuffix(".")
    return title[:1].upper() + title[1:]


def _does(function: Callable[..., Any]) -> str:
    doc = inspect.getdoc(function)
    return f": {doc.splitlines()[0]}" if doc else ""
