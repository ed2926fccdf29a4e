"""The contract of a selector: masks of its own for each token, and counts that are true.

    for rule in selectors.RULES:
        rule(MySelector)

A rule takes a factory, `make_selector()`, and asks what it makes for masks of `UNITS` at `DENSITY`,
window after window, as the forward passes of a model would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from methods.density import kept_units, mlp_density
from simulator import simulate, unpack
from sweep.contracts.rules import Rule, equal, need, refused, rule
from sweep.selectors import CacheAwareSelector, Selector

UNITS = {"input": 24, "intermediate": 80}
DENSITY = {"input": 0.5, "intermediate": 0.3}
LAYERS = 2
LENGTHS = (12, 1, 7)
"""Tokens of each window."""
WINDOWS = tuple(range(len(LENGTHS)))

Factory: TypeAlias = Callable[[], Selector]


class Place(NamedTuple):
    """Where a mask is asked for."""

    window: int
    group: str
    layer: int


ByPlace: TypeAlias = dict[Place, Tensor]


def scores(dtype: torch.dtype = torch.float32, seed: int = 0) -> ByPlace:
    """Scores [1, tokens, units], not negative, with many ties."""
    return {place: drawn.abs() for place, drawn in values(dtype, seed).items()}


def values(dtype: torch.dtype = torch.float32, seed: int = 0) -> ByPlace:
    """Activations [1, tokens, units] of which some have the same magnitude."""
    random = np.random.default_rng(seed)
    drawn: ByPlace = {}
    for window, tokens in enumerate(LENGTHS):
        for group, units in UNITS.items():
            for layer in range(LAYERS):
                normal = random.normal(size=(1, tokens, units)).round(1).astype(np.float32)
                drawn[Place(window, group, layer)] = torch.from_numpy(normal).to(dtype)
    return drawn


def asked(
    selector: Selector, by_place: ByPlace, windows: Iterable[int] = WINDOWS, prune: bool = False
) -> ByPlace:
    """Masks, or with `prune` pruned values, as a model's forward passes would ask for them."""
    ask = selector.pruned if prune else selector
    answers: ByPlace = {}
    for window in windows:
        selector.begin_window(LENGTHS[window])
        for layer in range(LAYERS):
            for group in UNITS:
                place = Place(window, group, layer)
                answers[place] = ask(layer, group, by_place[place], DENSITY[group]).clone()
    return answers


def used_by_token(masks: ByPlace, group: str) -> NDArray[np.int64]:
    """Units that each token uses [layers, tokens], windows one after the other."""
    return np.stack([kept(masks, group, layer).sum(axis=1) for layer in range(LAYERS)])


def kept(masks: ByPlace, group: str, layer: int) -> NDArray[np.bool_]:
    """Masks [tokens, units] of all windows, one after the other."""
    return np.concatenate([masks[Place(w, group, layer)][0].bool().numpy() for w in WINDOWS])


# -- masks -----------------------------------------------------------------------------------


@rule
def a_mask_is_of_zeros_and_ones(make: Factory) -> None:
    """A mask has the shape and type of its scores and holds 0 and 1."""
    for dtype in (torch.float32, torch.bfloat16):
        by_place = scores(dtype)
        for place, mask in asked(make(), by_place).items():
            equal(mask.dtype, dtype, f"the type of {place}")
            equal(tuple(mask.shape), tuple(by_place[place].shape), f"the shape of {place}")
            need(set(mask.unique().tolist()) <= {0.0, 1.0}, f"{place} has other values")


@rule
def each_token_keeps_its_share(make: Factory) -> None:
    """Every token keeps the k units of its density, or `spread` says that numbers vary."""
    selector = make()
    masks = asked(selector, scores())
    spread = selector.spread()
    for group, units in UNITS.items():
        used = used_by_token(masks, group)
        if spread:
            expected = {
                "least": used.min(axis=1).tolist(),
                "most": used.max(axis=1).tolist(),
                "squares": (used * used).sum(axis=1).tolist(),
            }
            equal(spread.get(group), expected, f"the spread of {group}")
        else:
            k = kept_units(DENSITY[group], units)
            need(bool((used == k).all()), f"{group} keeps {used.min()} to {used.max()}, not {k}")


@rule
def the_same_scores_give_the_same_masks(make: Factory) -> None:
    """What it answers depends on nothing but what it was asked."""
    by_place = scores()
    _same(asked(make(), by_place), asked(make(), by_place), "asked again")


@rule
def scores_are_left_alone(make: Factory) -> None:
    """Scores and activations are not written to."""
    for prune, by_place in ((False, scores()), (True, values())):
        before = {place: tensor.clone() for place, tensor in by_place.items()}
        asked(make(), by_place, prune=prune)
        _same(by_place, before, "what it was given")


@rule
def pruned_values_are_the_masked_values(make: Factory) -> None:
    """`pruned` gives the values times the mask of their magnitudes, with gradients or without."""
    by_place = values()
    masks = asked(make(), {place: tensor.abs() for place, tensor in by_place.items()})
    expected = {place: tensor * masks[place] for place, tensor in by_place.items()}
    for inference in (False, True):
        with torch.inference_mode(inference):
            _same(asked(make(), by_place, prune=True), expected, f"pruned, inference {inference}")
            again = asked(make(), {place: tensor.abs() for place, tensor in by_place.items()})
        _same(again, masks, f"masks, inference {inference}")


