"""One CETT for all layers: a given one, or the one at which perplexity is p % above dense.

    D = {i : abs(z_i) ||W_down[:, i]|| < t}        the neurons of a token that are inactive
    CETT = mean over tokens of ||sum over D of z_i W_down[:, i]|| / ||W_down z||,  z = GLU(x)

PPL-p % (Luo et al. 2024, Sparsing Law, arXiv 2411.02335): each layer has the largest t of 65,536
between 0 and the 0.99 quantile of its sizes whose CETT is at most that of all layers, found by
bisection; and of these CETTs, by bisection to 1e-6, the largest at which the perplexity is at most
(1 + p / 100) times that of the dense model. What is then active, in the mean over layers and
tokens, is the activation ratio. Zhang et al. 2024 (ReLU² wins, arXiv 2402.03804) fix the CETT at
0.2 instead.

Decided here: CETT is measured on inputs of the dense model, in the last quarter of each window of
the calibration text, and perplexity on the windows whole. Masks of a run then come from the shares
that these thresholds leave of the dense model's neurons, through the selector, as for all methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from methods.dynamic.dense import Dense
from methods.matrices import column_norms
from methods.mlp import GatedMLP, gated_mlps
from methods.share_search import dense_inputs, mean_loss
from methods.training import Arrays, Lesson

if TYPE_CHECKING:
    from methods.base import Method

CANDIDATES = 65_536
CAP = 0.99
TOLERANCE = 1e-6

KEPT = "cett.kept"
"""Array of the shares of neurons [layers] that the thresholds leave."""


def search(
    model: nn.Module, method: Method, lesson: Lesson, percent: float, cett: float
) -> tuple[dict[str, Any], Arrays]:
    """Thresholds of all layers at a rise of perplexity by `percent`, or if that is 0 at a CETT.

    `method` must call its selector with the sizes above. Told are the CETT, the activation ratio
    and both perplexities of the calibration text.
    """
    with torch.no_grad():
        views = gated_mlps(model)
        inputs = dense_inputs(model, views, lesson.windows)
        layers = [LayerSizes(view, inputs.pop(view.layer)) for view in views]
        trial = _Trial(model, method, lesson)
        if percent:
            cett, indices = _largest(layers, trial, percent, lesson)
        else:
            indices = [layer.index(cett) for layer in layers]
        thresholds = [layer.at(i) for layer, i in zip(layers, indices, strict=True)]
        del layers
        ratio, loss = trial.run(thresholds)
        kept = trial.kept(thresholds)
    result = {
        "cett": cett,
        "ppl_dense": math.exp(trial.dense),
        "ppl": math.exp(loss),
        "ppl_rise_percent": 100 * math.expm1(loss - trial.dense),
        "activation_ratio": float(np.mean(ratio)),
        "activation_by_layer": ratio,
        "thresholds": thresholds,
        "evaluations": trial.count,
    }
    return result, {KEPT: np.array(kept), "cett.thresholds": np.array(thresholds)}


def _largest(
    layers: Sequence[LayerSizes], trial: _Trial, percent: float, lesson: Lesson
) -> tuple[float, list[int]]:
    """The largest CETT within the budget, and the thresholds at it by their numbers."""
    low, high = 0.0, 1.0
    fewest = [layer.index(low) for layer in layers]
    most = [layer.index(high) for layer in layers]
    if trial.within(layers, most, percent):
        return high, most
    while high - low > TOLERANCE and fewest != most:
        middle = (low + high) / 2
        bounds = zip(layers, fewest, most, strict=True)
        indices = [layer.index(middle, least, last) for layer, least, last in bounds]
        if trial.within(layers, indices, percent):
            low, fewest = middle, indices
        else:
            high, most = middle, indices
        lesson.log(f"CETT between {low:.6f} and {high:.6f}")
    return low, fewest


class LayerSizes:
    """What each neuron of a layer adds to the output, on inputs [1, tokens, hidden]."""

    def __init__(self, view: GatedMLP, x: Tensor) -> None:
        self.view = view
        self.glu = view.glu(x.reshape(-1, x.shape[-1]))  # [tokens, intermediate]
        self.sizes = self.glu.abs().float() * column_norms(view, "down", order=2)
        self.nothing = view.down(torch.zeros_like(self.glu[:1]))  # the bias
        self.whole = (view.down(self.glu) - self.nothing).float().norm(dim=-1).clamp_min(1e-30)
        ordered = self.sizes.flatten().sort().values
        self.top = float(ordered[int(CAP * (len(ordered) - 1))])

    def at(self, index: int) -> float:
        """The threshold of this number, 0 to CANDIDATES."""
        return self.top * index / CANDIDATES

    def cett(self, threshold: float) -> float:
        """What is below the threshold over the output, norms of it, in the mean over tokens."""
        left_out = self.view.down(self.glu * (self.sizes < threshold)) - self.nothing
        return float((left_out.float().norm(dim=-1) / self.whole).double().mean())

    def index(self, cett: float, low: int = 0, high: int = CANDIDATES) -> int:
        """Number of the largest threshold whose CETT is at most this, if it lies in [low, high]."""
        if self.cett(self.at(high)) <= cett:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            if self.cett(self.at(middle)) <= cett:
                low = middle
            else:
                high = middle
        return low


class _Trial:
    """The model on the calibration text, with thresholds in place of a selector."""

    def __init__(self, model: nn.Module, method: Method, lesson: Lesson) -> None:
        self.model = model
        self.method = method
        self.windows: NDArray[np.int64] = lesson.windows
        self.count = 0
        self.dense = mean_loss(model, Dense(), lesson.windows)

    def within(self, layers: Sequence[LayerSizes], indices: list[int], percent: float) -> bool:
        thresholds = [layer.at(i) for layer, i in zip(layers, indices, strict=True)]
        _, loss = self.run(thresholds)
        return loss - self.dense <= math.log1p(percent / 100)

    def run(self, thresholds: Sequence[float]) -> tuple[list[float], float]:
        """Active share of each layer, and the mean loss, of the sparse model."""
        masks = _Thresholds(thresholds, prune=True)
        self.count += 1
        loss = mean_loss(self.model, self.method, self.windows, masks)
        return masks.shares(), loss

    def kept(self, thresholds: Sequence[float]) -> list[float]:
        """Share of each layer's neurons that are active in the dense model."""
        masks = _Thresholds(thresholds, prune=False)
        mean_loss(self.model, self.method, self.windows, masks)
        return masks.shares()


class _Thresholds:
    """A selector by a threshold for each layer, which counts what it keeps (or would keep)."""

    def __init__(self, thresholds: Sequence[float], prune: bool) -> None:
        self.thresholds = thresholds
        self.prune = prune
        self._kept = [0] * len(thresholds)
        self._seen = [0] * len(thresholds)

    def __call__(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        mask = scores >= self.thresholds[layer]
        self._kept[layer] += int(mask.sum())
        self._seen[layer] += mask.numel()
        return mask if self.prune else torch.ones_like(mask)

    def shares(self) -> list[float]:
        return [kept / seen for kept, seen in zip(self._kept, self._seen, strict=True)]
