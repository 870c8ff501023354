"""A gluon block by Sol: an instance of a subclass of the block's own class, on its parameters.

The block is traced with symbols, as `hybridize` does, and read for each kind of call. Whatever Sol
cannot take, training and recording of gradients among it, runs in MXNet as before; `explain` says
why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from sol.arrays.network import Network
from sol.arrays.program import Progress
from sol.arrays.signature import input_of
from sol.core.errors import InputError, MemoryBudgetError, SolError, UnsupportedError
from sol.mxnet.framework import handed_back, is_array, is_symbol, package, viewed
from sol.mxnet.symbol import parse_symbol
from sol.mxnet.translate import read
from sol.mxnet.versions import Watch
from sol.options import Options

_CLASSES: dict[type, type] = {}  # a class of blocks -> the one that asks Sol first


def optimized(block: Any, example: Any, options: Options, progress: Progress | None) -> Any:
    """The block by Sol. example: what to call it with once, a tuple, so that it is ready."""
    mx = package()
    if not isinstance(block, mx.gluon.HybridBlock):
        raise InputError(
            f"optimize got a {type(block).__name__}, whose layers MXNet cannot trace",
            expected="a gluon HybridBlock",
        )
    made: Any = object.__new__(_class_of(type(block)))
    made.__dict__.update(block.__dict__)
    made.__dict__["sol"] = Session(type(block).__name__, options, progress)
    if example is not None:
        made(*(example if isinstance(example, (tuple, list)) else (example,)))
    return made


def _class_of(kind: type) -> type:
    """A subclass of a class of blocks that asks Sol first."""

    def forward(self: Any, x: Any, *args: Any) -> Any:
        original = partial(kind.forward, self)  # type: ignore[attr-defined]
        return self.sol.run(self, original, (x, *args))

    def _clear_cached_op(self: Any) -> None:  # MXNet's word for: the block has changed
        kind._clear_cached_op(self)  # type: ignore[attr-defined]
        if "sol" in self.__dict__:
            self.sol.forget()

    names = {
        "forward": forward,
        "_clear_cached_op": _clear_cached_op,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
    }
    return _CLASSES.setdefault(kind, type(kind.__name__, (kind,), names))


@dataclass(frozen=True)
class _Traced:
    """A block, traced for one structure of arguments: its network by Sol, its parameters, the names
    of its inputs, and the structure of its results."""

    network: Network
    watch: Watch
    names: tuple[str, ...]
    results: Any


class Session:
    """What Sol keeps of one block: a network for each structure of arguments, or why there is none.

    print(fast.sol.explain()) tells all of it.
    """

    def __init__(self, name: str, options: Options, progress: Progress | None) -> None:
        self.name = name
        self.refused: dict[Any, str] = {}  # structures of arguments that MXNet runs, and why
        self._make = partial(Network, options=options, name=name, progress=progress)
        self._traced: dict[Any, _Traced] = {}
        self._lock = RLock()

    def forget(self) -> None:
        """The block has changed: trace it anew."""
        with self._lock:
            self._traced.clear()
            self.refused.clear()

    def run(self, block: Any, original: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The results of the block."""
        mx = package()
        leaves: list[Any] = []
        tree = _flat(args, is_array, leaves)
        training = mx.autograd.is_recording() or mx.autograd.is_training()
        if training or not leaves or not all(map(_is_plain, leaves)):
            return original(*args)
        key = (repr(tree), _settings(block), *((np.dtype(x.dtype).name, x.ndim) for x in leaves))
        if key in self.refused:
            return original(*args)
        try:
            traced = self._traced_for(key, block, original, args)
            return self._results(traced, leaves)
        except MemoryBudgetError:
            raise  # the user's own word
        except SolError as error:
            results = original(*args)  # a wrong call ends here, and says nothing of others
            self.refused[key] = error.what
            return results

    def explain(self, roofline: bool = False, width: int = 100) -> str:
        """What became of each layer, and which calls run in MXNet and why."""
        networks = [t.network for t in self._traced.values()]
        found = [n.explain(roofline, width) for n in networks if n.entries]
        for (tree, _, *kinds), why in self.refused.items():
            types = ", ".join(f"{dtype} with {ndim} axes" for dtype, ndim in kinds)
            found.append(f"{self.name}{tree} of {types} runs in MXNet: {why}")
        return "\n".join(found) or "nothing was read yet: Sol reads the block at its first call"

    def _results(self, traced: _Traced, leaves: Sequence[Any]) -> Any:
        package().nd.waitall()  # a write counts when it has ended
        with self._lock:
            changed = traced.watch.changed()
            if changed:
                traced.network.update(changed)
        given = dict(zip(traced.names, leaves))
        made = traced.network({i.name: viewed(given[i.name]) for i in traced.network.inputs})
        results = [handed_back(y, leaves[0]) for y in made.values()]
        return _nested(traced.results, results)

    def _traced_for(
        self, key: Any, block: Any, original: Callable[..., Any], args: tuple[Any, ...]
    ) -> _Traced:
        with self._lock:
            if key not in self._traced:
                self._traced[key] = self._trace(block, original, args)
            return self._traced[key]

    def _trace(self, block: Any, original: Callable[..., Any], args: tuple[Any, ...]) -> _Traced:
        mx = package()
        parameters = block.collect_params()
        if any(p._data is None for p in parameters.values()):
            original(*args)  # sizes of parameters follow from the first call
        leaves: list[Any] = []
        tree = _flat(args, is_array, leaves)
        names = tuple(f"data{n}" if len(leaves) > 1 else "data" for n in range(len(leaves)))
        symbols = [_variable(mx, name, x) for name, x in zip(names, leaves)]
        heads: list[Any] = []
        results = _flat(_called(original, _nested(tree, symbols)), is_symbol, heads)
        graph = parse_symbol(mx.sym.Group(heads).tojson(), self.name)
        watch = Watch({k: p for k, p in parameters.items() if k in graph.variables})
        inputs = [input_of(n, viewed(x), (None,) * x.ndim) for n, x in zip(names, leaves)]
        network = self._make(
            [i for i in inputs if i.name in graph.variables],
            graph.outputs,
            lambda types: read(graph, types, watch.values),
        )
        return _Traced(network, watch, names, results)


