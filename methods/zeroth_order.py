"""Recovery without gradients, at the memory of inference: LOZO (Chen et al. 2024, arXiv 2410.07698)
and MeZO (Malladi et al. 2023, arXiv 2305.17333).

    c = (f(theta + eps D) - f(theta - eps D)) / (2 eps)
    theta <- theta - rate * c D / s

D is U V' of each matrix [m, n] (`perturbation` columns r in U [m, r], fresh in each step, and in
V [n, r], kept for `keep` steps) or, with `perturbation: full` (MeZO), all of N(0, 1), as it is for
vectors. s is r in the paper, so that the mean of c D / s over U and V is the gradient.

The released code differs, which `variant: code` repeats: s is 1, and in steps that draw V anew the
update takes its U from where the perturbation took V and U, so that it moves along an unrelated
direction, in one step of `keep`. `momentum` b (LOZO-M) keeps N <- b N + (1 - b) c U / s in place of
c U / s; when V is drawn anew N becomes N V_old' V_new / n.

f is KL(dense || sparse), the mean over the tokens of a step's windows. No activations are kept: two
passes of the sparse model and one of the dense a step. Decided here: no weight decay, a constant
rate, and the best of the validated states is handed over, as where adapters learn by gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from methods.apply import applied, weights_replaced
from methods.distil import CHECKS, HELD_WINDOWS, ROWS, adapted
from methods.mlp import gated_mlps
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.dynamic.lozo import DIPLozo

FULL = "full"


def recover(model: nn.Module, method: DIPLozo, lesson: Lesson) -> tuple[dict[str, Any], Arrays]:
    """What the steps found out, and the tuned tensors by name; the same lesson gives the same.

    Goes on from the lesson's checkpoint, with the same result. Told are losses of the windows that
    were learnt from, means of a tenth of the steps, and of those held out.
    """
    learn, held = lesson.split()
    held = held[:HELD_WINDOWS]
    order = _order(len(learn), method.steps * method.batch, lesson.seed)
    every = max(1, math.ceil(method.steps / CHECKS))
    with torch.no_grad(), _tuned(model, method, lesson.seed) as tuned:
        run = _Run(model, method, tuned, lesson)
        run.restore(lesson.checkpoint.load())
        if not run.losses:
            run.check(held)
        for step in range(run.step, method.steps):
            run.descend(learn[order[step * method.batch : (step + 1) * method.batch]])
            if run.step % every == 0 or run.step == method.steps:
                run.check(held)
    result = {
        "steps": method.steps,
        "validation_loss": run.losses,
        "calibration_loss": run.means,
        "best_step": run.best_step,
    }
    return result, run.best


# -- directions ------------------------------------------------------------------------------


class Direction(NamedTuple):
    """D of one tensor: u v' of a matrix, u itself where there is no v."""

    u: Tensor
    v: Tensor | None

    def dense(self, u: Tensor | None = None) -> Tensor:
        """D, or with another u in its place."""
        u = self.u if u is None else u
        return u if self.v is None else u @ self.v.T


