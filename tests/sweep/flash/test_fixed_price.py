"""Read-aware masks at a fixed price: what comes of it, its keys, and what it does not go with."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from reports.findings.points import configuration, points
from reports.results import rows as rows_of
from simulator.read_cost import ReadCost
from simulator.read_select import read_aware, read_aware_scan
from sweep.errors import InputError
from sweep.flash.selector import make_priced
from sweep.plan.grid import expand
from sweep.search.density_series import series_of
from sweep.store.store import Store
from tests.sweep import tinysweep

DRAM = 0.000224
REAL = {"device": "apple-a18", "dram_gb": DRAM, "latency_us": 0.2}
PRICED = {"method": "dip", "selector": "read-aware", "lam": [0, 1e6, 5e6]}


def payload(lam: float, **changed: Any) -> dict[str, Any]:
    group = {"unit_bytes": 96.0, "bridge_bytes": 400.0}
    return {
        "name": "read-aware",
        "policy": "lfu",
        "slots": {"mlp": 20},
        "scope": "window",
        "reads": {"groups": {"mlp": group}, "align_bytes": 1},
        "lam": lam,
        **changed,
    }


def scores(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 60, 100, generator=torch.Generator().manual_seed(seed)).abs()


def masks_of(selector: Any, values: torch.Tensor, share: float = 0.5) -> np.ndarray:
    with torch.inference_mode():
        return selector(0, "mlp", values, share)[0].numpy() > 0


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_the_price_decides_whatever_share_is_asked_for(share: float) -> None:
    selector, values = make_priced(payload(3e6), {}), scores()
    selector.begin_window(60)
    mask = masks_of(selector, values, share)
    cost = ReadCost(latency_us=0.4, gbps=1.0)
    expected, hits = read_aware_scan(values[0].numpy(), 20, 96.0, cost, 3e6)
    assert np.array_equal(mask, expected)
    assert 0.05 < mask.mean() < 0.95
    reads = selector.drain()["mlp"]
    assert reads.hits is not None
    assert np.array_equal(reads.hits[0], hits)


def test_a_free_read_uses_every_unit_with_a_score() -> None:
    selector, values = make_priced(payload(0.0), {}), scores().clamp(min=0.5) - 0.5
    selector.begin_window(60)
    assert np.array_equal(masks_of(selector, values), values[0].numpy() > 0)


def test_of_a_fixed_cache_in_an_order_of_its_own() -> None:
    order = np.random.default_rng(0).permutation(100)
    inputs = {"start": {"mlp": order[None]}, "order": {"mlp": order[None]}}
    selector, values = make_priced(payload(3e6, policy="hot-set"), inputs), scores()
    selector.begin_window(60)
    lying, resident = values[0].numpy()[:, order], np.arange(100) < 20
    expected = read_aware(lying, 96.0, ReadCost(latency_us=0.4, gbps=1.0), 3e6, resident)
    assert np.array_equal(masks_of(selector, values)[:, order], expected)


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Path]:
    folder = tmp_path_factory.mktemp("priced")
    to_density = {"method": "dip", "density": 0.5, "selector": "read-aware"}
    sweep = tinysweep.sweep_of(
        *(tiny_llama, folder, tiny_text, "dense", PRICED, to_density),
        devices=[REAL],
        policies=["lfu"],
        keep_traces=True,
    )
    _, rows = tinysweep.run(sweep, folder / "out")
    return rows, folder / "out"


def test_density_is_measured_and_falls_with_the_price(
    finished: tuple[pd.DataFrame, Path],
) -> None:
    rows, _ = finished
    assert (rows.status == "done").all(), rows.error.tolist()
    priced: Any = rows[rows.lam.notna()]
    assert priced.lam.tolist() == [0, 1e6, 5e6]
    assert priced.density.isna().all()
    assert (priced.mlp_density.diff().dropna() < 0).all()
    assert priced.mlp_density.iloc[0] == pytest.approx(1, abs=0.01)
    assert priced.ppl.iloc[0] == pytest.approx(priced.ppl_dense.iloc[0], rel=1e-4)
    assert (priced.flash_bytes_per_token.diff().dropna() < 0).all()
    asked = rows[(rows.selector == "read-aware") & rows.lam.isna()]
    assert asked.density.tolist() == [0.5]


def test_seconds_of_the_device_are_what_the_price_is_of(
    finished: tuple[pd.DataFrame, Path],
) -> None:
    """A device by latency and bandwidth is one task with any other of the same product."""
    rows, out = finished
    row: Any = rows[rows.lam == 1e6].iloc[0]
    evaluated = [
        record.payload["selector"]
        for key in json.loads(row.task_keys)
        if "priced" in (record := Store(out).records[key]).payload
    ]
    assert {selector["lam"] for selector in evaluated} == {1e6 / row.flash_gbps}


def test_rows_are_told_apart_by_their_price(finished: tuple[pd.DataFrame, Path]) -> None:
    rows, _ = finished
    named = [configuration(point) for point in points(rows_of(rows))]
    assert "dip (read-aware) · λ 1e+06 · paper · lfu" in named
    assert len(set(named)) == len(named)


def test_a_point_without_a_price_keeps_its_key(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    sweep = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, PRICED, devices=[REAL])
    keys = {point.key for point in expand(sweep).points}
    assert len(keys) == 3
    point = replace(expand(sweep).points[0], lam=None)
    to_density = tinysweep.sweep_of(
        *(tiny_llama, tmp_path, tiny_text),
        {"method": "dip", "density": 0.5, "selector": "read-aware"},
        devices=[REAL],
    )
    assert expand(to_density).points[0].key == point.key


def test_it_is_no_series_of_densities(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    sweep = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, "dense", PRICED, devices=[REAL])
    assert list(series_of(tinysweep.planned(sweep).points)) == []


def test_a_rule_excludes_a_price(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    excluded = [{"lam": [0, 1e6]}, {"density": 0.5}]
    sweep = tinysweep.sweep_of(
        *(tiny_llama, tmp_path, tiny_text, PRICED), devices=[REAL], exclude=excluded
    )
    assert [point.lam for point in expand(sweep).points] == [5e6]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"lam": -1}, "-1 is given; a number of at least 0"),
        ({"lam": "much"}, "a number of at least 0"),
        ({"selector": "topk"}, "needs 'selector: read-aware'"),
        ({"selector": ["topk", "read-aware"]}, "needs 'selector: read-aware'"),
        ({"density": 0.5}, "the density is what comes of it"),
        ({"method": "wanda"}, "wanda has no masks"),
        ({"method": "cats+lora"}, "cats+lora is trained for each density"),
    ],
)
def test_what_a_price_does_not_go_with_is_one_clear_error(
    tiny_llama: Path, tiny_text: str, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        tinysweep.sweep_of(
            *(tiny_llama, tmp_path, tiny_text, {**PRICED, **changed}), devices=[REAL]
        )
