"""Shares found on the calibration text: in a layer by its error, over layers by the model's loss.

`greedy` is TEAL's block-wise search (Liu et al. 2024, arXiv 2408.14690): nothing is pruned at
first, and one group after another gives up a step of its share, each time the one whose loss leaves
the output of the layer nearest to the dense one. All densities lie on that one path. Decided here,
where the source leaves it open or differs: the output is that of the MLP, for the last quarter of
each window; masks are top-k for each token; a step takes the same number of weights of every group.

`sensitivity` prunes one layer at a time and measures how much the loss grows. Layers then give up
weights in the order of what that costs, from the lower convex hull of what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods import shares
from methods.apply import applied
from methods.density import ATTENTION, MLP_SHARE
from methods.dynamic.dense import Dense
from methods.mlp import GatedMLP, gated_mlps
from methods.select import topk
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.apply import LayerSelect
    from methods.base import Method
    from methods.shared import Shared

TOKENS = 2048
"""Tokens of the calibration text that are read."""

STEP = 0.05
"""Share that a group gives up at a time."""

LAST = 0.25
"""Part of a window, its last, whose outputs are compared."""

LOSS_TOKENS = 1024
"""Of these tokens the loss is measured, once for each layer and each share of `LADDER`."""

LADDER = (0.8, 0.6, 0.4, 0.2)

BLOCKS = "shares.blocks"
"""What `tpe` adds to the density of each layer (`block_search`), among arrays."""

_PATH, _LOSS = "shares.path", "shares.loss"


def train(
    model: nn.Module, method: Shared, lesson: Lesson, learnt: Arrays, wanted: str
) -> tuple[dict[str, Any], Arrays]:
    """What `wanted` of `shares.CALIBRATED` asks for, added to what the method has learnt:
    `shares.path` [layers, steps, groups] and `shares.loss` [layers, rungs]."""
    kept = dict(learnt)
    if "greedy" in wanted:
        _add_paths(model, method, lesson, kept)
    if "sensitivity" in wanted:
        _add_losses(model, method, lesson, kept)
    return _summary(method, wanted, kept), kept


def table(
    wanted: str, groups: Sequence[str], density: float, arrays: Mapping[str, NDArray[Any]]
) -> shares.Table:
    """Shares by layer at a density, from the arrays that `train` made."""
    if wanted in ("greedy", shares.TPE):
        layers = [density + more for more in more_by_layer(arrays, len(arrays[_PATH]))]
    else:
        layers = by_loss(groups, arrays[_LOSS], density)
    if wanted == "sensitivity":
        return tuple(shares.uniform(groups, own) for own in layers)
    pairs = zip(arrays[_PATH], layers, strict=True)
    return tuple(on_path(groups, path, own) for path, own in pairs)


def more_by_layer(arrays: Mapping[str, NDArray[Any]], layers: int) -> list[float]:
    """What is added to the share of each layer: nothing, unless trials have found it."""
    return arrays[BLOCKS].tolist() if BLOCKS in arrays else [0.0] * layers


# -- greedy: groups of a layer ---------------------------------------------------------------


def greedy(
    groups: Sequence[str],
    error: Callable[[tuple[float, ...]], float],
    parts: Mapping[str, float] = MLP_SHARE,
) -> list[list[float]]:
    """Shares of the groups, step after step, from all kept to nothing; ties go to the earlier
    group. `parts` says how large groups are beside each other."""
    mean = sum(parts[group] for group in groups) / len(groups)
    steps = [STEP * mean / parts[group] for group in groups]
    row = [1.0] * len(groups)
    path = [row]
    while any(row):
        lower = [_lowered(row, i, steps[i]) for i in range(len(row)) if row[i]]
        row = min(lower, key=lambda shares_: error(tuple(shares_)))
        path.append(row)
    return path


def _lowered(row: Sequence[float], index: int, step: float) -> list[float]:
    share = row[index] - step
    return [*row[:index], 0.0 if share < 1e-6 else round(share, 9), *row[index + 1 :]]


def on_path(groups: Sequence[str], path: NDArray[Any], density: float) -> tuple[float, ...]:
    """The point of a path with this density, between two of its steps in proportion."""
    return between(path, np.array([shares.density_of(groups, row) for row in path]), density)


def between(
    path: NDArray[Any], densities: NDArray[np.float64], density: float
) -> tuple[float, ...]:
    """The row of `path` at a density, between two of its falling `densities` in proportion."""
    after = int(np.searchsorted(-densities, -density))  # the first at or below the density
    if after == 0:
        return tuple(map(float, path[0]))
    after = min(after, len(path) - 1)
    above, below = densities[after - 1], densities[after]
    part = min(1.0, max(0.0, (above - density) / (above - below)))
    return tuple(map(float, path[after - 1] + part * (path[after] - path[after - 1])))


def _add_paths(model: nn.Module, method: Shared, lesson: Lesson, kept: Arrays) -> None:
    views = gated_mlps(model)
    inputs = dense_inputs(model, views, lesson.windows)

    def path(view: GatedMLP) -> NDArray[Any]:
        error = _error_of(method.at(view.layer), view, inputs[view.layer])
        rows = np.array(greedy(method.mlp_groups, error))
        halfway = on_path(method.mlp_groups, rows, 0.5)
        words = (f"{g} {share:.3f}" for g, share in zip(method.mlp_groups, halfway, strict=True))
        lesson.log(f"layer {view.layer} at density 0.5: {', '.join(words)}")
        return rows

    add_by_layer(_PATH, [view.layer for view in views], lesson, kept, lambda i: path(views[i]))


def _error_of(method: Shared, view: GatedMLP, x: Tensor) -> Callable[[tuple[float, ...]], float]:
    """The error of a layer's output, as a norm over all tokens of x, at shares of its groups."""
    with torch.no_grad():
        dense = view.down(view.glu(x)).double()

    def select(group: str, scores: Tensor, share: float) -> Tensor:
        return topk(view.layer, group, scores, share)

    def error(row: tuple[float, ...]) -> float:
        with torch.no_grad():
            sparse = method.with_shares(row).forward(view, x, select)
            return float((sparse.double() - dense).norm())

    return error


