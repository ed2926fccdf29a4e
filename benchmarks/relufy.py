"""A small model with ReLU in its gates, as files: for the other half of Figure 6.

    python -m benchmarks.relufy runs/smollm2-135m-relu
    sweep run small-figure6 --set \\
        "sweeps.small-figure6.models=[smollm2-135m, runs/smollm2-135m-relu]"

SiLU becomes ReLU, and the MLPs learn on the calibration text to do what they did before
(`methods.activation_training`). What that costs is the ReLU model's own dense perplexity. A sweep
does the same by itself: `models: [{model: smollm2-135m, activation: relu, distil_tokens: 99840}]`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from methods.activation_training import learnt
from methods.mlp import gated_mlps
from sweep.inputs import models, texts

MODEL, TEXT, TOKENS = "smollm2-135m", "embedded-c4", 512
EPOCHS = 3


def relufied(windows: Sequence[Tensor], seed: int) -> Any:
    """MODEL with ReLU, which its former self taught on windows [1, tokens]."""
    model = models.load(MODEL)
    tokens = EPOCHS * sum(window.numel() for window in windows)
    _, arrays = learnt(model, "relu", windows, tokens, seed)
    model.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=False)
    model.config.hidden_act = "relu"
    for view in gated_mlps(model):
        view.module.act_fn = nn.ReLU()
    return model.requires_grad_(False)


def main() -> None:
    """Write the model and its tokenizer into the folder given on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relufy", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the model")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the windows")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    torch.set_num_threads(1)  # sums in the same order: the same weights each time
    every = texts.windows(TEXT, MODEL, TOKENS, calibration=True)
    windows = [torch.from_numpy(window)[None] for window in every]
    model = relufied(windows, arguments.seed)
    model.save_pretrained(arguments.out)
    models.tokenizer(MODEL).save_pretrained(arguments.out)
    print(f"{MODEL} with ReLU is in {arguments.out}, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
