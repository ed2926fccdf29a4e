"""The command line: one clear message for each mistake, the right exit code, nothing written."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep import api
from sweep.cli import app as cli
from sweep.errors import ResourceError
from sweep.execution import resources
from sweep.execution.resources import Resources
from sweep.spec import file as spec

ROOT = Path(__file__).resolve().parents[3]

SWEEP: dict[str, Any] = {
    "models": ["smollm2-135m"],
    "methods": [{"method": "dip", "density": 0.5}],
    "devices": [{"device": "apple-a18", "dram_gb": 0.06}],
}


@dataclass(frozen=True)
class Called:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Call = Callable[..., Called]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Run a command in a folder of its own, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Called:
        monkeypatch.setattr(sys, "argv", ["sweep", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Called(code, captured.out, captured.err)

    return run


def write(folder: Path, written: str | None = None, **changes: Any) -> Path:
    path = folder / "sweeps.yaml"
    document = {"sweeps": {"s": {**copy.deepcopy(SWEEP), **changes}}}
    path.write_text(written or yaml.safe_dump(document, sort_keys=False))
    return path


def entry(**given: Any) -> dict[str, Any]:
    return {"methods": [given]}


def device(**given: Any) -> dict[str, Any]:
    return {"devices": [{"device": "apple-a18", **given}]}


TWICE = """sweeps:
  s: &sweep
    models: [smollm2-135m]
    methods: [dense]
    devices: [apple-a18]
  s: *sweep
"""
TEXTUAL = """sweeps:
  s:
    models: [smollm2-135m]
    methods:
      - method: dip
        density: 1e-3
    devices: [apple-a18]
"""
FLAT = """sweeps:
  - models: [smollm2-135m]
