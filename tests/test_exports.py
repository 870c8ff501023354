"""The public names of `sol`, and what importing it may load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sol


def test_all_is_what_the_package_offers() -> None:
    assert sorted(sol.__all__) == ["SolError", "__version__", "cache", "devices", "optimize"]
    assert set(sol.__all__) <= set(dir(sol))


@pytest.mark.parametrize("name", sol.__all__)
def test_every_name_can_be_had(name: str) -> None:
    assert getattr(sol, name) is getattr(sol, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'optimise'"):
        sol.optimise  # noqa: B018


def loaded_by(code: str) -> set[str]:
    """Modules that a fresh interpreter has after running `code`, beside those it starts with."""
    script = f"import json, sys; before = set(sys.modules); {code}; "
    script += "print(json.dumps(sorted(set(sys.modules) - before)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_import_is_light() -> None:
    """0.2 s on any machine: no NumPy, no framework, no command line, few modules at all."""
    loaded = loaded_by("import sol")
    heavy = {"numpy", "torch", "argparse", "rich", "platformdirs", "asyncio", "subprocess"}
    assert not heavy & loaded
    assert len(loaded) < 40
    assert {name for name in loaded if name.startswith("sol")} == {"sol"}


def test_the_command_line_loads_no_framework() -> None:
    assert not {"torch", "tensorflow", "onnx", "sol.pytorch"} & loaded_by("import sol.cli")
