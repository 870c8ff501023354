"""`torch.optim.SGD` and `torch.optim.AdamW` whose update is one native program."""

from sol.pytorch.optim.adamw import AdamW
from sol.pytorch.optim.sgd import SGD

__all__ = ["SGD", "AdamW"]
