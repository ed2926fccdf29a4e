"""KL, accuracy and joules as evidence: bounds against what the table and plain formulas say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from sweep import api
from sweep.certainty.bounds import UNSEEN
from sweep.certainty.evidence import Evidence, Statistic
from sweep.certainty.looks import Levels
from tests.sweep import tinysweep, tinytasks

METHODS = ["dense", {"method": "dip", "density": [0.5, 0.9]}]


def certified(model: Path, folder: Path, text: str, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Rows of the table and the statement of a sweep that is run until it is certain."""
    sweep = tinysweep.sweep_of(
        model, folder, text, *METHODS, windows=4, certify={"most_windows": 8}, **settings
    )
    options = api.Options(folder / "run", workers=0, report=False, until_certain=True)
    done = api.run(sweep, options, Console(file=io.StringIO()))
    assert done.failed == []
    return done.table.to_pandas(), json.loads((folder / "run" / "certainty.json").read_text())


def test_kl_and_accuracy_are_decided_from_what_was_measured(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
) -> None:
    task = {"task": str(tinytasks.write(tmp_path / "tasks", 12) / "both.yaml"), "shard": 5}
    table, said = certified(
        tiny_llama,
        tmp_path,
        tiny_text,
        distances=True,
        tasks=[task],
        budgets=["kl=10", "kl=0.0001", "acc_both=1", "acc_both=0"],
    )
    cells = {cell["budget"]: cell for cell in said["cells"]}
    fastest = table[~table.bound].sort_values("tokens_per_s").iloc[-1]
    loose = cells["kl=10"]
    assert loose["decided"]
    assert loose["choice"] == fastest.point_key
    assert fastest.kl <= loose["bound"] <= 10
    assert cells["acc_both=1"]["choice"] == fastest.point_key
    row = {r.point_key: r for r in table.itertuples()}[cells["acc_both=1"]["choice"]]
    assert row.acc_both_dense - row.acc_both <= cells["acc_both=1"]["bound"] <= 1
    for budget in ("kl=0.0001", "acc_both=0"):
        dense = table[table.method == "dense"].iloc[0]
        assert cells[budget]["choice"] == dense.point_key


def test_joules_need_no_windows(tiny_llama: Path, tmp_path: Path, tiny_text: str) -> None:
    device = {"device": "oneplus-15r", "dram_gb": 0.000224}
    table, said = certified(
        tiny_llama, tmp_path, tiny_text, devices=[device], budgets=["joule=1", "joule=1e-12"]
    )
    loose, tight = said["cells"]
    assert loose["decided"]
    fastest = table.sort_values("tokens_per_s").iloc[-1]
    assert loose["choice"] == fastest.point_key
    assert loose["bound"] == fastest.energy_j_high
    assert tight["decided"]
    assert tight["choice"] is None
    assert set(table.windows) == {4}


def test_between_its_ends_energy_is_open_whatever_the_windows(
    tiny_llama: Path, tmp_path: Path, tiny_text: str
) -> None:
    device = {"device": "oneplus-15r", "dram_gb": 0.000224}
    table, _ = certified(tiny_llama, tmp_path, tiny_text, devices=[device], budgets=["joule=1"])
    fastest = table.sort_values("tokens_per_s").iloc[-1]
    between = (fastest.energy_j_low + fastest.energy_j_high) / 2
    _, said = certified(
        tiny_llama, tmp_path, tiny_text, devices=[device], budgets=[f"joule={between}"]
    )
    (cell,) = said["cells"]
    assert not cell["decided"]
    assert fastest.point_key in cell["rivals"]
    assert cell["windows_needed"] is None


# -- paired documents ------------------------------------------------------------------------


class FakeRecord:
    def __init__(self, **values: list[float]) -> None:
        self.result = {"values": values}


class FakeStore:
    def __init__(self, records: dict[str, FakeRecord]) -> None:
        self.records = records

    def done(self, key: str) -> FakeRecord | None:
        return self.records.get(key)


def evidence(**records: dict[str, list[float]]) -> Evidence:
    store: Any = FakeStore({key: FakeRecord(**values) for key, values in records.items()})
    return Evidence(store, (4, 8), [Levels(0.005, 0.005), Levels(0.005, 0.005)])


def test_accuracy_lost_is_a_paired_difference_of_documents() -> None:
    rng = np.random.default_rng(2)
    dense = rng.integers(0, 2, 40).astype(float)
    own = np.where(rng.random(40) < 0.2, 1 - dense, dense)
    lost = float((dense - own).mean())
    made = evidence(
        a={"acc,none": own[:15].tolist()},
        b={"acc,none": own[15:].tolist()},
        c={"acc,none": dense[:20].tolist()},
        d={"acc,none": dense[20:].tolist()},
    )
    seen = made.bounds(Statistic("acc_x", ("a", "b"), ("c", "d"), (lost, lost)), 1)
    assert seen.ended
    assert seen.windows == 40
    assert seen.estimate == lost
    wrong, right = (int(((dense - own) == way).sum()) for way in (1, -1))
    ways = [stats.binomtest(n, 40).proportion_ci(0.99) for n in (wrong, right)]
    assert seen.low == pytest.approx(ways[0].low - ways[1].high)
    assert seen.high == pytest.approx(ways[0].high - ways[1].low)


def test_few_documents_that_all_agree_do_not_prove_that_nothing_is_lost() -> None:
    """Of 20 documents none differs: a true loss of 0.2 would show none in 1 of 87 cases."""
    same = {"acc,none": [1.0, 0.0] * 10}
    seen = evidence(a=same, c=same).bounds(Statistic("acc_x", ("a",), ("c",), (0.0, 0.0)), 1)
    assert seen.high == pytest.approx(1 - 0.005 ** (1 / 20))


@pytest.mark.parametrize(
    ("own", "keys", "lost"),
    [
        ([1.0, 0.0, 1.0], ("a",), 0.5),  # the column shows another figure
        ([1.0, 0.0], ("a",), 0.0),  # other documents
        ([1.0, 0.0, 1.0], ("a", "missing"), 0.0),
        ([1.0, 0.0, 1.0], (), 0.0),
        ([1.0, 0.5, 0.5], ("a",), 0.0),  # documents that are right in part
    ],
)
def test_a_score_that_is_no_mean_over_documents_tells_nothing(
    own: list[float], keys: tuple[str, ...], lost: float
) -> None:
    made = evidence(a={"acc,none": own}, c={"acc,none": [1.0, 0.0, 1.0]})
    assert made.bounds(Statistic("acc_x", keys, ("c",), (lost, lost)), 1) == UNSEEN


def test_energy_that_is_not_known_tells_nothing() -> None:
    assert evidence().bounds(Statistic("known"), 1) == UNSEEN
