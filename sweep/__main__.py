"""`python -m sweep`."""

from __future__ import annotations

from sweep.cli.app import main

if __name__ == "__main__":
    main()
