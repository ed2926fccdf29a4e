"""Where routing rules meet the simulator's caches: which experts tokens use, token after token.

A rule that reads the cache is evaluated exactly in one pass: a layer's choice depends on earlier
tokens of that layer alone, so a scan over tokens decides it before the experts are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.experts.rules import GROUP, Rule, Token, ranked, spreads
from simulator.packing import pack
from simulator.phases import phase_counts, spread_of
from simulator.policies import Cache
from simulator.simulation import GroupCounts
from simulator.trace import Trace
from sweep.routing.ahead import Ahead

if TYPE_CHECKING:
    from methods.experts.view import Event, RoutedLayer
    from sweep.tasks.payloads import SelectorPayload

Flags = NDArray[np.bool_]


class Routes:
    """What the tokens of a shard of windows use. `begin_window` comes before each window.

    Without a cache in `payload` the trace is kept, for a rule that reads none; else hits are
    counted on the way. `start` is the order of experts of a hot start, [layers, experts].
    """

    def __init__(
        self,
        rule: Rule,
        payload: SelectorPayload,
        start: NDArray[np.int64] | None = None,
    ) -> None:
        self.rule, self.payload, self.start = rule, payload, start
        self.reads_cache = "policy" in payload
        self.lengths: list[int] = []
        self.dense_tokens = 0
        self.experts = 0
        self.chosen = 0
        self._caches: dict[int, Cache] = {}
        self._means: dict[int, float] = {}
        self._packed: dict[int, list[NDArray[np.uint64]]] = {}
        self._used: dict[int, list[NDArray[np.int64]]] = {}
        self._hits: dict[int, list[NDArray[np.int64]]] = {}
        self._swapped = 0
        self.layers: list[RoutedLayer] = []
        """Those of the model, for a rule that announces experts to the next one."""
        self._ahead = Ahead(rule.prefetch) if rule.prefetch else None

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        """The first `dense_tokens` of the window's `tokens` use what the router chooses."""
        self.lengths.append(tokens)
        self.dense_tokens = dense_tokens
        if self.payload.get("scope", "window") == "window":
            self._caches.clear()
            self._means.clear()

    def __call__(self, event: Event) -> Tensor | None:
        """The experts that each token uses, bool [tokens, experts]; None where it is the router's
        own choice."""
        layer, self.experts, self.chosen = event.view.index, event.view.count, event.view.chosen
        self.rule.check(self.experts, self.chosen)
        stock = event.stock.cpu().numpy()
        k = self.rule.used(self.chosen)
        if not self.reads_cache and k == self.chosen:
            self._keep(layer, stock, stock)
            return None
        flags = self._scanned(event, stock, k) if self.reads_cache else self._best(event, stock, k)
        self._keep(layer, flags, stock)
        return torch.from_numpy(flags).to(event.scores.device)

    def _best(self, event: Event, stock: Flags, k: int) -> Flags:
        best = _flagged(ranked(_scores(event), stock), k)
        best[: self.dense_tokens] = stock[: self.dense_tokens]
        return best

    def _scanned(self, event: Event, stock: Flags, k: int) -> Flags:
        layer, scores = event.view.index, _scores(event)
        means = spreads(scores, self._means.get(layer))
        self._means[layer] = float(means[-1])
        orders = ranked(scores, stock)
        shares = _shares(event, orders, k) if self.rule.needs_shares else None
        cache = self._cache(layer)
        flags, hits = stock.copy(), np.zeros(len(scores), np.int64)
        cached = np.zeros_like(flags)
        resident = np.zeros(self.experts, np.bool_)
        for row in range(len(scores)):
            resident[:] = False
            resident[list(cache.cached)] = True
            cached[row] = resident
            if row >= self.dense_tokens:
                of_token = None if shares is None else shares[row]
                token = Token(scores[row], float(means[row]), of_token, orders[row])
                flags[row] = self.rule.choose(token, resident, k)
            hits[row] = cache.step(np.flatnonzero(flags[row]).tolist())
        self._hits.setdefault(layer, []).append(hits)
        if self._ahead is not None:
            self._ahead.add(event, flags, cached, self.layers)
        return flags

    def _cache(self, layer: int) -> Cache:
        if layer not in self._caches:
            order = None if self.start is None else self.start[layer].tolist()
            slots = min(self.payload.get("slots", {})[GROUP], self.experts)
            policy = self.payload.get("policy", "none")
            self._caches[layer] = Cache(policy, self.experts, slots, order)
        return self._caches[layer]

    def _keep(self, layer: int, flags: Flags, stock: Flags) -> None:
        self._used.setdefault(layer, []).append(flags.sum(axis=-1, dtype=np.int64))
        self._packed.setdefault(layer, []).append(pack(flags))
        self._swapped += int((flags & ~stock).sum())

    # -- what is handed on -------------------------------------------------------------------

    def trace(self) -> Trace:
        """The experts of all tokens; of a rule that reads the cache, as it has chosen them."""
        packed = np.stack(self._by_layer(self._packed))
        return Trace({GROUP: self.experts}, len(packed), tuple(self.lengths), {GROUP: packed})

    def groups(self) -> dict[str, dict[str, Any]]:
        """What was read, as JSON, where hits were counted on the way."""
        if not self.reads_cache:
            return {}
        used, hits = (np.stack(self._by_layer(of)) for of in (self._used, self._hits))
        counts = GroupCounts(phase_counts(used, used - hits), used.sum(axis=1), hits.sum(axis=1))
        return {GROUP: counts.to_json()}

    def spread(self) -> dict[str, dict[str, list[int]]]:
        """How the number of experts that a token uses varies, as of `Selector.spread`."""
        if not self.rule.needs_shares:
            return {}
        return {GROUP: spread_of(self._by_layer(self._used))}

    def figures(self) -> dict[str, int]:
        """Experts used over all tokens and layers, those that the router had not chosen, and how
        many it would have used."""
        used = sum(int(part.sum()) for parts in self._used.values() for part in parts)
        layers = len(self._used)
        return {
            "used": used,
            "swapped": self._swapped,
            "stock": self.chosen * layers * sum(self.lengths),
        }

    def announced(self) -> dict[str, Any]:
        """What was announced one layer ahead, as JSON; empty of a rule that announces nothing."""
        return {} if self._ahead is None else self._ahead.to_json()

    def drain(self) -> None:
        """Forget what was kept of the windows so far."""
        for kept in (self._packed, self._used, self._hits):
            kept.clear()
        self.lengths.clear()

    @staticmethod
    def _by_layer(arrays: Mapping[int, Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
        return [np.concatenate(arrays[layer]) for layer in sorted(arrays)]


def _scores(event: Event) -> NDArray[np.float64]:
    return event.scores.double().cpu().numpy()


def _flagged(orders: NDArray[np.intp], k: int) -> Flags:
    """The first k of each token's order, bool [tokens, experts]."""
    flags = np.zeros(orders.shape, np.bool_)
    np.put_along_axis(flags, orders[:, :k], True, axis=-1)
    return flags


def _shares(event: Event, orders: NDArray[np.intp], k: int) -> NDArray[np.float64]:
    best = torch.from_numpy(_flagged(orders, k)).to(event.scores.device)
    return event.shares(best).double().cpu().numpy()
