"""Read-aware selection in a sweep: masks, the share that they meet, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from simulator.read_cost import ReadCost
from simulator.read_select import read_aware, read_aware_scan
from sweep.make_selector import make_selector
from sweep.plan.grid import expand
from sweep.read_aware import NEAR, price_for
from sweep.store.store import Store
from tests.sweep import tinysweep

DRAM = 0.000224
REAL = {"device": "apple-a18", "dram_gb": DRAM, "latency_us": 0.2}
GROUP = {"unit_bytes": 96.0, "bridge_bytes": 400.0}


def payload(**changed: Any) -> dict[str, Any]:
    asked = {"groups": {"mlp": GROUP}, "align_bytes": 1}
    return {
        "name": "read-aware",
        "policy": "lfu",
        "slots": {"mlp": 20},
        "scope": "window",
        "reads": asked,
        **changed,
    }


def scores(tokens: int = 60, units: int = 100, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(1, tokens, units, generator=torch.Generator().manual_seed(seed)).abs()
    return drawn * torch.linspace(0.5, 2, units)


def masks_of(chosen: Any, values: torch.Tensor, share: float) -> torch.Tensor:
    with torch.inference_mode():
        return chosen(0, "mlp", values, share).clone()


def test_a_window_has_the_masks_of_one_price_that_meets_its_share() -> None:
    chosen, values = make_selector(payload(), {}), scores()
    chosen.begin_window(60)
    mask = masks_of(chosen, values, 0.4)
    assert abs(float(mask.mean()) - 0.4) <= NEAR
    cost, rows = ReadCost(latency_us=0.4, gbps=1.0), values[0].numpy()

    def share_at(lam: float) -> float:
        return float(read_aware_scan(rows, 20, 96.0, cost, lam)[0].mean())

    expected, hits = read_aware_scan(rows, 20, 96.0, cost, price_for(share_at, 0.4, 1 / cost(96)))
    assert np.array_equal(mask[0].numpy() > 0, expected)
    reads = chosen.drain()["mlp"]
    assert np.array_equal(reads.used[0], expected.sum(axis=1))
    assert reads.hits is not None
    assert np.array_equal(reads.hits[0], hits)


def test_windows_do_not_know_of_each_other_but_where_the_cache_is_carried() -> None:
    alone, second = make_selector(payload(), {}), make_selector(payload(), {})
    carried = make_selector(payload(scope="carry"), {})
    for selector in (second, carried):
        selector.begin_window(60)
        masks_of(selector, scores(seed=1), 0.4)
    masks = []
    for selector in (alone, second, carried):
        selector.begin_window(60)
        masks.append(masks_of(selector, scores(), 0.4))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_pruned_values_are_those_of_the_mask() -> None:
    values = scores() * torch.tensor([1.0, -1.0]).repeat(50)
    of_mask, of_values = make_selector(payload(), {}), make_selector(payload(), {})
    for selector in (of_mask, of_values):
        selector.begin_window(60)
    mask = masks_of(of_mask, values.abs(), 0.3)
    with torch.inference_mode():
        assert torch.equal(of_values.pruned(0, "mlp", values, 0.3), values * mask)


def test_tokens_that_are_left_alone_use_every_unit() -> None:
    chosen = make_selector(payload(), {})
    chosen.begin_window(60, dense_tokens=10)
    mask = masks_of(chosen, scores(), 0.4)
    assert bool((mask[0, :10] == 1).all())
    assert abs(float(mask[0, 10:].mean()) - 0.4) <= NEAR


def test_reads_that_cost_more_are_longer() -> None:
    def runs(bridge: float) -> float:
        group = {**GROUP, "bridge_bytes": bridge}
        chosen = make_selector(
            payload(slots={"mlp": 0}, reads={"groups": {"mlp": group}, "align_bytes": 1}), {}
        )
        chosen.begin_window(60)
        mask = masks_of(chosen, scores(), 0.4)[0].numpy()
        return float(np.diff(mask, axis=1, prepend=0).clip(0).sum(axis=1).mean())

    assert runs(0.0) > 1.3 * runs(400.0) > 1.3**2 * runs(4000.0)


@pytest.mark.parametrize("policy", ["static", "hot-set"])
def test_of_a_fixed_cache_in_an_order_of_its_own(policy: str) -> None:
    order = np.random.default_rng(0).permutation(100)
    fixed = payload(policy=policy)
    chosen = make_selector(fixed, {"start": {"mlp": order[None]}, "order": {"mlp": order[None]}})
    chosen.begin_window(60)
    mask = masks_of(chosen, scores(), 0.4)[0].numpy() > 0
    cost, lying = ReadCost(latency_us=0.4, gbps=1.0), scores()[0].numpy()[:, order]
    resident = np.arange(100) < 20

    def share_at(lam: float) -> float:
        return float(read_aware(lying, 96.0, cost, lam, resident).mean())

    lam = price_for(share_at, 0.4, 1 / cost(96))
    assert np.array_equal(mask[:, order], read_aware(lying, 96.0, cost, lam, resident))
    reads = chosen.drain()["mlp"]
    assert reads.hits is not None
    assert np.array_equal(reads.hits[0], mask[:, order[:20]].sum(axis=1))


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("read-aware")
    methods = ("dense", {"method": "dip", "density": 0.5, "selector": ["topk", "read-aware"]})
    sweep = tinysweep.sweep_of(
        *(tiny_llama, folder, tiny_text, *methods),
        devices=[REAL],
        policies=["lfu", "hot-set"],
        layouts=["natural", "hot"],
        keep_traces=True,
    )
    _, rows = tinysweep.run(sweep, folder / "out")
    return rows, folder / "out"


def test_a_sweep_compares_it_with_top_k(finished: tuple[pd.DataFrame, Path]) -> None:
    rows, out = finished
    assert (rows.status == "done").all(), rows.error.tolist()
    assert len(rows[rows.selector == "read-aware"]) == 3  # none in hot order under lfu
    natural: Any = rows[(rows.layout == "natural") & (rows.policy == "lfu")]
    aware = natural[natural.selector == "read-aware"].iloc[0]
    plain = natural[(natural.selector == "topk") & (natural.method == "dip")].iloc[0]
    assert aware.series == "dip (read-aware)"
    assert aware.mlp_density == pytest.approx(0.5, abs=0.02)  # few units and tokens: coarse steps
    assert aware.reads_per_token < plain.reads_per_token
    assert aware.tokens_per_s > plain.tokens_per_s
    store = Store(out)
    keys = json.loads(aware.task_keys)
    evaluated = next(
        r for k in keys if (r := store.records[k]).payload.get("selector", {}).get("reads")
    )
    counted = [r for k in keys if (r := store.records[k]).kind == "simulate"]
    for group, of_group in evaluated.result["groups"].items():
        hits = sum(sum(r.result["groups"][group]["hits_by_layer"]) for r in counted)
        assert hits >= sum(of_group["hits_by_layer"]) > 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"devices": [{"device": "apple-a18", "dram_gb": DRAM}]}, "what a read costs"),
        ({"layouts": ["hot"]}, "policy none, static, hot-set in hot order, not lfu"),
        ({"policies": ["belady"]}, "in natural order, not belady"),
    ],
)
def test_what_it_does_not_fit_is_left_out(
    tiny_llama: Path, tiny_text: str, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    aware = {"method": "dip", "density": 0.5, "selector": "read-aware"}
    sweep = tinysweep.sweep_of(
        *(tiny_llama, tmp_path, tiny_text, "dense", aware), **{"devices": [REAL], **changed}
    )
    grid = expand(sweep)
    assert [point.method for point in grid.points] == ["dense"]
    assert any(reason in skipped.reason for skipped in grid.skipped)