@rule
def windows_do_not_meet(make: Factory) -> None:
    """A window's masks do not depend on the windows before it, unless its scope is `carry`."""
    if getattr(make(), "scope", "window") == "carry":
        return
    by_place, last = scores(), WINDOWS[-1]
    together = asked(make(), by_place)
    alone = asked(make(), by_place, [last])
    _same({place: together[place] for place in alone}, alone, "a window alone")


@rule
def two_sequences_at_once_are_refused(make: Factory) -> None:
    """One sequence at a time is evaluated; two are refused."""
    selector = make()
    selector.begin_window(3)
    with refused(ValueError, "two sequences", "one sequence at a time", "not 2"):
        selector(0, "input", torch.ones(2, 3, UNITS["input"]), DENSITY["input"])


@rule
def what_is_no_number_is_not_kept(make: Factory) -> None:
    """A score that is no number is refused or, at least, its unit is not used."""
    selector, tensor = make(), torch.ones(1, 3, UNITS["input"])
    tensor[0, 1, 5] = torch.nan
    selector.begin_window(3)
    try:
        mask = selector(0, "input", tensor, DENSITY["input"])
    except ValueError:
        return
    need(float(mask[0, 1, 5]) == 0, "unit 5 of token 1 is used")


# -- counts ----------------------------------------------------------------------------------


@rule
def its_density_is_that_of_its_masks(make: Factory) -> None:
    """`mlp_density` is the share of the weights that its masks use."""
    selector = make()
    masks = asked(selector, scores())
    used = {g: float(used_by_token(masks, g).mean()) / units for g, units in UNITS.items()}
    apart = abs(selector.mlp_density() - mlp_density(used))
    need(apart < 1e-12, f"it says {selector.mlp_density()}, its masks {mlp_density(used)}")


@rule
def its_trace_or_its_counts_are_those_of_its_masks(make: Factory) -> None:
    """It has a trace of its masks, or counts what they used itself, and never both."""
    selector = make()
    masks = asked(selector, scores())
    trace, counts = selector.trace(), selector.groups()
    if trace is None:
        equal(set(counts), set(UNITS), "the groups that it counts")
        for group in UNITS:
            _counts_are_those_of(masks, group, counts[group])
        return
    equal(counts, {}, "what it counts beside a trace")
    equal((dict(trace.units), trace.lengths), (UNITS, LENGTHS), "units and tokens of the trace")
    for (window, group, layer), mask in masks.items():
        recorded = unpack(trace.masks(group, layer, window), UNITS[group])
        alike = np.array_equal(recorded, mask[0].bool().numpy())
        need(alike, f"window {window} of {group} in layer {layer} is another in the trace")


def _counts_are_those_of(masks: ByPlace, group: str, counts: dict[str, Any]) -> None:
    used = used_by_token(masks, group).sum(axis=1).tolist()
    equal(counts["used_by_layer"], used, f"units used of {group}")
    phases = counts["phases"]
    missed = sum(counts["used_by_layer"]) - sum(counts["hits_by_layer"])
    equal(int(np.dot(phases["missed"], phases["count"])), missed, f"units missed of {group}")
    equal(sum(phases["count"]), LAYERS * sum(LENGTHS), f"tokens counted of {group}")


@rule
def hits_are_those_of_its_masks(make: Factory) -> None:
    """The cache that steered a cache-aware mask hits what any cache would with that mask."""
    selector = make()
    if not isinstance(selector, CacheAwareSelector):
        return
    masks = asked(selector, scores())
    for group, counts in selector.groups().items():
        hits = [_hits(selector, masks, group, layer) for layer in range(LAYERS)]
        equal(counts["hits_by_layer"], hits, f"hits of {group} by layer")


def _hits(selector: CacheAwareSelector, masks: ByPlace, group: str, layer: int) -> int:
    start = None if selector.start is None else selector.start[group][layer]
    session = kept(masks, group, layer)
    ends = [] if selector.scope == "carry" else np.cumsum(LENGTHS)[:-1]
    sessions = np.split(session, ends)
    slots, policy = selector.slots[group], selector.policy
    return sum(
        int(simulate(masks_of_session, slots, policy, start).sum()) for masks_of_session in sessions
    )


@rule
def what_is_drained_is_forgotten(make: Factory) -> None:
    """`drain` gives what each token used and hit since the last time, and then forgets it."""
    selector = make()
    masks = asked(selector, scores())
    counts, reads = selector.groups(), selector.drain()
    equal(set(reads), set(UNITS), "the groups that are drained")
    for group, read in reads.items():
        used = used_by_token(masks, group)
        need(np.array_equal(read.used, used), f"units used of {group} are not those of the masks")
        if read.hits is not None:
            hits = counts[group]["hits_by_layer"]
            equal(read.hits.sum(axis=1).tolist(), hits, f"hits of {group} by layer")
            need(bool((read.hits <= read.used).all()), f"more hits of {group} than units used")
    equal(selector.drain(), {}, "what is drained the second time")


def _same(got: ByPlace, expected: ByPlace, what: str) -> None:
    for place, tensor in expected.items():
        need(torch.equal(got[place], tensor), f"{what}: {place} is another")


RULES: tuple[Rule[Factory], ...] = (
    a_mask_is_of_zeros_and_ones,
    each_token_keeps_its_share,
    the_same_scores_give_the_same_masks,
    scores_are_left_alone,
    pruned_values_are_the_masked_values,
    windows_do_not_meet,
    two_sequences_at_once_are_refused,
    what_is_no_number_is_not_kept,
    its_density_is_that_of_its_masks,
    its_trace_or_its_counts_are_those_of_its_masks,
    hits_are_those_of_its_masks,
    what_is_drained_is_forgotten,
)
