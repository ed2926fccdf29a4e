"""A cache shared unequally between groups: down to one group resident, the other streamed.

`allocate` caches the same fraction of every group. Here groups take shares of the same bytes; what
a group cannot use, as it is cached whole, goes to the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from simulator.errors import SimulatorError
from simulator.footprint import Footprint

Shares = tuple[tuple[str, float], ...]
"""(group, share of the bytes of all caches) of the groups that are named; the others have
what is left, by their bytes. Empty: all by their bytes, as `allocate` has it."""

BY_BYTES, EQUAL = "by-bytes", "equal"
WORDS = (BY_BYTES, EQUAL)
INPUTS = ("input", "gate-input", "up-input")
"""Groups that a number is the share of, evenly among them."""
_PART = 1e-9
_DIGITS = 12


def shares_of(written: str | float | Mapping[str, float], groups: Sequence[str]) -> Shares:
    """What is written of a method's cache, for its groups: `by-bytes`, `equal`, a number that is
    the share of its `INPUTS`, or a share for each group, of which some may be left out.

    Empty where there is nothing to share. Raises SimulatorError for a share without its group, and
    for shares that are not 1 together.
    """
    if written == BY_BYTES or len(groups) < 2:
        return ()
    named = _named(written, groups)
    left = [group for group in groups if group not in named]
    rest = round(1 - math.fsum(named.values()), _DIGITS)
    if rest < -1e-6 or (not left and rest > 1e-6):
        told = ", ".join(f"{group} {share:g}" for group, share in named.items())
        raise SimulatorError(f"cache_shares {told}: the shares of a cache are 1 together")
    if len(left) == 1:
        named[left[0]] = max(0.0, rest)
    return tuple((group, named[group]) for group in groups if group in named)


def _named(written: str | float | Mapping[str, float], groups: Sequence[str]) -> dict[str, float]:
    if written == EQUAL:
        return dict.fromkeys(groups, round(1 / len(groups), _DIGITS))
    if isinstance(written, Mapping):
        unknown = [group for group in written if group not in groups]
        if unknown:
            raise SimulatorError(
                f"cache_shares of {unknown[0]}, and the groups are {', '.join(groups)}"
            )
        return {group: round(share, _DIGITS) for group, share in written.items()}
    inputs = [group for group in groups if group in INPUTS]
    if not inputs:
        raise SimulatorError(
            f"cache_shares {written} is a share for inputs, and the groups are {', '.join(groups)}"
        )
    return dict.fromkeys(inputs, round(float(written) / len(inputs), _DIGITS))


def told(shares: Shares) -> str:
    """`input 0.3, intermediate 0.7`; empty where all groups share by their bytes."""
    return ", ".join(f"{group} {share:g}" for group, share in shares)


def weights(sizes: Footprint, shares: Shares) -> dict[str, float]:
    """The share of every group, of those that are not named by their bytes."""
    named = dict(shares)
    bytes_left = {name: g.total_bytes for name, g in sizes.groups.items() if name not in named}
    rest = max(0.0, 1 - math.fsum(named.values()))
    whole = math.fsum(bytes_left.values())
    named |= {name: rest * size / whole for name, size in bytes_left.items()}
    return {name: named[name] for name in sizes.groups}


def shared_slots(sizes: Footprint, slots: Mapping[str, int], shares: Shares) -> dict[str, int]:
    """Slots in each layer that take the bytes of `slots`, shared so; whole units each."""
    if not shares:
        return dict(slots)
    slot = {name: group.unit_bytes * group.layers for name, group in sizes.groups.items()}
    room = sum(slots[name] * size for name, size in slot.items())
    most = {name: group.total_bytes for name, group in sizes.groups.items()}
    taken = _poured(room, most, weights(sizes, shares))
    return {
        name: min(math.floor(taken[name] / size + _PART), sizes.groups[name].units)
        for name, size in slot.items()
    }


def _poured(
    room: float, most: Mapping[str, float], weights: Mapping[str, float]
) -> dict[str, float]:
    """Bytes by group: `room` in proportion to the weights, no group with more than its most; what
    is beyond that goes to the others in the same way, by their bytes where none has a weight."""
    taken: dict[str, float] = {}
    while len(taken) < len(most):
        left = room - math.fsum(taken.values())
        open_ = {name: weights[name] for name in most if name not in taken}
        if not math.fsum(open_.values()):
            open_ = {name: most[name] for name in open_}
        whole = math.fsum(open_.values())
        given = {name: left * weight / whole for name, weight in open_.items()}
        full = {name: most[name] for name, size in given.items() if size > most[name]}
        taken |= full or given
    return taken
