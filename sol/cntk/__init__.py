"""CNTK models by Sol, read from the file that CNTK 2 saved. CNTK itself is not needed.

from sol.cntk import optimize
model = optimize("net.model")
y = model.eval({"x": x})
"""

from sol.cntk.function import Argument, Function
from sol.cntk.optimize import optimize

__all__ = ["Argument", "Function", "optimize"]
