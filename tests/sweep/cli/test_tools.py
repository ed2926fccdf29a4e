"""Commands around a run: logs of a folder, traces with what is one's own, policies on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simulator import Geometry, Storage, Trace, allocate, footprint
from simulator.tracefile import TraceFile, write_trace
from sweep.cli import logs
from sweep.cli.app import app
from sweep.cli.trace_speeds import devices_of, try_devices
from sweep.errors import InputError
from sweep.store.store import Store
from sweep.tasks.task import Record
from sweep.traces import parameters_of, try_policies
from tests.sweep.tinysweep import texts

GEOMETRY = Geometry.load("smollm2-135m")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store(tmp_path / "run") as store:
        store.add(
            Record("ab12", "evaluate", "dip 0.5", "failed", error="ValueError: no", log="why")
        )
        store.add(Record("cd34", "evaluate", "dense", "done"))
    return tmp_path / "run"


def test_logs_take_a_folder_absolute_or_not(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = ["ab12 evaluate: dip 0.5: ValueError: no"]
    assert list(logs.lines([str(run)])) == failed
    monkeypatch.chdir(run.parent)
    assert list(logs.lines(["run"])) == failed
    of_key = list(logs.lines(["ab"], run))
    assert of_key == list(logs.lines([str(run), "ab12"]))
    assert of_key[-1] == "why"


def test_logs_say_what_is_neither_key_nor_folder(run: Path) -> None:
    with pytest.raises(InputError, match="no folder of a run or store, and no key"):
        list(logs.lines([str(run / "nothing")]))
    with pytest.raises(InputError, match="has no record of a task 'ffff'"):
        list(logs.lines(["ffff"], run))
    with pytest.raises(InputError, match="one store or run folder"):
        list(logs.lines([str(run), str(run.parent)]))


def trace_of(path: Path, about: dict[str, Any]) -> Path:
    units = {"intermediate": GEOMETRY.intermediate}
    made = Trace.empty(units, GEOMETRY.layers, (6,))
    rng = np.random.default_rng(0)
    for layer in range(GEOMETRY.layers):
        made.add(layer, "intermediate", rng.random((6, GEOMETRY.intermediate)) < 0.3, 0)
    write_trace(made, path, about)
    return path


def test_a_device_gives_tokens_per_second_and_the_slots_of_its_memory(tmp_path: Path) -> None:
    path = trace_of(tmp_path / "t.trace", {})
    (device,) = devices_of("apple-a18", [0.09], {"flash_gbps": 2.0})
    steps: list[str] = []
    lru, none = try_devices(path, ["lru", "none"], [device], "window", "smollm2-135m", steps.append)
    sizes = footprint(GEOMETRY, ["intermediate"], Storage())
    assert lru.slots == dict(allocate(sizes, 0.09e9).slots)
    assert lru.slots["intermediate"] > 0
    assert none.slots == {"intermediate": 0}
    assert lru.tokens_per_s > none.tokens_per_s > 0
    assert none.hit_rate == 0
    assert steps == ["lru on apple-a18 with 0.09 GB", "none on apple-a18 with 0.09 GB", ""]


def test_sizes_that_are_unknown_or_anothers_are_said(tmp_path: Path) -> None:
    path, (device,) = trace_of(tmp_path / "t.trace", {}), devices_of("apple-a18", [], {})
    with pytest.raises(InputError, match="does not say which sizes its model has"):
        try_devices(path, ["lru"], [device])
    with pytest.raises(InputError, match=r"has 30 layers of 1536 intermediate; the model has 32"):
        try_devices(path, ["lru"], [device], model="phi-3-mini")


def test_a_policy_that_caches_nothing_uses_no_slots(tmp_path: Path) -> None:
    (rate,) = try_policies(trace_of(tmp_path / "t.trace", {}), ["none"], [0.5])
    assert (rate.slots, rate.hits) == (0, 0)


def test_parameters_are_read_as_yaml_has_them() -> None:
    assert parameters_of(["split=uniform", "power=0.5", "on=true"]) == {
        "split": "uniform",
        "power": 0.5,
        "on": True,
    }
    with pytest.raises(InputError, match="write KEY=VALUE"):
        parameters_of(["split"])


def test_a_trace_of_parameters_and_selectors_says_its_sizes(
    tiny_llama: Path, tiny_text: str, tmp_path: Path
) -> None:
    text, calibration = texts(tmp_path, tiny_text)
    path = tmp_path / "t.trace"
    common = ["--model", tiny_llama, "--text", text, "--calibration", calibration]
    common += ["--window-tokens", "64", "--density", "0.6"]
    more = ["--method", "dip", "--parameter", "allocation=uniform", "--selector", "layer-threshold"]
    done = CliRunner().invoke(app, ["trace", "export", str(path), *map(str, common), *more])
    assert done.exit_code == 0, done.output
    with TraceFile(path) as trace:
        payload = trace.about["payload"]
        assert payload["parameters"]["allocation"] == "uniform"
        assert payload["selector"] == {"name": "layer-threshold"}
    shown = CliRunner().invoke(
        app, ["simulate", str(path), "-p", "lru", "--device", "apple-a18", "--dram-gb", "0.0001"]
    )
    assert shown.exit_code == 0, shown.output
    assert "tok/s" in shown.output
