"""On the real model: an oracle beats predictors, adapters lower perplexity. Minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from sweep.spec import file as spec
from sweep.store.store import Store
from tests.sweep.tinysweep import planned, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SWEEP = {
    "models": ["smollm2-135m"],
    "methods": [
        {"method": "glu-oracle", "density": 0.5},
        {"method": "dejavu", "density": 0.5, "tokens": 4096, "epochs": 6},
        {"method": ["dip", "cats"], "density": 0.5},
        {"method": ["dip+lora", "cats+lora"], "density": 0.5, "steps": 40},
    ],
    "devices": [{"device": "apple-a18", "dram_gb": 0.1}],
    "policies": "none",
    "windows": 8,
    "window_tokens": 128,
    "shard_windows": 8,
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    out = tmp_path_factory.mktemp("smollm2")
    sweep = spec.from_mapping({"sweeps": {"small": SWEEP}}).sweeps["small"]
    finished, table = run(sweep, out)
    assert finished.failed == []
    return table.set_index("method"), out


def test_the_oracle_beats_the_predictors(done: tuple[pd.DataFrame, Path]) -> None:
    rows, out = done
    assert rows.ppl_dense["glu-oracle"] < rows.ppl["glu-oracle"] < rows.ppl["dejavu"]
    sweep = spec.from_mapping({"sweeps": {"small": SWEEP}}).sweeps["small"]
    store = Store(out)
    kinds = [t for t in planned(sweep).tasks.values() if t.payload.get("method") == "dejavu"]
    (trained,) = (store.records[t.key] for t in kinds if t.kind == "train")
    assert trained.result["recall_of_largest"] > 0.2  # chance is 0.1
    assert trained.result["precision"] > 0.4
    notes = json.loads((out / "provenance.json").read_text())["notes"]
    assert any("predictors find" in note for note in notes)


@pytest.mark.parametrize("name", ["dip", "cats"])
def test_adapters_lower_perplexity(done: tuple[pd.DataFrame, Path], name: str) -> None:
    rows, _ = done
    assert rows.ppl[f"{name}+lora"] < rows.ppl[name]
    assert rows.overhead_bytes[f"{name}+lora"] == 0


def test_predictors_cost_their_bytes(done: tuple[pd.DataFrame, Path]) -> None:
    rows, _ = done
    assert rows.overhead_bytes["dejavu"] == 30 * 1000 * (576 + 1536) * 4.125 / 8
