"""Every selector keeps the rules of `sweep.contracts.selectors`; masks are the reference's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from methods.thresholds import SELECTORS as THRESHOLDS
from methods.thresholds import Histogram, Quantiles, ThresholdSelect
from simulator import policies, top_k
from sweep.contracts import selectors
from sweep.contracts.rules import ContractError, Rule
from sweep.contracts.selectors import DENSITY, LAYERS, UNITS, WINDOWS, Place, asked, scores
from sweep.selectors import CacheAwareSelector, Reads, Selector, ThresholdSelector, TopKSelector

SLOTS = {"input": 9, "intermediate": 30}

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


def _thresholds(name: str) -> Callable[[], Selector]:
    """A selector whose thresholds were calibrated on other scores."""

    def make() -> Selector:
        arrays: dict[str, NDArray[Any]] = {}
        for group in UNITS:
            histogram = Histogram()
            for place, drawn in scores(seed=7).items():
                if place.group == group:
                    histogram.add(place.layer, drawn)
            arrays |= histogram.arrays(group)
        return ThresholdSelector(ThresholdSelect(Quantiles.of(arrays), name))

    return make


AWARE = [
    _aware(policy, gamma, scope, hot)
    for policy in ("lfu", "lru")
    for gamma in (0.2, 1.0)
    for scope in ("window", "carry")
    for hot in (False, True)
]
CASES = [Case(TopKSelector), *AWARE]
FACTORIES = {case.label: case.make for case in CASES} | {n: _thresholds(n) for n in THRESHOLDS}

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
each_aware = pytest.mark.parametrize("case", AWARE, ids=lambda case: case.label)


@pytest.mark.parametrize("rule", selectors.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", FACTORIES)
def test_every_selector_keeps_every_rule(name: str, rule: Rule[selectors.Factory]) -> None:
    rule(FACTORIES[name])


# -- rules tell ------------------------------------------------------------------------------


class Changed(TopKSelector):
    """A selector whose masks `change` spoils."""

    def _answer(self, layer: int, group: str, values: Tensor, share: float, prune: bool) -> Tensor:
        answer = super()._answer(layer, group, values, share, prune)
        return self.change(answer, values, prune)

    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        raise NotImplementedError


class Half(Changed):
    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        return answer / 2


class Generous(Changed):
    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        return torch.ones_like(answer)


class Careless(Changed):
    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        values += 1
        return answer


class Positive(Changed):
    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        return answer.abs()


class Drawn(Changed):
    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        return torch.rand_like(answer).round()


class Other(Changed):
    """Uses as many units as it says, but others."""

    def change(self, answer: Tensor, values: Tensor, prune: bool) -> Tensor:
        return answer.flip(-1)


class Counting(TopKSelector):
    """Counts beside its trace."""

    def groups(self) -> dict[str, dict[str, Any]]:
        return {"input": {}}


class Remembering(TopKSelector):
    def drain(self) -> dict[str, Reads]:
        used = dict(self._used)
        reads = super().drain()
        self._used.update(used)
        return reads


class Warm(CacheAwareSelector):
    """Carries its caches from window to window and calls that `window`."""

    def __init__(self) -> None:
        super().__init__(SLOTS, 0.2, "lfu", "window")

    def begin_window(self, tokens: int, dense_tokens: int = 0) -> None:
        self.scope = "carry"
        super().begin_window(tokens, dense_tokens)
        self.scope = "window"


BROKEN: dict[type[Selector], tuple[list[Rule[selectors.Factory]], str]] = {
    Half: ([selectors.a_mask_is_of_zeros_and_ones], "has other values"),
    Generous: (
        [selectors.each_token_keeps_its_share, selectors.its_density_is_that_of_its_masks],
        "keeps 24 to 24, not 12|its masks 1.0",
    ),
    Careless: ([selectors.scores_are_left_alone], "what it was given"),
    Positive: ([selectors.pruned_values_are_the_masked_values], "pruned, inference False"),
    Drawn: ([selectors.the_same_scores_give_the_same_masks], "asked again"),
    Other: ([selectors.its_trace_or_its_counts_are_those_of_its_masks], "another in the trace"),
    Counting: ([selectors.its_trace_or_its_counts_are_those_of_its_masks], "beside a trace"),
    Remembering: ([selectors.what_is_drained_is_forgotten], "the second time"),
    Warm: (
        [selectors.windows_do_not_meet, selectors.hits_are_those_of_its_masks],
        "a window alone|hits of input by layer",
    ),
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_selector_that_breaks_a_rule_is_told(kind: type[Selector]) -> None:
    rules, how = BROKEN[kind]
    for rule in rules:
        with pytest.raises(ContractError, match=how):
            rule(kind)


# -- the plain reference ---------------------------------------------------------------------


@each
def test_masks_are_those_of_the_plain_reference(case: Case) -> None:
    every, selector = scores(), case.make()
    masks = asked(selector, every)
    order = starts() if case.hot else None
    for group, units in UNITS.items():
        k = kept_units(DENSITY[group], units)
        for layer in range(LAYERS):
            first = None if order is None else order[group][layer].tolist()
            cache = None
            for window in WINDOWS:
                drawn = every[Place(window, group, layer)][0].numpy()
                if case.policy and (cache is None or case.scope == "window"):
                    cache = policies.Cache(case.policy, units, SLOTS[group], first)
                expected = (
                    policies.cache_aware(drawn, k, SLOTS[group], case.gamma, cache=cache)[0]
                    if case.policy
                    else policies.top_k(drawn, k)
                )
                mask = masks[Place(window, group, layer)]
                assert (mask[0].bool().numpy() == expected).all()


@each_aware
def test_gamma_one_is_topk_bit_for_bit(case: Case) -> None:
    every = scores(seed=4)
    plain, aware = (asked(selector, every) for selector in (TopKSelector(), case.make()))
    same = all(torch.equal(plain[place], aware[place]) for place in plain)
    assert same == (case.gamma == 1)


@each_aware
def test_a_cache_that_is_carried_changes_later_windows(case: Case) -> None:
    every = scores()
    together, alone = asked(case.make(), every), asked(case.make(), every, [WINDOWS[-1]])
    same = all(torch.equal(together[place], mask) for place, mask in alone.items())
    assert same == (case.gamma == 1 or case.scope == "window")


def test_a_lower_gamma_hits_more() -> None:
    def hits(gamma: float) -> int:
        selector = CacheAwareSelector(SLOTS, gamma, "lfu")
        asked(selector, scores())
        return sum(sum(c["hits_by_layer"]) for c in selector.groups().values())

    assert hits(0.05) > hits(0.5) > hits(1.0)


@each
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_named(case: Case, value: float) -> None:
    selector = case.make()
    selector.begin_window(3)
    drawn = torch.ones(1, 3, 24)
    drawn[0, 1, 5] = value
    with pytest.raises(ValueError, match=r"unit 5 of token 1 .* must be finite"):
        selector(0, "input", drawn, 0.5)


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
