"""Selectors that look at the next layer's scores before they choose a mask: of `next_layer`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from methods.apply import applied, run_layers
from methods.density import kept_units
from methods.mlp import decoder_layers, gated_mlps
from methods.registry import create
from methods.thresholds import Quantiles, ThresholdSelect
from simulator import CacheState, new_state, select
from sweep.resident_selector import ResidentSelector
from sweep.scans import Scan, floats_of, mask_like
from sweep.selectors import CacheAwareSelector

if TYPE_CHECKING:
    from torch import Tensor, nn

Floats = NDArray[np.float32]  # [tokens, units]
Counts = NDArray[np.int64]  # [tokens]
POLICY, LAYERED = "lfu", "layer-threshold"


@dataclass(frozen=True, slots=True)
class Look:
    """How a mask looks at the next layer."""

    idea: str
    """`budget`, `alone`, `smooth`, `written` or `misses`: see the selectors."""
    weight: float
    """How much that counts; at 0 nothing is looked at."""
    told: bool = False
    """Whether the scores of the next layer are those of the dense run, and no prediction."""


class Ahead:
    """Scores of the layer after the one whose mask is chosen, for the tokens of one window.

    Predicted: the inputs of both MLPs are the residual stream, which changes slowly, times the
    weights of a norm of each. No intermediate unit of a later layer is known before its weights
    are read. Told: both groups, as the dense run has them, which is more than any predictor knows.
    """

    def __init__(self, model: nn.Module, quantiles: Quantiles) -> None:
        self.model, self.quantiles = model, quantiles
        _, layers = decoder_layers(model)
        norms: list[Any] = [layer.post_attention_layernorm for layer in layers]
        weights = [norm.weight.detach().abs().float().numpy() for norm in norms]
        tiny = np.finfo(np.float32).tiny
        self._ratios = [b / np.maximum(a, tiny) for a, b in itertools.pairwise(weights)]
        self._squares: dict[int, Floats] = {}
        self._thresholds: dict[tuple[str, float], list[float]] = {}
        self.told: dict[tuple[str, int], Floats] = {}
        """Scores of the dense run, by group and layer."""

    def listen(self, tokens: Tensor) -> None:
        """Run the dense model on tokens [1, tokens], and keep its scores."""
        self.told.clear()
        with torch.inference_mode(), applied(self.model, create("dip", 1.0), self._keep):
            run_layers(self.model, tokens)

    def _keep(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        self.told[group, layer] = floats_of(scores).copy()
        return torch.ones_like(scores)

    def scores(self, layer: int, group: str, own: Floats, told: bool) -> Floats | None:
        """Of layer `layer` + 1, where layer `layer` has `own`; None where they are not known."""
        if told:
            return self.told.get((group, layer + 1))
        known = group == "input" and layer < len(self._ratios)
        return own * self._ratios[layer] if known else None

    def threshold(self, layer: int, group: str, share: float) -> np.float32:
        """What `share` of the scores of calibration text are not below."""
        if (group, share) not in self._thresholds:
            found = self.quantiles.thresholds(LAYERED, group, share)
            self._thresholds[group, share] = found
        return np.float32(self._thresholds[group, share][layer])

    def both(
        self, layer: int, group: str, own: Floats, share: float, told: bool
    ) -> tuple[Floats, Floats | None]:
        """Scores of a layer and of the next, each over its threshold."""
        after = self.scores(layer, group, own, told)
        own = own / self.threshold(layer, group, share)
        return own, None if after is None else after / self.threshold(layer + 1, group, share)

    def squares(self, layer: int) -> Floats:
        """Squared weights of W_down [hidden, intermediate]."""
        if layer not in self._squares:
            down: Any = gated_mlps(self.model)[layer].module.down_proj
            self._squares[layer] = down.weight.detach().float().numpy() ** 2
        return self._squares[layer]


class Looking(ResidentSelector):
    """`resident-threshold` of scores that know the next layer's.

    `budget`: where a token has large scores in this layer and the next, each over its threshold,
    the threshold rises by the power `weight` of what the best 2k of both have at least; at 1 the
    two layers keep 2k together. Below 0 it falls: such a token reads more.
    `alone`: the same by the best k inputs of this layer; nothing is looked at.
    `smooth`: a score is mixed with what the layer before predicted of it.
    `written`: an intermediate unit counts by how much of what it writes goes to inputs that are
    above the next layer's threshold (a power of the norm of that part of its column of W_down,
    over what it would be if all parts were alike).
    """

    def __init__(
        self, threshold: ThresholdSelect, slots: Mapping[str, int], look: Look, ahead: Ahead
    ) -> None:
        super().__init__(threshold, slots, POLICY)
        self.look, self.ahead = look, ahead
        self._noted: dict[str, Floats | None] = {}

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        super().begin_window(tokens, dense_tokens)
        self._noted.clear()

    def _mask(self, layer: int, group: str, scores: Tensor, share: float) -> tuple[Counts, Tensor]:
        seen = getattr(self, f"_{self.look.idea}")(layer, group, floats_of(scores), share)
        return super()._mask(layer, group, mask_like(seen, scores), share)

    def _budget(self, layer: int, group: str, own: Floats, share: float) -> Floats:
        of_own, after = self.ahead.both(layer, group, own, share, self.look.told)
        if after is None:
            return own
        pool = np.concatenate([of_own, after], axis=1)
        return self._moved(own, pool, 2 * kept_units(share, own.shape[1]))

    def _alone(self, layer: int, group: str, own: Floats, share: float) -> Floats:
        if group != "input":
            return own
        pool = own / self.ahead.threshold(layer, group, share)
        return self._moved(own, pool, kept_units(share, own.shape[1]))

    def _moved(self, own: Floats, pool: Floats, count: int) -> Floats:
        """Scores over a power of what the best `count` of the pool have at least."""
        rank = pool.shape[1] - count
        edge = np.partition(pool, rank, axis=1)[:, rank, None]
        return np.divide(own, edge**self.look.weight, dtype=np.float32)

    def _smooth(self, layer: int, group: str, own: Floats, share: float) -> Floats:
        expected = self._noted.get(group)
        self._noted[group] = self.ahead.scores(layer, group, own, self.look.told)
        if expected is None:
            return own
        weight = self.look.weight
        return np.add((1 - weight) * own, weight * expected, dtype=np.float32)

    def _written(self, layer: int, group: str, own: Floats, share: float) -> Floats:
        if group == "input":
            _, after = self.ahead.both(layer, group, own, share, self.look.told)
            self._noted[group] = None if after is None else (after >= 1).astype(np.float32)
            return own
        read = self._noted["input"]  # [tokens, hidden]
        if read is None:
            return own
        squares = self.ahead.squares(layer)
        alike = read.mean(axis=1, keepdims=True) * squares.sum(axis=0)
        part = (read @ squares) / np.maximum(alike, np.finfo(np.float32).tiny)
        return own * part ** (self.look.weight / 2)


class _Purse:
    """What tokens may still spend beyond a layer's own budget, as earlier layers left it."""

    def __init__(self) -> None:
        self._left: dict[str, Counts] = {}

    def open(self, layer: int, group: str, tokens: int) -> Counts:
        """Of each token [tokens], to be updated in place."""
        if not layer:
            self._left[group] = np.zeros(tokens, np.int64)
        return self._left[group]


