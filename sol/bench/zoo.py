"""Networks by name: torchvision, timm, transformers, or any `package.module:function`.

Comes in: a name and a batch size. Goes out: a `Network`, an `nn.Module` in evaluation mode with
example inputs of that batch. Nothing is downloaded: weights are random (see randomise.py), and the
same name and seed give the same weights in every process.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from sol.bench.randomise import randomise
from sol.core.errors import InputError
from sol.frontends import file_of, is_file

_IMAGE = (3, 224, 224)


@dataclass(frozen=True)
class Network:
    """A module and example inputs: `module(*args, **kwargs)` is a call of it."""

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""  # of a model in a file; its module is empty, and kwargs are its inputs

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All tensors among the inputs, positional ones first."""
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        if self.path:
            from sol.bench.files import parameters_of

            return parameters_of(self.path)
        return sum(p.numel() for p in self.module.parameters())


@dataclass(frozen=True)
class Source:
    """A library that knows networks by name. `build(name, batch)` gives module and inputs."""

    name: str
    names: Callable[[], Iterable[str]]
    build: Callable[[str, int], Network]

    def installed(self) -> bool:
        """Whether the library is there; nothing of it is imported."""
        return importlib.util.find_spec(self.name) is not None


def build(spec: str, batch: int = 1, *, seed: int = 0, random: bool = True) -> Network:
    """The network that `spec` names, in evaluation mode, with inputs of `batch` samples.

    `spec` is a name of torchvision, timm or transformers (`timm/resnet50d` says which), or
    `package.module:function`, where the function returns a module or a pair of module and example
    inputs, and may take `batch`; its weights stay as they are. `random=False` keeps those of the
    libraries as they initialise them.
    Raises InputError for a name that nobody knows, with the closest ones.
    """
    torch.manual_seed(seed)
    if is_file(spec):
        from sol.bench.files import example_of

        arrays = example_of(spec, batch, seed)
        inputs = {name: torch.from_numpy(a) for name, a in arrays.items()}
        return Network(Path(spec).name, nn.Module(), (), inputs, spec)
    if ":" in spec:
        network = _call(spec, batch)
        network.module.eval()
        return network
    network = _named(spec, batch)
    network.module.eval()
    if random:
        args, kwargs = pytree.tree_map(_two_samples, (network.args, dict(network.kwargs)))
        randomise(network.module, args, kwargs, seed)
    return network


def _two_samples(x: torch.Tensor) -> torch.Tensor:
    """Statistics need two samples, and the same two whatever the batch is."""
    if not x.is_floating_point():
        return _to_batch(x, 2)
    return torch.randn(2, *x.shape[1:], generator=torch.Generator().manual_seed(0))


def require(spec: str) -> None:
    """Raise InputError, with the closest names, if nobody knows `spec`. Builds nothing."""
    if is_file(spec):
        if not Path(file_of(spec)[0]).exists():
            raise InputError(f"there is no file {spec}", expected="the path of a model")
    elif ":" in spec:
        _function(spec)
    else:
        _source_of(spec)


def _named(spec: str, batch: int) -> Network:
    return _source_of(spec).build(spec.rpartition("/")[2], batch)


def _source_of(spec: str) -> Source:
    library, _, name = spec.rpartition("/")
    seen: list[str] = []
    for source in SOURCES:
        if library not in ("", source.name) or not source.installed():
            continue
        known = list(source.names())
        if name in known:
            return source
        seen += known
    close = difflib.get_close_matches(name, list(dict.fromkeys(seen)), n=5)
    absent = ", ".join(s.name for s in SOURCES if not s.installed())
    raise InputError(
        f"no network is named {spec!r}" + (f" (not installed: {absent})" if absent else ""),
        expected=f"one of {', '.join(close)}"
        if close
        else "a name of torchvision, timm or transformers",
        do="" if close else "name a network of your own as package.module:function",
    )


def _call(spec: str, batch: int) -> Network:
    """Call a user's function: `"pkg.nets:small"` -> `pkg.nets.small(batch=…)`."""
    function = _function(spec)
    takes_batch = "batch" in inspect.signature(function).parameters
    made = function(batch=batch) if takes_batch else function()
    return _from_user(spec, made, None if takes_batch else batch)


