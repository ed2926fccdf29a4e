"""What every selector keeps: k units a token, windows that do not meet, counts that are true."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from torch import Tensor

from methods import kept_units
from methods.select import topk_mask
from simulator import policies, simulate, top_k, unpack
from sweep.selectors import CacheAwareSelector, Selector, TopKSelector

UNITS = {"input": 24, "intermediate": 80}
SLOTS = {"input": 9, "intermediate": 30}
DENSITY = {"input": 0.5, "intermediate": 0.3}
LAYERS = 2
LENGTHS = (12, 1, 7)

Starts = dict[str, NDArray[np.int64]]


def starts() -> Starts:
    rng = np.random.default_rng(1)
    return {g: np.stack([rng.permutation(n) for _ in range(LAYERS)]) for g, n in UNITS.items()}


@dataclass(frozen=True)
class Case:
    """A selector and what the plain reference needs to know of it."""

    make: Callable[[], Selector]
    gamma: float = 1.0
    policy: str = ""
    scope: str = "window"
    hot: bool = False

    @property
    def label(self) -> str:
        return f"{self.policy or 'topk'} {self.gamma} {self.scope} {'hot' if self.hot else 'cold'}"


def _aware(policy: str, gamma: float, scope: str, hot: bool) -> Case:
    def make() -> Selector:
        return CacheAwareSelector(SLOTS, gamma, policy, scope, starts() if hot else None)

    return Case(make, gamma, policy, scope, hot)


AWARE = [
    _aware(policy, gamma, scope, hot)
    for policy in ("lfu", "lru")
    for gamma in (0.2, 1.0)
    for scope in ("window", "carry")
    for hot in (False, True)
]
CASES = [Case(TopKSelector), *AWARE]

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
each_aware = pytest.mark.parametrize("case", AWARE, ids=lambda case: case.label)


def scores(dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[tuple[int, str, int], Tensor]:
    """abs of normal scores [1, tokens, units] by (window, group, layer), with many ties."""
    rng = np.random.default_rng(seed)
    made = {}
    for window, tokens in enumerate(LENGTHS):
        for group, units in UNITS.items():
            for layer in range(LAYERS):
                drawn = np.abs(rng.normal(size=(1, tokens, units))).round(1).astype(np.float32)
                made[window, group, layer] = torch.from_numpy(drawn).to(dtype)
    return made


def masks_of(
    selector: Selector, given_scores: dict[tuple[int, str, int], Tensor], windows: tuple[int, ...]
) -> dict[tuple[int, str, int], Tensor]:
    """Masks as a model's forward passes would ask for them."""
    found = {}
    for window in windows:
        selector.begin_window(LENGTHS[window])
        for layer in range(LAYERS):
            for group in UNITS:
                wanted = given_scores[window, group, layer]
                found[window, group, layer] = selector(layer, group, wanted, DENSITY[group])
    return found


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_mask_keeps_k_units_of_each_token(case: Case, dtype: torch.dtype) -> None:
    every, selector = scores(dtype), case.make()
    for (_, group, _), mask in masks_of(selector, every, (0, 1, 2)).items():
        assert mask.dtype == dtype
        assert mask.shape[0] == 1
        assert mask.shape[2] == UNITS[group]
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        k = kept_units(DENSITY[group], UNITS[group])
        assert (mask.float().sum(-1) == k).all()


@each
def test_masks_are_those_of_the_plain_reference(case: Case) -> None:
    every, selector = scores(), case.make()
    found = masks_of(selector, every, (0, 1, 2))
    order = starts() if case.hot else None
    for group, units in UNITS.items():
        k = kept_units(DENSITY[group], units)
        for layer in range(LAYERS):
            first = None if order is None else order[group][layer].tolist()
            cache = None
            for window in range(len(LENGTHS)):
                values = every[window, group, layer][0].numpy()
                if case.policy and (cache is None or case.scope == "window"):
                    cache = policies.Cache(case.policy, units, SLOTS[group], first)
                expected = (
                    policies.cache_aware(values, k, SLOTS[group], case.gamma, cache=cache)[0]
                    if case.policy
                    else policies.top_k(values, k)
                )
                assert (found[window, group, layer][0].bool().numpy() == expected).all()


