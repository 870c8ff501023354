"""A captured network that runs: executables for Sol's steps, PyTorch for the others.

A `Program` knows the steps and the memory they need between them. It is handed tensors that fit its
signature, contiguous ones, and returns the network's result. Outputs are new tensors of PyTorch;
everything else a step of Sol needs is its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from sol.core.dims import Dim, concrete, evaluate
from sol.ir.graph import Graph
from sol.plan.planner import Planned
from sol.pytorch.steps import Captured, Lifted, Parameter, Seed, SolStep, TorchStep, Value, reads
from sol.pytorch.tree import Branch, Leaf, unflatten
from sol.pytorch.types import TO_TORCH
from sol.runtime.threads import count

Tensors = Sequence[torch.Tensor]
Kind = tuple[tuple[int, ...], torch.dtype]
Again = tuple[Callable[[bytes], bool], tuple[int, ...], list[Kind]]
_SEEDS = 1 << 62


class Executable(Protocol):
    """A compiled graph (sol/compiler.py)."""

    def prepare(self, parameters: Mapping[str, NDArray[Any]]) -> None:
        """Take the values of parameters; they stay in the framework's memory."""

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], batch: int, threads: int
    ) -> object:
        """Compute; addresses of contiguous tensors in the order of the graph."""

    def again(self, batch: int, threads: int, look: Any) -> Callable[[bytes], bool] | None:
        """What makes a call of `run` once more, on the tensors of which it is handed the addresses,
        and returns False if a look says that something has changed; None if it cannot."""


class Compile(Protocol):
    """Compiles all parts of a network together, by plans if they are there. careful: numbers of
    parts that have to round little, whatever the user allows."""

    def __call__(
        self, graphs: Sequence[Graph], plans: Sequence[Planned] = (), careful: Collection[int] = ()
    ) -> Sequence[Executable]: ...


class Program:
    """The steps of one captured network with their executables."""

    def __init__(self, captured: Captured, compile_graphs: Compile, threads: int | None) -> None:
        self.captured = captured
        self.prepared: Any = None  # the state of the parameters that the executables know
        self._threads = threads
        self._tensors: Mapping[str, torch.Tensor] = {}
        self._last_use = _last_uses(captured)
        self.executables = list(compile_graphs(captured.graphs))
        executables = iter(self.executables)
        self._runs: list[Callable[[dict[str, Any], int], None]] = [
            self._runner(step, next(executables))
            if isinstance(step, SolStep)
            else _TorchRunner(step, self)
            for step in captured.steps
        ]
        self._direct = self._shortcut()

    def _runner(self, step: SolStep, executable: Executable) -> Callable[..., None]:
        """What runs a step of Sol."""
        return _SolRunner(step, executable, self)

    def prepare(self, tensors: Mapping[str, torch.Tensor], state: Any) -> None:
        """Take the parameters as they are now; `state` says which these are."""
        self._tensors = tensors
        steps = (s for s in self.captured.steps if isinstance(s, SolStep))
        for step, executable in zip(steps, self.executables):
            keys = [n["key"] for n in step.graph.parameters]
            executable.prepare({key: as_array(tensors[key]) for key in keys})
        self.prepared = state

    def exchange(self, executables: Sequence[Executable]) -> None:
        """Use others that compute the same, prepared with the same parameters."""
        self.executables = list(executables)
        runners = (r for r in self._runs if isinstance(r, _SolRunner))
        for runner, executable in zip(runners, executables):
            runner.use(executable)

    def tensor(self, reference: Any, values: Mapping[str, Any]) -> Any:
        """What a reference stands for in this call."""
        match reference:
            case Value(name):
                return values[name]
            case Parameter(key):
                return self._tensors[key]
            case Lifted(key):
                return self.captured.lifted[key]
            case Seed():
                return torch.randint(_SEEDS, (1,))
        raise AssertionError(f"no reference: {reference!r}")

    def threads(self) -> int:
        """How many threads a call uses: the option, SOL_THREADS, PyTorch's number; never more
        than there are cores."""
        return count(self._threads, torch.get_num_threads)

    # ---- running

    def _shortcut(self) -> tuple[_SolRunner, tuple[int, ...]] | None:
        """The one runner of a network that is one step of Sol from arguments to results, and the
        numbers of the arguments that it reads, in its order."""
        c = self.captured
        if len(c.steps) != 1 or not isinstance(c.steps[0], SolStep) or c.mutations:
            return None
        step, runner = c.steps[0], self._runs[0]
        arguments = {Value(name): number for number, name in enumerate(c.inputs)}
        whole = all(i in arguments for i in step.inputs)
        whole = whole and c.results == tuple(map(Value, step.outputs))
        if not whole or not isinstance(runner, _SolRunner):
            return None
        return runner, tuple(arguments[i] for i in step.inputs if isinstance(i, Value))

    def again(self, batch: int, look: Any) -> Again | None:
        """What makes a call once more (`Executable.again`), the numbers of the arguments of which
        it needs the addresses, and the kinds of outputs, of which it needs them, too; None unless
        the network is one step."""
        if self._direct is None:
            return None
        runner, order = self._direct
        run = runner.again(batch, look)
        return None if run is None else (run, order, runner.kinds(batch))

    def run(self, tensors: Tensors, batch: int) -> list[torch.Tensor]:
        """The tensors of the network's result."""
        if self._direct is not None:
            runner, order = self._direct
            return runner.direct([tensors[k] for k in order], batch)
        return self.finish(tensors, batch, self.compute(tensors, batch))

    def compute(self, tensors: Tensors, batch: int) -> dict[str, Any]:
        """The values that steps leave, without those that are views of others."""
        values: dict[str, Any] = dict(zip(self.captured.inputs, tensors))
        for step, done in zip(self._runs[: self.captured.computing], self._last_use):
            step(values, batch)
            for name in done:
                values.pop(name, None)
        return values

    def finish(self, tensors: Tensors, batch: int, values: dict[str, Any]) -> list[torch.Tensor]:
        """Make the views, write what the network writes; the tensors of its result."""
        for step in self._runs[self.captured.computing :]:
            step(values, batch)
        for target, name in self.captured.mutations:
            changed = self._tensors[target] if isinstance(target, str) else tensors[target]
            with torch.no_grad():
                changed.copy_(values[name])
        return [self.tensor(r, values) for r in self.captured.results]

    def traffic(self, tensors: Tensors, batch: int) -> Iterator[tuple[Graph, Tensors]]:
        """Run, and show the graph and the inputs of every step of Sol before it runs."""
        values: dict[str, Any] = dict(zip(self.captured.inputs, tensors))
        for step, run in zip(self.captured.steps[: self.captured.computing], self._runs):
            if isinstance(step, SolStep):
                yield step.graph, [self.tensor(r, values).contiguous() for r in step.inputs]
            run(values, batch)

    def put_together(self, results: list[torch.Tensor]) -> Any:
        """The results in the structure that the network returns."""
        tree = self.captured.tree
        if isinstance(tree, Leaf):
            return results[0]
        if isinstance(tree, Branch) and tree.kind == "tuple" and _is_flat(tree):
            return tuple(results)
        return unflatten(tree, results)


