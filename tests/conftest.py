"""What all tests share: a cache of their own, kernels of Sol's own (tests/libraries allows others),
no measuring against PyTorch (tests/pytorch/test_never_slower.py has clocks of its own), and
torchvision beside any build of PyTorch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest


class _PrepareTorchvision(MetaPathFinder):
    """Let any test write `import torchvision`, whichever build of PyTorch is installed.

    At the first import of torchvision this steps aside and declares what its import needs.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            from sol.bench.zoo import declare_torchvision_operators

            declare_torchvision_operators()
        return None


sys.meta_path.insert(0, _PrepareTorchvision())


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests neither see nor fill the user's cache; one run shares one, so kernels are reused."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("sol-cache")
        cache.chmod(0o700)
        patch.setenv("SOL_CACHE_DIR", str(cache))
        patch.setenv("SOL_LIBRARIES", "none")
        patch.setenv("SOL_NEVER_SLOWER", "0")
        yield cache


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Weights of modules that a test makes are the same in every run."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh cache directory for a test that counts or breaks entries."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    monkeypatch.setenv("SOL_CACHE_DIR", str(cache))
    return cache
