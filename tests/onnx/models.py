"""Small ONNX models for tests, and what ONNX's own reference says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.helper as helper
import onnxruntime
from onnx.reference import ReferenceEvaluator

from sol.onnx.model import load
from sol.onnx.networks import Networks

Shape = Sequence[int | str | None]
_IR = 10


def model(
    nodes: Sequence[Any],
    inputs: Mapping[str, tuple[Any, Shape]],
    outputs: Sequence[str],
    weights: Mapping[str, Any] | None = None,
    opset: int = 21,
    functions: Sequence[Any] = (),
) -> Any:
    """A ModelProto; inputs are NumPy types and shapes by name."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, elem(t), s) for n, (t, s) in inputs.items()],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in (weights or {}).items()],
    )
    domains = {f.domain for f in functions}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=_IR)


def elem(dtype: Any) -> int:
    """ONNX's number of a NumPy type."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """node("Add", "a b", "y"); a - stands for an input that is left out."""
    names = ["" if n == "-" else n for n in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def networks(proto: Any) -> Networks:
    """The model by Sol, compiled when it is called."""
    return Networks(load(proto))


def by_reference(proto: Any, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The results of ONNX's own reference."""
    names = [o.name for o in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(names, dict(arrays))))


def by_onnxruntime(proto: Any, arrays: Mapping[str, Any]) -> list[Any]:
    """The results of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    found: list[Any] = session.run(None, dict(arrays))
    return found


def agree(
    proto: Any, arrays: Mapping[str, Any], rtol: float = 1e-4, atol: float = 1e-5
) -> Networks:
    """Sol and ONNX's reference give the same results for these arrays; what Sol made."""
    made = networks(proto)
    found, expected = made(arrays), by_reference(proto, arrays)
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].dtype == value.dtype, name
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol, err_msg=name)
    return made


def numbers(*shape: int, seed: int = 0) -> Any:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
