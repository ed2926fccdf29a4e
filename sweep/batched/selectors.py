"""Selectors of several windows: masks are made where the scores are, each window a session.

They are the selectors of one window with another way to choose: what they answer, count and trace
for a window is the same. What they keep comes to the host as bits, by copies that nobody waits for
until the end of a batch.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.density import kept_units
from methods.thresholds import check_finite
from simulator.errors import SimulatorError
from sweep.batched.courier import Courier
from sweep.batched.proof import Proof
from sweep.gpu import plain
from sweep.gpu.state import Caches, new_caches
from sweep.selectors import CacheAwareSelector, Selector, ThresholdSelector, TopKSelector

Promise = Future[NDArray[Any]]
_TYPES = (torch.float32, torch.bfloat16, torch.float16)
POLICIES = ("lfu", "lru")


@dataclass(frozen=True, slots=True)
class _Pending:
    """What a batch's tokens used of a group in a layer, on its way to the host."""

    group: str
    layer: int
    tokens: int
    used: int | Promise  # of each token, or [windows, tokens]
    words: Promise | None  # int64 [windows, tokens, words]
    hits: Promise | None  # int64 [windows, tokens]


def way_of(device: torch.device) -> ModuleType:
    """The Triton kernels for a GPU that has Triton, else the same in plain torch."""
    if device.type == "cuda":
        try:
            from sweep.gpu import launch
        except ImportError:
            return plain
        return launch
    return plain


