"""The command line: arguments in, text out."""

from __future__ import annotations


def main() -> None:
    """What `sweep` and `python -m sweep` run."""
    from sweep.cli.app import main

    main()
