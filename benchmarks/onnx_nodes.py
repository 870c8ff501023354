"""ONNX's own tests of operators by Sol, as native code: a table by operator.

    python benchmarks/onnx_nodes.py [--interpreted] [OPERATOR …]

sol: all of it is one of Sol's programs. numpy: a part that Sol has no operator for, or of a type
that it does not compute with, runs in NumPy (`explain` says which and why). refused: with a reason.
Tests that need strings, sequences, optional values, random numbers or training do not count.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter, defaultdict

from tests.onnx.nodes import cases, counts, outcome

_KINDS = ("sol", "numpy", "refused", "wrong")


def main(arguments: list[str]) -> int:
    """Run the tests, print the table, and say what is refused or wrong."""
    warnings.simplefilter("ignore")
    native = "--interpreted" not in arguments
    wanted = {a for a in arguments if not a.startswith("--")}
    table: dict[str, Counter[str]] = defaultdict(Counter)
    notes = []
    for case in cases("node"):
        if wanted and case.op not in wanted:
            continue
        result = outcome(case, native)
        if not counts(case, result):
            continue
        table[case.op][result.kind] += 1
        if result.kind in ("refused", "wrong"):
            notes.append(f"{case.name}: {result.kind}: {result.why}")
    print(f"{'operator':<28}" + "".join(f"{kind:>9}" for kind in _KINDS))
    for op, found in sorted(table.items()):
        print(f"{op:<28}" + "".join(f"{found[kind] or '':>9}" for kind in _KINDS))
    total = sum(table.values(), Counter())
    print(f"{'all':<28}" + "".join(f"{total[kind]:>9}" for kind in _KINDS))
    passed = total["sol"] + total["numpy"]
    print(f"{passed} of {total.total()} pass ({100 * passed / max(1, total.total()):.1f} %)")
    print(*notes, sep="\n")
    return 1 if total["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
