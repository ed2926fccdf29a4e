"""Training of LoRA adapters: the sparse model learns the dense one's logits (section 6.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.apply import applied
from methods.mlp import gated_mlps, projections
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.dynamic.lora import Adapted

CHECKS = 10
"""How often, evenly over the steps, the adapters are validated and saved."""

WARMUP = 0.05
MAX_NORM = 1.0
HELD_WINDOWS = 8
ROWS = 256
"""Positions whose logits are compared at a time; bounds memory, not the result."""

_A, _B = ".A", ".B"


def distil(model: nn.Module, method: Adapted, lesson: Lesson) -> tuple[dict[str, Any], Arrays]:
    """Train adapters on KL(dense teacher || sparse student); hands over the best A and B by weight.

    The loss is the mean over tokens, the best that of the lowest loss on validation windows; with
    steps that do not help, that is the start, where BA = 0. Goes on from the lesson's checkpoint,
    with the same result.
    """
    learn, held = lesson.split()
    held = held[:HELD_WINDOWS]
    with adapted(model, method, lesson.seed) as adapters:
        state = _State.start(adapters, method, lesson)
        if not state.losses:
            state.check(_loss_on(model, method, adapters, held, lesson), lesson)
        order = _order(len(learn), method.steps * method.batch, lesson.seed)
        every = max(1, math.ceil(method.steps / CHECKS))
        while state.step < method.steps:
            rows = order[state.step * method.batch : (state.step + 1) * method.batch]
            state.rate(method)
            for row in rows:
                loss = _divergence(model, method, adapters, learn[row], lesson) / len(rows)
                loss.backward()
            adapters.keep_frozen()
            nn.utils.clip_grad_norm_(adapters.parameters(), MAX_NORM)
            state.adam.step()
            state.adam.zero_grad(set_to_none=True)
            state.step += 1
            if state.step % every == 0 or state.step == method.steps:
                state.check(_loss_on(model, method, adapters, held, lesson), lesson)
    result = {
        "steps": method.steps,
        "validation_loss": state.losses,
        "best_step": state.best_step,
        "validation_tokens": int(held.size),
    }
    return result, state.best


def fused(model: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """W + BA of every weight that has an adapter (eq. 9), computed in float32."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = [name.removesuffix(_A) for name in arrays if name.endswith(_A)]
    return {name: _sum(parameters[name], arrays[name + _A], arrays[name + _B]) for name in names}


def _sum(weight: Tensor, a: NDArray[Any], b: NDArray[Any]) -> Tensor:
    product = torch.from_numpy(b).to(weight.device) @ torch.from_numpy(a).to(weight.device)
    return (weight.float() + product).to(weight.dtype)


