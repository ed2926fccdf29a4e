"""The MLPs of a model learn another activation: what relufication and TurboSparse do, in small.

The model as it is teaches itself with the new activation, on the calibration text. For the first
third of the tokens each MLP learns by itself what it did before (squared error of its output, over
the output's variance); for the rest all learn together the model's next token, by

    KL(own || with the activation), the mean over tokens of the sum over words of p (ln p - ln q)

Only MLPs learn. The sources train on 30 to 150 thousand million tokens with cross-entropy; what is
decided here for a few thousand: the teacher's logits, the stage by itself (a swap leaves layers too
far from what they did for the logits to lead them back), Adam, a window a step, and rates that fall
to zero along half a cosine in each stage.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from methods import activations
from methods.agreement import agreeing_mlps
from methods.apply import run_layers, weight_array
from methods.mlp import GatedMLP, gated_mlps

Arrays = dict[str, NDArray[Any]]
Windows = Sequence[Tensor]
"""Token ids [1, tokens] of each window."""

ALONE_SHARE, ALONE_RATE, TOGETHER_RATE = 1 / 3, 1e-3, 3e-4
SAY_EVERY = 24


def split(windows: Windows, held: int) -> tuple[Windows, Windows]:
    """Windows to learn from, and the last ones: `held` of them, but a tenth at most, at least one.

    Nothing is learnt of these, the divergence is told. Raises ValueError for too few windows.
    """
    held = max(1, min(held, len(windows) // 10))
    if len(windows) <= held:
        raise ValueError(
            f"the calibration text gives {len(windows)} windows; learning an activation needs 2 at "
            "least, one of them to validate on"
        )
    return windows[:-held], windows[-held:]


def learnt(
    model: nn.Module,
    activation: str,
    windows: Windows,
    tokens: int,
    seed: int = 0,
    held: Windows = (),
    log: Callable[[str], None] = print,
) -> tuple[dict[str, Any], Arrays]:
    """Weights of the MLPs of `model`, float32, after learning `activation` on so many tokens.

    Tokens are taken in whole windows, in epochs that the seed shuffles: more than there are mean
    that windows are read again. Told is KL a token on `held`: as it was put in, after each stage.
    """
    steps = max(1, round(tokens / windows[0].shape[1]))
    alone = round(steps * ALONE_SHARE)
    generator = torch.Generator().manual_seed(seed)
    told: dict[str, float] = {}
    dense = agreeing_mlps(model)
    student = _Student(model, dense, activation)
    learn = _Lessons(windows, student.parameters(), generator, log)
    told["swapped"] = student.divergence_on(held)
    with torch.enable_grad():
        _alone(model, student, dense, learn.of(alone, ALONE_RATE))
        told["alone"] = student.divergence_on(held)
        for window in learn.of(steps - alone, TOGETHER_RATE):
            student.divergence(window).backward()
    told["together"] = student.divergence_on(held)
    result: dict[str, Any] = {"activation": activation, "steps": steps, "steps_alone": alone}
    if held:
        result["validation_kl"] = told
        log(f"validation KL a token: {', '.join(f'{n} {v:.4f}' for n, v in told.items())}")
    return result, student.arrays()


class _Student:
    """Copies of a model's MLPs, with the activation and in float32, that take their place."""

    def __init__(self, model: nn.Module, dense: Sequence[GatedMLP], activation: str) -> None:
        self.model = model
        self.own = {view.path: view.module for view in dense}
        self.copies = {path: copy.deepcopy(module).float() for path, module in self.own.items()}
        for module in self.copies.values():
            vars(module).pop("forward", None)
            module.requires_grad_(True)
        with self._in_place():
            activations.put(model, activation)
            self.views = gated_mlps(model)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        _place(self.model, self.copies)
        try:
            yield
        finally:
            _place(self.model, self.own)

    def parameters(self) -> list[nn.Parameter]:
        return [p for module in self.copies.values() for p in module.parameters()]

    def arrays(self) -> Arrays:
        """All weights and biases of the MLPs, by their names in the model."""
        named = (
            (f"{path}.{name}", parameter)
            for path, module in self.copies.items()
            for name, parameter in module.named_parameters()
        )
        return {name: weight_array(parameter) for name, parameter in named}

    def divergence(self, window: Tensor) -> Tensor:
        """KL(own || with the activation) of the next token, mean over a window [1, tokens]."""
        with torch.no_grad():
            wanted = self.model(input_ids=window).logits[0].float().log_softmax(-1)
        with self._in_place():
            given = self.model(input_ids=window).logits[0].float().log_softmax(-1)
        return functional.kl_div(given, wanted, log_target=True, reduction="batchmean")

    @torch.no_grad()
    def divergence_on(self, windows: Windows) -> float:
        """Mean over windows; 0 of none."""
        return float(np.mean([float(self.divergence(w)) for w in windows])) if windows else 0.0


def _place(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    for path, module in modules.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, module)


def _alone(
    model: nn.Module, student: _Student, dense: Sequence[GatedMLP], lessons: Iterator[Tensor]
) -> None:
    """Each MLP on what the one of the model as it is makes of its own inputs."""
    with _calls(dense) as calls:
        for window in lessons:
            with torch.no_grad():
                run_layers(model, window)
            errors = [_error(view, *calls[view.layer]) for view in student.views]
            torch.stack(errors).sum().backward()


def _error(view: GatedMLP, x: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of an MLP's output, as a share of the output's variance."""
    return functional.mse_loss(view.module(x.float()), wanted.float()) / wanted.float().var()


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


class _Lessons:
    """Windows in shuffled epochs, and a step of Adam after each."""

    def __init__(
        self,
        windows: Windows,
        parameters: list[nn.Parameter],
        generator: torch.Generator,
        log: Callable[[str], None],
    ) -> None:
        self.windows = windows
        self.parameters = parameters
        self.generator = generator
        self.log = log

    def of(self, steps: int, rate: float) -> Iterator[Tensor]:
        """So many windows; after each, a step on the gradients that it has left."""
        adam = torch.optim.Adam(self.parameters, rate, fused=True)
        for step, row in enumerate(self._order(steps)):
            adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            yield self.windows[row]
            adam.step()
            adam.zero_grad()
            if (step + 1) % SAY_EVERY == 0:
                self.log(f"{step + 1} of {steps} windows")

    def _order(self, steps: int) -> list[int]:
        count = len(self.windows)
        epochs = [
            torch.randperm(count, generator=self.generator) for _ in range(-(-steps // count))
        ]
        return torch.cat(epochs)[:steps].tolist() if epochs else []
