"""What can run a network: Sol, PyTorch as it is, PyTorch's compiler, and three inference engines.

A rival is a row: how it gets ready, which packages it needs, which of its settings name a cache on
disk. Getting ready means what its documentation tells a user to do, in float32 and with the
threads that the job says. All that differs between rivals stands in this file. Those that train
have a second way to get ready, for steps of training.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from sol.bench import files, training
from sol.bench.zoo import Network
from sol.core.errors import InputError, SolError
from sol.frontends import file_of

Array = NDArray[Any]
_AT_ONCE = 4  # images, in float64


@dataclass(frozen=True)
class Runner:
    """A network made ready: `call()` is what is timed, `outputs(result)` are its arrays.

    kept: what must live as long, because an engine only knows addresses of it. release: gives back
    memory that is kept between calls; describe: a note that is known after the first call.
    """

    call: Callable[[], Any]
    outputs: Callable[[Any], list[Array]]
    note: str = ""
    kept: Any = None
    release: Callable[[], None] = lambda: None
    describe: Callable[[], str] = lambda: ""


@dataclass(frozen=True)
class Setting:
    """What a rival is told: threads to use, a folder for its files, for how many seconds Sol may
    tune, whether a call is a step of training, and the memory that Sol may take."""

    threads: int
    folder: Path
    tune: float = 0.0
    train: bool = False
    memory: str | None = None


@dataclass(frozen=True)
class Rival:
    """One row. `caches` are the environment variables of its caches on disk, if it has any."""

    name: str
    what: str
    prepare_module: Callable[[Network, Setting], Runner]
    packages: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    first_call_compiles: bool = False
    prepare_file: Callable[[Network, Setting], Runner] | None = None
    prepare_training: Callable[[Network, Setting], Runner] | None = None

    def prepare(self, network: Network, setting: Setting) -> Runner:
        """The network made ready. Raises InputError if it is a file that the rival cannot read, or
        if the rival does not train and should."""
        if setting.train:
            if network.path or self.prepare_training is None:
                raise InputError(f"{self.name} trains no {'files' if network.path else 'networks'}")
            return self.prepare_training(training.for_training(network), setting)
        if not network.path:
            return self.prepare_module(network, setting)
        if self.prepare_file is None:
            raise InputError(f"{self.name} reads no {Path(file_of(network.path)[0]).suffix} files")
        return self.prepare_file(network, setting)

    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


def find(name: str) -> Rival:
    """The row of that name. Raises InputError, with all names, if there is none."""
    for rival in (*RIVALS, REFERENCE):
        if rival.name == name:
            return rival
    raise InputError(
        f"no rival is named {name!r}", expected=f"one of {', '.join(r.name for r in RIVALS)}"
    )


# ------------------------------------------------------------------------------------------ torch


def _arrays(result: Any) -> list[Array]:
    """The tensors of any structure of outputs, as arrays."""
    leaves = pytree.tree_leaves(result)
    return [leaf.detach().numpy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _module_runner(
    module: Callable[..., Any], network: Network, mode: Callable[[], Any] = torch.inference_mode
) -> Runner:
    def call() -> Any:
        with mode():
            return module(*network.args, **network.kwargs)

    return Runner(call, _arrays)


def _eager(network: Network, setting: Setting) -> Runner:
    return _module_runner(network.module, network)


def _reference(network: Network, setting: Setting) -> Runner:
    """In float64; a few images at a time if they do not look at each other, for memory."""
    network.module.double()
    exact = _mapped(network, _double)
    count = _images(exact)

    def run(begin: int, end: int) -> list[Array]:
        part = _mapped(exact, lambda t: t[begin:end])
        with torch.inference_mode():
            return _arrays(network.module(*part.args, **part.kwargs))

    if count <= _AT_ONCE or not _alike(run(0, 2), _joined([run(0, 1), run(1, 2)])):
        return _module_runner(network.module, exact)
    begins = range(0, count, _AT_ONCE)
    return Runner(lambda: _joined([run(k, min(k + _AT_ONCE, count)) for k in begins]), list)


def _images(network: Network) -> int:
    """The first size that all inputs share; 0 if there is none."""
    sizes = {t.shape[0] if t.ndim else 0 for t in network.tensors}
    return sizes.pop() if len(sizes) == 1 else 0


def _joined(parts: list[list[Array]]) -> list[Array]:
    return [np.concatenate(results) if results[0].ndim else results[0] for results in zip(*parts)]


def _alike(found: list[Array], expected: list[Array]) -> bool:
    return all(
        f.shape == e.shape and np.allclose(f, e, rtol=1e-9, atol=1e-9 * np.abs(e).max(initial=0))
        for f, e in zip(found, expected, strict=True)
    )


def _double(x: torch.Tensor) -> torch.Tensor:
    return x.double() if x.is_floating_point() else x


def _channels_last(network: Network, setting: Setting) -> Runner:
    module = network.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _module_runner(module, _mapped(network, _to_channels_last))


def _to_channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _mapped(network: Network, change: Callable[[torch.Tensor], torch.Tensor]) -> Network:
    inputs = (network.args, dict(network.kwargs))
    args, kwargs = pytree.tree_map_only(torch.Tensor, change, inputs)
    return Network(network.name, network.module, args, kwargs)


def _inductor(network: Network, setting: Setting) -> Runner:
    return _module_runner(torch.compile(network.module), network, torch.no_grad)


def _inductor_freezing(network: Network, setting: Setting) -> Runner:
    from torch._inductor import config

    config.freezing = True
    return _inductor(network, setting)


def _sol(network: Network, setting: Setting) -> Runner:
    from sol.pytorch import optimize

    named, tune = network.kwargs, setting.tune
    fast = optimize(network.module, *network.args, example_kwargs=named, progress=False, tune=tune)
    runner = _module_runner(fast, network)
    handle: Any = fast.sol
    if handle.report.programs:
        left = sum(len(p.left) for p in handle.report.programs)
        return replace(runner, note=f"{left} operators stay in PyTorch" if left else "")
    runner.call()  # a network that cannot be read whole is cut into parts by its first call
    report = handle.report
    if not report.parts:
        raise SolError(f"nothing runs in Sol: {_why_not(report)}")
    return replace(runner, note="only parts of it run in Sol")


def _why_not(report: Any) -> str:
    """The first reason that a report of Sol gives."""
    reasons = [reason for _, reason in report.refused]
    return str([*reasons, *(reason for reason, _ in report.fallbacks), "no reason known"][0])


# --------------------------------------------------------------------------------------- training


def _training_runner(module: Callable[..., Any], network: Network, **more: Any) -> Runner:
    """A step; its arrays are gradients, which `release` drops."""
    step, more = training.step_of(module, network), {"release": network.module.zero_grad} | more
    return Runner(step, lambda _: training.gradients(network), **more)


def _eager_training(network: Network, setting: Setting) -> Runner:
    return _training_runner(network.module, network)


def _reference_training(network: Network, setting: Setting) -> Runner:
    network.module.double()
    return _eager_training(_mapped(network, _double), setting)


def _channels_last_training(network: Network, setting: Setting) -> Runner:
    network.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _eager_training(_mapped(network, _to_channels_last), setting)


def _inductor_training(network: Network, setting: Setting) -> Runner:
    return _training_runner(torch.compile(network.module), network)


def _sol_training(network: Network, setting: Setting) -> Runner:
    return _sol_training_within(network, replace(setting, memory=None))


def _sol_training_within(network: Network, setting: Setting) -> Runner:
    from sol.pytorch import optimize

    fast: Any = optimize(network.module, progress=False, memory=setting.memory)

    def describe() -> str:
        report = fast.sol.report
        programs = report.programs
        if not programs:
            raise SolError(f"nothing is trained by Sol: {_why_not(report)}")
        left = sum(len(p.left) for p in programs)
        lost = any(m.verdict.winner == "framework" for p in programs for m in p.measured)
        notes = [str(step) for p in programs for step in p.training]
        notes += [f"{left} operators stay in PyTorch"] * bool(left) + ["PyTorch was faster"] * lost
        return "; ".join(notes)

    def release() -> None:
        network.module.zero_grad()
        fast.sol.give_memory_back()

    return _training_runner(fast, network, release=release, describe=describe)


# ---------------------------------------------------------------------------------------- engines


class _Flat(nn.Module):
    """Tensors in, a tuple of tensors out: what exporters understand of any signature."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.module
        self.leaves, self.form = pytree.tree_flatten((network.args, dict(network.kwargs)))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.form)
        outputs = pytree.tree_leaves(self.network(*args, **kwargs))
        return tuple(x for x in outputs if isinstance(x, torch.Tensor))