def _function(spec: str) -> Callable[..., object]:
    path, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(path), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise  # the module is there, but not what it imports
        raise InputError(
            f"there is no module {path!r}",
            expected="package.module:function",
            do=f"run it where `import {path}` works",
        ) from None
    if not callable(found):
        raise InputError(f"{path!r} has no function {name!r}", expected="package.module:function")
    return found  # type: ignore[no-any-return]


def _from_user(spec: str, made: object, batch: int | None) -> Network:
    """What the function returned as a Network; inputs are repeated up to `batch` samples."""
    if isinstance(made, nn.Module):
        return Network(spec, made, (torch.randn(batch or 1, *_IMAGE),))
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise InputError(
            f"{spec} returned {type(made).__name__}",
            expected="a torch.nn.Module, or a pair of one and its example inputs",
        )
    module, inputs = made
    if batch is not None:
        inputs = pytree.tree_map_only(torch.Tensor, lambda x: _to_batch(x, batch), inputs)
    if isinstance(inputs, Mapping):
        return Network(spec, module, (), inputs)
    return Network(spec, module, tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,))


def _to_batch(x: torch.Tensor, batch: int) -> torch.Tensor:
    return x if x.ndim == 0 or len(x) == batch else x[torch.arange(batch) % len(x)]


# ---------------------------------------------------------------------------------- torchvision


def import_torchvision() -> ModuleType:
    """`import torchvision`, also where its compiled part was built for another PyTorch.

    The wheel from the package index is built for CUDA. Beside a CPU build of PyTorch its library
    of detection operators does not load, and then the import fails for want of their names; no
    network here uses them, so their names are enough.
    """
    if "torchvision" not in sys.modules:
        declare_torchvision_operators()
    return importlib.import_module("torchvision")


_declared: list[torch.library.Library] = []  # a Library takes its operators with it when it dies


def declare_torchvision_operators() -> None:
    """Declare the operators whose names torchvision's import needs, if its library cannot."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _declared:
        return
    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)


# what a network takes where it is not a 224x224 image; the first prefix that fits counts
_TORCHVISION_SHAPES = {
    "inception_v3": (3, 299, 299),
    "mvit": (3, 16, 224, 224),
    "swin3d": (3, 16, 224, 224),
    "s3d": (3, 16, 224, 224),
    "r3d": (3, 16, 112, 112),
    "mc3": (3, 16, 112, 112),
    "r2plus1d": (3, 16, 112, 112),
}


def _torchvision_names() -> list[str]:
    models = import_torchvision().models
    parts = (models, models.segmentation, models.video)
    return [name for part in parts for name in models.list_models(module=part)]


def _torchvision(name: str, batch: int) -> Network:
    models = import_torchvision().models
    # these two would spend most of a minute on SciPy's truncated normal distribution
    options: dict[str, Any] = (
        {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    )
    if "segmentation" in models.get_model_builder(name).__module__:
        options["weights_backbone"] = None
    fits = (s for prefix, s in _TORCHVISION_SHAPES.items() if name.startswith(prefix))
    module = models.get_model(name, weights=None, **options)
    return Network(name, module, (torch.randn(batch, *next(fits, _IMAGE)),))


# ------------------------------------------------------------------------------------------ timm


def _timm_names() -> list[str]:
    import_torchvision()
    return list(importlib.import_module("timm").list_models())


def _timm(name: str, batch: int) -> Network:
    module = importlib.import_module("timm").create_model(name, pretrained=False)
    return Network(name, module, (torch.randn(batch, *module.default_cfg["input_size"]),))


# --------------------------------------------------------------------------------- transformers


def _transformers_names() -> list[str]:
    from sol.bench.transformer_zoo import names

    return names()


def _transformers(name: str, batch: int) -> Network:
    from sol.bench.transformer_zoo import make

    module, inputs = make(name, batch)
    return Network(name, module, (), inputs)


SOURCES = (
    Source("torchvision", _torchvision_names, _torchvision),
    Source("timm", _timm_names, _timm),
    Source("transformers", _transformers_names, _transformers),
)