class Neighbours(CacheAwareSelector):
    """Top-k with γ, where this layer and the next have 2k units together (`budget`).

    A token uses as many units of this layer as are of it among the best 2k of both, scores over
    thresholds; what it spares or overdraws goes on to the next layer, so that the sum over all
    layers stays.
    """

    def __init__(self, slots: Mapping[str, int], gamma: float, look: Look, ahead: Ahead) -> None:
        super().__init__(slots, gamma, POLICY)
        self.look, self.ahead, self._purse = look, ahead, _Purse()

    def _choose(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool
    ) -> tuple[Counts, Tensor]:
        rows = floats_of(values)
        target, used = self._target(group, rows), self._parts(layer, group, np.abs(rows), share)
        for token, k in enumerate(used.tolist()):
            one = slice(token, token + 1)
            self._scan(layer, group, Scan(rows[one], k, target[one], prune))
        return used, mask_like(target, values)

    def _parts(self, layer: int, group: str, own: Floats, share: float) -> Counts:
        """Units that each token uses of this layer [tokens]."""
        k, left = kept_units(share, own.shape[1]), self._purse.open(layer, group, len(own))
        of_own, after = self.ahead.both(layer, group, own, share, self.look.told)
        part = k + left if after is None else among_best(of_own, after, 2 * k + left)
        used = k + np.rint(self.look.weight * (part - k)).astype(np.int64)
        used = np.clip(used, 1, own.shape[1])
        left += k - used
        return used