def dense_inputs(
    model: nn.Module, views: Sequence[GatedMLP], windows: NDArray[np.int64]
) -> dict[int, Tensor]:
    """Inputs [1, tokens, hidden] of the MLPs of the dense model, of the last part of windows."""
    seen: dict[int, list[Tensor]] = {view.layer: [] for view in views}
    rows = max(1, round(LAST * windows.shape[1]))
    with torch.no_grad(), _watched(views, seen, rows):
        for window in windows[: count(windows, TOKENS)]:
            run(model, window)
    return {layer: torch.cat(parts, dim=1) for layer, parts in seen.items()}


@contextmanager
def _watched(
    views: Sequence[GatedMLP], seen: Mapping[int, list[Tensor]], rows: int
) -> Iterator[None]:
    def keep(layer: int) -> Callable[..., None]:
        return lambda _module, args: seen[layer].append(args[0][:, -rows:].detach().clone())

    hooks = [view.module.register_forward_pre_hook(keep(view.layer)) for view in views]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


# -- sensitivity: layers of a model ----------------------------------------------------------


@dataclass(frozen=True)
class _Alone(Dense):
    """A method in one layer of a model that is dense in all others."""

    layer: int = 0
    method: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        attention = (group for group in self.method.groups if group in ATTENTION)
        object.__setattr__(self, "groups", tuple(attention))

    def at(self, layer: int) -> Self:
        return self.method.at(layer) if layer == self.layer else self


def _add_losses(model: nn.Module, method: Shared, lesson: Lesson, kept: Arrays) -> None:
    add_losses(_LOSS, model, lambda share: _with_all(method, share), lesson, kept)


def add_losses(
    name: str,
    model: nn.Module,
    with_share: Callable[[float], Method],
    lesson: Lesson,
    kept: Arrays,
) -> None:
    """How much the loss grows with one layer alone pruned to each share of `LADDER`, as `name`
    among `kept` [layers, rungs]."""
    windows = lesson.windows[: count(lesson.windows, LOSS_TOKENS)]
    dense = mean_loss(model, Dense(), windows)

    def losses(layer: int) -> NDArray[Any]:
        alone = (_Alone(layer=layer, method=with_share(share)) for share in LADDER)
        grown = np.array([mean_loss(model, one, windows) for one in alone]) - dense
        more = ", ".join(f"{loss:+.4f}" for loss in grown)
        lesson.log(f"layer {layer} alone, shares {LADDER}: loss {more}")
        return grown

    add_by_layer(name, range(len(gated_mlps(model))), lesson, kept, losses)