@each
def test_counts_are_those_of_the_masks(case: Case) -> None:
    selector = case.make()
    found = masks_of(selector, scores(), (0, 1, 2))
    used = {g: kept_units(DENSITY[g], n) / n for g, n in UNITS.items()}
    expected = (2 * used["input"] + used["intermediate"]) / 3
    assert selector.mlp_density() == pytest.approx(expected, abs=1e-12)
    trace = selector.trace()
    if trace is None:
        assert set(selector.groups()) == set(UNITS)
        return
    assert selector.groups() == {}
    for (window, group, layer), mask in found.items():
        kept = unpack(trace.masks(group, layer, window), UNITS[group])
        assert (kept == mask[0].bool().numpy()).all()


@each_aware
def test_hits_are_those_of_the_masks_replayed(case: Case) -> None:
    """A cache-aware mask is a mask: the cache that it steered hits what any cache would."""
    selector = case.make()
    found = masks_of(selector, scores(), (0, 1, 2))
    counts, order = selector.groups(), starts() if case.hot else None
    for group in UNITS:
        for layer in range(LAYERS):
            first = None if order is None else order[group][layer]
            windows = [found[w, group, layer][0].bool().numpy() for w in range(len(LENGTHS))]
            sessions = [np.concatenate(windows)] if case.scope == "carry" else windows
            hits = sum(simulate(s, SLOTS[group], case.policy, first).sum() for s in sessions)
            assert counts[group]["hits_by_layer"][layer] == hits
            assert counts[group]["used_by_layer"][layer] == sum(w.sum() for w in windows)
        phases = counts[group]["phases"]
        missed = np.dot(phases["missed"], phases["count"])
        used, hit = sum(counts[group]["used_by_layer"]), sum(counts[group]["hits_by_layer"])
        assert used - hit == missed
        assert sum(phases["count"]) == LAYERS * sum(LENGTHS)


@each
def test_a_window_does_not_depend_on_the_windows_before(case: Case) -> None:
    every = scores()
    together = masks_of(case.make(), every, (0, 1, 2))
    alone = masks_of(case.make(), every, (2,))
    same = all(torch.equal(together[key], mask) for key, mask in alone.items())
    cached = case.policy and case.gamma < 1
    assert same == (not cached or case.scope == "window")


@each_aware
def test_gamma_one_is_topk_bit_for_bit(case: Case) -> None:
    every = scores(seed=4)
    plain, aware = (masks_of(s, every, (0, 1, 2)) for s in (TopKSelector(), case.make()))
    same = all(torch.equal(plain[key], aware[key]) for key in plain)
    assert same == (case.gamma == 1)


def test_a_lower_gamma_hits_more() -> None:
    def hits(gamma: float) -> int:
        selector = CacheAwareSelector(SLOTS, gamma, "lfu")
        masks_of(selector, scores(), (0, 1, 2))
        return sum(sum(c["hits_by_layer"]) for c in selector.groups().values())

    assert hits(0.05) > hits(0.5) > hits(1.0)


@each
def test_two_sequences_at_once_are_refused(case: Case) -> None:
    selector = case.make()
    selector.begin_window(3)
    with pytest.raises(ValueError, match="one sequence at a time is evaluated, not 2"):
        selector(0, "input", torch.ones(2, 3, 24), 0.5)


@each
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_an_error(case: Case, value: float) -> None:
    selector = case.make()
    selector.begin_window(3)
    given_scores = torch.ones(1, 3, 24)
    given_scores[0, 1, 5] = value
    with pytest.raises(ValueError, match=r"unit 5 of token 1 .* must be finite"):
        selector(0, "input", given_scores, 0.5)


@each
def test_scores_are_left_alone(case: Case) -> None:
    every = scores()
    before = {key: value.clone() for key, value in every.items()}
    masks_of(case.make(), every, (0,))
    assert all(torch.equal(every[key], before[key]) for key in every)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 130)),
        elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]) | st.floats(0, 8, width=32),
    ),
    st.data(),
)
def test_torch_and_kernel_choose_alike(values: NDArray[np.float32], data: st.DataObject) -> None:
    """`topk_mask` runs on GPUs, the kernel on CPUs: the same masks, ties included."""
    k = data.draw(st.integers(1, values.shape[1]))
    expected = top_k(values, k)
    assert (topk_mask(torch.from_numpy(values), k).numpy() == expected).all()
    assert (policies.top_k(values, k) == expected).all()
    rounded = torch.from_numpy(values).bfloat16()
    assert (topk_mask(rounded, k).numpy() == top_k(rounded.float().numpy(), k)).all()
