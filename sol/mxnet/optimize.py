"""The call: `optimize("resnet50", inputs={"data": (None, 3, 224, 224)})`.

Comes in: files that MXNet wrote, a Symbol with its parameters, or a gluon HybridBlock. Goes out: a
callable on arrays, or a block of the same class. MXNet is needed only for what is MXNet's own:
files are read without it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sol.arrays.judge import wanted
from sol.arrays.program import Progress
from sol.arrays.signature import Input, Open, input_of
from sol.core.dtypes import F32, DType
from sol.core.errors import InputError
from sol.mxnet.attributes import NUMBERED, dtype_named
from sol.mxnet.framework import copied, is_array, is_block, is_symbol, package, viewed
from sol.mxnet.model import Array, Model
from sol.mxnet.original import Original
from sol.mxnet.params import read_params, without_prefix
from sol.mxnet.symbol import SymbolGraph, parse_symbol, read_symbol
from sol.mxnet.translate import inputs_of
from sol.options import Options, Precision

_SYMBOL, _PARAMS = "-symbol.json", ".params"


def optimize(
    model: Any,
    params: Any = None,
    inputs: Any = None,
    *,
    threads: int | None = None,
    precision: Precision = "float32",
    memory: int | str | None = None,
    tune: float | None = None,
    never_slower: bool = True,
    progress: Progress | None = None,
) -> Any:
    """What `model` computes, by Sol.

    model: a prefix ("resnet50" for resnet50-symbol.json and resnet50-0000.params), the path of a
    symbol file, a Symbol, or a gluon HybridBlock. params: the path of a parameter file, arrays by
    name, or several mappings of these (such as `arg_params, aux_params`). inputs: for each input
    its shape, `{"data": (None, 3, 224, 224)}`, None or a
    name for a size that may change, the first such being the batch; (shape, "int32") for another
    type than the symbol's; or an array, for whose sizes the program is made at once. Without it,
    all that has no parameter is an input, of any size. For a block, what it is called with, as a
    tuple of NDArrays; `optimize(block, x)` is the same for one. threads, precision, memory, tune:
    as in docs/using.md. never_slower: Sol is measured against MXNet on the arrays that are given,
    if the process has imported MXNet. progress: told what happens, steps done, steps in all.

    Raises InputError for files that are none, for parameters and inputs that are not there or do
    not fit, UnsupportedError for what Sol cannot compute, ConfigError for options.
    """
    chosen = Options(
        threads=threads,
        precision=precision,
        memory=memory,
        tune=tune,
        never_slower=never_slower,
    )
    if is_block(model):
        from sol.mxnet.block import optimized

        if is_array(params) and inputs is None:  # optimize(block, x)
            params, inputs = None, (params,)
        if params is not None:
            raise InputError(
                "a block and params",
                expected="a block, which has its parameters, and what it is called with",
                do="optimize(block, inputs=(x,)), with NDArrays",
            )
        return optimized(model, inputs, chosen, progress)
    graph, found, name = _network(model, params)
    needed = inputs_of(graph, found)
    declared, arrays = _declared(graph, found, inputs or {})
    original = _original(model, graph, found) if wanted(never_slower) else None
    made = Model(graph, found, declared, chosen, name, progress, original)
    if inputs:
        _check_complete([n.name for n in needed], declared)
    if declared and len(arrays) == len(declared):
        made.prepare(**arrays)
        made.measure(**arrays)
    else:
        made.check()
    return made


def _original(model: Any, graph: SymbolGraph, parameters: Mapping[str, Array]) -> Original | None:
    """The network in MXNet, if it is there."""
    mx = package()
    if mx is None:
        return None
    symbol = model if is_symbol(model) else mx.sym.load(str(_symbol_path(Path(model))))
    return Original(symbol, parameters, graph.numpy_shapes)


def _check_complete(needed: Sequence[str], declared: Mapping[str, Input]) -> None:
    missing = [name for name in needed if name not in declared]
    if missing:
        raise InputError(
            f"no array for {', '.join(missing[:5])}",
            expected="a parameter or an input for each variable",
            do=f"give its parameters, or its shape: inputs={{{missing[0]!r}: (…)}}",
        )


def _network(model: Any, params: Any) -> tuple[SymbolGraph, dict[str, Array], str]:
    if is_symbol(model):
        name = str(model.name or "the symbol")
        return parse_symbol(model.tojson(), name), _parameters(params or {}), name
    if not isinstance(model, (str, os.PathLike)):
        raise InputError(
            f"optimize got a {type(model).__name__}",
            expected="a prefix or path of files, a Symbol, or a gluon HybridBlock",
        )
    symbol = _symbol_path(Path(model))
    if not symbol.is_file():
        raise InputError(
            f"there is no {symbol}", expected="a prefix or path of files, such as NAME-symbol.json"
        )
    name = symbol.name.removesuffix(".json").removesuffix("-symbol")
    known = _params_path(symbol) if params is None else params
    return read_symbol(symbol), _parameters(known), name


def _symbol_path(given: Path) -> Path:
    named = given.with_name(given.name + _SYMBOL)
    if given.name.endswith(".json") or (given.is_file() and not named.is_file()):
        return given
    return named


def _params_path(symbol: Path) -> Path:
    """The one parameter file beside a symbol file."""
    prefix = symbol.name.removesuffix(".json").removesuffix("-symbol")
    found = sorted(
        p for p in symbol.parent.glob(f"*{_PARAMS}")
        if p.name.startswith(f"{prefix}-") and p.name[len(prefix) + 1 : -len(_PARAMS)].isdigit()
    )  # fmt: skip
    if len(found) == 1:
        return found[0]
    came = f"{len(found)} files {prefix}-NNNN.params: {', '.join(p.name for p in found[:5])}"
    raise InputError(
        f"beside {symbol} there are {came}" if found else f"there is no {prefix}-NNNN.params",
        expected="one",
        do=f'name it: optimize("{prefix}", params="{prefix}-0000.params")',
    )


def _parameters(params: Any) -> dict[str, Array]:
    if isinstance(params, (str, os.PathLike)):
        return without_prefix(read_params(Path(params)))
    if isinstance(params, Mapping):
        named = {str(k): _value(k, v) for k, v in params.items()}
        return without_prefix(named)
    if isinstance(params, (tuple, list)):
        return {k: v for each in params for k, v in _parameters(each).items()}
    raise InputError(
        f"params is a {type(params).__name__}",
        expected="a path, or arrays by name",
        do='give examples by name: inputs={"data": x}',
    )


def _value(name: Any, value: Any) -> Array:
    if not is_array(value) and not isinstance(value, np.ndarray):
        raise InputError(f"the parameter {name} is a {type(value).__name__}", expected="an array")
    return copied(value)


def _declared(
    graph: SymbolGraph, parameters: Mapping[str, Array], inputs: Any
) -> tuple[dict[str, Input], dict[str, Any]]:
    """The inputs whose shapes are given, and those that are given as arrays."""
    if not isinstance(inputs, Mapping):
        raise InputError(f"inputs is a {type(inputs).__name__}", expected='{"data": (None, 3, 8)}')
    variables = {n.name: n for n in inputs_of(graph, parameters)}
    unknown = [k for k in inputs if k not in graph.variables]
    if unknown:
        raise InputError(
            f"inputs names {', '.join(map(str, unknown))}",
            expected=f"variables of the network: {', '.join(variables)}",
        )
    declared, arrays = {}, {}
    for name, given in inputs.items():
        if name not in variables:
            continue  # a label, which only training reads
        if is_array(given) or isinstance(given, np.ndarray):
            array = viewed(given) if is_array(given) else given
            declared[name] = input_of(name, array, (None, *array.shape[1:])[: array.ndim])
            arrays[name] = given
        else:
            declared[name] = _input(name, given, _dtype(variables[name].attrs))
    return declared, arrays


def _dtype(attrs: Mapping[str, str]) -> DType:
    """The type that the symbol notes for a variable."""
    noted = attrs.get("__dtype__", "0")
    return dtype_named(NUMBERED[int(noted)]) if noted.isdigit() and int(noted) in NUMBERED else F32


def _input(name: str, given: Any, dtype: DType) -> Input:
    if isinstance(given, (tuple, list)) and len(given) == 2 and _is_shape(given[0]):
        try:
            dtype = dtype_named(np.dtype(given[1]).name)
        except TypeError:
            raise InputError(f"inputs: {name} is of {given[1]!r}", expected="a type") from None
        given = given[0]
    if not _is_shape(given):
        raise InputError(
            f"inputs: {name} is {given!r}", expected="a shape such as (None, 3, 224, 224)"
        )
    shape: tuple[Open, ...] = tuple(given)
    return Input(name, dtype, shape)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(
        s is None or isinstance(s, str) or (type(s) is int and s >= 0) for s in value
    )
