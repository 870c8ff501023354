"""ONNX: `optimize(path)` makes a session that computes a model by Sol."""

from sol.onnx.example import example
from sol.onnx.optimize import optimize
from sol.onnx.session import Session

__all__ = ["Session", "example", "optimize"]