class _SolRunner:
    """One step of Sol: allocates its outputs and runs its executable."""

    def __init__(self, step: SolStep, executable: Executable, program: Program) -> None:
        self._step, self._executable, self._program = step, executable, program
        graph = step.graph
        self._types = [(graph[o].shape, TO_TORCH[graph[o].dtype]) for o in graph.outputs]
        self._shapes: dict[int, list[Kind]] = {}

    def use(self, executable: Executable) -> None:
        """Run another executable from now on."""
        self._executable = executable

    def direct(self, tensors: Tensors, batch: int) -> list[torch.Tensor]:
        """Run on these inputs; the outputs."""
        outputs = [torch.empty(shape, dtype=dtype) for shape, dtype in self.kinds(batch)]
        self._executable.run(
            [t.data_ptr() for t in tensors], [t.data_ptr() for t in outputs],
            batch, self._program.threads(),
        )  # fmt: skip
        return outputs

    def again(self, batch: int, look: Any) -> Callable[[bytes], bool] | None:
        """What runs once more (`Executable.again`), on as many threads."""
        return self._executable.again(batch, self._program.threads(), look)

    def kinds(self, batch: int) -> list[Kind]:
        """Shapes and types of the outputs."""
        found = self._shapes.get(batch)
        if found is None:
            if len(self._shapes) > 64:
                self._shapes.clear()
            found = [(concrete(shape, batch), dtype) for shape, dtype in self._types]
            self._shapes[batch] = found
        return found

    def __call__(self, values: dict[str, Any], batch: int) -> None:
        inputs = [self._program.tensor(r, values).contiguous() for r in self._step.inputs]
        values.update(zip(self._step.outputs, self.direct(inputs, batch)))


class _TorchRunner:
    """One operator of PyTorch."""

    def __init__(self, step: TorchStep, program: Program) -> None:
        self._step, self._program = step, program
        self._target = resolve(step.target)

    def __call__(self, values: dict[str, Any], batch: int) -> None:
        args = self._filled(self._step.args, values, batch)
        kwargs = {k: self._filled(v, values, batch) for k, v in self._step.kwargs}
        values[self._step.result] = self._target(*args, **kwargs)

    def _filled(self, value: Any, values: Mapping[str, Any], batch: int) -> Any:
        if isinstance(value, (tuple, list)):
            return [self._filled(v, values, batch) for v in value]
        if isinstance(value, Dim):
            return evaluate(value, batch)
        if isinstance(value, (Value, Parameter, Lifted)):
            return self._program.tensor(value, values)
        return value


def resolve(target: str) -> Callable[..., Any]:
    """The function that `segments.target_name` named: `aten.add.Tensor`, `library::op.overload` or
    `module:function`."""
    if target.startswith("aten."):
        _, name, overload = target.split(".")
        return getattr(getattr(torch.ops.aten, name), overload)  # type: ignore[no-any-return]
    if "::" in target:
        library, _, path = target.partition("::")
        _, name, overload = path.split(".")
        return getattr(getattr(getattr(torch.ops, library), name), overload)  # type: ignore[no-any-return]
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def as_array(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor's values as an array on the same memory."""
    array: NDArray[Any] = tensor.detach().resolve_neg().numpy()
    return array if array.flags.aligned else np.ascontiguousarray(array)


def _last_uses(captured: Captured) -> list[list[str]]:
    """For each step the values that nobody needs after it."""
    kept = {r.name for r in captured.results if isinstance(r, Value)}
    kept.update(name for _, name in captured.mutations)
    kept.update(n for step in captured.steps[captured.computing :] for n in reads(step))
    last: dict[str, int] = {}
    for number, step in enumerate(captured.steps):
        for name in reads(step):
            last[name] = number
    done: list[list[str]] = [[] for _ in captured.steps]
    for name, number in last.items():
        if name not in kept:
            done[number].append(name)
    return done


def _is_flat(tree: Branch) -> bool:
    return all(isinstance(c, Leaf) and c.index == n for n, c in enumerate(tree.children))
