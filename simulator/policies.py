"""Cache policies, plainly: what SEMANTICS 4 says, in sets and loops.

This is the reference that the fast kernels are proven equal to, and what a policy of your own
looks like: a small class, as in docs/examples/own_policy.py. Put yours in a file, name the file
under `plugins` in sweeps.yaml (or call `load_policies`), and every command knows it.

A cache is asked for all units of a token together. Units found are hits; afterwards the policy
retains at most `capacity` of the units cached or just used.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from simulator.errors import SimulatorError, unknown
from simulator.packing import unpack

NEVER = 1 << 62  # the next use of a unit that is not used again
_CLASSES: dict[str, type[Policy]] = {}
POLICIES: dict[str, str] = {}  # name -> what it does in a line, of every policy that is known
FAMILIES: dict[str, Callable[[int], type[Policy]]] = {}
"""Policies with a number: by name of the family, its policy of a number. `window-8` is the policy
of 8 in the family `window`."""
# Policies of ours that a cache-aware selector can use: those that its kernel has.
CACHE_AWARE = frozenset({"lfu", "lru"})


class Policy:
    """One cache of one group in one layer; `units` is its number of units.

    `start` is the order of units of a hot start, best first, or None for a cold one. Offline
    policies read `self.next_use[unit]`, the token of the next use after the current one.

    The first line of a policy's docstring says what it evicts first; a `description` takes its
    place where there is one.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    offline: ClassVar[bool] = False
    needs_start: ClassVar[bool] = False
    start_by: ClassVar[str] = "activity"
    """What orders the units of its start on calibration text: how active they are (`activity`), or
    how many tokens use them under the method and density in question (`use`)."""
    caches: ClassVar[bool] = True
    """Whether anything is ever kept."""

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        self.units = units
        self.start = start
        self.next_use: Sequence[int] = ()

    def observe(self, token: int, used: Sequence[int]) -> None:
        """Take note of the units that a token used (ascending); called after its hits."""

    def worth(self, unit: int) -> Any:
        """A key to compare units by: the least is evicted first. No two units may be equal."""
        raise NotImplementedError

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        """The next cache content. As a rule, used units that were cached stay; missing used ones,
        then unused cached ones, fill what is left, in both cases those of most worth first."""
        content = cached & used
        for others in (used - cached, cached - used):
            best = sorted(others, key=self.worth, reverse=True)
            content |= set(best[: capacity - len(content)])
        return content

    @classmethod
    def scan(
        cls, words: NDArray[np.uint64], units: int, capacity: int, start: NDArray[np.uint32] | None
    ) -> NDArray[np.int64]:
        """Hits of each token `[tokens]` of packed masks `[tokens, words]`, from a fresh cache.

        This is the plain loop; a policy with compiled code of its own takes its place, which
        `simulator.contract` holds against the loop.
        """
        order = None if start is None else start.tolist()
        return simulate_plainly(unpack(words, units), capacity, cls.name, order)


_Kind = TypeVar("_Kind", bound=Policy)


def register(policy: type[_Kind]) -> type[_Kind]:
    """Make a policy known by its name; usable as a decorator. Names cannot be taken twice."""
    registered = _CLASSES.get(policy.name)
    if not policy.name or (registered and _origin(registered) != _origin(policy)):
        raise SimulatorError(f"policy {policy.__qualname__} needs a name of its own")
    _CLASSES[policy.name] = policy
    POLICIES[policy.name] = policy_summary(policy.name)
    return policy


def forget(name: str) -> None:
    """Make a policy unknown again: a plug-in that is loaded anew may no longer have it."""
    _CLASSES.pop(name, None)
    POLICIES.pop(name, None)


def _is_ours(policy: type[Policy]) -> bool:
    return policy.__module__.startswith("simulator.")


def cache_aware_policies() -> frozenset[str]:
    """Policies that a cache-aware selector can use: of ours those that its kernel has, of a user's
    own all that do not know the future."""
    of_users = {
        name
        for name, policy in _CLASSES.items()
        if not _is_ours(policy) and policy.caches and not policy.offline
    }
    return CACHE_AWARE | of_users


def _origin(policy: type[Policy]) -> tuple[str, str]:
    return policy.__module__, policy.__qualname__