def _openvino(network: Network, setting: Setting) -> Runner:
    import openvino

    inputs = network.tensors
    flat = _Flat(network).eval()
    with torch.no_grad():
        try:
            converted, note = openvino.convert_model(flat, example_input=tuple(inputs)), ""
        except openvino.frontend.OpConversionFailure:  # a traced operator it does not know
            program = torch.export.export(flat, tuple(inputs), strict=False)
            converted, note = openvino.convert_model(program), "converted by torch.export"
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": setting.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    for index, x in enumerate(inputs):
        request.set_input_tensor(index, openvino.Tensor(x.numpy(), shared_memory=True))

    def outputs(_: Any) -> list[Array]:
        return [tensor.data.copy() for tensor in request.output_tensors]

    return Runner(request.infer, outputs, note, kept=inputs)


def _onnxruntime(network: Network, setting: Setting) -> Runner:
    import onnxruntime

    inputs = network.tensors
    path = setting.folder / "network.onnx"
    with torch.no_grad():
        exported = torch.onnx.export(
            _Flat(network), tuple(inputs), dynamo=True, verbose=False, external_data=True
        )
    assert exported is not None, "torch.onnx.export(dynamo=True) returns a program"
    exported.save(str(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {p.name: x.numpy() for p, x in zip(session.get_inputs(), inputs)}
    return Runner(lambda: session.run(None, feed), list)


def _ncnn(network: Network, setting: Setting) -> Runner:
    import ncnn
    import pnnx

    images = [x.unbind(0) for x in network.tensors]
    one = Network(network.name, network.module, *_first_sample(network))
    path = setting.folder / "network"
    with torch.no_grad():
        pnnx.export(_Flat(one), f"{path}.pt", tuple(one.tensors), check_trace=False, fp16=False)
    net = ncnn.Net()
    net.opt.num_threads = setting.threads
    # float32 means float32: no half-precision storage or arithmetic
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    if net.load_param(f"{path}.ncnn.param") or net.load_model(f"{path}.ncnn.bin"):
        raise InputError("ncnn cannot load the network that pnnx wrote")
    # ncnn's own integers have 32 bits
    narrow = [[x.int() if x.dtype == torch.int64 else x for x in sample] for sample in zip(*images)]
    samples = [[ncnn.Mat(x.numpy()) for x in sample] for sample in narrow]
    names = (net.input_names(), net.output_names())

    def outputs(result: list[list[Any]]) -> list[Array]:
        return [np.stack([np.array(mat) for mat in mats]) for mats in zip(*result)]

    note = "one image after the other" if len(samples) > 1 else ""
    return Runner(
        lambda: [_ncnn_run(net, names, sample) for sample in samples], outputs, note, kept=narrow
    )


def _ncnn_run(net: Any, names: tuple[Sequence[str], Sequence[str]], inputs: list[Any]) -> list[Any]:
    with net.create_extractor() as extractor:
        for name, mat in zip(names[0], inputs):
            extractor.input(name, mat)
        return [extractor.extract(name)[1] for name in names[1]]


def _first_sample(network: Network) -> tuple[Any, Any]:
    first = _mapped(network, lambda x: x[:1])
    return first.args, first.kwargs


# ------------------------------------------------------------------------------------------ files


def _feed(network: Network) -> dict[str, Array]:
    return {name: x.numpy() for name, x in network.kwargs.items()}


def _sol_file(network: Network, setting: Setting) -> Runner:
    session = files.session_of(network.path, setting.threads, setting.tune)
    feed = _feed(network)
    session.run(None, feed)
    left = len(session.left)
    note = f"{left} operators in NumPy" if left else ""
    return Runner(lambda: session.run(None, feed), list, note)


def _onnxruntime_file(network: Network, setting: Setting) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(file_of(network.path)[0], options, providers=providers)
    feed = _feed(network)
    return Runner(lambda: session.run(None, feed), list)


def _openvino_file(network: Network, setting: Setting) -> Runner:
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": setting.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(file_of(network.path)[0]), "CPU", options)
    request = compiled.create_infer_request()
    feed = _feed(network)
    for name, x in feed.items():
        request.set_tensor(name, openvino.Tensor(x, shared_memory=True))

    def outputs(_: Any) -> list[Array]:
        return [tensor.data.copy() for tensor in request.output_tensors]

    return Runner(request.infer, outputs, kept=feed)


def _reference_file(network: Network, setting: Setting) -> Runner:
    results = files.in_float64(network.path, _feed(network))
    return Runner(lambda: results, list)


RIVALS = (
    Rival(
        "sol",
        "Sol",
        _sol,
        caches=("SOL_CACHE_DIR",),
        prepare_file=_sol_file,
        prepare_training=_sol_training,
    ),
    Rival(
        "sol-budget",
        "Sol within --memory",
        _sol,
        caches=("SOL_CACHE_DIR",),
        prepare_training=_sol_training_within,
    ),
    Rival("eager", "PyTorch as it is", _eager, prepare_training=_eager_training),
    Rival(
        "channels_last",
        "PyTorch, channels innermost",
        _channels_last,
        prepare_training=_channels_last_training,
    ),
    Rival(
        "inductor",
        "torch.compile with default settings",
        _inductor,
        caches=("TORCHINDUCTOR_CACHE_DIR",),
        first_call_compiles=True,
        prepare_training=_inductor_training,
    ),
    Rival(
        "inductor-freezing",
        "torch.compile that may fold and pack weights",
        _inductor_freezing,
        caches=("TORCHINDUCTOR_CACHE_DIR",),
        first_call_compiles=True,
    ),
    Rival(
        "openvino",
        "OpenVINO, latency hint, float32",
        _openvino,
        ("openvino",),
        prepare_file=_openvino_file,
    ),
    Rival(
        "onnxruntime",
        "ONNX Runtime, CPU provider",
        _onnxruntime,
        ("onnxruntime", "onnx", "onnxscript"),
        prepare_file=_onnxruntime_file,
    ),
    Rival("ncnn", "ncnn through pnnx, float32", _ncnn, ("ncnn", "pnnx")),
)
# the same network in float64, which every error is measured against; it is not timed
REFERENCE = Rival(
    "reference",
    "PyTorch in float64, NumPy for files",
    _reference,
    prepare_file=_reference_file,
    prepare_training=_reference_training,
)
