"""A sweep from its file to its table, in this process, on a tiny model."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import sweep
from simulator import Geometry, footprint, simulate_trace, throughput
from simulator.device import Device
from simulator.geometry import Storage
from sweep import api
from sweep.errors import InputError
from sweep.results import folder as runfiles
from sweep.spec import file as spec
from sweep.store.store import Store
from sweep.tasks import calibrate as calibrating
from sweep.tasks.calibrate import calibrate
from sweep.tasks.evaluate import evaluate
from tests.sweep.task_call import apart

WINDOWS, TOKENS = 4, 24
STORAGE = Storage(kv_tokens=32)
GROUPS = ("input", "intermediate")
Row = dict[str, Any]


@pytest.fixture
def calibration_file(tiny_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text(tiny_text.upper(), encoding="utf-8")
    return path


@pytest.fixture
def geometry(tiny_llama: Path) -> Geometry:
    return Geometry.from_config(json.loads((tiny_llama / "config.json").read_text()), "tiny")


@pytest.fixture
def base(
    tiny_llama: Path, tiny_text_file: Path, calibration_file: Path, geometry: Geometry
) -> dict[str, Any]:
    sizes = footprint(geometry, GROUPS, STORAGE)
    dram_gb = (sizes.static_bytes + sizes.pruned_bytes / 2) / 1e9
    return {
        "models": [str(tiny_llama)],
        "text": str(tiny_text_file),
        "calibration": str(calibration_file),
        "windows": WINDOWS,
        "window_tokens": TOKENS,
        "shard_windows": 2,
        "kv": {"tokens": STORAGE.kv_tokens},
        "methods": ["dense", {"method": "dip", "density": 0.5}],
        "devices": [{"device": "mine", "dram_gb": dram_gb, "flash_gbps": 1, "dram_gbps": 60}],
        "policies": "lru",
    }


def finish(base: dict[str, Any], out: Path, **changes: Any) -> api.Finished:
    """Run the sweep with these keys changed."""
    document = {"sweeps": {"s": {**copy.deepcopy(base), **changes}}}
    options = api.Options(out=out, workers=0, report=False)
    return api.run(spec.from_mapping(document).sweeps["s"], options, Console(quiet=True))


def rows(base: dict[str, Any], out: Path, **changes: Any) -> list[Row]:
    return finish(base, out, **changes).table.to_pylist()


def journal(out: Path) -> list[tuple[str, str]]:
    """(kind, label) of each line, in order."""
    return [(record.kind, record.label) for record in Store(out).records.values()]


def payload(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What an evaluation of all windows of the base sweep is given."""
    given = {
        "model": base["models"][0],
        "text_name": base["text"],
        "window_tokens": TOKENS,
        "windows": list(range(WINDOWS)),
        "dtype": "float32",
        "threads": 1,
        "method": "dip",
        "density": 0.5,
        "parameters": {"allocation": "paper"},
        "selector": {"name": "topk"},
    }
    return {**given, **changes}


def perplexity(result: dict[str, Any]) -> float:
    return math.exp(sum(result["nll"]) / sum(result["predicted"]))


def slots_of(row: Row) -> dict[str, int]:
    return {name: group["slots"] for name, group in json.loads(row["reads"]).items()}


# -- figures -----------------------------------------------------------------------------------

CACHES = (
    {"policies": "lru"},
    {"policies": "belady", "cache": {"scope": "carry"}},
    {"policies": "lfu", "cache": {"start": "hot"}},
    {"policies": "static"},
    {"policies": "none"},
)


