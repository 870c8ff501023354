"""The PyTorch frontend: `optimize`, and the backend of `torch.compile(model, backend="sol")`."""

from sol.pytorch.backend import backend
from sol.pytorch.optimize import optimize

__all__ = ["backend", "optimize"]