def among_best(own: Floats, after: Floats, together: Counts) -> Counts:
    """How many of the `together` [tokens] largest of both are of the first [tokens]."""
    pool = np.sort(np.concatenate([own, after], axis=1), axis=1)
    rank = np.clip(pool.shape[1] - together, 0, pool.shape[1] - 1)
    return (own >= np.take_along_axis(pool, rank[:, None], axis=1)).sum(axis=1)


class Misses(ResidentSelector):
    """A token uses all that is cached, and reads the best of the rest until it uses k (`misses`).

    With the next layer, the reads of both are one budget, for the best that neither has cached; the
    next layer's cache is taken for one that is asked for what is predicted. What is spared or
    overdrawn goes on to the next layer. A cache is asked for what is as good as the last read.
    """

    def __init__(
        self, threshold: ThresholdSelect, slots: Mapping[str, int], look: Look, ahead: Ahead
    ) -> None:
        super().__init__(threshold, slots, POLICY)
        self.look, self.ahead, self._purse = look, ahead, _Purse()

    def _mask(self, layer: int, group: str, scores: Tensor, share: float) -> tuple[Counts, Tensor]:
        own = floats_of(scores)
        k, left = kept_units(share, own.shape[1]), self._purse.open(layer, group, len(own))
        of_own, after = self.ahead.both(layer, group, own, share, self.look.told)
        cache, shadow = (new_state(own.shape[1], self.slots[group], POLICY) for _ in range(2))
        used, hits = np.zeros(own.shape, np.float32), np.zeros(len(own), np.int64)
        for token, row in enumerate(of_own):
            held, missing = cache.content, _missing(row, cache)
            plain = max(0, k - len(held))
            part = plain + int(left[token])
            if after is not None:
                part = _with_next(missing, after[token], shadow, part, k)
            reads = plain + round(self.look.weight * (part - plain))
            reads = min(max(reads, 0), len(row) - len(held))
            left[token] += plain - reads
            asked = row >= _edge(missing, reads)
            _ask(cache, asked)
            used[token, held], used[token, asked] = 1, 1
            hits[token] = len(held)
        self._hits.setdefault((group, layer), []).append(hits)
        return used.sum(axis=1).astype(np.int64), mask_like(used, scores)


def _with_next(missing: Floats, after: Floats, shadow: CacheState, part: int, k: int) -> int:
    """Reads of this layer, of those of both; the next layer's cache is asked for the others."""
    absent = _missing(after, shadow)
    together = part + max(0, k - len(shadow.content))
    edge = _edge(np.concatenate([missing, absent]), together)
    _ask(shadow, after >= edge)
    return int((missing >= edge).sum())


def _missing(row: Floats, cache: CacheState) -> Floats:
    """Scores [units], those of what is cached below all others."""
    missing = row.copy()
    missing[cache.content] = -np.inf
    return missing


def _edge(scores: Floats, count: int) -> float:
    """The `count`-th largest finite score; infinite for none."""
    count = min(count, int(np.isfinite(scores).sum()))
    return float(np.partition(scores, -count)[-count]) if count > 0 else np.inf


def _ask(cache: CacheState, asked: NDArray[np.bool_]) -> None:
    count = int(asked.sum())
    if count:  # top-k of ones and zeros is what is asked for
        select(asked[None].astype(np.float32), count, gamma=1.0, state=cache)