def _settings(block: Any) -> tuple[Any, ...]:
    """Numbers, names and flags of a block: a layer may compute something else when one changes."""
    plain = (bool, int, float, str, type(None))
    return tuple((k, v) for k, v in vars(block).items() if isinstance(v, plain))


def _is_plain(array: Any) -> bool:
    """Whether an NDArray is dense, on the CPU, and has elements."""
    return bool(array.stype == "default" and array.ctx.device_type == "cpu" and array.size > 0)


def _variable(mx: Any, name: str, like: Any) -> Any:
    made = mx.sym.var(name)
    return made.as_np_ndarray() if isinstance(like, mx.np.ndarray) else made


def _called(original: Callable[..., Any], args: Sequence[Any]) -> Any:
    """What the block makes of symbols; several results of one symbol stand as a list."""
    try:
        made = original(*args)
    except Exception as error:
        reason = f"it cannot be traced: {type(error).__name__}: {error}"
        raise UnsupportedError("the block", reason) from None
    several = is_symbol(made) and len(made.list_outputs()) > 1
    return [made[k] for k in range(len(made.list_outputs()))] if several else made


# ---- structures of arguments and results ---------------------------------------------------------


class _Leaf:
    """Stands for an NDArray in a structure."""

    def __repr__(self) -> str:
        return "·"


_LEAF = _Leaf()


def _flat(value: Any, is_leaf: Callable[[Any], bool], leaves: list[Any]) -> Any:
    """The structure of a value; its leaves are put into a list."""
    if is_leaf(value):
        leaves.append(value)
        return _LEAF
    if isinstance(value, (list, tuple)):
        return type(value)([_flat(v, is_leaf, leaves) for v in value])
    return value


def _nested(tree: Any, leaves: Sequence[Any]) -> Any:
    """The value of a structure with these leaves."""
    rest = iter(leaves)

    def filled(part: Any) -> Any:
        if part is _LEAF:
            return next(rest)
        return type(part)([filled(p) for p in part]) if isinstance(part, (list, tuple)) else part

    return filled(tree)
