"""Training as a task: keyed, kept, resumed; its result is used by the evaluations."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import methods
from sweep.files import cache as cachedir
from sweep.store.store import Store
from sweep.tasks import run as tasks
from sweep.tasks.task import Task
from sweep.tasks.train import FileCheckpoint
from tests.sweep.tinysweep import SMALL_DEJAVU, SMALL_LORA, planned, run, sweep_of

pytestmark = pytest.mark.usefixtures("one_thread")


def of_kind(plan: Any, kind: str) -> list[Task]:
    return [task for task in plan.tasks.values() if task.kind == kind]


def test_predictors_are_trained_once_and_adapters_for_each_density(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entries = [
        {"method": "dejavu", "density": [0.3, 0.5], **SMALL_DEJAVU},
        {"method": "dejavu", "density": 0.5, "gamma": 0.5, **SMALL_DEJAVU},
        {"method": "dip+lora", "density": [0.5, 0.6], **SMALL_LORA},
        {"method": "dip+lora", "density": 0.5, "gamma": 0.5, **SMALL_LORA},
        {"method": "cats+lora", "density": 0.5, "selector": ["layer-threshold"], **SMALL_LORA},
        {"method": "cats", "density": 0.5},
    ]
    made = planned(sweep_of(tiny_llama, tmp_path, tiny_text, *entries))
    trained = [(t.payload["method"], t.payload["density"]) for t in of_kind(made, "train")]
    assert trained == [("dejavu", 1.0), ("dip+lora", 0.5), ("dip+lora", 0.6), ("cats+lora", 0.5)]
    (calibration,) = of_kind(made, "calibrate")  # CATS with and without LoRA share it
    assert calibration.payload["method"] == "cats"
    own = [t for t in of_kind(made, "train") if t.payload["method"] == "cats+lora"]
    assert own[0].payload["inputs"] == {"calibration": calibration.key}


@pytest.mark.parametrize("change", [{"seed": 5}, {"window_tokens": 32}, {"text": None}])
def test_the_key_holds_what_training_depends_on(
    tiny_llama: Path, tiny_text: str, tmp_path: Path, change: dict[str, Any]
) -> None:
    entry = {"method": "dejavu", "density": 0.5, **SMALL_DEJAVU}
    keys = set()
    for settings in ({}, {k: v for k, v in change.items() if v is not None}):
        text = tiny_text if settings or not keys else tiny_text + "More at its end."
        made = planned(sweep_of(tiny_llama, tmp_path, text, entry, **settings))
        keys.add(of_kind(made, "train")[0].key)
    assert len(keys) == 2


def test_a_sweep_trains_evaluates_and_keeps(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entries = [
        {"method": "dejavu", "density": 0.5, **SMALL_DEJAVU},
        {"method": "dip+lora", "density": 0.5, **SMALL_LORA},
        {"method": "cats+lora", "density": 0.5, **SMALL_LORA},
        {"method": "dip", "density": 0.5},
    ]
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *entries)
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    rows = table.set_index("method")
    weights = 2 * 16 * (48 + 96)
    assert rows.overhead_bytes["dejavu"] == pytest.approx(weights * 4.125 / 8)
    assert rows.overhead_flops["dejavu"] == 2 * weights
    assert rows.static_bytes["dejavu"] > rows.overhead_bytes["dejavu"]
    assert rows.overhead_bytes["dip+lora"] == 0
    assert rows.static_bytes["dip+lora"] == rows.static_bytes["dip"]
    store = Store(tmp_path / "run")
    results = {t.payload["method"]: store.records[t.key] for t in of_kind(planned(sweep), "train")}
    assert 0 <= results["dejavu"].result["recall"] <= 1
    assert 0 <= results["dejavu"].result["precision"] <= 1
    assert "layer 1: best of" in results["dejavu"].log
    assert "step 4: validation KL" in results["dip+lora"].log
    notes = " ".join(json.loads((tmp_path / "run" / "provenance.json").read_text())["notes"])
    assert "its predictors find" in notes
    assert "KL to the dense model" in notes
    assert run(sweep, tmp_path / "run")[0].ran == 0
    assert list(cachedir.training_dir().iterdir()) == []


def test_what_a_training_says_can_be_read_while_it_runs(tmp_path: Path) -> None:
    from sweep.cli.app import app

    kept = FileCheckpoint(cachedir.training_dir() / "0123abcd.npz")
    kept.say("step 3: validation KL 0.5 a token")
    shown = CliRunner().invoke(app, ["logs", "0123", "--store", str(tmp_path)])
    assert shown.exit_code == 0
    assert "0123abcd train: not ended" in shown.stdout
    assert "step 3: validation KL" in shown.stdout
    kept.drop()
    assert not kept.path.with_suffix(".log").exists()


def test_a_damaged_artefact_is_noticed_and_made_anew(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entry = {"method": "dejavu", "density": 0.5, **SMALL_DEJAVU}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, entry)
    run(sweep, tmp_path / "run")
    (task,) = of_kind(planned(sweep), "train")
    kept = tmp_path / "run" / "artefacts" / f"{task.key}.npz"
    good = kept.read_bytes()
    kept.write_bytes(good[: len(good) // 2])
    more = sweep_of(tiny_llama, tmp_path, tiny_text, {**entry, "density": 0.3})
    done, table = run(more, tmp_path / "run")
    assert (done.failed, set(table.status)) == ([], {"done"})
    assert done.damaged == [f"artefacts/{task.key}.npz"]
    with np.load(kept) as arrays:
        assert "0.0.weight" in arrays


def test_a_checkpoint_is_whole_or_none(tmp_path: Path) -> None:
    kept = FileCheckpoint(tmp_path / "some" / "where.npz")
    assert kept.load() is None
    kept.save({"a": np.arange(3)})
    loaded = kept.load()
    assert loaded is not None
    assert loaded["a"].tolist() == [0, 1, 2]
    kept.path.write_bytes(kept.path.read_bytes()[:40])
    assert kept.load() is None
    kept.drop()
    kept.drop()
    assert list(kept.path.parent.iterdir()) == []


KILLED = """
import os, pickle, sys
from methods import predictors
from sweep.tasks import run as tasks, train
saved = train.FileCheckpoint.save
def save(self, arrays):
    saved(self, arrays)
    os.kill(os.getpid(), 9)