def load_policies(path: str | Path) -> tuple[str, ...]:
    """Run a Python file that registers policies; returns the names that it registered."""
    path = Path(path).resolve()
    if not path.is_file():
        raise SimulatorError(f"policy file {str(path)!r} does not exist")
    spec = importlib.util.spec_from_file_location(f"simulator_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise SimulatorError(f"policy file {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return tuple(name for name, cls in _CLASSES.items() if cls.__module__ == module.__name__)


def policy_class(name: str) -> type[Policy]:
    """The class of a policy; SimulatorError with the nearest name for an unknown one."""
    policy = _CLASSES.get(name) or _of_family(name)
    if policy is None:
        raise unknown("policy", name, _CLASSES)
    return policy


def _of_family(name: str) -> type[Policy] | None:
    family, _, number = name.rpartition("-")
    written_plainly = re.fullmatch("[1-9][0-9]{0,8}", number)
    return FAMILIES[family](int(number)) if family in FAMILIES and written_plainly else None


def policy_summary(name: str) -> str:
    """What a policy evicts first: its `description`, or else the first line of its docstring."""
    policy = policy_class(name)
    return policy.description or (policy.__doc__ or "").strip().partition("\n")[0]


def offline_policies() -> frozenset[str]:
    """Names of the policies that have to know all masks in advance: no device can run them."""
    return frozenset(name for name, policy in _CLASSES.items() if policy.offline)


@register
class NoCache(Policy):
    """Caches nothing: every used unit is read from Flash."""

    name = "none"
    caches = False

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        return set()


@register
class Static(Policy):
    """A fixed set of the units that calibration found most active, never evicted."""

    name = "static"
    needs_start = True

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        return cached


@register
class LRU(Policy):
    """Evicts the least recent last use; one list serves all capacities.

    A recency list cut at the capacity; a token moves its units to the front in their order.
    """

    name = "lru"

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self._arrange(list(range(units)) if start is None else list(start))

    def _arrange(self, order: list[int]) -> None:
        self.order = order
        self.place = {unit: index for index, unit in enumerate(order)}

    def observe(self, token: int, used: Sequence[int]) -> None:
        now = set(used)
        front = [unit for unit in self.order if unit in now]
        self._arrange(front + [unit for unit in self.order if unit not in now])

    def worth(self, unit: int) -> int:
        return -self.place[unit]


@register
class LFU(Policy):
    """Evicts the fewest uses since the start, counted in or out of the cache."""

    name = "lfu"

    def __init__(self, units: int, start: Sequence[int] | None) -> None:
        super().__init__(units, start)
        self.uses = [0] * units

    def observe(self, token: int, used: Sequence[int]) -> None:
        for unit in used:
            self.uses[unit] += 1

    def worth(self, unit: int) -> tuple[int, int]:
        return self.uses[unit], -unit


@register
class Belady(Policy):
    """Evicts the farthest next use, knowing all masks; admits what was just used.

    The paper's oracle.
    """

    name = "belady"
    offline = True

    def worth(self, unit: int) -> tuple[int, int]:
        return -self.next_use[unit], -unit


@register
class Min(Belady):
    """The optimum: keeps the nearest next uses of all units cached or used.

    It may refuse to admit, or drop a unit just used.
    """

    name = "min"

    def retain(self, cached: set[int], used: set[int], capacity: int) -> set[int]:
        return set(sorted(cached | used, key=self.worth, reverse=True)[:capacity])


class Cache:
    """The loop that all policies share: one layer's cache of one group."""

    def __init__(
        self, policy: str, units: int, capacity: int, start: Sequence[int] | None = None
    ) -> None:
        kind = policy_class(policy)
        self.policy, self.capacity, self.token = kind(units, start), capacity, 0
        self.cached: set[int] = set((start or [])[:capacity]) if kind.caches else set()

    def step(self, used: Sequence[int]) -> int:
        """Request the units of one token together (ascending); returns the hits."""
        hits = len(self.cached & set(used))
        self.policy.observe(self.token, used)
        self.cached = self.policy.retain(self.cached, set(used), self.capacity)
        self.token += 1
        if len(self.cached) > self.capacity:
            raise SimulatorError(f"policy {self.policy.name!r} retained more than the capacity")
        return hits


def simulate_plainly(
    masks: NDArray[np.bool_], capacity: int, policy: str, start: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Hits of each token `[tokens]` of masks `[tokens, units]`, one unit after the other."""
    used = [np.flatnonzero(row).tolist() for row in masks]
    cache = Cache(policy, masks.shape[1], capacity, start)
    future = next_uses(masks) if cache.policy.offline else None
    hits = np.zeros(len(used), dtype=np.int64)
    for token, units in enumerate(used):
        if future is not None:
            cache.policy.next_use = future[token]
        hits[token] = cache.step(units)
    return hits


def next_uses(masks: NDArray[np.bool_]) -> list[list[int]]:
    """For each token, of every unit the first later token that uses it, or NEVER."""
    following, rows = [NEVER] * masks.shape[1], list[list[int]]()
    for token in range(masks.shape[0] - 1, -1, -1):
        rows.append(list(following))
        for unit in np.flatnonzero(masks[token]):
            following[unit] = token
    return rows[::-1]


def lru_curve(masks: NDArray[np.bool_], start: Sequence[int] | None = None) -> NDArray[np.int64]:
    """Total LRU hits at each capacity `[units + 1]`: one simulation for every capacity."""
    capacities = range(masks.shape[1] + 1)
    return np.array(
        [simulate_plainly(masks, c, "lru", start).sum() for c in capacities], dtype=np.int64
    )


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """The k largest scores of each token `[tokens, units]`; ties go to the lower unit."""
    masks = np.zeros(scores.shape, dtype=bool)
    for row, mask in zip(scores.tolist(), masks, strict=True):
        mask[_best(row, k)] = True
    return masks


def _best(scores: Sequence[float], k: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda unit: (-scores[unit], unit))[:k]


def cache_aware(
    scores: NDArray[np.float32],
    k: int,
    capacity: int,
    gamma: float,
    policy: str = "lfu",
    start: Sequence[int] | None = None,
    cache: Cache | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Algorithm 1 of the paper, one token after the other; masks `[tokens, units]` and hits.

    Eq. 10 in float32, without its denominator: `abs(x)` of a cached unit, `gamma * abs(x)` of
    another. Dividing all units of a token by one positive number changes no order, and leaving it
    out spares a rounding that could make two scores equal.
    """
    cache = cache or Cache(policy, scores.shape[1], capacity, start)
    masks, hits = np.zeros(scores.shape, dtype=bool), np.zeros(len(scores), dtype=np.int64)
    penalty = np.float32(gamma)
    for token, row in enumerate(np.abs(scores)):
        weighed = [x if unit in cache.cached else penalty * x for unit, x in enumerate(row)]
        used = sorted(_best(weighed, k))
        masks[token, used] = True
        hits[token] = cache.step(used)
    return masks, hits
