"""Operations of CNTK in operators of Sol, one file for each family; `ROWS` is the table."""

from sol.cntk.rows import (
    elementwise,
    movement,
    normalisation,
    product,
    reduction,
    sequence,
    window,
)
from sol.cntk.rows.table import ROWS

__all__ = [
    "ROWS",
    "elementwise",
    "movement",
    "normalisation",
    "product",
    "reduction",
    "sequence",
    "window",
]
