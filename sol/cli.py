"""The command `sol`: devices | optimize | explain | bench | cache.

Each command is a row of `COMMANDS`: its arguments and a function from them to an exit status.
What is asked for goes to standard output, progress and errors to standard error. Exit status: 0
done, 1 it failed, 2 a wrong call, 130 interrupted. An error of Sol is shown as its message, never
as a traceback.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import sol
from sol.core.errors import ConfigError, InputError, SolError
from sol.frontends import is_file

if TYPE_CHECKING:
    from sol.bench.results import Benchmark
    from sol.bench.zoo import Network

_MODEL = (
    "a name of torchvision, timm or transformers, package.module:function, or a file: .onnx, "
    ".keras, SavedModel, NAME-symbol.json@data=3x224x224, CNTK's .model"
)
_ROOFLINE = "show each cluster against the machine's peaks, what loses most time first"
_AGAINST = (
    "eager",
    "channels_last",
    "inductor",
    "inductor-freezing",
    "openvino",
    "onnxruntime",
    "ncnn",
)
_TRAINING = ("eager", "channels_last", "inductor")

Arguments = argparse.Namespace


Tell = Callable[[str, int, int], None]
"""Called with what happens now, steps done, and steps in all (0: nobody knows)."""


@dataclass(frozen=True)
class Screen:
    """Where a command writes: `out` for what was asked for, `err` for progress and errors."""

    out: Console
    err: Console

    @property
    def width(self) -> int:
        """Columns of a line: those of the terminal, within reason; 120 where there is none."""
        return max(100, min(160, self.out.width)) if self.out.is_terminal else 120

    def line(self, text: str) -> None:
        """One line of the result, as it is: no wrapping, no colours from its content."""
        self.out.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Tell]:
        """A bar on standard error while work goes on; plain lines where that is no terminal."""
        if not self.err.is_terminal:
            yield lambda text, done, steps: print(text, file=sys.stderr, flush=True)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self.err, transient=True) as bar:
            task = bar.add_task("", total=None)

            def tell(text: str, done: int, steps: int) -> None:
                bar.update(task, description=text, completed=done, total=steps or None)

            yield tell


@dataclass(frozen=True)
class Command:
    """One command: what it is called, what it is for, its arguments and what it does."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments, Screen], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parsed = parser().parse_args(arguments)
    screen = Screen(Console(), Console(stderr=True))
    try:
        status: int = parsed.run(parsed, screen)
    except SolError as error:
        screen.err.print(Text.assemble(("sol: ", "bold red"), str(error)))
        return 2 if isinstance(error, (InputError, ConfigError)) else 1
    except KeyboardInterrupt:
        screen.err.print("sol: interrupted")
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """All commands and options; `sol --help` shows them."""
    top = argparse.ArgumentParser(
        prog="sol", description="Makes existing neural networks faster and smaller."
    )
    top.add_argument("--version", action="version", version=f"sol {sol.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        made = commands.add_parser(command.name, help=command.help, description=command.help)
        command.arguments(made)
        made.set_defaults(run=command.run)
    return top


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


# ---------------------------------------------------------------------------------------- devices


def _no_arguments(made: argparse.ArgumentParser) -> None:
    del made


def _devices(arguments: Arguments, screen: Screen) -> int:
    from sol import libraries
    from sol.backends.compilers import find_compiler

    for device in sol.devices():
        screen.line(device.describe())
    screen.line(f"compiler: {find_compiler().describe()}")
    for line in libraries.describe():
        screen.line(line)
    screen.line(f"cache: {sol.cache.path}")
    return 0


# ----------------------------------------------------------------------------- optimize, explain


def _model_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("model", metavar="MODEL", help=_MODEL)
    made.add_argument("--batch", type=_positive, default=1, help="samples in a call (default 1)")
    made.add_argument("--threads", type=_positive, help="threads to use (default: PyTorch's)")
    _tune_argument(made)


def _tune_argument(made: argparse.ArgumentParser) -> None:
    help = "measure other methods for the layers for so long (default 0: not at all)"
    made.add_argument("--tune", type=_seconds, default=0.0, metavar="SECONDS", help=help)


def _optimized(arguments: Arguments, screen: Screen) -> tuple[Network, Any]:
    """The network that the arguments name, and what Sol makes of it."""
    with screen.progress() as tell:
        tell("starting PyTorch", 0, 0)
        from sol.bench.optimized import optimized

        chosen = (arguments.model, arguments.batch, arguments.threads)
        return optimized(*chosen, tell, tune=arguments.tune)


def _from_file(arguments: Arguments, screen: Screen) -> tuple[Any, Any]:
    """A model in a file by Sol, and numbers for its inputs."""
    with screen.progress() as tell:
        tell(f"optimizing {arguments.model}", 0, 0)
        from sol.bench.files import opened

        chosen = (arguments.model, arguments.batch, arguments.threads)
        return opened(*chosen, tell, tune=arguments.tune)


def _optimize_file(arguments: Arguments, screen: Screen) -> int:
    session, arrays = _from_file(arguments, screen)
    with screen.progress() as tell:
        tell("comparing with float64", 0, 0)
        report = session.check(arrays)
    screen.line(f"{Path(arguments.model).name}: {session.parameters / 1e6:.1f} million weights")
    screen.line(str(report))
    for line in session.left:
        screen.line(f"not by Sol: {line}")
    return 0


def _optimize(arguments: Arguments, screen: Screen) -> int:
    if is_file(arguments.model):
        return _optimize_file(arguments, screen)
    network, fast = _optimized(arguments, screen)
    with screen.progress() as tell:
        tell("comparing with PyTorch, and with PyTorch in float64", 0, 0)
        report = fast.sol.check(*network.args, **network.kwargs)
    screen.line(f"{network.name}: {network.parameters / 1e6:.1f} million weights")
    screen.line(str(report))
    screen.line(str(fast.sol.memory))
    for program in fast.sol.report.programs:
        for measured in program.measured:
            screen.line(str(measured))
    return 0


def _explain_arguments(made: argparse.ArgumentParser) -> None:
    _model_arguments(made)
    made.add_argument("--roofline", action="store_true", help=_ROOFLINE)


def _explain(arguments: Arguments, screen: Screen) -> int:
    if is_file(arguments.model):
        session, arrays = _from_file(arguments, screen)
        session.run(None, arrays)
        screen.line(session.explain(arguments.roofline, screen.width))
        return 0
    network, fast = _optimized(arguments, screen)
    fast(*network.args, **network.kwargs)
    screen.line(fast.sol.explain(arguments.roofline, screen.width))
    return 0


# ------------------------------------------------------------------------------------------ bench


def _bench_arguments(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("models", metavar="MODEL", nargs="+", help=_MODEL)
    add("--batch", type=_positive, nargs="+", default=[1], help="samples in a call (default 1)")
    add("--threads", type=_positive, default=2, help="threads of every rival (default 2)")
    add("--against", nargs="*", help=f"rivals: {', '.join(_AGAINST)} (default: all)")
    add("--train", action="store_true", help="whole steps of training, against PyTorch's ways")
    add("--memory", metavar="SIZE", help="another row: Sol training within 500MB, say")
    add("--rounds", type=_positive, default=10, help="turns of every rival (default 10)")
    add("--seconds", type=float, default=0.2, help="length of a turn (default 0.2)")
    add("--seed", type=int, default=0, help="of the random weights and inputs (default 0)")
    add("--timeout", type=float, default=900.0, help="seconds to get ready (default 900)")
    _tune_argument(made)
    add("--json", type=Path, metavar="FILE", help="also write everything to this file")
    add("--no-sol", action="store_true", help="only the rivals")
    add("--roofline", action="store_true", help=_ROOFLINE)


def _bench(arguments: Arguments, screen: Screen) -> int:
    with screen.progress() as tell:
        tell("starting", 0, 0)
        from sol.bench.run import benchmark, save
        from sol.bench.session import Plan

        plan = Plan(
            _rivals(arguments),
            arguments.threads,
            arguments.rounds,
            arguments.seconds,
            arguments.seed,
            arguments.timeout,
            tune=arguments.tune,
            train=arguments.train,
            memory=arguments.memory,
        )
        result = benchmark(arguments.models, arguments.batch, plan, tell)
    if arguments.json is not None:
        save(result, arguments.json)
    status = _show(result, screen)
    if arguments.roofline:
        _rooflines(arguments, screen)
    return status


def _rooflines(arguments: Arguments, screen: Screen) -> None:
    """Sol's clusters on each network at each batch size, measured in this process."""
    for model in arguments.models:
        for batch in arguments.batch:
            chosen = argparse.Namespace(**vars(arguments) | {"model": model, "batch": batch})
            if is_file(model):
                session, arrays = _from_file(chosen, screen)
                session.run(None, arrays)
                screen.line(f"\n{model}, batch {batch}")
                screen.line(session.explain(roofline=True, width=screen.width))
                continue
            network, fast = _optimized(chosen, screen)
            screen.line(f"\n{network.name}, batch {batch}")
            screen.line(fast.sol.explain(roofline=True, width=screen.width))


def _rivals(arguments: Arguments) -> tuple[str, ...]:
    """`--against eager,inductor ncnn` -> sol, eager, inductor, ncnn; each once."""
    against = arguments.against
    if against is None:
        against = _TRAINING if arguments.train else _AGAINST
    named = [name for text in against for name in text.split(",") if name]
    within = arguments.train and arguments.memory is not None
    ours = [] if arguments.no_sol else ["sol"] + ["sol-budget"] * within
    return tuple(dict.fromkeys(ours + named))


def _show(result: Benchmark, screen: Screen) -> int:
    """Print the tables; 1 if Sol was asked for and failed somewhere."""
    from sol.bench.table import show

    show(result, screen.out)
    failed = [m for c in result.comparisons for m in c.measurements if m.reason]
    return 1 if any(m.rival.startswith("sol") for m in failed) else 0


# ------------------------------------------------------------------------------------------ cache


def _cache_arguments(made: argparse.ArgumentParser) -> None:
    made.add_argument("--clear", action="store_true", help="remove everything")
    made.add_argument("--prune", action="store_true", help="remove what was not used for longest")


def _cache(arguments: Arguments, screen: Screen) -> int:
    if arguments.clear:
        sol.cache.clear()
    elif arguments.prune:
        sol.cache.prune()
    table = Table.grid(padding=(0, 2))
    table.add_row("directory", str(sol.cache.path))
    entries = sol.cache.entries()
    table.add_row("tuned layers", str(sum(entry.kind == "tuned" for entry in entries)))
    table.add_row("entries", str(len(entries)))
    table.add_row("size", f"{sol.cache.size / 2**20:.1f} MiB")
    screen.out.print(table)
    return 0


COMMANDS = (
    Command("devices", "show what Sol can compile for, and with what", _no_arguments, _devices),
    Command("optimize", "optimize a network and check the result", _model_arguments, _optimize),
    Command("explain", "show what became of each layer, and why", _explain_arguments, _explain),
    Command("bench", "measure Sol and others on networks, in turn", _bench_arguments, _bench),
    Command("cache", "show or clear what Sol keeps on disk", _cache_arguments, _cache),
)

if __name__ == "__main__":
    sys.exit(main())
