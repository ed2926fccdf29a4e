"""The contract of a cache policy as rules that anyone can run: `sweep check-method my_policy.py`.

Each rule is tried on small sessions made here, at every capacity, from cold and hot starts, and
says what is wrong in a sentence. A policy that passes works with every trace and any number of
threads. The contract of a device is `simulator.device_contract`, that of a method
`methods.contract`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.cache import simulate
from simulator.errors import SimulatorError
from simulator.policies import (
    CACHE_AWARE,
    Cache,
    Policy,
    next_uses,
    policy_class,
    policy_summary,
)
from simulator.selection import cache_aware
from simulator.verdicts import BrokenError, Verdict, try_rules

UNITS, TOKENS = 9, 14
Rule: TypeAlias = Callable[[str], None]
"""A function of a policy's name that raises BrokenError where the rule does not hold."""


def check(name: str) -> list[Verdict]:
    """Every rule, tried on the registered policy of that name."""
    return try_rules(RULES, name)


@dataclass(frozen=True, slots=True)
class Session:
    """What one cache is asked for: masks `[tokens, units]`, with so many slots, from a start."""

    masks: NDArray[np.bool_]
    capacity: int
    start: list[int] | None

    @property
    def mirrored(self) -> Session:
        """The same with the last unit in the place of the first: it likes other units."""
        return dataclasses.replace(self, masks=self.masks[:, ::-1])

    def __str__(self) -> str:
        return f"with {self.capacity} slots from a {'cold' if self.start is None else 'hot'} start"


class Step(NamedTuple):
    """One token: what it used, the cache before and after it, and the policy after it."""

    token: int
    used: frozenset[int]
    before: frozenset[int]
    after: frozenset[int]
    policy: Policy


def sessions(name: str) -> Iterator[Session]:
    """Small sessions at every capacity: units liked unequally, units in turn, all and none."""
    random, order = np.random.default_rng(11), [4, 0, 7, 2, 8, 1, 6, 3, 5]
    liked = random.random((TOKENS, UNITS)) < random.random(UNITS)
    liked[3], liked[8] = True, False
    in_turn = np.eye(UNITS, dtype=np.bool_)[np.arange(TOKENS) % 5]
    starts = [order] if policy_class(name).needs_start else [None, order]
    for masks in (liked, in_turn):
        for start in starts:
            yield from (Session(masks, capacity, start) for capacity in range(UNITS + 1))


def steps(name: str, session: Session) -> Iterator[Step]:
    """The session as SEMANTICS 4 tells it, with nothing checked on the way."""
    cache = Cache(name, session.masks.shape[1], session.capacity, session.start)
    policy, content = cache.policy, cache.cached
    future = next_uses(session.masks) if policy.offline else None
    for token, row in enumerate(session.masks):
        used = [int(unit) for unit in np.flatnonzero(row)]
        before = frozenset(content)
        if future is not None:
            policy.next_use = future[token]
        policy.observe(token, used)
        content = policy.retain(set(before), set(used), session.capacity)
        yield Step(token, frozenset(used), before, frozenset(content), policy)


def it_says_what_it_evicts(name: str) -> None:
    """The first line of its docstring says what it evicts first."""
    if len(policy_summary(name)) < 10:
        raise BrokenError("write there what it evicts first")


def it_needs_a_start_or_works_without(name: str) -> None:
    """Without a start it works, or says by `needs_start` that it needs one."""
    masks = next(sessions(name)).masks
    try:
        simulate(masks, 3, name)
    except SimulatorError:
        if not policy_class(name).needs_start:
            raise
    else:
        if policy_class(name).needs_start:
            raise BrokenError("it needs a start and does without")


def it_keeps_only_what_was_there(name: str) -> None:
    """It keeps only units that were cached or that the token used."""
    for session in sessions(name):
        for step in steps(name, session):
            foreign = step.after - step.before - step.used
            if foreign:
                raise BrokenError(
                    f"{session}, it caches unit {min(foreign)} after token {step.token}"
                )


def it_keeps_within_its_slots(name: str) -> None:
    """It never keeps more units than the cache has slots."""
    for session in sessions(name):
        most = max(len(step.after) for step in steps(name, session))
        if most > session.capacity:
            raise BrokenError(f"{session}, it keeps {most} units")


def it_evicts_nothing_in_use(name: str) -> None:
    """A token evicts none of the cached units that it uses, unless the policy is offline."""
    if policy_class(name).offline:
        return  # a bound may drop a unit whose next use is far
    for session in sessions(name):
        for step in steps(name, session):
            evicted = (step.before & step.used) - step.after
            if evicted:
                raise BrokenError(f"{session}, token {step.token} evicts {sorted(evicted)}")