if sys.argv[2] == "die":
    train.FileCheckpoint.save = save
record, arrays = tasks.run(pickle.load(open(sys.argv[1], "rb")), ())
print(record.log)
pickle.dump((record.result, arrays), open(sys.argv[1] + ".out", "wb"))
"""


@pytest.mark.slow  # four starts of Python
@pytest.mark.parametrize("method", ["dejavu", "dip+lora"])
def test_a_process_that_is_killed_is_made_good_by_the_next(
    tiny_llama: Path,
    tiny_text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    import pickle

    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    small = SMALL_DEJAVU if method == "dejavu" else SMALL_LORA
    entry = {"method": method, "density": 0.5, **small}
    (task,) = of_kind(planned(sweep_of(tiny_llama, tmp_path, tiny_text, entry)), "train")
    record, whole = tasks.run(task, ())
    assert record.error == ""
    place = tmp_path / "task.pickle"
    place.write_bytes(pickle.dumps(task))
    ended = [
        subprocess.run(
            [sys.executable, "-c", KILLED, str(place), how],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        for how in ("die", "live")
    ]
    assert ended[0].returncode == -signal.SIGKILL
    assert ended[1].returncode == 0, ended[1].stderr
    assert "going on after" in ended[1].stdout
    result, arrays = pickle.loads((tmp_path / "task.pickle.out").read_bytes())
    assert result == record.result
    assert set(arrays) == set(whole)
    assert all(np.array_equal(arrays[name], whole[name]) for name in whole)


def test_windows_are_no_more_than_the_text_has(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    entry = {"method": "dejavu", "density": 0.5, "tokens": 10**9, "width": 4, "epochs": 1}
    made = planned(sweep_of(tiny_llama, tmp_path, tiny_text, entry))
    (task,) = of_kind(made, "train")
    asked = methods.create("dejavu", 0.5, tokens=10**9).training_windows(64)
    assert 10 < task.payload["windows"] < asked
    record, _ = tasks.run(task, ())
    assert record.error == ""
    assert record.result["trained_tokens"] <= len(tiny_text)


def test_trained_methods_go_with_hot_caches_selectors_types_and_changed_weights(
    tiny_phi3: Path, tiny_text: str, tmp_path: Path
) -> None:
    rtn = [{"method": "rtn", "bits": 4, "group_size": 16}]
    entries = [
        {"method": "dejavu", "density": 0.5, "policies": ["static"], **SMALL_DEJAVU},
        {"method": "dejavu", "density": 0.5, "gamma": 0.5, **SMALL_DEJAVU},
        {"method": "dejavu", "density": 0.5, "selector": "layer-threshold", **SMALL_DEJAVU},
        {"method": "cats+lora", "density": 0.5, **SMALL_LORA},
        {"method": "cats+lora", "density": 0.5, "selector": "topk", "gamma": 0.5, **SMALL_LORA},
        {"method": "dip+lora", "density": 0.5, "quant": rtn, **SMALL_LORA},
    ]
    settings = {"cache": {"start": "hot"}, "dtype": "bfloat16"}
    devices = [{"device": "apple-a18", "dram_gb": 0.00024}]
    sweep = sweep_of(tiny_phi3, tmp_path, tiny_text, *entries, devices=devices, **settings)
    done, table = run(sweep, tmp_path / "run")
    assert (done.failed, set(table.status), len(table)) == ([], {"done"}, 6)
    (quantised,) = (t for t in of_kind(planned(sweep), "train") if "weights" in t.payload["inputs"])
    assert quantised.payload["method"] == "dip+lora"
