"""A small model with ReLU in its gates: the other half of Figure 6, where no such model is at hand.

    python -m benchmarks.relufy runs/smollm2-135m-relu
    sweep run small-figure6 --set \\
        "sweeps.small-figure6.models=[smollm2-135m, runs/smollm2-135m-relu]"

SiLU becomes ReLU, and the MLPs learn on the calibration text to do what they did before: first each
by itself, then all together. What that costs is the ReLU model's own dense perplexity.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from methods.mlp import GatedMLP, gated_mlps
from sweep.inputs import models, texts

MODEL, TEXT, TOKENS = "smollm2-135m", "embedded-c4", 512
ALONE, TOGETHER = (1, 1e-3), (2, 3e-4)
"""Passes over the text, and the learning rate of Adam, which falls to zero along half a cosine."""


def relufied(windows: Sequence[Tensor], seed: int) -> Any:
    """MODEL with ReLU, which its former self taught on windows [1, tokens]."""
    teacher, student = models.load(MODEL), models.load(MODEL)
    student.config.hidden_act = "relu"
    dense, relu = gated_mlps(teacher), gated_mlps(student)
    for view in relu:
        view.module.act_fn = nn.ReLU()
        view.module.requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    with _calls(dense) as calls:
        for window in _lessons(student, windows, *ALONE, generator):
            with torch.no_grad():
                teacher(input_ids=window, logits_to_keep=1)
            errors = [_error(view, *calls[view.layer]) for view in relu]
            torch.stack(errors).sum().backward()
    for window in _lessons(student, windows, *TOGETHER, generator):
        with torch.no_grad():
            taught = teacher(input_ids=window).logits[0].log_softmax(-1)
        learnt = student(input_ids=window).logits[0].log_softmax(-1)
        functional.kl_div(learnt, taught, log_target=True, reduction="batchmean").backward()
    return student.requires_grad_(False)


def _lessons(
    student: nn.Module,
    windows: Sequence[Tensor],
    epochs: int,
    rate: float,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Windows in shuffled epochs; after each, a step of Adam on the gradients it has left."""
    adam = torch.optim.Adam((p for p in student.parameters() if p.requires_grad), rate, fused=True)
    order = torch.cat([torch.randperm(len(windows), generator=generator) for _ in range(epochs)])
    for step, row in enumerate(order.tolist()):
        adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / len(order))) / 2
        yield windows[row]
        adam.step()
        adam.zero_grad()
        if (step + 1) % 24 == 0:
            print(f"{step + 1} of {len(order)} windows", flush=True)


@contextmanager
def _calls(views: Sequence[GatedMLP]) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """The last input and output of each MLP, by layer."""
    calls: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _module, args, output: calls.update({layer: (args[0], output)})

    hooks = [view.module.register_forward_hook(keep(view.layer)) for view in views]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _error(view: GatedMLP, x: Tensor, target: Tensor) -> Tensor:
    """Squared error of an MLP's output, as a share of the output's variance."""
    return functional.mse_loss(view.module(x), target) / target.var()


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