class _Batched(Selector):
    """Masks [windows, tokens, units] of a batch. `begin_batch` comes before each forward pass."""

    proof: Proof | None = None
    """Compares the first window of the next batch with the CPU kernels."""

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        self.begin_batch(1, tokens, dense_tokens)

    def begin_batch(self, windows: int, tokens: int, dense_tokens: int = 0) -> None:
        """All `windows` have as many tokens, of which the first `dense_tokens` use every unit."""
        self.settle()
        super().begin_window(tokens, dense_tokens)
        self.lengths += [tokens] * (windows - 1)
        self._windows = windows

    def _answer(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        if values.dim() != 3 or values.shape[0] != self._windows:
            raise ValueError(
                f"one sequence at a time is evaluated, not {values.shape[0]}"
                if self._windows == 1
                else f"scores of {self._windows} windows are expected, not {list(values.shape)}"
            )
        chunk = getattr(self, "chunk", 1)
        self.units[group] = values.shape[-1] // chunk
        first, rest = values[:, : self.dense_tokens], values[:, self.dense_tokens :]
        with _current(values.device):
            answers = [
                self._part(layer, group, part.contiguous(), of_part, prune, chunk)
                for part, of_part in ((first, 1.0), (rest, share))
                if part.shape[1]
            ]
        return answers[0] if len(answers) == 1 else torch.cat(answers, dim=1)

    def _part(
        self, layer: int, group: str, values: Tensor, share: float, prune: bool, chunk: int
    ) -> Tensor:
        if chunk == 1:
            return self._chosen(layer, group, values, share, prune)
        scores = (values.abs() if prune else values).unflatten(-1, (-1, chunk)).sum(dim=-1)
        mask = self._chosen(layer, group, scores, share, False).repeat_interleave(chunk, dim=-1)
        return torch.where(mask != 0, values, 0) if prune else mask.to(values.dtype)

    def _chosen(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        """Pruned values, or with `prune` false a mask, in the type of the values."""
        raise NotImplementedError

    def _keep(
        self,
        layer: int,
        group: str,
        tokens: int,
        used: int | Tensor,
        words: Tensor | None,
        hits: Tensor | None = None,
    ) -> None:
        send = self._courier.send
        pending = _Pending(
            group,
            layer,
            tokens,
            send(used) if isinstance(used, Tensor) else used,
            None if words is None else send(words),
            None if hits is None else send(hits),
        )
        self._pending.append(pending)

    def settle(self) -> None:
        """Wait for what is on its way and keep it, window after window.

        Raises SimulatorError where a score of the batch was not finite.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        self._refuse()
        self.proof = None
        for window in range(self._windows):
            for part in pending:
                self._file(part, window)

    def _file(self, part: _Pending, window: int) -> None:
        place, used = (part.group, part.layer), part.used
        known = isinstance(used, int)
        of_tokens = np.full(part.tokens, used, np.int64) if known else used.result()[window]
        self._used.setdefault(place, []).append(of_tokens)
        if part.words is not None:
            packed: dict[Any, list[Any]] = self._packed  # pyright: ignore[reportAttributeAccessIssue]
            packed.setdefault(place, []).append(part.words.result()[window].view(np.uint64))
        if part.hits is not None:
            hits: dict[Any, list[Any]] = self._hits  # pyright: ignore[reportAttributeAccessIssue]
            hits.setdefault(place, []).append(part.hits.result()[window])

    def forget_batch(self) -> None:
        """As if the batch had not begun: its memory did not suffice."""
        self._pending, self._calls, self._faults = [], [], {}
        if self.proof:
            self.proof = Proof()
        del self.lengths[len(self.lengths) - self._windows :]

    _windows = 1

    def _init_batches(self) -> None:
        self._courier = Courier()
        self._pending: list[_Pending] = []
        self._faults: dict[torch.device, Tensor] = {}
        self._calls: list[tuple[int, str, int]] = []

    def _call(self, values: Tensor, layer: int, group: str) -> tuple[ModuleType, tuple[Any, ...]]:
        """The way to choose, and what its functions are told of faults."""
        way = way_of(values.device)
        if way is plain:
            _expect_finite(values)
            return way, ()
        if values.device not in self._faults:
            self._faults[values.device] = way.new_faults(values.device)
        self._calls.append((layer, group, values.shape[1]))
        return way, (self._faults[values.device], len(self._calls) - 1)

    def _refuse(self) -> None:
        read = [way_of(gpu).read_fault(of_gpu) for gpu, of_gpu in self._faults.items()]
        calls, self._calls, self._faults = self._calls, [], {}
        if faults := [fault for fault in read if fault is not None]:
            call, row, unit, is_nan = min(faults)
            layer, group, tokens = calls[call]
            raise SimulatorError(
                f"the score of unit {unit} of token {row % tokens} is "
                f"{'nan' if is_nan else 'inf'} (layer {layer}, {group}); scores must be finite"
            )

    def _by_layer(self, arrays: Any, group: str) -> list[Any]:
        self.settle()
        return super()._by_layer(arrays, group)

    def drain(self) -> Any:
        self.settle()
        return super().drain()


def _expect_finite(values: Tensor) -> None:
    """Raise ValueError where a score is none; its token is counted in its own window."""
    if not bool(torch.isfinite(values).all()):
        for window in values:
            check_finite(window)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Kernels run on the current GPU, which is not always that of the scores."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _floats(values: Tensor) -> Tensor:
    return values if values.dtype in _TYPES else values.float()


class BatchedTopK(_Batched, TopKSelector):
    """The k largest of each token; ties go to the lower unit."""

    def __init__(self, chunk: int = 1) -> None:
        super().__init__(chunk)
        self._init_batches()

    def _chosen(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        rows, k = _floats(values), kept_units(share, values.shape[-1])
        way, of_faults = self._call(rows, layer, group)
        target = torch.empty_like(rows)
        words = way.top_k(rows, k, prune, *of_faults, target=target, ones=not prune)
        if self.proof:
            self.proof.top_k(layer, group, rows, k, prune, words)
        self._keep(layer, group, rows.shape[1], k, words)
        return target.to(values.dtype)


class BatchedCacheAware(_Batched, CacheAwareSelector):
    """Algorithm 1 of the paper for policies `POLICIES`, every window a session of its own.

    With the scope `carry` a batch is one window, and the session goes on.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._init_batches()
        self._sessions: dict[tuple[str, int], Caches] = {}

    def begin_batch(self, windows: int, tokens: int, dense_tokens: int = 0) -> None:
        super().begin_batch(windows, tokens, dense_tokens)
        if self.scope == "window":
            self._sessions.clear()
        elif windows != 1:
            raise ValueError(
                f"a session that is carried on has one window at a time, not {windows}"
            )

    def _chosen(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        rows, k = _floats(values), kept_units(share, values.shape[-1])
        way, of_faults = self._call(rows, layer, group)
        caches = self._session(layer, group, rows)
        words, hits = way.cache_aware(rows, k, self.gamma, caches, *of_faults)
        if self.proof:
            order = self._order(layer, group)
            self.proof.cache_aware(layer, group, rows, k, self.gamma, caches, order, words, hits)
        self._keep(layer, group, rows.shape[1], k, words if self.traced else None, hits)
        return way.kept(rows, words, not prune).to(values.dtype)

    def _session(self, layer: int, group: str, rows: Tensor) -> Caches:
        if (group, layer) not in self._sessions:
            size = (rows.shape[0], rows.shape[-1], self.slots[group], self.policy)
            order = self._order(layer, group)
            self._sessions[group, layer] = new_caches(*size, order, rows.device)
        return self._sessions[group, layer]


class BatchedThreshold(_Batched, ThresholdSelector):
    """Scores of at least a threshold, or above 0 where the method has decided."""

    def __init__(self, select: Any) -> None:
        super().__init__(select)
        self._init_batches()

    def _chosen(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        scores = values.abs() if prune else values
        _expect_finite(scores)
        mask = self._threshold.mask(layer, group, scores, share)
        words = plain.packed(mask)
        if self.proof:
            own = self._threshold.mask(layer, group, scores[:1].cpu(), share)
            self.proof.mask(layer, group, own, words)
        self._keep(layer, group, mask.shape[1], mask.sum(dim=-1), words)
        return torch.where(mask, values, 0) if prune else mask.to(values.dtype)