def no_two_units_are_worth_the_same(name: str) -> None:
    """No two units are worth the same, so that what is evicted is no accident."""
    kind = policy_class(name)
    if kind.worth is Policy.worth and kind.retain is not Policy.retain:
        return  # it retains by no worth
    for session in sessions(name):
        for step in steps(name, session):
            worths = sorted(step.policy.worth(unit) for unit in range(UNITS))
            equal = [worth for worth, next_ in pairwise(worths) if worth == next_]
            if equal:
                raise BrokenError(f"after token {step.token}, two units are worth {equal[0]!r}")


def it_starts_afresh(name: str) -> None:
    """A session is the same again after another: it depends on its masks and start alone."""
    for session in sessions(name):
        first = _contents(steps(name, session))
        _contents(steps(name, session.mirrored))
        if _contents(steps(name, session)) != first:
            raise BrokenError(f"{session}, it caches other units the second time")


def caches_do_not_meet(name: str) -> None:
    """Two caches at work at once do not change each other, as those of two layers are."""
    for session in sessions(name):
        alone = _contents(steps(name, session))
        both = zip(steps(name, session), steps(name, session.mirrored), strict=True)
        if _contents(step for step, _ in both) != alone:
            raise BrokenError(f"{session}, it caches other units beside another cache")


def it_is_simulated_as_it_is_written(name: str) -> None:
    """`simulate` counts the hits of its plain form, which are used units in the cache."""
    for session in sessions(name):
        hits = [len(step.used & step.before) for step in steps(name, session)]
        counted = _hits(name, session)
        if counted != hits:
            raise BrokenError(f"{session}, simulate counts {counted}; written are {hits}")


def a_first_use_is_a_miss(name: str) -> None:
    """From a cold start the first use of a unit is a miss; without slots every use is."""
    for session in sessions(name):
        earlier = np.cumsum(session.masks, axis=0) > session.masks
        seen = session.masks & (earlier | (session.start is not None))
        most = np.minimum(seen.sum(axis=1), session.capacity)
        hits = np.array(_hits(name, session))
        if ((hits < 0) | (hits > most)).any():
            raise BrokenError(f"{session}, it hits {hits.tolist()} of at most {most.tolist()}")


def it_does_not_see_the_future(name: str) -> None:
    """What it hits does not depend on later tokens, unless it says `offline`."""
    if policy_class(name).offline:
        return
    for session in sessions(name):
        begun = dataclasses.replace(session, masks=session.masks[: TOKENS // 2])
        if _hits(name, begun) != _hits(name, session)[: TOKENS // 2]:
            raise BrokenError(f"{session}, later tokens change its hits")


def it_does_not_beat_the_optimum(name: str) -> None:
    """It hits no more than `min`, which is the optimum."""
    for session in sessions(name):
        hits, most = sum(_hits(name, session)), sum(_hits("min", session))
        if hits > most:
            raise BrokenError(f"{session}, it hits {hits} times; at most {most} are possible")


def cache_aware_selection_refuses_or_follows_it(name: str) -> None:
    """Cache-aware selection refuses it, as it must an offline one, or counts its hits."""
    scores = np.random.default_rng(5).standard_normal((TOKENS, UNITS)).astype(np.float32)
    start = list(range(UNITS)) if policy_class(name).needs_start else None
    try:
        masks, hits = cache_aware(scores, 4, 5, 0.5, name, start)
    except SimulatorError:
        if name in CACHE_AWARE:
            raise
        return
    if policy_class(name).offline:
        raise BrokenError("it knows later masks, which γ below 1 makes depend on the cache")
    if hits.tolist() != _hits(name, Session(masks, 5, start)):
        raise BrokenError("the masks that it selects have other hits when they are simulated")


RULES: tuple[Rule, ...] = (
    it_says_what_it_evicts,
    it_needs_a_start_or_works_without,
    it_keeps_only_what_was_there,
    it_keeps_within_its_slots,
    it_evicts_nothing_in_use,
    no_two_units_are_worth_the_same,
    it_starts_afresh,
    caches_do_not_meet,
    it_is_simulated_as_it_is_written,
    a_first_use_is_a_miss,
    it_does_not_see_the_future,
    it_does_not_beat_the_optimum,
    cache_aware_selection_refuses_or_follows_it,
)


def _hits(name: str, session: Session) -> list[int]:
    return simulate(session.masks, session.capacity, name, session.start).tolist()


def _contents(taken: Iterable[Step]) -> list[frozenset[int]]:
    return [step.after for step in taken]
