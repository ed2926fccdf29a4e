"""`resident-threshold`: what is cached is used for nothing, what is above a threshold is read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from methods.thresholds import Histogram, Quantiles, ThresholdSelect
from reports.results import read_table
from simulator.policies import Cache
from sweep.contracts import selectors
from sweep.contracts.rules import Rule
from sweep.contracts.selectors import DENSITY, LAYERS, UNITS, Place, asked, kept, scores
from sweep.plan.grid import expand
from sweep.resident_selector import ResidentSelector
from sweep.selectors import Selector
from sweep.spec import file as spec
from tests.sweep.search.allocate.test_allocate import file, sweep  # noqa: F401

SLOTS = {"input": 9, "intermediate": 30}


def thresholds() -> ThresholdSelect:
    """Of other scores than those that are asked for."""
    arrays: dict[str, NDArray[Any]] = {}
    for group in UNITS:
        histogram = Histogram()
        for place, drawn in scores(seed=7).items():
            if place.group == group:
                histogram.add(place.layer, drawn)
        arrays |= histogram.arrays(group)
    return ThresholdSelect(Quantiles.of(arrays), "layer-threshold")


def make(policy: str = "lfu", scope: str = "window") -> ResidentSelector:
    return ResidentSelector(thresholds(), SLOTS, policy, scope)


@pytest.mark.parametrize("rule", selectors.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("policy", ["lfu", "lru", "window-5"])
def test_it_keeps_the_rules_of_selectors(rule: Rule[Any], policy: str) -> None:
    rule(lambda: make(policy))


@pytest.mark.parametrize("scope", ["window", "carry"])
@pytest.mark.parametrize("policy", ["lfu", "lru", "window-5"])
def test_reads_are_those_of_a_cache_that_is_asked_for_what_is_above(
    policy: str, scope: str
) -> None:
    selector, by_place, threshold = make(policy, scope), scores(), thresholds()
    masks = asked(selector, by_place)
    counts = selector.groups()
    for group, layer in itertools.product(UNITS, range(LAYERS)):
        places = [place for place in by_place if (place.group, place.layer) == (group, layer)]
        drawn = [by_place[p][0].numpy() for p in places]
        above = [
            threshold.mask(layer, group, by_place[p], DENSITY[group])[0].numpy() for p in places
        ]
        if scope == "carry":
            drawn, above = [np.concatenate(drawn)], [np.concatenate(above)]
        pairs = zip(drawn, above, strict=True)
        used, missed = zip(*(in_loops(*pair, SLOTS[group], policy) for pair in pairs), strict=True)
        assert (kept(masks, group, layer) == np.concatenate(used)).all()
        total = counts[group]["used_by_layer"][layer]
        assert total - counts[group]["hits_by_layer"][layer] == sum(missed)


def in_loops(
    drawn: NDArray[np.float32], above: NDArray[np.bool_], slots: int, policy: str
) -> tuple[NDArray[np.bool_], int]:
    """Masks [tokens, units] and reads of one session, unit by unit."""
    cache, used, missed = Cache(policy, drawn.shape[1], slots), np.zeros_like(above), 0
    for token, row in enumerate(drawn):
        wanted = set(np.flatnonzero(above[token]).tolist())
        others = sorted(set(range(len(row))) - wanted - cache.cached, key=lambda u: (-row[u], u))
        if len(cache.cached) < slots:
            wanted |= set(others[: max(0, slots - len(wanted | cache.cached))])
        used[token, list(wanted | cache.cached)] = True
        missed += len(wanted - cache.cached)
        cache.step(sorted(wanted))
    return used, missed


def test_a_full_cache_is_used_whole() -> None:
    selector = make()
    selector.begin_window(6)
    drawn = torch.rand(1, 6, UNITS["intermediate"], generator=torch.Generator().manual_seed(0))
    mask = selector(0, "intermediate", drawn, 0.9)
    assert bool((mask[0].sum(-1) >= SLOTS["intermediate"]).all())
    zero = selector(0, "intermediate", torch.zeros_like(drawn), 0.5)
    assert zero.sum(-1).unique().tolist() == [SLOTS["intermediate"]]


def test_it_knows_its_place() -> None:
    assert set(Place._fields) == {"window", "group", "layer"}
    assert isinstance(make(), Selector)


def _grid(entry: dict[str, Any], device: dict[str, Any], **more: Any) -> Any:
    body = {
        "models": ["smollm2-135m"],
        "methods": ["dense", entry],
        "devices": [device],
        **more,
    }
    loaded = spec.from_mapping({"sweeps": {"s": body}}, "f")
    return expand(loaded.sweeps["s"])


ENTRY = {"method": "dip", "density": 0.5, "selector": "resident-threshold"}
DEVICE = {"device": "apple-a18", "dram_gb": 0.064, "flash_gbps": 1}


@pytest.mark.parametrize(
    ("entry", "device", "reason"),
    [
        ({"policies": "belady"}, {}, "needs a policy that does not know the future"),
        ({"chunk": 2}, {}, "not by resident-threshold"),
        ({"gamma": 0.5}, {}, "gamma below 1 selects by the cache, not by resident-threshold"),
        ({}, {"latency_us": 50}, "counts hits and no reads"),
    ],
)
def test_what_does_not_go_with_it_is_left_out(
    entry: dict[str, Any], device: dict[str, Any], reason: str
) -> None:
    grid = _grid(ENTRY | entry, DEVICE | device)
    assert [point.method for point in grid.points] == ["dense"]
    assert any(reason in skipped.reason for skipped in grid.skipped)


def test_a_sweep_runs_it(file: Path, tmp_path: Path) -> None:  # noqa: F811
    entry = (
        "sweeps.tiny.methods=[dense, {method: dip, density: 0.4, selector: [resident-threshold, "
        "layer-threshold]}]"
    )
    smaller = (
        "sweeps.tiny.devices=[{device: mine, dram_gb: 0.000224, flash_gbps: 0.001, dram_gbps: 60}]"
    )
    sweep("run", "tiny", "--file", file, "--set", entry, "--set", smaller,
          "--out", tmp_path / "run", "--workers", 0, "--no-report")  # fmt: skip
    rows = {r["selector"]: r for r in read_table(tmp_path / "run" / "results.parquet").to_pylist()}
    own, plain = rows["resident-threshold"], rows["layer-threshold"]
    assert own["status"] == plain["status"] == "done"
    assert own["series"] == "dip (resident-threshold)"
    assert own["mlp_density"] > plain["mlp_density"]
    assert abs(own["delta_ppl"]) < abs(plain["delta_ppl"])
