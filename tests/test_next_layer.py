"""Masks that look at the next layer are, at weight 0, those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.looking import LAYERED, Ahead, Look, Looking, Misses, Neighbours, among_best
from benchmarks.next_layer import CONFIGURATIONS, CURVES, THRESHOLDS, Results, report
from methods.apply import applied, run_layers
from methods.density import kept_units
from methods.registry import create
from methods.thresholds import Quantiles, ThresholdSelect
from simulator.policies import Cache
from sweep.resident_selector import ResidentSelector
from sweep.selectors import CacheAwareSelector, Selector
from sweep.tasks.calibrate import Statistics

SLOTS = {"input": 14, "intermediate": 29}
TOKENS, DENSITY = 40, 0.6


@pytest.fixture(scope="module")
def ahead(tiny_llama: Path) -> Ahead:
    """Of a tiny model with thresholds from other tokens than those that are run."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama).eval()
    seen, drawn = Statistics(), torch.Generator().manual_seed(1)
    with torch.inference_mode(), applied(model, create("dip", 1.0), seen):
        run_layers(model, torch.randint(256, (1, 60), generator=drawn))
    ready = Ahead(model, Quantiles.of(seen.arrays()))
    ready.listen(tokens())
    return ready


def tokens() -> Tensor:
    return torch.randint(256, (1, TOKENS), generator=torch.Generator().manual_seed(0))


def thresholds(ahead: Ahead) -> ThresholdSelect:
    return ThresholdSelect(ahead.quantiles, LAYERED)


def run(ahead: Ahead, selector: Selector) -> tuple[Tensor, dict[str, Any]]:
    """Logits and counts."""
    selector.begin_window(TOKENS)
    with torch.inference_mode(), applied(ahead.model, create("dip", DENSITY), selector):
        return ahead.model(input_ids=tokens()).logits, selector.groups()


def same(a: tuple[Tensor, dict[str, Any]], b: tuple[Tensor, dict[str, Any]]) -> bool:
    return torch.equal(a[0], b[0]) and a[1] == b[1]


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("idea", ["budget", "alone", "smooth", "written"])
def test_thresholds_are_the_products_at_weight_0(ahead: Ahead, idea: str, told: bool) -> None:
    plain = run(ahead, ResidentSelector(thresholds(ahead), SLOTS, "lfu"))
    runs = [
        run(ahead, Looking(thresholds(ahead), SLOTS, Look(idea, weight, told), ahead))
        for weight in (0, 0.5)
    ]
    assert same(runs[0], plain)
    assert not same(runs[1], plain)


@pytest.mark.parametrize("told", [False, True])
def test_top_k_is_the_products_at_weight_0(ahead: Ahead, told: bool) -> None:
    plain = run(ahead, CacheAwareSelector(SLOTS, 0.1, "lfu"))
    none, whole = (
        run(ahead, Neighbours(SLOTS, 0.1, Look("budget", weight, told), ahead)) for weight in (0, 1)
    )
    assert same(none, plain)
    assert not same(whole, plain)
    totals = [sum(counts[1]["input"]["used_by_layer"]) for counts in (plain, whole)]
    assert totals[0] == totals[1]  # what one layer spares the other uses


@pytest.mark.parametrize("told", [False, True])
def test_misses_of_two_layers_are_those_of_one_each_in_all(ahead: Ahead, told: bool) -> None:
    none, whole = (
        run(ahead, Misses(thresholds(ahead), SLOTS, Look("misses", weight, told), ahead))[1]
        for weight in (0, 1)
    )
    assert none != whole
    reads = [
        sum(counts["input"]["used_by_layer"]) - sum(counts["input"]["hits_by_layer"])
        for counts in (none, whole)
    ]
    assert abs(reads[0] - reads[1]) <= 0.05 * reads[0]  # what is cached differs then


def test_without_looking_misses_are_those_of_a_loop(ahead: Ahead) -> None:
    selector = Misses(thresholds(ahead), SLOTS, Look("misses", 0), ahead)
    selector.begin_window(TOKENS)
    scores = torch.rand(1, TOKENS, 96, generator=torch.Generator().manual_seed(2))
    mask = selector(0, "intermediate", scores, 0.5)[0].bool().numpy()
    cache, k = Cache("lfu", 96, SLOTS["intermediate"], None), kept_units(0.5, 96)
    for token, row in enumerate(scores[0].numpy()):
        held = set(cache.cached)
        missing = sorted(set(range(96)) - held, key=lambda unit: -row[unit])[: k - len(held)]
        assert set(np.flatnonzero(mask[token]).tolist()) == held | set(missing)
        cache.step([unit for unit in range(96) if row[unit] >= row[missing[-1]]])


def test_the_best_of_two_layers() -> None:
    own = np.array([[5, 1, 4], [1, 2, 3]], np.float32)
    after = np.array([[3, 2, 6], [7, 8, 9]], np.float32)
    assert among_best(own, after, np.array([3, 4])).tolist() == [2, 1]


def test_a_prediction_is_the_next_layers_where_nothing_happens(ahead: Ahead) -> None:
    own = ahead.told["input", 0]
    predicted = ahead.scores(0, "input", own, False)
    assert predicted is not None
    assert np.array_equal(predicted, own)  # norms of this model are all 1
    assert ahead.scores(1, "input", own, False) is None
    assert ahead.scores(0, "intermediate", own, False) is None


def test_speeds_are_compared_at_equal_kl() -> None:
    """With curves that are all alike but one that is a tenth faster."""
    lines: list[dict[str, Any]] = [
        {"key": "foretold", "density": 0.0, "window": w, "recall": 0.8, "precision": 0.7}
        for w in (3, 5)
    ]
    faster = next(curve for curve in CURVES if curve.name == THRESHOLDS)
    for curve, density in CONFIGURATIONS:
        place = curve.densities.index(density)
        seconds = 512 / (50 + 5 * place) / (1.1 if curve == faster else 1)
        kl = 511 * 0.04 * 4**place
        for window in (3, 5):
            line = {"key": curve.key, "density": density, "window": window, "flash": 512e6}
            lines.append(line | {"nll": 1.0, "kl": kl, "seconds": seconds})
    lines += [{**lines[-1], "window": 7}]  # of a window that is not whole
    results = Results(lines)
    assert results.windows == [3, 5]
    assert results.speed(faster, 0.08)[0] == pytest.approx(1.1 * 52.5)  # halfway by the logarithm
    assert np.isnan(results.speed(faster, 0.2)).all()
    text = report(lines)
    assert "| family | 1.100 | 1.100 to 1.100 |" in text
    assert "recall 80%, precision 70%" in text
