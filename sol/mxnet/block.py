"""A gluon block by Sol: an instance of a subclass of the block's own class, on its parameters.

The block is traced with symbols, as `hybridize` does, and read for each kind of call. Whatever Sol
cannot take, training and recording of gradients among it, runs in MXNet as before; `explain` says
why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from threading import RLock
from typing import Any

import numpy as np

from sol.arrays.judge import Judge, wanted
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
    """The block by Sol. example: what to call it with once, a tuple, so that it is ready. Of a
    block whose own forward MXNet cannot trace, the HybridBlocks within."""
    mx = package()
    if not isinstance(block, mx.gluon.HybridBlock):
        made = _mixed(block, options, progress, {})
    else:
        made = _of_one(block, options, progress)
    if example is not None:
        given = tuple(example) if isinstance(example, (tuple, list)) else (example,)
        made(*given)
        if wanted(options.never_slower) and isinstance(made.sol, Session):
            made.sol.measure(made, partial(type(block).forward, made), given)
    return made


def _of_one(block: Any, options: Options, progress: Progress | None) -> Any:
    made: Any = object.__new__(_class_of(type(block)))
    made.__dict__.update(block.__dict__)
    made.__dict__["sol"] = Session(type(block).__name__, options, progress)
    return made


def _mixed(block: Any, options: Options, progress: Progress | None, known: dict[int, Any]) -> Any:
    """A block of the same class, with HybridBlocks by Sol in the place of those within it; a block
    that stands at two places stays one."""
    hybrid = package().gluon.HybridBlock
    inner: dict[int, Any] = {}
    for child in block._children.values():
        if id(child) not in known:
            make = _of_one if isinstance(child, hybrid) else partial(_mixed, known=known)
            known[id(child)] = make(child, options=options, progress=progress)
        inner[id(child)] = known[id(child)]
    made: Any = object.__new__(type(block))
    names = {k: inner.get(id(v), v) for k, v in vars(block).items()}
    children = ((k, inner[id(child)]) for k, child in block._children.items())
    made.__dict__.update(names, _children=type(block._children)(children))
    parts = tuple(s for c in inner.values() for s in _sessions(c))
    if not parts:
        raise InputError(
            f"optimize got a {type(block).__name__}, whose layers MXNet cannot trace",
            expected="a gluon HybridBlock, or a Block with HybridBlocks in it",
        )
    made.__dict__["sol"] = Parts(parts)
    return made


def _sessions(block: Any) -> tuple[Session, ...]:
    found = block.sol
    return found.parts if isinstance(found, Parts) else (found,)


@dataclass(frozen=True)
class Parts:
    """What Sol keeps of the HybridBlocks within another block."""

    parts: tuple[Session, ...]

    @property
    def refused(self) -> dict[Any, str]:
        """Calls that MXNet runs, and why."""
        return {k: v for part in self.parts for k, v in part.refused.items()}

    def explain(self, roofline: bool = False, width: int = 100) -> str:
        """What became of each layer of each block."""
        return "\n".join(part.explain(roofline, width) for part in self.parts)


def _class_of(kind: type) -> type:
    """A subclass of a class of blocks that asks Sol first."""

    def forward(self: Any, x: Any, *args: Any) -> Any:
        original = partial(kind.forward, self)  # type: ignore[attr-defined]
        return self.sol.run(self, original, (x, *args))

    def _clear_cached_op(self: Any) -> None:  # MXNet's word for: the block has changed
        kind._clear_cached_op(self)  # type: ignore[attr-defined]
        if "sol" in self.__dict__:
            self.sol.forget()

    def copied(self: Any, memo: dict[int, Any]) -> Any:
        plain: Any = object.__new__(kind)
        own = {k: v for k, v in vars(self).items() if k != "sol"}
        plain.__dict__.update(own, _cached_op=None)
        session = self.sol
        return _of_one(deepcopy(plain, memo), session.options, session.progress)

    names = {
        "forward": forward,
        "__deepcopy__": copied,
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
        self.name, self.options, self.progress = name, options, progress
        self.refused: dict[Any, str] = {}  # structures of arguments that MXNet runs, and why
        self._make = partial(Network, options=options, name=name, progress=progress)
        self.judge = Judge("MXNet")
        self._traced: dict[Any, _Traced] = {}
        self._lock = RLock()

    def forget(self) -> None:
        """The block has changed: trace it anew."""
        with self._lock:
            self._traced.clear()
            self.refused.clear()
            self.judge.forget()

    def measure(self, block: Any, original: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Time Sol and MXNet on a call; the faster one takes such calls from then on."""
        found = self._key(block, args)
        if found is None or found[0] in self.refused:
            return
        key, leaves = found

        def own() -> None:
            original(*args)
            package().nd.waitall()

        batch = leaves[0].shape[0] if leaves[0].ndim else 1
        self.judge.measure(key, batch, lambda: self.run(block, original, args), own)

    def _key(self, block: Any, args: tuple[Any, ...]) -> tuple[Any, list[Any]] | None:
        """The kind of a call, and its NDArrays; None for calls that are MXNet's."""
        mx = package()
        leaves: list[Any] = []
        tree = _flat(args, is_array, leaves)
        training = mx.autograd.is_recording() or mx.autograd.is_training()
        if training or not leaves or not all(map(_is_plain, leaves)):
            return None
        kinds = ((np.dtype(x.dtype).name, x.ndim) for x in leaves)
        return (repr(tree), _settings(block), *kinds), leaves

    def run(self, block: Any, original: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """The results of the block."""
        found = self._key(block, args)
        if found is None:
            return original(*args)
        key, leaves = found
        batch = leaves[0].shape[0] if leaves[0].ndim else 1
        if key in self.refused or self.judge.why_not(key, batch):
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
        found += self.judge.lines(width)
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