"""

BAD: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "unknown method": (entry(method="dpi", density=0.5), "", ("'dpi'", "did you mean dip?")),
    "density out of reach": (entry(method="glu", density=0.5), "", ("0.5", "glu", "0.6667 to 1")),
    "gamma of zero": (entry(method="dip", density=0.5, gamma=0), "", ("gamma", "0")),
    "gamma above one": (entry(method="dip", density=0.5, gamma=1.5), "", ("gamma", "1.5")),
    "unknown device": (device(device="apple-a81"), "", ("'apple-a81'", "apple-a18")),
    "no DRAM": (device(dram_gb=0), "", ("dram_gb", "0")),
    "negative DRAM": (device(dram_gb=-1), "", ("dram_gb", "-1")),
    "twice the same name": ({}, TWICE, ("sweeps.s", "given twice")),
    "a list for a mapping": ({}, FLAT, ("list", "mapping")),
    "a number that YAML takes for text": ({}, TEXTUAL, ("1e-3", "1.0e-3")),
    "unknown policy": ({"policies": "lur"}, "", ("'lur'", "lru")),
    "unknown key": ({"polices": "lru"}, "", ("polices", "policies")),
}


@pytest.mark.parametrize("command", ["validate", "plan", "run"])
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_nothing_is_written(
    name: str, command: str, call: Call, tmp_path: Path
) -> None:
    changes, text, parts = BAD[name]
    file = write(tmp_path, text or None, **changes)
    arguments = [file] if command == "validate" else ["s", "--file", file, "--out", "out"]
    called = call(command, *arguments)
    assert called.code == 2
    assert called.out == ""
    assert called.err.count("\n") == 1
    assert called.err.startswith(f"{file}:")
    assert all(part in called.err for part in parts), called.err
    assert [path.name for path in tmp_path.iterdir()] == ["sweeps.yaml"]


def test_the_line_of_a_mistake_is_named(call: Call, tmp_path: Path) -> None:
    assert call("validate", write(tmp_path, TEXTUAL)).err.startswith(
        f"{tmp_path}/sweeps.yaml:6: sweeps.s.methods[0].density"
    )


def test_all_mistakes_are_told_at_once(call: Call, tmp_path: Path) -> None:
    file = write(tmp_path, **entry(method="dpi", density=2), policies="lur", dtype="float23")
    called = call("validate", file)
    assert called.code == 2
    assert called.err.count("\n") == 4


def test_a_model_folder_without_weights(
    call: Call, tmp_path: Path, tiny_llama: Path, tiny_text_file: Path
) -> None:
    folder = tmp_path / "empty-model"
    folder.mkdir()
    (folder / "config.json").write_text((tiny_llama / "config.json").read_text())
    file = write(tmp_path, models=[str(folder)], text=str(tiny_text_file))
    for command in ("plan", "run"):
        called = call(command, "s", "--file", file, "--out", "out")
        assert called.code == 2
        assert called.err.count("\n") == 1
        assert str(folder) in called.err
        assert "no weights" in called.err or "safetensors" in called.err
        assert not (tmp_path / "out").exists()


def test_a_text_shorter_than_a_window(call: Call, tmp_path: Path, tiny_llama: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("Too short for a window.")
    file = write(tmp_path, models=[str(tiny_llama)], text=str(text), window_tokens=64)
    called = call("run", "s", "--file", file, "--out", "out", "--workers", "0")
    assert called.code == 2
    assert called.err.count("\n") == 1
    assert "short.txt has 23 tokens" in called.err
    assert "fewer than one window of 64" in called.err
    assert not (tmp_path / "out").exists()


def test_more_windows_than_the_text_has(
    call: Call, tmp_path: Path, tiny_llama: Path, tiny_text_file: Path
) -> None:
    models, text = [str(tiny_llama)], str(tiny_text_file)
    file = write(tmp_path, models=models, text=text, window_tokens=64, windows=10_000)
    called = call("run", "s", "--file", file, "--out", "out", "--workers", "0")
    assert called.code == 2
    assert "10000 windows of 64 tokens are asked for" in called.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_unknown_sweep_names_the_nearest(call: Call, tmp_path: Path, command: str) -> None:
    called = call(command, "ss", "--file", write(tmp_path))
    assert called.code == 2
    assert "no sweep 'ss'; did you mean s?" in called.err


def test_a_file_that_is_not_there(call: Call, tmp_path: Path) -> None:
    called = call("plan", "s", "--file", tmp_path / "no.yaml")
    assert called.code == 2
    assert "no.yaml" in called.err
    assert called.err.count("\n") == 1


def test_an_override_that_fits_nothing(call: Call, tmp_path: Path) -> None:
    called = call("plan", "s", "--file", write(tmp_path), "--set", "sweeps.s.windows=some")
    assert called.code == 2
    assert "windows" in called.err


@pytest.mark.parametrize("arguments", [("status", "nowhere"), ("best", "nowhere"), ("report", "x")])
def test_a_folder_without_a_run(call: Call, arguments: tuple[str, str]) -> None:
    called = call(*arguments)
    assert called.code == 2
    assert arguments[1] in called.err
    assert "Traceback" not in called.err


# -- resources -------------------------------------------------------------------------------


def test_a_gpu_where_there_is_none(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a model is looked for, and before Ray is started."""
    monkeypatch.setattr(api, "local_resources", lambda workers=None: Resources(cpus=2))
    monkeypatch.setattr(api, "plan_sweep", lambda *_, **__: pytest.fail("planned first"))
    file = write(tmp_path, resources={"evaluate": {"gpu": 1}})
    called = call("run", "s", "--file", file, "--out", "out")
    assert called.code == 3
    assert (
        "evaluate, score ask for 1 CPU and 1 GPU each, but this machine has 2 CPU and 0"
        in called.err
    )
    assert not (tmp_path / "out").exists()


def test_more_cpus_than_there_are(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "local_resources", lambda workers=None: Resources(cpus=2))
    called = call("run", "s", "--file", write(tmp_path, resources={"evaluate": {"cpu": 64}}))
    assert called.code == 3
    assert "ask for 64 CPU and 0 GPU each" in called.err


