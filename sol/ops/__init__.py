"""The operators: one entry each, in one file per family. Importing this fills the table `OPS`."""

from sol.ops import activation as activation
from sol.ops import elementwise as elementwise
from sol.ops import sources as sources
from sol.ops.registry import OPS as OPS
