"""Planning of attention: which of it the kernel takes, and masks as the kernel reads them.

    attention(q, k, v, bias + mask)
    -> masked_attention(q, k, v, keys_first(bias), keys_first(mask))

The kernel (kernels/attention.py) has queries along its vectors, so a mask lies in memory with
queries innermost, in whole vectors. A mask that does not depend on the input is turned when
parameters change, others once per call for all heads. A sum that is larger than its terms is
not formed. Called by planner.py and prepare.py.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from sol.core.dims import Dim, Shape, coefficients
from sol.core.dtypes import BOOL, F32
from sol.core.errors import UnsupportedError
from sol.ir.expr import Expr, const, free_axes, where
from sol.ir.graph import Builder, Graph, Node, TensorType
from sol.ops.registry import OPS, Index, OpDef, Read, Sample, register
from sol.plan.facts import nominal_size
from sol.plan.inline import Inliner, axes_for

_BLOCK = 16  # queries of a turned mask are filled up to a multiple of the widest vector
_FEWEST_QUERIES = 4  # fewer leave most of a vector empty: matrix-vector products serve them better


def takes_attention(graph: Graph, node: Node) -> bool:
    """Whether the kernel takes a node `attention`; if not, its expansion is planned.

    It takes float32 of known lengths and widths, at most one leading size depending on the batch.
    """
    q, k, v, *masks = graph.inputs_of(node)
    if any(x.dtype != F32 for x in (q, k, v)) or any(m.dtype not in (F32, BOOL) for m in masks):
        return False
    if sum(isinstance(s, Dim) for s in node.shape[:-2]) > 1:
        return False
    sizes = (*q.shape[-2:], k.shape[-2], v.shape[-1])
    queries, *others = (s if isinstance(s, int) else 0 for s in sizes)
    return queries >= _FEWEST_QUERIES and all(others)


def turn_masks(graph: Graph, b: Builder, node: Node, turned: dict[str, Node]) -> Node:
    """The node of `graph` with its mask as the kernel reads it, as `b` is to append it.

    What the node reads is appended already; `turned` remembers masks of other nodes.
    """
    *operands, mask = node.inputs
    terms = []
    for name in _terms(b, b[mask]):
        if name not in turned:
            one = _is_one_for_all(graph, graph[name])
            turned[name] = _keys_outside(b, b[name], one)
        terms.append(turned[name])
    inputs = (*operands, *(t.name for t in terms))
    return Node(node.name, "masked_attention", inputs, node.attrs, node.type, node.origin)


def _terms(b: Builder, mask: Node) -> list[str]:
    """The masks whose sum a mask is, as far as they are smaller than the sum."""
    if mask.op != "add" or mask.dtype != F32:
        return [mask.name]
    parts = [b[i] for i in mask.inputs]
    if any(nominal_size(p.shape) >= nominal_size(mask.shape) or p.dtype != F32 for p in parts):
        return [mask.name]
    return [t for p in parts for t in _terms(b, p)]


def _is_one_for_all(graph: Graph, mask: Node) -> bool:
    """Whether all queries have the same mask: it hides what only fills up shorter sequences."""
    if len(mask.shape) < 2 or mask.shape[-2] == 1:
        return True
    cheap = ("source", "elementwise", "move")
    inline = Inliner(graph, [n.name for n in graph if OPS[n.op].kind not in cheap])
    index = axes_for(mask)
    return index[-2] not in free_axes(inline.element(mask.name, index))


def _keys_outside(b: Builder, mask: Node, one: bool) -> Node:
    """(…, L, S) as (…, S, L), or (…, S, 1) if there is one for all queries, which is no work."""
    if not one:
        return b.add("keys_first", mask, block=_BLOCK, name=f"{mask.name}_turned")
    if len(mask.shape) > 1 and mask.shape[-2] != 1:
        name, rows = f"{mask.name}_first", len(mask.shape) - 2
        mask = b.add("slice", mask, axis=rows, start=0, stop=1, step=1, name=name)
    shape = (*mask.shape[:-2], mask.shape[-1], 1) if mask.shape else (1, 1)
    return b.add("reshape", mask, shape=shape, name=f"{mask.name}_keys")


# ---- the two operators that only plans contain ---------------------------------------------------


def _infer_keys_first(mask: TensorType, *, block: int) -> TensorType:
    *lead, queries, keys = mask.shape
    if isinstance(queries, Dim):
        raise UnsupportedError("keys_first", "the number of queries depends on the batch")
    return TensorType((*lead, keys, -(-queries // block) * block), mask.dtype)


def _compute_keys_first(node: Node, index: Index, mask: Read) -> Expr:
    *lead, key, query = index
    queries = mask.shape[-2]
    assert isinstance(queries, int)
    nothing = const(False) if mask.dtype == BOOL else const(0.0)
    return where(query < queries, mask(*lead, query, key), nothing)


def _infer_masked(
    q: TensorType,
    k: TensorType,
    v: TensorType,
    *masks: TensorType,
    scale: float,
    causal: bool,
    groups: int,
) -> TensorType:
    result = OPS["attention"].infer(q, k, v, scale=scale, causal=causal, groups=groups)
    assert isinstance(result, TensorType)
    for mask in masks:
        if not _reads_as_mask(mask.shape, q.shape, k.shape):
            raise UnsupportedError("masked_attention", f"{mask} is no turned mask of {q} and {k}")
    return result


def _reads_as_mask(mask: Shape, q: Shape, k: Shape) -> bool:
    keys, queries = mask[-2:]
    rows = q[-2]
    known = isinstance(queries, int) and isinstance(rows, int)
    enough = queries == 1 or (known and coefficients(queries) >= coefficients(rows))
    return enough and keys in (1, k[-2]) and len(mask) <= len(q)


def _reference_masked(node: Node, q: Any, k: Any, v: Any, *masks: Any) -> Any:
    attention = OPS["attention"].reference
    assert attention is not None
    turned = [np.swapaxes(m, -1, -2)[..., : q.shape[-2], :] for m in masks]
    if len(turned) > 1:
        turned = [sum(np.where(m, 0.0, -np.inf) if m.dtype == bool else m for m in turned)]
    return attention(node, q, k, v, *turned)


_F32 = partial(TensorType, dtype=F32)
_ATTRS = {"scale": 0.5, "causal": False, "groups": 1}
for _entry in (
    OpDef(
        "keys_first",
        "move",
        _infer_keys_first,
        "A mask with its last two axes exchanged, `y[..., s, l] = x[..., l, s]`, filled up with "
        "zeros to a multiple of `block` queries.",
        (Sample((_F32((3, 5, 37)),), {"block": _BLOCK}),),
        compute=_compute_keys_first,
    ),
    OpDef(
        "masked_attention",
        "contract",
        _infer_masked,
        "attention whose masks, any number, have keys before queries; they are added up.",
        (Sample((_F32((2, 5, 4)), _F32((2, 3, 4)), _F32((2, 3, 4)), _F32((3, 16))), _ATTRS),),
        reference=_reference_masked,
    ),
):
    if _entry.name not in OPS:
        register(_entry)
