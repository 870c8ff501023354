"""`make demo`: ResNet-50 through the poster's call. Is it equal, how fast, what does it need?"""

from __future__ import annotations

import time

import torch
from rich.console import Console
from rich.progress import Progress
from rich.rule import Rule

from sol.bench.run import benchmark
from sol.bench.session import Plan
from sol.bench.table import show
from sol.bench.zoo import import_torchvision
from sol.pytorch import optimize

console = Console(highlight=False)


def call_of_the_poster() -> None:
    """Optimise, run, compare with PyTorch in float32 and float64."""
    models = import_torchvision().models
    console.print(Rule("ResNet-50, 32 images", align="left"))

    torch.manual_seed(0)
    original = models.resnet50().eval()
    input = torch.rand(32, 3, 224, 224)

    begin = time.perf_counter()
    model = optimize(original, input.size())
    console.print(f"optimized in {time.perf_counter() - begin:.1f} s")
    with console.status("running"):
        output = model(input)
    console.print(f"output: {type(model).__name__} -> {tuple(output.shape)}")

    with console.status("comparing with PyTorch, and with PyTorch in float64"):
        report = model.sol.check(input)
    console.print(str(report), markup=False)
    console.print(str(model.sol.memory), markup=False)


def speed_and_memory(batch: int, rounds: int) -> None:
    """Sol and PyTorch in processes of their own, measured in turn on all cores."""
    threads = torch.get_num_threads()
    plan = Plan(("sol", "eager"), threads=threads, rounds=rounds)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("measuring", total=None)

        def tell(text: str, done: int, steps: int) -> None:
            bar.update(task, description=text, completed=done, total=steps)

        result = benchmark(["resnet50"], [batch], plan, tell)
    show(result, console)


if __name__ == "__main__":
    call_of_the_poster()
    console.print(Rule("against PyTorch", align="left"))
    speed_and_memory(batch=1, rounds=10)
    speed_and_memory(batch=32, rounds=3)
