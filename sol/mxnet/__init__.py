"""Sol for MXNet: `optimize` takes exported files, a Symbol or a gluon HybridBlock."""

from sol.mxnet.optimize import optimize

__all__ = ["optimize"]