def _with_all(method: Shared, share: float) -> Shared:
    return method.with_shares((share,) * len(method.mlp_groups))


def mean_loss(
    model: nn.Module, method: Any, windows: NDArray[np.int64], select: LayerSelect = topk
) -> float:
    """Mean negative log-likelihood of the tokens of windows."""
    with torch.no_grad(), applied(model, method, select):
        losses = [_window_loss(run(model, window), window) for window in windows]
    return float(np.mean(losses))


def _window_loss(logits: Tensor, window: NDArray[np.int64]) -> float:
    targets = torch.from_numpy(np.ascontiguousarray(window[1:])).to(logits.device)
    return float(nn.functional.cross_entropy(logits[0, :-1].float(), targets))


def by_loss(groups: Sequence[str], losses: NDArray[Any], density: float) -> list[float]:
    """`by_losses` of the groups of an MLP."""
    return by_losses(losses, density, sum(MLP_SHARE[group] for group in groups))


def by_losses(losses: NDArray[Any], density: float, pruned: float = 1.0) -> list[float]:
    """A density for each layer, with this mean, for which the added losses [layers, rungs] are
    least, if those of layers add up; a part `pruned` of the weights can be left out.

    Between what was measured the loss is a straight line, below the last rung the last one goes on.
    """
    rungs = [1.0, *LADDER, 0.0]
    lengths = -np.diff(rungs)
    slopes = np.stack([_slopes(layer, lengths[:-1]) for layer in losses])  # [layers, rungs + 1]
    order = sorted(np.ndindex(*slopes.shape), key=lambda at: (slopes[at], at[1], at[0]))
    to_give = (1 - density) / pruned * len(losses)
    kept = np.ones(len(losses))
    for layer, rung in order:
        given = min(float(lengths[rung]), to_give)
        kept[layer] -= given
        to_give -= given
    return [float(1 - (1 - share) * pruned) for share in np.clip(kept, 0, 1)]


def _slopes(losses: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """What a layer's loss grows by for a share given up, on each rung; never falling.

    Pools neighbours that would fall, which gives the slopes of the lower convex hull.
    """
    grown = np.maximum.accumulate(np.maximum(losses, 0.0))
    pools: list[list[float]] = []  # growth, length, rungs
    for growth, length in zip(np.diff(grown, prepend=0.0), lengths, strict=True):
        pools.append([float(growth), float(length), 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    slopes = [growth / length for growth, length, rungs in pools for _ in range(int(rungs))]
    return np.array([*slopes, slopes[-1]])


# -- both ------------------------------------------------------------------------------------


def add_by_layer(
    name: str,
    layers: Iterable[int],
    lesson: Lesson,
    kept: Arrays,
    find: Callable[[int], NDArray[Any]],
) -> None:
    """What `find` finds in each layer, stacked as `name` among `kept`, into the checkpoint as it
    comes; layers that are there already are not searched again."""
    saved = lesson.checkpoint.load() or {}
    if name in saved:
        kept[name] = saved[name]
        return
    done: Arrays = {}
    for layer in layers:
        place = f"{name}.{layer}"
        if place in saved:
            done[place] = saved[place]
            continue
        done[place] = find(layer)
        lesson.checkpoint.save(kept | done)
    kept[name] = np.stack(list(done.values()))
    lesson.checkpoint.save(kept)


def run(model: nn.Module, window: NDArray[np.int64]) -> Tensor:
    """Logits [1, tokens, vocabulary] of a window."""
    device = next(model.parameters()).device
    ids = torch.from_numpy(np.ascontiguousarray(window))[None].to(device)
    return model(input_ids=ids).logits


def count(windows: NDArray[np.int64], tokens: int) -> int:
    """Windows that hold about so many tokens, at least one."""
    return max(1, tokens // windows.shape[1])


def _summary(method: Shared, wanted: str, arrays: Arrays) -> dict[str, Any]:
    """Shares at a density of 0.5, or the middle of what is reached: means, and by layer."""
    low, high = type(method).reach(method.parameters())
    density = max(0.5, (low + high) / 2)
    found = np.array(table(wanted, method.mlp_groups, density, arrays))
    means = dict(zip(method.mlp_groups, found.mean(axis=0).tolist(), strict=True))
    return {"shares_density": density, "shares": means, "shares_by_layer": found.tolist()}
