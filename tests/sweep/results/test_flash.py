"""Reads of Flash in the table: what a device that says what a read costs changes, and what not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator.errors import SimulatorError
from simulator.misses import miss_masks_plainly
from simulator.packing import unpack
from sweep.plan.grid import expand
from sweep.store.store import Store
from tests.sweep import tinysweep

DRAM = 0.000224
PAPER = {"device": "apple-a18", "dram_gb": DRAM}
REAL = {**PAPER, "latency_us": 0.2}
METHODS = (
    "dense",
    {"method": "dip", "density": 0.5, "gamma": [1, 0.3], "chunk": [1, 4]},
    {"method": "cats", "density": 0.5},
)


LAYOUTS = ("natural", "hot")
Finished = tuple[pd.DataFrame, Path]


@pytest.fixture(scope="module")
def finished(
    tiny_llama: Path, tiny_text: str, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    folder = tmp_path_factory.mktemp("flash")
    sweep = tinysweep.sweep_of(
        tiny_llama,
        folder,
        tiny_text,
        *METHODS,
        devices=[PAPER, REAL],
        layouts=list(LAYOUTS),
        keep_traces=True,
    )
    _, rows = tinysweep.run(sweep, folder / "out")
    return rows, folder / "out"


def _row(rows: pd.DataFrame, **wanted: Any) -> Any:
    chosen: Any = rows
    for name, value in wanted.items():
        column = chosen[name]
        chosen = chosen[column.isna() if value is None else column == value]
    assert len(chosen) == 1, wanted
    return chosen.iloc[0]


CASES = [(gamma, chunk, layout) for gamma in (1, 0.3) for chunk in (1, 4) for layout in LAYOUTS]


def test_only_reads_tell_the_device_from_the_papers(finished: Finished) -> None:
    rows, _ = finished
    assert (rows.status == "done").all(), rows.error.tolist()
    same = ["ppl", "mlp_density", "hit_rate", "cache_fraction", "static_bytes"]
    for gamma, chunk, layout in CASES:
        named = {"method": "dip", "gamma": gamma, "chunk": chunk}
        paper, real = _row(rows, **named, layout=None), _row(rows, **named, layout=layout)
        assert paper[same].tolist() == real[same].tolist()
        assert real.tokens_per_s_paper == pytest.approx(paper.tokens_per_s, rel=1e-12)
        assert real.tokens_per_s < paper.tokens_per_s
        assert math.isnan(paper.tokens_per_s_paper)


@pytest.mark.parametrize(("gamma", "chunk", "layout"), CASES)
def test_reads_are_those_of_a_plain_loop(
    finished: Finished, gamma: float, chunk: int, layout: str
) -> None:
    rows, out = finished
    row = _row(rows, method="dip", gamma=gamma, chunk=chunk, layout=layout)
    plain = _Plain(row, Store(out))
    assert row.reads_per_token * row.tokens == pytest.approx(plain.reads)
    assert row.mean_read_bytes * plain.reads == pytest.approx(plain.bytes)
    excess = row.excess_bytes
    assert row.flash_bytes_per_token == pytest.approx(excess + plain.bytes / row.tokens)
    assert row.wasted == pytest.approx(1 - plain.missed_bytes / plain.bytes)
    static = max(excess / plain.streamed, row.resident_bytes / (row.dram_gbps * 1e9))
    assert 1 / row.tokens_per_s == pytest.approx(static + plain.seconds / row.tokens, rel=2e-2)


class _Plain:
    """Reads of a row's masks by sets and loops; misses as the plain policy has them."""

    def __init__(self, row: pd.Series, store: Store) -> None:
        self.gap_bytes = REAL["latency_us"] * 1e-6 * row.flash_gbps * 1e9
        self.per_byte = 1 / (row.flash_gbps * 1e9)
        self.streamed = 4 * 2**20 / (REAL["latency_us"] * 1e-6 + 4 * 2**20 * self.per_byte)
        self.dram = row.dram_gbps * 1e9
        self.reads, self.bytes, self.missed_bytes, self.seconds = 0, 0.0, 0.0, 0.0
        groups = json.loads(row.reads)
        for key in json.loads(row.task_keys):
            record = store.records[key]
            if record.kind == "simulate":
                self._task(record.payload, store, groups)

    def _task(self, payload: Any, store: Store, groups: Any) -> None:
        trace = store.load(payload["inputs"]["trace"])
        order = payload["inputs"].get("order")
        orders = store.load(order) if order else None
        for group, layer, _, packed in trace.blocks():
            masks = unpack(packed, trace.units[group])
            missed = miss_masks_plainly(masks, payload["slots"][group], payload["policy"])
            placed = missed if orders is None else missed[:, orders[group][layer]]
            for used, row in zip(masks.sum(axis=1), placed, strict=True):
                self._token(int(used), row, groups[group]["unit_bytes"])

    def _token(self, used: int, missed: np.ndarray, unit_bytes: float) -> None:
        runs: list[list[int]] = []
        for unit in np.flatnonzero(missed).tolist():
            if runs and (unit - runs[-1][1] - 1) * unit_bytes < self.gap_bytes:
                runs[-1][1] = unit
            else:
                runs.append([unit, unit])
        nbytes = sum((last - first + 1) * unit_bytes for first, last in runs)
        self.reads += len(runs)
        self.bytes += nbytes
        self.missed_bytes += int(missed.sum()) * unit_bytes
        flash = len(runs) * REAL["latency_us"] * 1e-6 + nbytes * self.per_byte
        self.seconds += max(flash, used * unit_bytes / self.dram)


def test_a_chunk_that_does_not_divide_the_units_is_refused(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    method = {"method": "dip", "density": 0.5, "chunk": 7}
    sweep = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, method)
    with pytest.raises(SimulatorError, match="chunk 7 does not divide the 48 of input"):
        tinysweep.planned(sweep)


def test_thresholds_take_no_chunks(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> None:
    methods = ("dense", {"method": "cats", "density": 0.5, "chunk": 4})
    grid = expand(tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, *methods))
    assert [point.method for point in grid.points] == ["dense"]
    assert [skip.reason for skip in grid.skipped] == [
        "chunks are chosen by topk, the cache or their reads, not by layer-threshold"
    ]


def test_what_a_read_costs_is_in_the_key_of_a_point(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    """A measured table as well as a law; the paper's devices have the keys that they had."""
    method = {"method": "dip", "density": 0.5}
    phone = {"device": "oneplus-15r", "dram_gb": DRAM}
    devices = [PAPER, REAL, phone, {**phone, "io_depth": 1}, {**phone, "compute_gbps": 5}]
    sweep = tinysweep.sweep_of(
        tiny_llama, tmp_path, tiny_text, method, devices=devices, layouts=list(LAYOUTS)
    )
    points = expand(sweep).points
    assert len(points) == 1 + 4 * 2
    assert len({point.key for point in points}) == len(points)
    alone = tinysweep.sweep_of(tiny_llama, tmp_path, tiny_text, method, devices=[PAPER])
    assert expand(alone).points[0].key == points[0].key
    assert json.loads(json.dumps(points[-1].device.to_mapping()))["compute_gbps"] == 5
