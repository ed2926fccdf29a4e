"""Run all parts, or those named, and write benchmarks/RESULTS.md.

A part is a module of this package with a function `report() -> str` that returns Markdown, or
nothing where it has nothing to write.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util

from benchmarks.results import write_part

PARTS = (
    *("kernels", "reads", "evaluation", "gpu", "coverage", "certainty", "search"),
    *("harness", "planning", "report"),
)


def main() -> None:
    """Run the parts given on the command line (default: all that exist)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="of gpu: a minute instead of ten")
    parser.add_argument("--only", action="append", help="of gpu: adversarial, speeds or models")
    chosen = parser.parse_args().parts or PARTS
    for part in chosen:
        if importlib.util.find_spec(f"benchmarks.{part}") is None:
            if part not in PARTS:
                parser.error(f"there is no part {part!r}; known: {', '.join(PARTS)}")
            continue
        text = importlib.import_module(f"benchmarks.{part}").report()
        if text:
            print(text)
            print("written to", write_part(part, text))


if __name__ == "__main__":
    main()