@pytest.mark.parametrize("cache", CACHES, ids=["lru", "carry", "hot", "static", "none"])
def test_a_row_is_what_its_parts_say(
    base: dict[str, Any], geometry: Geometry, tmp_path: Path, cache: dict[str, Any]
) -> None:
    dense, row = rows(base, tmp_path / "run", shard_windows=WINDOWS, **cache)
    result, trace = evaluate(*apart(payload(base)), {}, "cpu")
    plain, _ = evaluate(
        *apart(payload(base, method="dense", density=1.0, parameters={}, selector={})), {}, "cpu"
    )
    assert row["ppl"] == pytest.approx(perplexity(result), rel=1e-12)
    assert row["ppl_dense"] == dense["ppl"] == pytest.approx(perplexity(plain), rel=1e-12)
    assert row["delta_ppl"] == row["ppl"] - row["ppl_dense"]
    assert row["delta_ppl_low"] <= row["delta_ppl"] <= row["delta_ppl_high"]
    assert row["mlp_density"] == pytest.approx(0.5, abs=1 / 48 + 1 / 96)
    assert (row["tokens"], row["windows"], row["status"]) == (WINDOWS * TOKENS, WINDOWS, "done")

    how = cache.get("cache", {})
    ordered = cache["policies"] == "static" or how.get("start") == "hot"
    asked = payload(base, text_name=base["calibration"], windows=[0, 1, 2, 3])
    orders = calibrate(*apart(asked), {}, "cpu")[1] if ordered else None
    start = None if orders is None else {group: orders[group] for group in GROUPS}
    scope, slots = how.get("scope", "window"), slots_of(row)
    counts = simulate_trace(trace, cache["policies"], slots, scope, start)
    phases = {group: count.phases for group, count in counts.items()}
    device = Device.load({**base["devices"][0]})
    speed = throughput(geometry, device, phases, WINDOWS * TOKENS, STORAGE)
    assert row["tokens_per_s"] == pytest.approx(speed.tokens_per_s, rel=1e-12)
    assert row["hit_rate"] == pytest.approx(speed.hit_rate, rel=1e-12)
    sizes = footprint(geometry, GROUPS, STORAGE)
    missed = sum(phases[g].missed_total * sizes.groups[g].unit_bytes for g in GROUPS)
    assert row["flash_bytes_per_token"] == pytest.approx(missed / (WINDOWS * TOKENS))
    whole = throughput(geometry, device, {}, 1, STORAGE)
    assert row["tokens_per_s_dense"] == pytest.approx(whole.tokens_per_s)
    assert dense["tokens_per_s"] == row["tokens_per_s_dense"]
    halves = {"input": 24, "intermediate": 48}
    assert slots == (dict.fromkeys(GROUPS, 0) if cache["policies"] == "none" else halves)
    assert row["cache_fraction"] == pytest.approx(0.0 if cache["policies"] == "none" else 0.5)


def test_a_cache_aware_row_is_what_its_evaluation_says(
    base: dict[str, Any], geometry: Geometry, tmp_path: Path
) -> None:
    (row,) = rows(base, tmp_path / "run", methods=[{"method": "dip-ca", "density": 0.5}])
    selector = {"name": "cache-aware", "gamma": 0.2, "policy": "lru", "scope": "window"}
    slots = {"input": 24, "intermediate": 48}
    result, _ = evaluate(*apart(payload(base, selector={**selector, "slots": slots})), {}, "cpu")
    hits = sum(sum(group["hits_by_layer"]) for group in result["groups"].values())
    used = sum(sum(group["used_by_layer"]) for group in result["groups"].values())
    assert row["ppl"] == pytest.approx(perplexity(result), rel=1e-12)
    assert row["hit_rate"] == pytest.approx(hits / used)
    assert (row["selector"], row["gamma"], row["method"]) == ("cache-aware", 0.2, "dip")
    (plain,) = rows(base, tmp_path / "plain", methods=[{"method": "dip", "density": 0.5}])
    assert row["hit_rate"] > plain["hit_rate"]
    assert row["flash_bytes_per_token"] < plain["flash_bytes_per_token"]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_shards_of_any_size_give_the_same_figures(
    base: dict[str, Any], tmp_path: Path, size: int
) -> None:
    methods = ["dense", {"method": "dip", "density": 0.5, "gamma": [1, 0.2]}]
    whole = rows(base, tmp_path / "whole", methods=methods)
    cut = rows(base, tmp_path / "cut", methods=methods, shard_windows=size)
    for ours, theirs in zip(whole, cut, strict=True):
        for column in ("point_key", "task_keys"):
            assert ours.pop(column) != theirs.pop(column)
        assert ours == theirs


# -- what is run, and what is not ------------------------------------------------------------


def test_a_second_run_does_nothing(base: dict[str, Any], tmp_path: Path) -> None:
    first = finish(base, tmp_path / "run")
    again = finish(base, tmp_path / "run")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert first.ran == len(journal(tmp_path / "run")) == 6
    assert again.ran == 0
    assert again.table.equals(first.table)


def test_a_bandwidth_costs_nothing(base: dict[str, Any], tmp_path: Path) -> None:
    finish(base, tmp_path / "run")
    device = {**base["devices"][0], "flash_gbps": [1, 2, 4], "dram_gbps": [60, 100]}
    done = finish(base, tmp_path / "run", devices=[device], timing=["overlap", "serial"])
    assert done.ran == 0
    assert done.table.num_rows == 2 * 3 * 2 * 2
    assert len(set(done.table["tokens_per_s"].to_pylist())) > 10


def test_a_store_is_shared_by_runs(base: dict[str, Any], tmp_path: Path) -> None:
    document = spec.from_mapping({"sweeps": {"s": base, "t": base}})
    ran = []
    for name in ("s", "t"):
        options = api.Options(tmp_path / name, tmp_path / "store", workers=0, report=False)
        ran.append(api.run(document.sweeps[name], options, Console(quiet=True)).ran)
    assert ran == [6, 0]
    assert not (tmp_path / "s" / "journal.jsonl").exists()
    assert runfiles.status(tmp_path / "t")[0] == "t: finished"


