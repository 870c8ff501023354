"""Sol for TensorFlow and Keras: `optimize(model)`."""

from sol.tensorflow.optimize import optimize

__all__ = ["optimize"]
