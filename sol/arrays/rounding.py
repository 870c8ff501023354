"""Whether the rounding of the default precision is seen in a network that has no framework beside
it to compare with: then its default program is compared with the strict one.

That is once for a network and its weights: what was found is kept in the cache. Parts whose default
program rounds no more than a strict one are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace

import numpy as np

from sol import findings
from sol.accuracy import Array, Rounding, difference
from sol.arrays.program import Program, Progress, prepared, run_part
from sol.arrays.signature import Types
from sol.compiler import Compiled
from sol.core.dims import B, Dim
from sol.core.keys import content_key
from sol.ir.graph import TensorType
from sol.ir.show import print_graph
from sol.options import Precision
from sol.runtime.native import fingerprint
from sol.runtime.threads import count

_IMAGES = 4  # one may be lucky


def precise(
    program: Program,
    types: Types,
    arrays: Mapping[str, Array],
    batch: int,
    progress: Progress | None = None,
) -> Program:
    """The program for inputs of these types, with a better precision for parts where rounding would
    be seen: on these arrays, and on random numbers beside them if these are few images."""
    known = program.captured.parameters
    compiled = [e for e in program.executables if isinstance(e, Compiled)]
    keys = {id(e): _key(e, known) for e in compiled if e.rounds_more}
    found = {k: Rounding(*n) for k, key in keys.items() if (n := findings.find(key))}
    made: dict[tuple[int, str], Compiled] = {}

    def by(each: Compiled, precision: Precision) -> Compiled:
        key = id(each), precision
        if key not in made:
            options = replace(each.options, precision=precision)
            made[key] = prepared(each.graph, known, options, progress)
        return made[key]

    def compare(each: Compiled, given: Sequence[Array], results: Sequence[Array]) -> Compiled:
        if id(each) in keys and id(each) not in found:

            def again(precision: Precision) -> Sequence[Array]:
                return run_part(by(each, precision), given, batch, count(program.options.threads))

            strict = again("strict")
            rounding = Rounding(difference(results, strict))
            if rounding.precision == "strict" and each.options.precision == "float32":
                rounding = Rounding(rounding.difference, difference(again("careful"), strict))
            found[id(each)] = rounding
            findings.keep(keys[id(each)], astuple(rounding))
        return each

    if len(found) < len(keys):
        given = {k: _telling(a) for k, a in arrays.items()}
        free = program.options.budget is None  # for more images than the call has
        if free and batch < _IMAGES and _has_images(types):
            batch, given = _IMAGES, {k: _more(a, types[k]) for k, a in given.items()}
        program.changed(given, batch, compare)
    rounding = tuple(found.get(id(e)) for e in program.executables)
    chosen = (
        by(e, r.precision)
        if isinstance(e, Compiled) and r is not None and r.precision != "default"
        else e
        for e, r in zip(program.executables, rounding, strict=True)
    )
    return replace(program, executables=tuple(chosen), rounding=rounding)


def _key(compiled: Compiled, parameters: Mapping[str, Array]) -> str:
    """The same kernels with other weights may round more."""
    weights = [np.ascontiguousarray(parameters[n["key"]]) for n in compiled.graph.parameters]
    content = fingerprint([w.ctypes.data for w in weights], [w.nbytes for w in weights])
    return content_key("rounding", compiled.identity, print_graph(compiled.graph), str(content))


def _has_images(types: Types) -> bool:
    """Whether the batch is open, and the first size of whatever has one."""
    first = [t.shape[0] for t in types.values() if t.shape and isinstance(t.shape[0], Dim)]
    rest = [size for t in types.values() for size in t.shape[1:] if isinstance(size, Dim)]
    return bool(first) and not rest and all(size == B for size in first)


def _more(array: Array, type: TensorType) -> Array:
    """More images of this kind; whole numbers may be places, so they come again."""
    if not type.shape or not isinstance(type.shape[0], Dim):
        return array
    more = np.resize(array, (_IMAGES, *array.shape[1:]))
    if array.dtype.kind == "f":
        rest = more[len(array) :]
        rest[...] = np.random.default_rng(0).normal(array.mean(), array.std(), rest.shape)
    return more


def _telling(array: Array) -> Array:
    """Random numbers for an array whose numbers are all one: that tells nothing of rounding."""
    if array.dtype.kind != "f" or array.size < 2 or array.min() != array.max():
        return array
    return np.random.default_rng(0).standard_normal(array.shape).astype(array.dtype)
