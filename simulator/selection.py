"""From scores to masks: top-k, and the cache-aware scan of Algorithm 1."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.arguments import gamma_of, scores_of, whole
from simulator.errors import SimulatorError, unknown
from simulator.kernels import select as kernels
from simulator.packing import pack, unpack, words_for
from simulator.policies import CACHE_AWARE, Cache
from simulator.state import CacheState, new_state

__all__ = ["CacheState", "Selected", "cache_aware", "new_state", "select", "top_k"]

_NOTHING = np.zeros((1, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Selected:
    """Masks as bits `[..., tokens, words]`; if cache-aware, also `hits [..., tokens]`."""

    packed: NDArray[np.uint64]
    hits: NDArray[np.int64] | None


def top_k(scores: NDArray[np.float32], k: int, *, threads: int = 1) -> NDArray[np.bool_]:
    """Masks bool `[tokens, units]` of the k largest scores of each token; ties to the lower unit.

    Raises SimulatorError for k outside 1..units, and for NaN or infinite scores.
    """
    scores = scores_of(scores)
    chosen = select(scores, k, magnitude=False, threads=threads)
    return unpack(chosen.packed, scores.shape[-1])


def cache_aware(
    scores: NDArray[np.float32],
    k: int,
    capacity: int,
    gamma: float,
    policy: str = "lfu",
    start: ArrayLike | None = None,
    state: CacheState | Sequence[CacheState] | None = None,
    *,
    threads: int = 1,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Algorithm 1 of the paper: masks bool `[tokens, units]` and hits int64 `[tokens]`.

    Of each token, the k largest of eq. 10 are used, which is `abs(x)` of a cached unit and
    `gamma * abs(x)` of another, in float32 (its denominator is common to all units of a token:
    it changes no order and is left out). Scores `[sequences, tokens, units]` are as many sessions,
    on up to `threads` threads. A `state` is carried on from call to call and takes the place of
    `start`. Raises SimulatorError for k outside 1..units, gamma outside (0, 1], a negative
    capacity, a policy other than lfu and lru, and NaN or infinite scores.
    """
    scores = scores_of(scores, (2, 3))
    units, sessions = scores.shape[-1], scores.shape[0] if scores.ndim == 3 else None
    if policy not in CACHE_AWARE:
        raise unknown("policy for cache-aware selection", policy, CACHE_AWARE)
    capacity = min(whole("capacity", capacity, 0), units)
    if state is None:
        fresh = [new_state(units, capacity, policy, start) for _ in range(sessions or 1)]
        state = fresh[0] if sessions is None else fresh
    for session in [state] if isinstance(state, CacheState) else state:
        session.expect(policy, units, capacity)
    chosen = select(scores, k, gamma=gamma, state=state, threads=threads)
    assert chosen.hits is not None
    return unpack(chosen.packed, units), chosen.hits


def select(
    values: NDArray[np.float32],
    k: int,
    *,
    magnitude: bool = True,
    gamma: float = 1.0,
    state: CacheState | Sequence[CacheState] | None = None,
    target: NDArray[np.float32] | None = None,
    ones: bool = False,
    threads: int = 1,
) -> Selected:
    """All that an evaluation needs, in one pass over `values [..., tokens, units]`.

    Without a `state`: top-k of `abs(values)`, or of the values if not `magnitude`. With one (for
    `[sequences, tokens, units]` a list of them): the cache-aware scan with `gamma`. `target`, an
    array of the shape of `values` and possibly the same one, gets the values of the selected units
    (or 1, with `ones`) and 0 for the others. After an error, `target` and `state` are partly
    updated: drop them. Results do not depend on `threads`.
    """
    values = scores_of(values, (2, 3))
    units = values.shape[-1]
    k = whole("k", k, 1, units, " (the number of units)")
    gamma = gamma_of(gamma)
    rows = values if values.ndim == 3 else values[None]
    masked = _target(target, values)
    write = kernels.NOTHING if target is None else kernels.ONES if ones else kernels.VALUES
    packed = np.empty((*rows.shape[:2], words_for(units)), np.uint64)
    if state is None:
        _top_k(rows, k, magnitude, packed, masked, write, threads)
        return Selected(packed.reshape(*values.shape[:-1], packed.shape[-1]), None)
    states = [state] if isinstance(state, CacheState) else list(state)
    if not magnitude or len(states) != len(rows):
        raise SimulatorError(
            f"cache-aware selection weighs magnitudes, with one state for each of {len(rows)} "
            f"sequences; got magnitude={magnitude} and {len(states)} states"
        )
    hits = np.zeros(rows.shape[:2], np.int64)

    def scan(i: int) -> None:
        target = _NOTHING if masked is None else masked[i]
        _scan(rows[i], k, gamma, states[i], packed[i], hits[i], target, write)

    _spread(scan, len(rows), threads)
    shape = values.shape[:-1]
    return Selected(packed.reshape(*shape, packed.shape[-1]), hits.reshape(shape))


