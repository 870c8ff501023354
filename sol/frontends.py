"""Which frontend takes a model: the table behind `sol.optimize`.

A frontend is a package with a function `optimize`. It is found by the packages that the classes of
a model come from, or by the ending of a file's name, and imported only then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sol.core.errors import InputError


@dataclass(frozen=True)
class Frontend:
    """A row: the package, the frameworks whose classes it takes, endings of its files, and what to
    call that. inside: the file by which its directories are known. commands: whether the command
    line runs its files.
    """

    package: str
    frameworks: tuple[str, ...]
    endings: tuple[str, ...]
    what: str
    inside: str = ""
    commands: bool = False

    def takes(self, model: Any) -> bool:
        """Whether a model is of this frontend."""
        if isinstance(model, (str, os.PathLike)):
            begun = (Path(f"{os.fspath(model)}{e}") for e in self.endings if e.startswith("-"))
            return self.reads(Path(model)) or any(path.is_file() for path in begun)
        packages = {c.__module__.partition(".")[0] for c in type(model).__mro__}
        return not packages.isdisjoint(self.frameworks)

    def reads(self, path: Path) -> bool:
        """Whether a file or directory is of this frontend, by its name or what is inside."""
        directory = bool(self.inside) and (path / self.inside).exists()
        return directory or path.name.lower().endswith(self.endings)


FRONTENDS = (
    Frontend("sol.pytorch", ("torch",), (), "a torch.nn.Module"),
    Frontend(
        "sol.onnx",
        ("onnx",),
        (".onnx",),
        "the path of an .onnx file or an onnx.ModelProto",
        commands=True,
    ),
    Frontend(
        "sol.tensorflow",
        ("keras", "tensorflow"),
        (".keras", ".h5", ".hdf5", ".pb"),
        "a model of Keras, a tf.function or a SavedModel",
        inside="saved_model.pb",
        commands=True,
    ),
    Frontend(
        "sol.mxnet",
        ("mxnet",),
        ("-symbol.json",),
        "the path of a NAME-symbol.json file or NAME, a Symbol or a gluon HybridBlock",
        commands=True,
    ),
    Frontend(
        "sol.cntk",
        (),
        (".model", ".dnn", ".cntk"),
        "the path of a file that CNTK 2 saved",
        commands=True,
    ),
)


def frontend_of(model: Any) -> Frontend:
    """The row that takes a model. Raises InputError if there is none."""
    for frontend in FRONTENDS:
        if frontend.takes(model):
            return frontend
    a_path = isinstance(model, (str, os.PathLike))
    shown = repr(model) if a_path else f"an object of the type {type(model).__name__}"
    raise InputError(
        f"no frontend of Sol takes {shown}", expected=", ".join(f.what for f in FRONTENDS)
    )


def is_file(spec: str) -> bool:
    """Whether a name on the command line is that of a model in a file or directory."""
    path = file_of(spec)[0]
    return any(f.reads(Path(path)) for f in FRONTENDS if f.commands)


def file_of(spec: str) -> tuple[str, dict[str, tuple[int, ...]]]:
    """`net-symbol.json@data=3x224x224` -> the path, and sizes of inputs without the batch. Raises
    InputError for sizes that are none."""
    path, mark, rest = spec.rpartition("@")
    if not mark or "=" not in rest or Path(spec).exists():
        return spec, {}
    sizes = {}
    for part in rest.split(","):
        name, _, text = part.partition("=")
        numbers = text.split("x") if text else []
        if not name or not all(n.isdigit() and int(n) > 0 for n in numbers):
            raise InputError(f"{part!r} behind @", expected="NAME=SIZES, such as data=3x224x224")
        sizes[name] = tuple(map(int, numbers))
    return path, sizes


def optimize(model: Any, *example: Any, **options: Any) -> Any:
    """The model by Sol, as the `optimize` of its frontend makes it: of a PyTorch module one of its
    class, of an ONNX file a session, of a model of Keras another one, of a CNTK file a function.
    Further arguments are those of that function."""
    module = import_module(frontend_of(model).package)
    return module.optimize(model, *example, **options)
