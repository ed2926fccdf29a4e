"""SmolLM2 in bfloat16, as files: for what is said of checkpoints of that type.

    python -m benchmarks.cast runs/smollm2-135m-bf16

The embedded file has four bits; its weights, brought to bfloat16, are those of no checkpoint that
was trained, but their exponents are spread like theirs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sweep.inputs import models

MODEL = "smollm2-135m"


def main() -> None:
    """Write the model and its tokenizer into the folder given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cast", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the model")
    out: Path = parser.parse_args().out
    model = models.load(MODEL, "bfloat16")
    model.save_pretrained(out)
    models.tokenizer(MODEL).save_pretrained(out)
    print(f"{MODEL} in bfloat16 is in {out}")


if __name__ == "__main__":
    main()