def test_a_policy_that_is_added_evaluates_nothing_again(
    base: dict[str, Any], tmp_path: Path
) -> None:
    """But where no trace may be kept."""
    both = {"policies": ["lru", "belady"]}
    finish(base, tmp_path / "plain", traces_gb=0)
    assert not list((tmp_path / "plain").rglob("*.trace"))
    assert finish(base, tmp_path / "plain", **both, traces_gb=0).ran == 4
    done = finish(base, tmp_path / "kept")
    assert "of at most 2 GB (traces_gb)" in done.traces
    assert finish(base, tmp_path / "kept", **both).ran == 2
    added = journal(tmp_path / "kept")[6:]
    assert [kind for kind, _ in added] == ["simulate", "simulate"]


def test_a_damaged_trace_is_made_again(base: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    expected = finish(base, out, keep_traces=True, policies=["lru", "belady"]).table
    traces = sorted((out / "artefacts").glob("*.trace"))
    traces[0].write_bytes(traces[0].read_bytes()[:-5])
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"simulate"' not in line]
    (out / "journal.jsonl").write_bytes(b"".join(kept))
    again = finish(base, out, keep_traces=True, policies=["lru", "belady"])
    assert again.ran == 1 + 4
    assert again.table.equals(expected)
    assert any("artefacts" in text for text in again.damaged)


def test_damaged_lines_are_done_again(base: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    expected = finish(base, out).table
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"e", b"E", 1)
    (out / "journal.jsonl").write_bytes(b"".join(lines)[:-30])
    again = finish(base, out)
    assert again.table.equals(expected)
    assert again.damaged == ["journal.jsonl line 2", "journal.jsonl line 6"]


# -- failures ----------------------------------------------------------------------------------


def test_a_calibration_that_fails_is_the_error_of_its_rows(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no calibration, 'caf\udce9'")

    monkeypatch.setattr(calibrating, "calibrate", broken)
    done = finish(base, tmp_path / "run", policies=["lru", "static"])
    assert done.exit_code == 1
    dense, lru, static = done.table.to_pylist()
    assert (dense["status"], lru["status"], static["status"]) == ("done", "done", "failed")
    assert "calibrate dip" in static["error"]
    assert "no calibration, 'caf\\udce9'" in static["error"]
    assert static["tokens_per_s"] is None
    (text,) = done.failed
    key = text.rpartition("log: ")[2].rstrip(")")
    log = (tmp_path / "run" / "logs" / f"{key}.log").read_text()
    assert "Traceback" in log


def test_what_failed_is_done_when_asked_again(
    base: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("not today")

    with monkeypatch.context() as patch:
        patch.setattr(calibrating, "calibrate", broken)
        assert finish(base, tmp_path / "run", policies="static").exit_code == 1
    assert finish(base, tmp_path / "run", policies="static").ran == 0
    document = spec.from_mapping({"sweeps": {"s": {**base, "policies": "static"}}})
    options = api.Options(tmp_path / "run", workers=0, report=False, retry_failed=True)
    again = api.run(document.sweeps["s"], options, Console(quiet=True))
    assert again.exit_code == 0
    assert {row["status"] for row in again.table.to_pylist()} == {"done"}


# -- files and the Python call -----------------------------------------------------------------


def test_the_files_of_a_run(base: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    finish(base, out)
    plan = json.loads((out / "plan.json").read_text())
    assert plan["points"] == 2
    assert (plan["tasks"]["evaluate"], plan["tasks"]["simulate"], plan["to_run"]) == (4, 2, 6)
    assert plan["why"] == {"new": 6}
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["tasks"] == {"done": 6, "reused": 0, "failed": 0}
    assert provenance["spec"]["windows"] == WINDOWS
    (model,) = provenance["models"].values()
    assert len(model["weights"]) >= 16
    assert {"torch", "numpy", "python"} <= set(provenance["versions"])
    header = (out / "results.csv").read_text().splitlines()[0]
    assert '"ppl"' in header
    assert '"reads"' not in header
    finish(base, out)
    again = json.loads((out / "provenance.json").read_text())
    assert again["tasks"] == {"done": 0, "reused": 6, "failed": 0}


def test_run_gives_a_frame(base: dict[str, Any], tmp_path: Path) -> None:
    file = {"sweeps": {"s": base}}
    frame = sweep.run(file, "s", out=tmp_path / "run", workers=0, report=False)
    assert list(frame["method"]) == ["dense", "dip"]
    assert np.isfinite(frame["ppl"]).all()
    again = sweep.run(file, "s", out=tmp_path / "run", workers=0, report=False)
    assert frame.equals(again)


def test_run_says_what_is_wrong(base: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown policy 'lur'"):
        sweep.run({"sweeps": {"s": {**base, "policies": "lur"}}}, "s", out=tmp_path / "run")
    with pytest.raises(InputError, match="no sweep 't'"):
        sweep.run({"sweeps": {"s": base}}, "t", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
