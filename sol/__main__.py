"""`python -m sol` is the command `sol`."""

from __future__ import annotations

from sol.cli import main

if __name__ == "__main__":
    main()
