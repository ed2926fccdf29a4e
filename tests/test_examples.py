"""The examples of docs/examples: each is run as its page says, on a tiny model."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from sweep import plugins
from sweep.cli import main
from sweep.cli.app import app

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
PLUGINS, DEVICE, CLUSTER = (
    str(EXAMPLES / f"{name}.yaml") for name in ("own_plugins", "own_device", "cluster")
)
DRAM_GB = 0.000224
"""216 kB of the tiny model are static under DIP; the rest caches half of what it prunes."""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What an example registers is gone after its test."""
    yield
    for plugin in list(plugins._loaded.values()):
        plugins._forget(plugin)


@pytest.fixture
def texts(tiny_text: str, tmp_path: Path) -> tuple[str, str]:
    """Paths of a text to report and of another to calibrate on."""
    half = len(tiny_text) // 2
    (tmp_path / "reported.txt").write_text(tiny_text[:half], encoding="utf-8")
    (tmp_path / "calibration.txt").write_text(tiny_text[half:], encoding="utf-8")
    return str(tmp_path / "reported.txt"), str(tmp_path / "calibration.txt")


def example(name: str) -> ModuleType:
    """A Python file of the examples, as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def run(name: str, file: str, out: Path, model: Path, texts: tuple[str, str], *more: str) -> Any:
    """Run a sweep of the examples on a tiny model, as a user would; its table, a DataFrame."""
    values = (
        f"models=[{model}]",
        f"text={texts[0]}",
        f"calibration={texts[1]}",
        "window_tokens=64",
    )
    overrides = [part for value in (*values, *more) for part in ("--set", f"sweeps.{name}.{value}")]
    done = call(
        *("run", name, "--file", file, "--out", str(out), "--workers", "0", "--no-report"),
        *overrides,
    )
    assert done.exit_code == 0, done.output
    table = pd.read_parquet(out / "results.parquet")
    assert set(table["status"]) == {"done"}
    return table


def test_every_example_is_in_the_index_and_short() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".yaml")}
    assert set(re.findall(r"^\| \[([a-z_.]+)\]\(\1\) \|", index, re.MULTILINE)) == files
    for name in files:
        lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
        assert 15 <= len(lines) <= 50, name


@pytest.mark.parametrize("file", [PLUGINS, DEVICE, CLUSTER], ids=["plugins", "device", "cluster"])
def test_sweep_files_are_valid(file: str) -> None:
    done = call("validate", file)
    assert done.exit_code == 0, done.output


def test_own_method(tiny_llama: Path, texts: tuple[str, str], tmp_path: Path) -> None:
    device = f"devices[0].dram_gb={DRAM_GB}"
    table = run("own-method", PLUGINS, tmp_path / "run", tiny_llama, texts, device)
    own = table[table["method"] == "input-only"]
    assert sorted(own["density"]) == [0.7, 0.8, 0.9]
    # 48 inputs of two of the three matrices: a unit is a 72th of the MLP.
    assert (own["mlp_density"] - own["density"]).abs().max() <= 1 / 72
    assert own["ppl"].nunique() == 3
    assert not set(own["ppl"]) & set(table[table["method"] == "dip"]["ppl"])


def test_own_method_keeps_the_rules() -> None:
    done = call("check-method", str(EXAMPLES / "own_method.py"))
    assert done.exit_code == 0, done.output


def test_own_policy(tiny_llama: Path, texts: tuple[str, str], tmp_path: Path) -> None:
    device = f"devices[0].dram_gb={DRAM_GB}"
    table = run("own-policy", PLUGINS, tmp_path / "run", tiny_llama, texts, device)
    pruned = table[table["method"] == "dip"]
    hits = pruned.pivot(index="density", columns="policy", values="hit_rate")
    assert (hits["fading"] > 0).all()
    assert (hits["fading"] <= hits["min"]).all()
    assert (hits["fading"] != hits["lfu"]).any()


def test_own_device(tiny_llama: Path, texts: tuple[str, str], tmp_path: Path) -> None:
    devices = [f"devices[{i}].dram_gb={DRAM_GB}" for i in range(3)]
    table = run("own-device", DEVICE, tmp_path / "run", tiny_llama, texts, *devices)
    assert set(table["device"]) == {"my-phone", "my-board", "apple-a18"}
    phone = table[(table["device"] == "my-phone") & (table["policy"] == "lfu")]
    speeds = phone.pivot(index="flash_gbps", columns=["method", "density"], values="tokens_per_s")
    assert (speeds.diff().dropna() > 0).all(axis=None)
    assert phone.groupby(["method", "density"])["ppl"].nunique().max() == 1


def test_from_python_and_read_results(
    tiny_llama: Path,
    texts: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    gains = example("from_python").main(
        str(tiny_llama), *texts, dram_gb=DRAM_GB, out=out, workers=0, report=False
    )
    assert len(gains) == 7
    assert gains["gain"].is_monotonic_decreasing
    assert gains.set_index("series").loc["dense", "gain"] == 1
    assert set(gains["series"]) == {"dense", "dip", "dip-ca"}

    reading = example("read_results")
    points = reading.measured(out)
    assert len(points) == 7
    (best,) = reading.fastest(points, 10.0).to_dict("records")
    assert best["tokens_per_s"] == gains["tokens_per_s"].max()
    pruned = points[points["method"] == "dip"].iloc[0]
    rates = reading.hit_rates(pruned)
    assert list(rates.columns) == ["input", "intermediate"]
    assert len(rates) == 2
    assert rates.to_numpy().min() <= pruned["hit_rate"] <= rates.to_numpy().max()
    assert reading.fastest(points, -1.0).empty

    monkeypatch.setattr(sys, "argv", ["read_results.py", str(out)])
    source = (EXAMPLES / "read_results.py").read_text(encoding="utf-8")
    exec(compile(source, "read_results.py", "exec"), {"__name__": "__main__"})
    assert "tokens_per_s" in capsys.readouterr().out


def test_cluster_is_planned_without_a_cluster() -> None:
    done = call("plan", "gpu", "--file", CLUSTER)
    assert done.exit_code == 0, done.output
    assert "88 points" in done.output


def test_cluster_is_refused_where_no_gpu_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    words = ["sweep", "run", "gpu", "--file", CLUSTER, "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "1 GPU" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
