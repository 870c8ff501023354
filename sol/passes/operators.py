"""Sets of operators that rules speak of, taken from the table of operators.

Each is a text `a|b|c`, ready to be a part of a pattern (ir/pattern.py).
"""

from __future__ import annotations

import inspect

from sol.ops.registry import OPS, OpDef

# prelu broadcasts along axis 1, not from the last axis as all others do; a derivative has as many
# operands as what it is of
_UNLIKE_OTHERS = frozenset({"prelu", "derivative"})


def _inputs(entry: OpDef) -> int:
    parameters = inspect.signature(entry.infer).parameters.values()
    return sum(p.kind != inspect.Parameter.KEYWORD_ONLY for p in parameters)


def _elementwise(inputs: int) -> str:
    names = (name for name, entry in OPS.items() if entry.kind == "elementwise")
    return "|".join(n for n in names if n not in _UNLIKE_OTHERS and _inputs(OPS[n]) == inputs)


UNARY = _elementwise(1)
BINARY = _elementwise(2)
TERNARY = _elementwise(3)
REDUCTIONS = "sum|mean|prod|max_reduce|min_reduce|any|all"
CONTRACTIONS = "conv|conv_transpose|linear"