def test_a_model_that_no_gpu_holds_is_refused_before_anything_is_written(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2 takes 538 MB in float32; the plan notes what the run refuses."""
    small = Resources(cpus=2, gpus=1, memory_gb=64, gpu_gb=0.3)
    monkeypatch.setattr(api, "local_resources", lambda workers=None: small)
    monkeypatch.setattr(resources, "local_resources", lambda workers=None: small)
    file = write(tmp_path)
    called = call("run", "s", "--file", file)
    assert called.code == 3
    (line,) = called.err.splitlines()
    refusal = (
        "model smollm2-135m takes 0.8 GB of GPU memory in float32 (0.5 GB of weights, the rest"
    )
    assert line.startswith(refusal)
    assert "and this machine has one GPU of 0.3 GB; what would help: " in line
    assert "dtype: bfloat16, which takes half as much" in line
    assert not (tmp_path / "runs").exists()
    planned = call("plan", "s", "--file", file)
    assert planned.code == 0
    assert "about 0.78 GB of GPU memory for smollm2-135m in float32" in planned.out
    assert f"  note: {refusal}" in planned.out


def test_what_could_run_passes() -> None:
    needs = {"evaluate": Resources(cpus=1, gpus=0.5), "simulate": Resources(cpus=2)}
    resources.check_feasible(needs, Resources(cpus=2, gpus=1), "here")
    with pytest.raises(ResourceError, match="kind simulate ask for 2 CPU and 0 GPU each, but here"):
        resources.check_feasible(needs, Resources(cpus=1, gpus=1), "here")


def test_a_task_runs_on_one_machine() -> None:
    """Two machines of four cores have no eight cores for a task."""
    four = Resources(cpus=4, memory_gb=8)
    cluster = Resources(cpus=8, memory_gb=16, nodes=(four, four))
    resources.check_feasible({"evaluate": four}, cluster, "the cluster")
    for need in (Resources(cpus=8), Resources(cpus=1, memory_gb=9)):
        with pytest.raises(ResourceError, match="no machine of the cluster has that: 4 CPU and 0"):
            resources.check_feasible({"evaluate": need}, cluster, "the cluster")


def test_needs_of_a_kind_are_those_of_evaluate_but_for_its_own(tmp_path: Path) -> None:
    asked = {
        "evaluate": {"gpu": 0.25, "cpu": 2, "memory_gb": 8, "accelerator": "A100"},
        "train": {"gpu": 1, "custom": {"big": 2}},
        "simulate": {"cpu": 0.5, "memory_gb": 1},
    }
    sweep = spec.select(spec.load(write(tmp_path, resources=asked)), "s")
    needs = resources.needs_of(sweep)
    a100 = ("accelerator_type:A100", 0.001)
    assert needs["evaluate"] == Resources(2, 0.25, 8, (a100,))
    assert needs["transform"] == needs["calibrate"] == needs["evaluate"]
    assert needs["train"] == Resources(2, 1, 8, (a100, ("big", 2)))
    assert needs["simulate"] == Resources(0.5, 0, 1)
    with pytest.raises(ResourceError) as caught:
        resources.check_feasible(needs, Resources(8, 2, 64, (("accelerator_type:H100", 1),)), "it")
    first, second = str(caught.value).splitlines()
    assert "calibrate, transform, evaluate" in first
    assert "2 CPU and 0.25 GPU, 8 GB memory, A100 each, but it has 8 CPU and 2 GPU" in first
    assert first.endswith("64 GB memory, H100")
    assert "train ask for 2 CPU and 1 GPU, 8 GB memory, A100, 2 big each" in second


@pytest.mark.parametrize(
    ("listed", "types"),
    [
        ("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)", ["H100"]),
        ("GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-1)\nGPU 1: Tesla V100-SXM2 (UUID: x)", None),
        ("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-1)", []),
        ("", []),
    ],
)
def test_types_of_gpus(
    monkeypatch: pytest.MonkeyPatch, listed: str, types: list[str] | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(resources, "_nvidia_smi", lambda: listed.splitlines())
    have = resources.local_resources()
    assert have.gpus == len(listed.splitlines())
    wanted = ["A100", "V100"] if types is None else types
    assert [name.removeprefix("accelerator_type:") for name, _ in have.custom] == wanted


@pytest.mark.parametrize(
    ("visible", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,2", 2), ("GPU-1a2b", 1)]
)
def test_gpus_are_those_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str, count: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources.local_resources().gpus == count


def test_workers_replace_the_count_of_cores() -> None:
    assert resources.local_resources(7).cpus == 7
    assert resources.local_resources(0).cpus >= 1


# -- planning is light -------------------------------------------------------------------------

PLAN = """
import sys
from sweep.cli import app as cli
sys.argv = ["sweep", "plan", "s", "--file", sys.argv[1], "--out", "out"]
try:
    cli.main()
except SystemExit as ended:
    assert not ended.code, ended.code
heavy = ("torch", "ray", "transformers", "numba", "pandas", "pyarrow")
print("loaded:", *[name for name in heavy if name in sys.modules])
"""


def test_a_plan_of_4000_points_needs_nothing_heavy(tmp_path: Path) -> None:
    densities = {"from": 0.5, "to": 0.9, "step": 0.01}
    file = write(
        tmp_path,
        methods=[{"method": "dip", "density": densities}],
        devices=[{"device": "apple-a18", "dram_gb": [0.06, 0.07], "flash_gbps": [*range(1, 11)]}],
        policies=["lru", "lfu", "belady", "min", "none"],
    )
    command = [sys.executable, "-c", PLAN, str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=_path()
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("s: 4,100 points -> ")
    assert lines[-1] == "loaded:"
    assert not (tmp_path / "out").exists()


def _path() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_plan_says_points_tasks_and_reasons(call: Call, tmp_path: Path) -> None:
    methods = ["dense", {"method": "dip", "density": 0.5, "gamma": [0.2, 1]}]
    file = write(tmp_path, methods=methods, policies=["lru", "belady"], windows=2)
    called = call("plan", "s", "--file", file, "--out", "out", "--why")
    assert called.code == 0
    lines = called.out.splitlines()
    assert lines[0] == "s: 4 points -> 10 tasks (6 evaluate, 4 simulate)"
    assert "  skipped 1 points: gamma below 1 needs policy lfu or lru, not belady" in lines
    assert "  0 tasks done, 10 to run" in lines
    assert "    10: new" in lines
    assert sum(line.endswith(": new") and " smollm2-135m window " in line for line in lines) == 10


# -- listings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("methods", ("dense", "dip-ca", "Dynamic Input Pruning")),
        ("policies", ("belady", "static", "Evicts")),
        ("devices", ("apple-a18", "Flash 1 GB/s")),
        ("models", ("phi-3-medium", "7.40 GB at 4 bit")),
        ("sweeps", ("s",)),
    ],
)
def test_listings(kind: str, parts: tuple[str, ...], call: Call, tmp_path: Path) -> None:
    called = call("list", kind, "--file", write(tmp_path))
    assert called.code == 0
    assert all(part in called.out for part in parts), called.out


def test_the_schema_is_also_a_page(call: Call) -> None:
    called = call("schema", "--markdown")
    assert called.code == 0
    assert called.out.startswith("# The sweep file")
    assert "| `shard_windows` |" in called.out


def test_the_schema_is_json(call: Call) -> None:
    called = call("schema")
    assert called.code == 0
    assert "sweeps" in json.loads(called.out)["properties"]


def test_validate_counts_the_points(call: Call, tmp_path: Path) -> None:
    called = call("validate", write(tmp_path))
    assert (called.code, called.out) == (0, "s: 1 points\n")


def test_logs_of_a_task_that_is_not_there(call: Call, tmp_path: Path) -> None:
    called = call("logs", "abc", "--store", tmp_path)
    assert called.code == 2
    assert "has no record of a task 'abc'" in called.err
