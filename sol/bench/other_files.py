"""Models in files of TensorFlow, MXNet and CNTK on the command line, called with arrays by name.

Where other sizes than the batch stand open, the command line says them behind the name of the file:
`net-symbol.json@data=3x224x224`, sizes without the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sol.arrays.captured import Host
from sol.arrays.network import Network
from sol.arrays.signature import Input, checked
from sol.core.errors import InputError
from sol.frontends import file_of, frontend_of
from sol.onnx import example
from sol.onnx.reference import Comparison, error_of, evaluated

Array = NDArray[Any]
Sizes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Opened:
    """A model by Sol. run_all: the results for arrays in the order of `inputs`; networks: what was
    made so far, the one used last at the end."""

    inputs: tuple[Input, ...]
    run_all: Callable[[Sequence[Array]], Sequence[Array]]
    networks: Callable[[], Sequence[Network]]
    explained: Callable[[bool], str]

    def run(self, names: None, arrays: Mapping[str, Array]) -> list[Array]:
        """All results."""
        del names
        return list(self.run_all([arrays[i.name] for i in self.inputs]))

    def explain(self, roofline: bool = False, width: int = 120) -> str:
        """Every cluster of every program."""
        del width
        return self.explained(roofline)

    def in_float64(self, arrays: Mapping[str, Array]) -> list[Array]:
        """The results by NumPy, with float64 for float32."""
        self.run(None, arrays)
        return self._in_float64(arrays)

    def _in_float64(self, arrays: Mapping[str, Array]) -> list[Array]:
        """The same after such a call, by the network that was made for it."""
        if not self.networks():
            raise InputError("Sol computes nothing of this model", expected="a part for Sol")
        network = self.networks()[-1]
        order = [i.name for i in network.inputs]
        mine = [arrays.get(n) for n in order]
        if any(a is None for a in mine):  # names of its own, in the same order
            mine = [arrays[i.name] for i in self.inputs]
        given = checked(network.inputs, dict(zip(order, mine)))
        batch = network.batch(given)
        return evaluated(network.entries[-1].program, given, batch)

    def check(self, arrays: Mapping[str, Array]) -> Comparison:
        """How far results are from float64."""
        found = self.run(None, arrays)
        exact = self._in_float64(arrays)
        pairs = enumerate(zip(found, exact))
        return Comparison(tuple((f"output {n}", error_of(f, e)) for n, (f, e) in pairs))

    @property
    def parameters(self) -> int:
        """How many numbers the weights are, once the model was called."""
        entries = [e for n in self.networks()[-1:] for e in n.entries[-1:]]
        return sum(a.size for e in entries for a in e.program.captured.parameters.values())

    @property
    def left(self) -> tuple[str, ...]:
        """What Sol does not compute."""
        steps = (s for n in self.networks() for e in n.entries for s in e.program.captured.steps)
        return tuple(str(s.outside) for s in steps if isinstance(s, Host))


def opened(spec: str, **options: Any) -> Opened:
    """A model in a file of another framework than ONNX. Raises what its frontend raises."""
    path, sizes = file_of(spec)
    package = frontend_of(path).package
    return _OPENERS[package](path, sizes, options)


def _tensorflow(path: str, sizes: Sizes, options: dict[str, Any]) -> Opened:
    import tensorflow as tf

    from sol.tensorflow import optimize
    from sol.tensorflow.model import Optimized
    from sol.tensorflow.models import graph_of
    from sol.tensorflow.session import input_of

    fast = optimize(path, **options)
    graph = graph_of(fast.original) if isinstance(fast, Optimized) else None
    if graph is not None:
        inputs = [input_of(t.name, t.shape, str(t.dtype)) for t in graph._inputs]
        by_name = False
    else:
        signature = getattr(fast._session.original, "structured_input_signature", None)
        if signature is None or signature[0]:
            raise InputError(f"{path} says nothing of its inputs", expected="a serving function")
        specs = sorted(signature[1].items())
        inputs = [input_of(n, s.shape.as_list(), s.dtype.name) for n, s in specs]
        by_name = True
    names = [i.name for i in inputs]

    def run(arrays: Sequence[Array]) -> list[Array]:
        given = [tf.constant(a) for a in arrays]
        made = (
            fast(**dict(zip(names, given)))
            if by_name
            else fast(given[0] if len(given) == 1 else given)
        )
        return [np.asarray(t) for t in tf.nest.flatten(made)]

    return Opened(
        sized(inputs, sizes),
        run,
        lambda: [s.network for s in fast._session.sources.values()],
        fast.sol.explain,
    )


def _mxnet(path: str, sizes: Sizes, options: dict[str, Any]) -> Opened:
    from sol.core.dtypes import F32
    from sol.mxnet import optimize

    given = {name: (None, *shape) for name, shape in sizes.items()}
    model = optimize(path, inputs=given or None, **options)
    inputs = [Input(n, F32, given[n]) for n in model.inputs if n in given]
    missing = [n for n in model.inputs if n not in given]
    if missing:
        raise InputError(
            f"{path} does not say the sizes of {missing[0]}",
            expected="sizes without the batch",
            do=f"{path}@{missing[0]}=3x224x224",
        )

    def run(arrays: Sequence[Array]) -> list[Array]:
        made = model(*arrays)
        return list(made) if isinstance(made, list) else [made]

    return Opened(tuple(inputs), run, lambda: list(model._networks.values()), model.explain)


def _cntk(path: str, sizes: Sizes, options: dict[str, Any]) -> Opened:
    from sol.cntk import optimize

    options.pop("progress", None)
    function = optimize(path, **options)
    (network,) = function.networks

    def run(arrays: Sequence[Array]) -> list[Array]:
        return list(network(dict(zip((i.name for i in network.inputs), arrays))).values())

    inputs = sized(network.inputs, sizes)
    return Opened(inputs, run, lambda: function.networks, function.explain)


_OPENERS: dict[str, Callable[[str, Sizes, dict[str, Any]], Opened]] = {
    "sol.tensorflow": _tensorflow,
    "sol.mxnet": _mxnet,
    "sol.cntk": _cntk,
}


def sized(inputs: Sequence[Input], sizes: Sizes) -> tuple[Input, ...]:
    """Inputs with sizes that the command line says, the batch before them."""
    unknown = sizes.keys() - {i.name for i in inputs}
    if unknown:
        raise InputError(
            f"no input is called {min(unknown)}", expected=", ".join(i.name for i in inputs)
        )
    return tuple(
        replace(i, shape=(i.shape[0], *sizes[i.name])) if i.name in sizes else i for i in inputs
    )


def numbers(inputs: Sequence[Input], batch: int, seed: int = 0) -> dict[str, Array]:
    """Numbers for the inputs of a model; the first size of each is the batch."""
    for wanted in inputs:
        if any(not isinstance(s, int) for s in wanted.shape[1:]):
            raise InputError(
                f"the sizes of {wanted} are open",
                expected="sizes without the batch, behind the name of the file",
                do=f"FILE@{wanted.name}=3x224x224",
            )
    return example(SimpleNamespace(inputs=inputs), batch, seed)