@dataclass(slots=True)
class Adapters:
    """peft's layers in the place of linear ones, by the name of the weight that they adapt."""

    layers: dict[str, Any]
    frozen_rows: dict[str, slice]
    """Rows of B that stay zero: the gate half of a fused matrix of which only `up` is adapted."""

    def parameters(self) -> list[nn.Parameter]:
        return [p for layer in self.layers.values() for p in _pair(layer)]

    def keep_frozen(self) -> None:
        for name, rows in self.frozen_rows.items():
            gradient = _pair(self.layers[name])[1].grad
            if gradient is not None:
                gradient[rows] = 0

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model without adapters: the teacher."""
        for layer in self.layers.values():
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.enable_adapters(True)

    def arrays(self) -> Arrays:
        """Copies of A [rank, in] and B [out, rank] of each weight, float32."""
        pairs = ((n, _pair(layer)) for n, layer in self.layers.items())
        return {
            name + suffix: value.detach().float().cpu().numpy().copy()
            for name, pair in pairs
            for suffix, value in zip((_A, _B), pair, strict=True)
        }

    def set(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, layer in self.layers.items():
            for suffix, parameter in zip((_A, _B), _pair(layer), strict=True):
                parameter.data.copy_(torch.from_numpy(arrays[name + suffix]))


def _pair(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


@contextmanager
def adapted(model: nn.Module, method: Adapted, seed: int) -> Iterator[Adapters]:
    """Put fresh adapters into the projections that the method adapts; they are gone on exit.

    A is normal with variance 1 / rank, B is zero, the scale is 1.
    """
    from peft import LoraConfig, inject_adapter_in_model

    modules, frozen = _targets(model, method.adapts)
    config = LoraConfig(r=method.rank, lora_alpha=method.rank, target_modules=[*modules])
    before = {name: (p, p.requires_grad) for name, p in model.named_parameters()}
    had = set(vars(model))
    try:
        inject_adapter_in_model(config, model)
        layers: dict[str, Any] = {f"{n}.weight": model.get_submodule(n) for n in modules}
        rng = np.random.default_rng([seed, method.rank])
        for layer in layers.values():
            layer.lora_A.float()  # whatever the type of the weights
            layer.lora_B.float()
            a = _pair(layer)[0]
            drawn = rng.normal(0.0, method.rank**-0.5, tuple(a.shape)).astype(np.float32)
            a.data.copy_(torch.from_numpy(drawn))
        yield Adapters(layers, frozen)
    finally:
        _take_out(model, modules)
        for name in set(vars(model)) - had:
            delattr(model, name)
        for parameter, wanted in before.values():
            parameter.requires_grad_(wanted)


def _targets(
    model: nn.Module, adapts: tuple[str, ...]
) -> tuple[dict[str, nn.Module], dict[str, slice]]:
    """Names of the modules to adapt, and the rows of each weight that stay as they are."""
    modules: dict[str, nn.Module] = {}
    frozen: dict[str, slice] = {}
    for view in gated_mlps(model):
        names = projections(view.module)
        for role in adapts:
            modules[f"{view.path}.{names[role]}"] = view.module.get_submodule(names[role])
        if names["gate"] == names["up"] and not {"gate", "up"} <= set(adapts):
            only_up = "up" in adapts
            rows = slice(0, view.intermediate) if only_up else slice(view.intermediate, None)
            frozen[f"{view.path}.{names['up']}.weight"] = rows
    return modules, frozen


def _take_out(model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)


@dataclass(slots=True)
class _State:
    """Where a training is: all that a checkpoint holds."""

    adapters: Adapters
    adam: torch.optim.Adam
    step: int
    best: Arrays
    best_step: int
    losses: list[tuple[int, float]]

    @classmethod
    def start(cls, adapters: Adapters, method: Adapted, lesson: Lesson) -> _State:
        """Step 0, or the step of the checkpoint."""
        adam = torch.optim.Adam(adapters.parameters(), method.learning_rate)
        state = cls(adapters, adam, 0, adapters.arrays(), 0, [])
        saved = lesson.checkpoint.load()
        if saved is not None:
            state._restore(saved)
            lesson.log(f"going on after step {state.step}")
        return state

    def rate(self, method: Adapted) -> None:
        """Linear warm-up, then linear decay to zero after the last step."""
        warm = max(1, round(WARMUP * method.steps))
        share = min(
            (self.step + 1) / warm, (method.steps - self.step) / max(1, method.steps - warm)
        )
        self.adam.param_groups[0]["lr"] = method.learning_rate * min(1.0, share)

    def check(self, loss: float, lesson: Lesson) -> None:
        """Note a validation loss, keep the best adapters, save."""
        if not self.losses or loss < min(value for _, value in self.losses):
            self.best, self.best_step = self.adapters.arrays(), self.step
        self.losses.append((self.step, loss))
        lesson.log(f"step {self.step}: validation KL {loss:.5f} a token")
        lesson.checkpoint.save(self._saved())

    def _saved(self) -> Arrays:
        now = {f"now {n}": a for n, a in self.adapters.arrays().items()}
        best = {f"best {n}": a for n, a in self.best.items()}
        moments = {
            f"adam {i} {name}": value.cpu().numpy()
            for i, entry in self.adam.state_dict()["state"].items()
            for name, value in entry.items()
        }
        progress = np.array([self.step, self.best_step], np.int64)
        return {**now, **best, **moments, "progress": progress, "losses": np.array(self.losses)}

    def _restore(self, saved: Mapping[str, NDArray[Any]]) -> None:
        self.adapters.set(_under("now ", saved))
        self.best = _under("best ", saved)
        self.step, self.best_step = (int(value) for value in saved["progress"])
        self.losses = [(int(step), float(loss)) for step, loss in saved["losses"]]
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("adam ", saved).items():
            index, _, field = name.partition(" ")
            entries.setdefault(int(index), {})[field] = torch.from_numpy(value)
        whole = self.adam.state_dict()
        self.adam.load_state_dict({"state": entries, "param_groups": whole["param_groups"]})


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _order(windows: int, count: int, seed: int) -> NDArray[np.int64]:
    """Windows to train on, in shuffled epochs, as many as are needed."""
    rng = np.random.default_rng([seed, 1])
    epochs = [rng.permutation(windows) for _ in range(-(-count // windows))]
    return np.concatenate(epochs)[:count]


def _loss_on(
    model: nn.Module,
    method: Adapted,
    adapters: Adapters,
    windows: NDArray[np.int64],
    lesson: Lesson,
) -> float:
    with torch.no_grad():
        losses = [_divergence(model, method, adapters, window, lesson) for window in windows]
        return float(torch.stack(losses).double().mean())


def _divergence(
    model: nn.Module,
    method: Adapted,
    adapters: Adapters,
    window: NDArray[np.int64],
    lesson: Lesson,
) -> Tensor:
    """KL(dense || sparse) of the next token, mean over the tokens of a window."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(np.ascontiguousarray(window))[None].to(device)
    with torch.no_grad(), adapters.off():
        teacher = model(input_ids=ids).logits[0]
    with applied(model, method, lesson.select):
        student = model(input_ids=ids).logits[0]
    parts = zip(teacher.split(ROWS), student.split(ROWS), strict=True)
    return torch.stack([_kl(dense, sparse) for dense, sparse in parts]).sum() / len(teacher)


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    return nn.functional.kl_div(
        student.float().log_softmax(-1),
        teacher.float().log_softmax(-1),
        log_target=True,
        reduction="sum",
    )
