"""The operators: one entry each, in one file per family. Importing this fills the table `OPS`."""

from sol.ops import activation as activation
from sol.ops import attention as attention
from sol.ops import backward as backward
from sol.ops import contract as contract
from sol.ops import elementwise as elementwise
from sol.ops import indexing as indexing
from sol.ops import move as move
from sol.ops import norm as norm
from sol.ops import pad as pad
from sol.ops import pooling as pooling
from sol.ops import random as random
from sol.ops import recurrence as recurrence
from sol.ops import recurrent as recurrent
from sol.ops import reduce as reduce
from sol.ops import resize as resize
from sol.ops import shuffle as shuffle
from sol.ops import sources as sources
from sol.ops import statistics as statistics
from sol.ops.registry import OPS as OPS

# later additions are operators that only plans contain (plan/prepare.py)
PUBLIC = frozenset(OPS)
