"""The backend of torch.compile: `torch.compile(model, backend="sol")`.

torch.compile cuts a network where its control flow depends on data and hands over the parts, each
a graph whose arguments are inputs, parameters and sizes. A part becomes a module that owns the
parameters, so that everything a session does for modules holds for parts: packed weights, changed
parameters, gradients on demand, operators that stay in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from sol.core.errors import ConfigError
from sol.pytorch import connect, store
from sol.pytorch.session import Session
from sol.pytorch.trace import Signature

_STATIC = "_dynamo_static_input_type"  # how torch.compile marks parameters and buffers


def backend(
    module: fx.GraphModule, examples: Sequence[Any], *, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """What torch.compile calls with a graph and example arguments; a function that runs the graph.

    options: those of `optimize`. Raises ConfigError for one that does not exist.
    """
    given = dict(options or {})
    unknown = sorted(set(given) - connect.option_names())
    if unknown:
        raise ConfigError(
            f"the backend has no option {unknown[0]!r}",
            expected=f"one of {', '.join(sorted(connect.option_names()))}",
        )
    return _Part(module, examples, given)


class _Part:
    """A graph of torch.compile, called with all of its arguments."""

    def __init__(
        self, module: fx.GraphModule, examples: Sequence[Any], options: dict[str, Any]
    ) -> None:
        self._module = module
        self._options = options
        nodes = [n for n in module.graph.nodes if n.op == "placeholder"]
        self._kept = tuple(n for n, node in enumerate(nodes) if _is_parameter(node, examples[n]))
        self._names = [nodes[n].name for n in self._kept]
        self._sizes = _sizes(nodes)
        self._inputs = tuple(
            n for n in range(len(nodes)) if n not in self._kept and n not in self._sizes
        )
        self._bound: tuple[Any, ...] = ()
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        """The session of this graph, once it was called."""
        return self._session

    def __call__(self, *args: Any) -> Any:
        """Run the graph."""
        parameters = tuple(args[n] for n in self._kept)
        session = self._session
        if session is None or any(a is not b for a, b in zip(parameters, self._bound)):
            session = self._bind(parameters)
        inputs = tuple(args[n] for n in self._inputs)
        if not session.entries and not session.refused:
            session.specialise(inputs, {})
        return session(inputs, {})

    def _bind(self, parameters: tuple[Any, ...]) -> Session:
        """A session for these very parameters."""
        owner = _Owner(self._module, dict(zip(self._names, parameters)), self._arguments)
        self._bound = parameters
        self._session = Session(
            owner, owner.forward, compile_graphs=self._compile, fingerprint=connect.fingerprint,
            read=store.read if self._sizes else _read_fixed, threads=self._options.get("threads"),
        )  # fmt: skip
        return self._session

    def _compile(self, graphs: Any, plans: Any = (), careful: Any = ()) -> Any:
        return connect.compile_all(graphs, self._options, None, plans, careful)

    def _arguments(self, inputs: Sequence[Any], parameters: Sequence[Any]) -> list[Any]:
        """All arguments of the graph in its order; sizes are read off the inputs."""
        found = dict(zip(self._inputs, inputs)) | dict(zip(self._kept, parameters))
        for place, (tensor, axis) in self._sizes.items():
            found[place] = found[tensor].shape[axis]
        return [found[n] for n in range(len(found))]


class Parts:
    """A network that cannot be read whole, run by torch.compile with Sol as its backend."""

    def __init__(self, call: Callable[..., Any], options: dict[str, Any]) -> None:
        self._options = options
        self._parts: list[_Part] = []
        self._call = torch.compile(call, backend=self._take)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network."""
        return self._call(*args, **kwargs)

    def _take(self, module: fx.GraphModule, examples: Sequence[Any]) -> _Part:
        self._parts.append(_Part(module, examples, self._options))
        return self._parts[-1]

    @property
    def sessions(self) -> list[Session]:
        """Those of the graphs that were called."""
        return [p.session for p in self._parts if p.session is not None]


class _Owner(nn.Module):
    """The module that a part is: its parameters, and a forward of what is no parameter."""

    def __init__(
        self, module: fx.GraphModule, parameters: dict[str, Any], arguments: Callable[..., Any]
    ) -> None:
        super().__init__()
        self.graph = module
        self._arguments = arguments
        self._names = tuple(parameters)
        for name, tensor in parameters.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        self.eval()  # what trains is said in the graph, operator by operator

    def forward(self, *inputs: Any) -> Any:
        """Run the graph by PyTorch."""
        parameters = [getattr(self, name) for name in self._names]
        return self.graph(*self._arguments(inputs, parameters))


def _read_fixed(
    model: nn.Module, call: Callable[..., Any], signature: Signature, training: bool = False
) -> Any:
    """A graph of fixed sizes: there is no batch to leave open."""
    return store.read(model, call, signature.fixed(), training)


def _is_parameter(node: fx.Node, example: Any) -> bool:
    if isinstance(example, nn.Parameter):
        return True
    return isinstance(example, torch.Tensor) and _STATIC in node.meta.get("tensor_dict", {})


def _sizes(nodes: Sequence[fx.Node]) -> dict[int, tuple[int, int]]:
    """For arguments that are sizes of a tensor argument: which tensor, which axis."""
    places: dict[str, tuple[int, int]] = {}
    for place, node in enumerate(nodes):
        value = node.meta.get("example_value")
        if isinstance(value, torch.Tensor):
            for axis, size in enumerate(value.shape):
                places.setdefault(str(size), (place, axis))
    found = {}
    for place, node in enumerate(nodes):
        value = node.meta.get("example_value")
        if isinstance(value, torch.SymInt) and str(value) in places:
            found[place] = places[str(value)]
    return found