class Directions:
    """The same directions whenever they are asked for: the seed and the step are all they need."""

    def __init__(
        self, shapes: Mapping[str, Sequence[int]], rank: int | str, keep: int, code: bool, seed: int
    ) -> None:
        self.shapes = shapes
        self.rank = rank
        self.keep = keep
        self.code = code
        self.seed = seed

    def refreshed(self, step: int) -> bool:
        """Whether V is another one than that of the step before."""
        return step % self.keep == 0

    def of(self, step: int, updating: bool = False) -> Iterator[tuple[str, Direction]]:
        """By tensor: D of the perturbation, or of the update where that is another one."""
        factors = self._factors(step // self.keep * self.keep)
        draw = self._generator(step, 0)
        slipped = self.code and self.refreshed(step) and not updating
        for name, shape in self.shapes.items():
            if self.rank == FULL or len(shape) < 2:
                yield name, Direction(_normal(shape, draw), None)
                continue
            if slipped:  # the code has drawn V from here before U
                _normal((shape[1], int(self.rank)), draw)
            yield name, Direction(_normal((shape[0], int(self.rank)), draw), factors[name])

    def _factors(self, step: int) -> dict[str, Tensor]:
        """V of each matrix, as drawn in this step."""
        if self.rank == FULL:
            return {}
        draw = self._generator(step, 0 if self.code else 1)
        found: dict[str, Tensor] = {}
        for name, shape in self.shapes.items():
            if len(shape) == 2:
                found[name] = _normal((shape[1], int(self.rank)), draw)
            if self.code:
                _normal((shape[0], int(self.rank)) if len(shape) == 2 else shape, draw)
        return found

    def _generator(self, step: int, kind: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 2 + kind)


def _normal(shape: Sequence[int], draw: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draw)


# -- steps -----------------------------------------------------------------------------------


class _Run:
    """A recovery between two steps."""

    def __init__(self, model: nn.Module, method: DIPLozo, tuned: Tuned, lesson: Lesson) -> None:
        self.model = model
        self.method = method
        self.tuned = tuned
        self.lesson = lesson
        shapes = {name: tuple(t.shape) for name, t in tuned.tensors.items()}
        rank, code = method.perturbation, method.variant == "code"
        self.directions = Directions(shapes, rank, method.keep, code, lesson.seed)
        self.scale = 1.0 if code or rank == FULL else float(rank)
        self.moments: dict[str, Tensor] = {}
        self.step = self.best_step = 0
        self.best = tuned.arrays()
        self.losses: list[tuple[int, float]] = []
        self.means: list[tuple[int, float]] = []
        self._since: list[float] = []

    def descend(self, windows: NDArray[np.int64]) -> None:
        """One step on windows [batch, tokens]."""
        wanted = [_dense(self.model, self.tuned, window) for window in windows]
        eps = self.method.epsilon
        self._move(eps)
        above = self._loss(windows, wanted)
        self._move(-2 * eps)
        below = self._loss(windows, wanted)
        self._move(eps)
        self._update((above - below) / (2 * eps))
        self._since.append((above + below) / 2)
        self.step += 1

    def _move(self, by: float) -> None:
        for name, direction in self.directions.of(self.step):
            tensor = self.tuned.tensors[name]
            tensor.add_(direction.dense().to(tensor.device), alpha=by)

    def _update(self, slope: float) -> None:
        if self.method.momentum and self.step and self.directions.refreshed(self.step):
            self._project()
        for name, direction in self.directions.of(self.step, updating=True):
            scale = 1.0 if direction.v is None else self.scale
            change = direction.u * (slope / scale)
            if self.method.momentum:
                before = self.moments.get(name, torch.zeros_like(change))
                change = self.method.momentum * before + (1 - self.method.momentum) * change
                self.moments[name] = change
            tensor = self.tuned.tensors[name]
            tensor.sub_(direction.dense(change).to(tensor.device), alpha=self.method.learning_rate)

    def _project(self) -> None:
        """Momentum from the last V onto that of this step."""
        old, new = dict(self.directions.of(self.step - 1)), self.directions.of(self.step)
        for name, direction in new:
            before = old[name].v
            if before is not None and direction.v is not None:
                overlap = before.T @ direction.v / len(direction.v)
                self.moments[name] = self.moments[name] @ overlap

    def _loss(self, windows: NDArray[np.int64], wanted: Sequence[Tensor]) -> float:
        with applied(self.model, self.method, self.lesson.select):
            losses = [
                _divergence(teacher, _logits(self.model, window))
                for window, teacher in zip(windows, wanted, strict=True)
            ]
        return float(np.mean(losses))

    def check(self, held: NDArray[np.int64]) -> None:
        """Note the loss of held windows, keep the best, save."""
        losses = [self._loss(w[None], [_dense(self.model, self.tuned, w)]) for w in held]
        loss = float(np.mean(losses))
        if not self.losses or loss < min(value for _, value in self.losses):
            self.best, self.best_step = self.tuned.arrays(), self.step
        self.losses.append((self.step, loss))
        if self._since:
            self.means.append((self.step, float(np.mean(self._since))))
            self._since = []
        self.lesson.log(f"step {self.step}: validation KL {loss:.5f} a token")
        self.lesson.checkpoint.save(self._saved())

    def _saved(self) -> Arrays:
        kinds = {"now": self.tuned.arrays(), "best": self.best}
        kinds["moment"] = {name: m.numpy().copy() for name, m in self.moments.items()}
        state = {f"{kind} {n}": a for kind, arrays in kinds.items() for n, a in arrays.items()}
        progress = np.array([self.step, self.best_step], np.int64)
        losses = {"losses": np.array(self.losses), "means": np.array(self.means).reshape(-1, 2)}
        return {**state, **losses, "progress": progress}

    def restore(self, saved: Mapping[str, NDArray[Any]] | None) -> None:
        if saved is None:
            return
        of = {k: _under(f"{k} ", saved) for k in ("now", "best", "moment")}
        self.tuned.set(of["now"])
        self.best = of["best"]
        self.moments = {name: torch.from_numpy(array) for name, array in of["moment"].items()}
        self.step, self.best_step = (int(value) for value in saved["progress"])
        self.losses = [(int(step), float(loss)) for step, loss in saved["losses"]]
        self.means = [(int(step), float(loss)) for step, loss in saved["means"]]
        self.lesson.log(f"going on after step {self.step}")


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def _order(windows: int, count: int, seed: int) -> NDArray[np.int64]:
    """Windows to learn from, in shuffled epochs, as many as are needed."""
    rng = np.random.default_rng([seed, 2])
    epochs = [rng.permutation(windows) for _ in range(-(-count // windows))]
    return np.concatenate(epochs)[:count]


def _logits(model: nn.Module, window: NDArray[np.int64]) -> Tensor:
    device = next(model.parameters()).device
    ids = torch.from_numpy(np.ascontiguousarray(window))[None].to(device)
    return model(input_ids=ids).logits[0]


def _dense(model: nn.Module, tuned: Tuned, window: NDArray[np.int64]) -> Tensor:
    with tuned.off():
        return _logits(model, window)


def _divergence(teacher: Tensor, student: Tensor) -> float:
    """KL of the next token, mean over tokens, from logits [tokens, vocabulary]."""
    total = 0.0
    for wanted, given in zip(teacher.split(ROWS), student.split(ROWS), strict=True):
        p, q = wanted.float().log_softmax(-1), given.float().log_softmax(-1)
        total += float(functional.kl_div(q, p, log_target=True, reduction="sum"))
    return total / len(teacher)


# -- what is tuned ---------------------------------------------------------------------------


class Tuned:
    """Tensors that move in place, by the names under which they are handed over."""

    def __init__(self, tensors: Mapping[str, Tensor], off: Sequence[Any]) -> None:
        self.tensors = tensors
        self._off = off

    @contextmanager
    def off(self) -> Iterator[None]:
        """The model as it was: the teacher."""
        with ExitStack() as stack:
            for enter in self._off:
                stack.enter_context(enter())
            yield

    def arrays(self) -> Arrays:
        return {name: t.detach().cpu().numpy().copy() for name, t in self.tensors.items()}

    def set(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(torch.from_numpy(arrays[name]))


@contextmanager
def _tuned(model: nn.Module, method: DIPLozo, seed: int) -> Iterator[Tuned]:
    tensors: dict[str, Tensor] = {}
    off: list[Any] = []
    with ExitStack() as stack:
        if "norms" in method.tunes:
            stack.enter_context(_with_norms(model, tensors, off))
        if "adapters" in method.tunes:
            adapters = stack.enter_context(adapted(model, method, seed))
            off.append(adapters.off)
            for name, layer in adapters.layers.items():
                tensors[f"{name}.A"] = layer.lora_A["default"].weight.data
                tensors[f"{name}.B"] = layer.lora_B["default"].weight.data
        yield Tuned(tensors, off)


def _with_norms(
    model: nn.Module, tensors: dict[str, Tensor], off: list[Any]
) -> AbstractContextManager[None]:
    """Copies of the norms' weights in their place, float32."""
    own = norms(model)
    if any(weight.dtype != torch.float32 for weight in own.values()):
        raise ValueError("tunes: norms needs dtype: float32; steps are smaller than bfloat16 tells")
    copies = {name: weight.clone() for name, weight in own.items()}
    tensors.update(copies)
    off.append(lambda: weights_replaced(model, own))
    return weights_replaced(model, copies) if copies else nullcontext()


def norms(model: nn.Module) -> dict[str, Tensor]:
    """Weights [hidden] of the norms in the decoder's layers, by name."""
    layers = tuple(f"{view.path.rpartition('.')[0]}." for view in gated_mlps(model))
    return {
        f"{path}.{name}": weight.data
        for path, module in model.named_modules()
        if path.startswith(layers) and "norm" in type(module).__name__.lower()
        for name, weight in module.named_parameters(recurse=False)
        if weight.dim() == 1
    }
