"""The examples run as they stand, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
# `import torchvision` works beside any build of PyTorch, then the example as a user would run it
_RUN = (
    "import runpy, sys; from sol.bench.zoo import declare_torchvision_operators as declare; "
    "declare(); runpy.run_path(sys.argv[1], run_name='__main__')"
)


def run(*command: str) -> str:
    """Standard output of a command in the folder of the examples; its errors if it fails."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=EXAMPLES, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_call_of_the_poster() -> None:
    assert "torch.Size([32, 1000])" in run("-c", _RUN, "quickstart.py")


def test_the_poster_is_quoted_verbatim_in_the_readme() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text()
    quoted = readme.split("```python\n")[1].split("```")[0]
    example = (EXAMPLES / "quickstart.py").read_text()
    lines = [" ".join(line.split()) for line in quoted.splitlines() if line.strip()]
    assert lines
    assert [line for line in lines if line not in example] == []


def test_torch_compile() -> None:
    assert "equal to PyTorch on both ways" in run("-c", _RUN, "torch_compile.py")


def test_a_network_of_ones_own_on_the_command_line() -> None:
    assert run("-m", "sol", "explain", "own_network:encoder", "--batch", "2")
