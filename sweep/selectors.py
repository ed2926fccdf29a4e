"""Selectors: where a method's scores meet the simulator's caches.

A selector is called for each layer and group with the scores of one window and answers with the
mask. It also keeps what the masks cost: a trace for later simulation, or hits counted on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.density import ATTENTION, kept_units, mlp_density
from methods.select import Given, topk_mask
from methods.thresholds import ThresholdSelect, check_finite
from simulator.packing import pack
from simulator.phases import phase_counts, spread_of
from simulator.policies import Cache
from simulator.selection import select, select_plainly
from simulator.simulation import GroupCounts
from simulator.state import STATEFUL, CacheState, new_state
from simulator.trace import Trace
from sweep.scans import Scan, floats_of, mask_like, rows_of

Start = Mapping[str, NDArray[np.int64]]
"""For a hot start: order of units by group, [layers, units]."""


@dataclass(frozen=True, slots=True)
class Reads:
    """Units of a group that each token used and, of a selector that counts them, its hits."""

    used: NDArray[np.int64]  # [layers, tokens]
    hits: NDArray[np.int64] | None  # [layers, tokens]


class Selector:
    """One shard's masks. `begin_window` comes before each window's forward pass."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.dense_tokens = 0
        self.units: dict[str, int] = {}
        self._used: dict[tuple[str, int], list[NDArray[np.int64]]] = {}

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        """The first `dense_tokens` of the window's `tokens` use every unit."""
        self.lengths.append(tokens)
        self.dense_tokens = dense_tokens

    def __call__(self, layer: int, group: str, scores: Tensor, share: float) -> Tensor:
        """Mask [1, tokens, units] of 0 and 1 in the type of `scores`; one sequence at a time."""
        return self._answer(layer, group, scores, share, False)

    def pruned(self, layer: int, group: str, values: Tensor, share: float) -> Tensor:
        """`values` with zeros where abs(values) is not selected (`methods.base.pruned`)."""
        return self._answer(layer, group, values, share, True)

    def _answer(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        if values.dim() == 3 and values.shape[0] != 1:
            raise ValueError(f"one sequence at a time is evaluated, not {values.shape[0]}")
        self.units[group] = values.shape[-1]
        first, rest = values[..., : self.dense_tokens, :], values[..., self.dense_tokens :, :]
        answers = []
        for part, of_part in ((first, 1.0), (rest, share)):
            if part.shape[-2]:
                used, answer = self._select(layer, group, part, of_part, prune)
                self._used.setdefault((group, layer), []).append(used)
                answers.append(answer.clone() if part is first else answer)  # memory used again
        return answers[0] if len(answers) == 1 else torch.cat(answers, dim=-2)

    def _select(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool
    ) -> tuple[NDArray[np.int64], Tensor]:
        """Units that each token uses [tokens], and the mask, or with `prune` pruned values."""
        used, mask = self._mask(layer, group, values.abs() if prune else values, share)
        return used, values * mask if prune else mask

    def _mask(
        self, layer: int, group: str, scores: Tensor, share: float
    ) -> tuple[NDArray[np.int64], Tensor]:
        raise NotImplementedError

    def drain(self) -> dict[str, Reads]:
        """What was read since the last call, by group, which is then forgotten, masks and all."""
        layers = {g: self._by_layer(self._used, g) for g, _ in self._used}
        reads = {g: Reads(np.stack(used), self._hit(g)) for g, used in layers.items()}
        self._used.clear()
        self.lengths.clear()
        return reads

    def _hit(self, group: str) -> NDArray[np.int64] | None:
        """Hits [layers, tokens] of a group; None if the selector counts none."""
        return None

    def trace(self) -> Trace | None:
        """The masks of all windows, if they may be simulated later."""
        return None

    def groups(self) -> dict[str, dict[str, Any]]:
        """What each group read, as JSON, if the selector counts hits itself."""
        return {}

    def spread(self) -> dict[str, dict[str, list[int]]]:
        """How the units that a token uses vary from token to token, by group and layer, as JSON:
        the least, the most and the sum of squares. Empty where every token uses the same number.
        """
        return {}

    def mlp_density(self) -> float:
        """Realised MLP density: mean over layers and tokens of the weights that were used."""
        return mlp_density({g: self._mean_used(g) / units for g, units in self.units.items()})

    def attention(self) -> dict[str, float]:
        """Share of the units that were used, by group of attention; empty if none is pruned."""
        units = {group: self.units[group] for group in ATTENTION if group in self.units}
        return {group: self._mean_used(group) / count for group, count in units.items()}

    def _mean_used(self, group: str) -> float:
        return float(np.concatenate(self._by_layer(self._used, group)).mean())

    def _by_layer(
        self, arrays: Mapping[tuple[str, int], Sequence[NDArray[Any]]], group: str
    ) -> list[NDArray[Any]]:
        """Arrays of a group, windows one after the other, in order of layers."""
        layers = sorted(layer for name, layer in arrays if name == group)
        return [np.concatenate(arrays[group, layer]) for layer in layers]


class _Recorder(Selector):
    """A selector whose masks do not depend on a cache: records the trace."""

    def __init__(self) -> None:
        super().__init__()
        self._packed: dict[tuple[str, int], list[NDArray[np.uint64]]] = {}

    def drain(self) -> dict[str, Reads]:
        self._packed.clear()
        return super().drain()

    def trace(self) -> Trace | None:
        packed = {group: np.stack(self._by_layer(self._packed, group)) for group in self.units}
        layers = len(next(iter(packed.values())))
        return Trace(dict(self.units), layers, tuple(self.lengths), packed)


class ThresholdSelector(_Recorder):
    """Scores of at least a threshold, or above 0 where the method has decided: how many units a
    token uses varies from token to token."""

    def __init__(self, select: ThresholdSelect | Given) -> None:
        super().__init__()
        self._threshold = select

    def _mask(
        self, layer: int, group: str, scores: Tensor, share: float
    ) -> tuple[NDArray[np.int64], Tensor]:
        check_finite(scores)
        mask = self._threshold.mask(layer, group, scores, share)
        rows = rows_of(mask).numpy()
        self._packed.setdefault((group, layer), []).append(pack(rows))
        return rows.sum(axis=-1, dtype=np.int64), mask.to(scores.dtype)

    def spread(self) -> dict[str, dict[str, list[int]]]:
        return {group: spread_of(self._by_layer(self._used, group)) for group in self.units}


class _KernelSelector(Selector):
    """The same number of units for each token, chosen on the CPU by a kernel of the simulator.

    Where no gradient is asked for, the kernel writes the pruned values itself: one pass, no mask.
    `chunk` neighbouring units are chosen as one, by the sum of their scores.
    """

    def __init__(self, chunk: int = 1) -> None:
        super().__init__()
        self.chunk = chunk
        self._scratch: dict[str, NDArray[np.float32]] = {}

    def _select(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool
    ) -> tuple[NDArray[np.int64], Tensor]:
        if self.chunk > 1:
            return self._select_chunks(layer, group, values, share, prune)
        if values.is_cuda or torch.is_grad_enabled():
            return super()._select(layer, group, values, share, prune)
        return self._choose(layer, group, values, share, prune)

    def _select_chunks(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool
    ) -> tuple[NDArray[np.int64], Tensor]:
        scores = values.abs() if prune else values
        together = scores.unflatten(-1, (-1, self.chunk)).sum(dim=-1)  # [1, tokens, chunks]
        self.units[group] = together.shape[-1]
        used, of_chunks = self._mask(layer, group, together, share)
        mask = of_chunks.repeat_interleave(self.chunk, dim=-1)
        return used, values * mask if prune else mask

    def _mask(
        self, layer: int, group: str, scores: Tensor, share: float
    ) -> tuple[NDArray[np.int64], Tensor]:
        return self._choose(layer, group, scores, share, False)

    def _choose(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool
    ) -> tuple[NDArray[np.int64], Tensor]:
        rows = floats_of(values)
        target, k = self._target(group, rows), kept_units(share, rows.shape[-1])
        self._scan(layer, group, Scan(rows, k, target, prune))
        return np.full(len(rows), k, np.int64), mask_like(target, values)

    def _scan(self, layer: int, group: str, scan: Scan) -> None:
        """Fill the target of the scan, and keep what it costs."""
        raise NotImplementedError

    def _target(self, group: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Memory of the shape of `values`. Without gradients a layer's masks are done with when
        the next layer's are made, and using memory again costs less than asking for new."""
        if not torch.is_inference_mode_enabled():
            return np.empty_like(values)
        scratch = self._scratch.get(group)
        if scratch is None or scratch.shape != values.shape:
            scratch = self._scratch[group] = np.empty_like(values)
        return scratch


class TopKSelector(_KernelSelector, _Recorder):
    """The k largest of each token; ties go to the lower unit."""

    def _mask(
        self, layer: int, group: str, scores: Tensor, share: float
    ) -> tuple[NDArray[np.int64], Tensor]:
        if not scores.is_cuda:
            return super()._mask(layer, group, scores, share)
        mask = topk_mask(scores, kept_units(share, scores.shape[-1]))
        rows = rows_of(mask).numpy()
        self._packed.setdefault((group, layer), []).append(pack(rows))
        return rows.sum(axis=-1, dtype=np.int64), mask.to(scores.dtype)

    def _scan(self, layer: int, group: str, scan: Scan) -> None:
        threads = torch.get_num_threads()
        options: dict[str, Any] = {"target": scan.target, "ones": not scan.prune}
        chosen = select(scan.rows, scan.k, magnitude=scan.prune, threads=threads, **options)
        self._packed.setdefault((group, layer), []).append(chosen.packed)


class CacheAwareSelector(_KernelSelector, _Recorder):
    """Algorithm 1 of the paper: top-k after the re-weighting of eq. 10, token after token.

    Exact and teacher-forced: a token's mask depends on earlier tokens of its own layer only. The
    scan itself runs on the CPU, wherever the model is.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        gamma: float,
        policy: str,
        scope: str = "window",
        start: Start | None = None,
        *,
        chunk: int = 1,
        traced: bool = False,
    ) -> None:
        super().__init__(chunk)
        self.traced = traced
        self.slots, self.gamma, self.policy = slots, gamma, policy
        self.scope, self.start = scope, start
        self._states: dict[tuple[str, int], CacheState] = {}
        self._caches: dict[tuple[str, int], Cache] = {}
        """In place of a state, for a policy that has no kernel."""
        self._hits: dict[tuple[str, int], list[NDArray[np.int64]]] = {}

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        super().begin_window(tokens, dense_tokens)
        if self.scope == "window":
            self._states.clear()
            self._caches.clear()

    def _scan(self, layer: int, group: str, scan: Scan) -> None:
        units, options = scan.rows.shape[-1], {"target": scan.target, "ones": not scan.prune}
        if self.policy in STATEFUL:
            state = self._state(layer, group, units)
            chosen = select(scan.rows, scan.k, gamma=self.gamma, state=state, **options)
        else:
            cache = self._cache(layer, group, units)
            chosen = select_plainly(scan.rows, scan.k, self.gamma, cache, **options)
        assert chosen.hits is not None
        if self.traced:
            self._packed.setdefault((group, layer), []).append(chosen.packed)
        self._hits.setdefault((group, layer), []).append(chosen.hits)

    def _order(self, layer: int, group: str) -> NDArray[np.int64] | None:
        return None if self.start is None else self.start[group][layer]

    def _cache(self, layer: int, group: str, units: int) -> Cache:
        if (group, layer) not in self._caches:
            order = self._order(layer, group)
            listed = None if order is None else order.tolist()
            self._caches[group, layer] = Cache(self.policy, units, self.slots[group], listed)
        return self._caches[group, layer]

    def _state(self, layer: int, group: str, units: int) -> CacheState:
        if (group, layer) not in self._states:
            order = self._order(layer, group)
            self._states[group, layer] = new_state(units, self.slots[group], self.policy, order)
        return self._states[group, layer]

    def drain(self) -> dict[str, Reads]:
        reads = super().drain()
        self._hits.clear()
        return reads

    def trace(self) -> Trace | None:
        """The masks, where they are asked for: as they would be read, for they are final."""
        return super().trace() if self.traced else None

    def _hit(self, group: str) -> NDArray[np.int64]:
        return np.stack(self._by_layer(self._hits, group))

    def groups(self) -> dict[str, dict[str, Any]]:
        return {group: self._counts(group).to_json() for group in self.units}

    def _counts(self, group: str) -> GroupCounts:
        used = np.stack(self._by_layer(self._used, group))  # [layers, tokens]
        hits = np.stack(self._by_layer(self._hits, group))
        return GroupCounts(phase_counts(used, used - hits), used.sum(axis=1), hits.sum(axis=1))
