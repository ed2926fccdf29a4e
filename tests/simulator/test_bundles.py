"""Bundles over layers: reads equal to those of plain loops, and time to that of the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simulator import Device
from simulator.bundles import Bundled, PreloadCounts, bundled
from simulator.errors import SimulatorError
from simulator.preload import preloading
from simulator.read_cost import ReadCost

BYTES = 96.0
COST = ReadCost(latency_us=0.3, gbps=1.0)
REAL = Device.load({"device": "apple-a18", "dram_gb": 1, "latency_us": 0.3, "dram_gbps": 5})
Bools = NDArray[np.bool_]


def drawn(seed: int, tokens: int = 6, layers: int = 5, units: int = 23) -> tuple[Any, Any, Any]:
    draw = np.random.default_rng(seed)
    masks = [draw.random((tokens, units)) < draw.random() for _ in range(layers)]
    residents = [draw.random(units) < draw.random() * 0.8 for _ in range(layers)]
    return masks, residents, [draw.permutation(units) for _ in range(layers)]


def read(places: list[int]) -> tuple[int, float]:
    """Reads and bytes of parts of the file, by sets and loops."""
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and (place - runs[-1][1] - 1) * BYTES < COST.latency_us * 1e3:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    return len(runs), sum((last - first + 1) * BYTES for first, last in runs)


class Plain:
    """One token, layer by layer: what is announced, cached, used, and read."""

    def __init__(self, token: int, masks: Any, residents: Any, orders: Any, span: int) -> None:
        self.ahead: list[tuple[int, float]] = []
        self.demand: list[tuple[int, float]] = []
        self.bundles: list[int] = []
        layers = len(masks)
        for first in range(0, layers, span):
            step = list(range(first, min(first + span, layers)))
            announced = set(np.flatnonzero(masks[max(0, first - span)][token]).tolist())
            bundles = {u for u in announced if not all(residents[layer][u] for layer in step)}
            self.bundles.append(len(bundles))
            place = {int(unit): i for i, unit in enumerate(orders[first])}
            parts = [place[u] * len(step) + i for u in bundles for i in range(len(step))]
            self.ahead.append(read(parts))
            for i, layer in enumerate(step):
                used = set(np.flatnonzero(masks[layer][token]).tolist())
                late = {u for u in used - announced if not residents[layer][u]}
                self.demand.append(read([place[u] * len(step) + i for u in late]))


@pytest.mark.parametrize("seed", range(60))
def test_reads_are_those_of_a_plain_loop(seed: int) -> None:
    masks, residents, orders = drawn(seed)
    span = seed % 6 + 1
    result = bundled(masks, residents, span, BYTES, COST, 1, orders)
    for token in range(6):
        plain = Plain(token, masks, residents, orders, span)
        assert result.bundles[token].tolist() == plain.bundles
        for came, expected in ((result.ahead, plain.ahead), (result.demand, plain.demand)):
            assert came.reads[token].tolist() == [reads for reads, _ in expected]
            assert came.bytes[token].tolist() == pytest.approx([size for _, size in expected])
    used = np.stack([mask.sum(axis=1) for mask in masks], axis=1)
    missed = [(mask & ~held).sum(axis=1) for mask, held in zip(masks, residents, strict=True)]
    assert np.array_equal(result.used, used)
    assert np.array_equal(result.missed, np.stack(missed, axis=1))
    total = result.ahead.reads.sum() + result.demand.reads.sum()
    assert sum((*result.ahead.sizes.values(), *result.demand.sizes.values())) == total


def test_masks_that_never_change_are_read_ahead_alone() -> None:
    mask = np.random.default_rng(0).random((4, 30)) < 0.4
    result = bundled([mask] * 6, [np.zeros(30, np.bool_)] * 6, 3, BYTES, COST)
    assert result.demand.reads.sum() == 0
    alone = bundled([mask] * 6, [np.zeros(30, np.bool_)] * 6, 1, BYTES, COST)
    assert result.ahead.reads.sum() < alone.ahead.reads.sum()  # a read serves three layers
    assert result.ahead.bytes.sum() <= alone.ahead.bytes.sum()


def counts_of(seed: int, tokens: int, span: int) -> tuple[dict[str, Bundled], PreloadCounts]:
    groups: dict[str, Bundled] = {}
    for i, name in enumerate(("input", "intermediate")):
        masks, residents, _ = drawn(seed * 2 + i, tokens)
        groups[name] = bundled(masks, residents, span, BYTES * (i + 1), COST)
    return groups, PreloadCounts.of(groups, span)


@pytest.mark.parametrize("seed", range(20))
def test_the_time_of_a_token_is_that_of_preloading(seed: int) -> None:
    """Of one token no two steps are taken at a mean, unless they are the same."""
    span = seed % 4 + 1
    groups, counts = counts_of(seed, 1, span)
    sizes = {"input": BYTES, "intermediate": 2 * BYTES}
    used = np.sum([one.used * sizes[name] for name, one in groups.items()], axis=0)
    late = np.sum([one.demand.seconds for one in groups.values()], axis=0)
    ahead = np.zeros_like(late)
    ahead[:, ::span] = np.sum([one.ahead.seconds for one in groups.values()], axis=0)
    seconds = {"announced_seconds": ahead, "demanded_seconds": late}
    expected = preloading(ahead, used, late, REAL, span, **seconds).seconds.sum()
    assert counts.seconds(REAL, sizes, overlap=True) == pytest.approx(expected, rel=1e-9)
    assert counts.seconds(REAL, sizes, overlap=False) > expected


def test_shards_together_are_the_whole() -> None:
    _, first = counts_of(1, 5, 2)
    _, second = counts_of(2, 7, 2)
    both = first.merge([second])
    sizes = {"input": BYTES, "intermediate": BYTES}
    again = PreloadCounts.from_json(both.to_json())
    assert again.seconds(REAL, sizes, True) == both.seconds(REAL, sizes, True)
    assert both.count.sum() == 12 * 3
    one_by_one = [counts.seconds(REAL, sizes, False) for counts in (first, second)]
    assert both.seconds(REAL, sizes, False) == pytest.approx(sum(one_by_one))


def test_a_span_of_no_layer_is_refused() -> None:
    masks, residents, _ = drawn(0)
    with pytest.raises(SimulatorError, match="span is 0"):
        bundled(masks, residents, 0, BYTES, COST)