def select_plainly(
    values: NDArray[np.float32],
    k: int,
    gamma: float,
    cache: Cache,
    *,
    target: NDArray[np.float32] | None = None,
    ones: bool = False,
) -> Selected:
    """`select` of `values [tokens, units]` with a cache of any online policy, one token at a time.

    What `simulator.policies.cache_aware` tells in loops: a user's own policy has no kernel.
    """
    values = scores_of(values)
    k = whole("k", k, 1, values.shape[-1], " (the number of units)")
    penalty = np.float32(gamma_of(gamma))
    masked = _target(target, values)
    hits = np.zeros(len(values), np.int64)
    packed = np.empty((len(values), words_for(values.shape[-1])), np.uint64)
    cached = np.zeros(values.shape[-1], np.bool_)
    for token in range(len(values)):
        row = np.abs(values[token])
        _refuse(token if not np.isfinite(row).all() else -1, values)
        cached[:] = False
        cached[list(cache.cached)] = True
        weighed = row * np.where(cached, np.float32(1), penalty)
        best = np.argsort(-weighed, kind="stable")[:k]
        chosen = np.zeros(len(row), np.bool_)
        chosen[best] = True
        hits[token] = cache.step(np.flatnonzero(chosen).tolist())
        packed[token] = pack(chosen[None])[0]
        if masked is not None:
            masked[0, token] = np.where(chosen, np.float32(1) if ones else values[token], 0)
    return Selected(packed, hits)


def _target(
    target: NDArray[np.float32] | None, values: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    if target is None:
        return None
    writable = target.flags.writeable and target.flags.c_contiguous
    if target.dtype != np.float32 or target.shape != values.shape or not writable:
        raise SimulatorError(
            f"target is {target.dtype} of shape {target.shape}; it must be a writable contiguous "
            f"float32 array of shape {values.shape}"
        )
    return target if target.ndim == 3 else target[None]


def _top_k(
    rows: NDArray[np.float32],
    k: int,
    magnitude: bool,
    packed: NDArray[np.uint64],
    masked: NDArray[np.float32] | None,
    write: int,
    threads: int,
) -> None:
    units = rows.shape[-1]
    total = rows.shape[0] * rows.shape[1]
    flat, words = rows.reshape(total, units), packed.reshape(total, packed.shape[-1])
    target = _NOTHING if masked is None else masked.reshape(total, units)
    bounds = np.linspace(0, len(flat), max(1, threads) + 1).astype(int)

    def scan(i: int) -> None:
        part = slice(bounds[i], bounds[i + 1])
        bad = kernels.top_k_scan(flat[part], magnitude, k, words[part], target[part], write)
        _refuse(int(bounds[i] + bad) if bad >= 0 else -1, flat)

    _spread(scan, len(bounds) - 1, threads)


def _scan(
    values: NDArray[np.float32],
    k: int,
    gamma: float,
    state: CacheState,
    packed: NDArray[np.uint64],
    hits: NDArray[np.int64],
    target: NDArray[np.float32],
    write: int,
) -> None:
    if state.policy not in CACHE_AWARE:
        raise unknown("policy for cache-aware selection", state.policy, CACHE_AWARE)
    state.expect(state.policy, values.shape[-1], state.capacity)
    counters = np.array([state.seen, state.tokens], np.int64)
    policy = kernels.LFU if state.policy == "lfu" else kernels.LRU
    bad = kernels.cache_aware_scan(
        values,
        k,
        np.float32(gamma),
        policy,
        state.capacity,
        state.cached,
        state.uses,
        state.order,
        counters,
        state.memory,
        packed,
        hits,
        target,
        write,
    )
    _refuse(int(bad), values)
    state.seen, state.tokens = int(counters[0]), int(counters[1])


def _refuse(token: int, values: NDArray[np.float32]) -> None:
    if token >= 0:
        unit = int(np.flatnonzero(~np.isfinite(values[token]))[0])
        raise SimulatorError(
            f"the score of unit {unit} of token {token} is {values[token, unit]}; "
            "scores must be finite"
        )


_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def _spread(task: Callable[[int], None], count: int, threads: int) -> None:
    threads = min(whole("threads", threads, 1), count)
    if threads <= 1:
        for i in range(count):
            task(i)
        return
    with _lock:
        pool = _pools.setdefault(threads, ThreadPoolExecutor(threads))
    for _ in pool.map(task, range(count)):
        pass
