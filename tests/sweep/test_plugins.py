"""Plug-ins: loaded once, on workers from the source alone, in the keys, and checked by rules."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from typer.testing import CliRunner

import methods
from methods import contract, registry
from simulator import contract as policy_contract
from simulator import policies
from simulator.policies import POLICIES
from sweep import plugins
from sweep.cli.method_trial import tried
from sweep.errors import InputError
from sweep.plan.grid import expand
from sweep.plan.materials import Materials
from sweep.plan.planner import plan_points
from sweep.search.density_series import is_bound
from sweep.selectors import CacheAwareSelector
from sweep.spec import file as spec
from sweep.tasks import run as tasks

ROOT = Path(__file__).resolve().parents[2]
BROKEN = '''
from dataclasses import dataclass
import methods

@methods.register
@dataclass(frozen=True)
class Greedy(methods.Method):
    """Says that it prunes columns of W_down and reads all of them."""
    name = "greedy"
    groups = ("intermediate",)

    def forward(self, mlp, x, select):
        glu = mlp.glu(x)
        select("intermediate", -glu.abs(), self.group_densities()["intermediate"])
        return mlp.down(glu)
'''
POLICY = '''
import simulator

@simulator.register
class Youngest(simulator.policies.NoCache):
    """Keeps nothing, under another name."""
    name = "youngest"
    description = "nothing at all"
'''
SEER = '''
import simulator
from simulator.policies import Min

@simulator.register
class Seer(Min):
    """Keeps what is used next, knowing all masks."""
    name = "seer"
    offline = True
'''


def example() -> str:
    """The method that CONTRIBUTING.md shows."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What a test loads is gone after it."""
    yield
    for plugin in list(plugins._loaded.values()):
        plugins._forget(plugin)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_method.py").write_text(example(), encoding="utf-8")
    return tmp_path


def sweep_file(folder: Path, model: Path, text: Path, entries: str = "") -> Path:
    other = folder / "calibration.txt"
    other.write_text(text.read_text(encoding="utf-8")[::-1], encoding="utf-8")
    path = folder / "sweeps.yaml"
    path.write_text(
        f"""
plugins: [my_method.py]
defaults: {{text: {text}, calibration: {other}, windows: 1, window_tokens: 64}}
sweeps:
  own:
    models: [{model}]
    methods:
      - {{method: weighed-glu, density: [0.7, 0.9], power: 0.5}}
      - {{method: weighed-glu, density: 0.8, gamma: 0.5}}
      {entries}
    devices: [{{device: apple-a18, dram_gb: 0.000224}}]
""",
        encoding="utf-8",
    )
    return path


def test_the_example_is_short_and_keeps_every_rule() -> None:
    assert len(example().splitlines()) <= 36
    assert plugins.install("my_method.py", example()).methods == ("weighed-glu",)
    verdicts = contract.check("weighed-glu")
    assert [v for v in verdicts if not v.passed] == []
    assert len(verdicts) == len(contract.RULES)


def test_rules_that_are_broken_are_named() -> None:
    plugins.install("greedy.py", BROKEN)
    broken = {v.rule: v.reason for v in contract.check("greedy") if not v.passed}
    assert broken == {
        "It asks once for each group, in order, with scores that are finite and not negative": (
            "scores of intermediate must be finite and not negative"
        ),
        "Weights of units that the mask leaves out change nothing": broken[
            "Weights of units that the mask leaves out change nothing"
        ],
    }
    assert "outputs are" in broken["Weights of units that the mask leaves out change nothing"]


def test_the_command_says_pass_or_fail(folder: Path) -> None:
    from sweep.cli.app import app

    good = CliRunner().invoke(app, ["check-method", str(folder / "my_method.py")])
    assert good.exit_code == 0
    assert good.stdout.count("pass") == len(contract.RULES)
    (folder / "greedy.py").write_text(BROKEN, encoding="utf-8")
    bad = CliRunner().invoke(app, ["check-method", str(folder / "greedy.py")])
    assert bad.exit_code == 1
    assert bad.stdout.count("FAIL") == 2


def test_the_command_tries_policies_too(tmp_path: Path) -> None:
    from sweep.cli.app import app

    path = tmp_path / "my_policy.py"
    path.write_text(SEER, encoding="utf-8")
    good = CliRunner().invoke(app, ["check-method", str(path)])
    assert good.exit_code == 0, good.stdout
    assert good.stdout.count("pass") == len(policy_contract.RULES)
    path.write_text(SEER.replace("offline = True", "offline = False"), encoding="utf-8")
    bad = CliRunner().invoke(app, ["check-method", str(path)])
    assert bad.exit_code == 1
    assert "FAIL" in bad.stdout


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n", "registers nothing"),
        ("\n\nx = = 1\n", "line 3: SyntaxError"),
        ("import methods\nmethods.nothing\n", "line 2: AttributeError"),
        ("raise SystemExit(3)\n", "line 1: SystemExit: 3"),
        (BROKEN.replace('"greedy"', '"dip"'), "a method named 'dip' exists already"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, source: str, said: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(source, encoding="utf-8")
    before = methods.names()
    with pytest.raises(InputError, match=re.escape(said)):
        plugins.load(path)
    assert methods.names() == before


def test_a_missing_file_is_a_fault_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sweeps.yaml"
    path.write_text("plugins:\n  - none.py\nsweeps: {}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"sweeps.yaml:2: plugins\[0\]: plug-in .*none.py"):
        spec.load(path)


def test_a_changed_file_takes_the_place_of_the_old_one() -> None:
    plugins.install("greedy.py", BROKEN)
    changed = BROKEN.replace("Says that", "Claims that")
    assert plugins.install("greedy.py", changed).source == changed
    assert methods.summary("greedy").startswith("Claims")
    assert methods.names().count("greedy") == 1


def test_a_policy_is_one_too() -> None:
    assert plugins.install("youngest.py", POLICY).policies == ("youngest",)
    assert plugins.where("youngest", "policies")["plugin_source"] == POLICY
    assert plugins.where("youngest") == {}


def test_a_policy_that_knows_the_future_is_a_bound(
    folder: Path, tiny_llama: Path, tiny_text_file: Path
) -> None:
    """So that a search never names one as what to run."""
    (folder / "seer.py").write_text(SEER, encoding="utf-8")
    path = sweep_file(folder, tiny_llama, tiny_text_file)
    text = path.read_text(encoding="utf-8").replace("[my_method.py]", "[my_method.py, seer.py]")
    path.write_text(text.replace("gamma: 0.5", "policies: [seer, lru]"), encoding="utf-8")
    points, _ = points_of(path)
    bound = {(point.policy, is_bound(point)) for point in points}
    assert {("seer", True), ("lru", False)} <= bound


def points_of(path: Path) -> tuple[Any, Materials]:
    sweep = spec.select(spec.load(path), "own")
    return expand(sweep).points, Materials(sweep)


def test_a_sweep_runs_it_where_only_the_source_is_known(
    folder: Path, tiny_llama: Path, tiny_text_file: Path
) -> None:
    """As on a worker of another machine: nothing is loaded, the task brings what it needs."""
    made = plan_points(*points_of(sweep_file(folder, tiny_llama, tiny_text_file)))
    own = [task for task in made.tasks.values() if task.payload.get("method") == "weighed-glu"]
    assert len(own) == 3
    for plugin in list(plugins._loaded.values()):
        plugins._forget(plugin)
    (folder / "my_method.py").unlink()
    for task in own:
        registry.forget("weighed-glu")
        record, _ = tasks.run(task, ())
        assert (record.status, record.error) == ("done", "")
        assert record.result["mlp_density"] == pytest.approx(task.payload["density"], abs=0.01)


def test_its_code_is_in_the_keys_and_its_comments_are_not(
    folder: Path, tiny_llama: Path, tiny_text_file: Path
) -> None:
    path, file = sweep_file(folder, tiny_llama, tiny_text_file), folder / "my_method.py"

    def keys() -> dict[str, str]:
        made = plan_points(*points_of(path))
        return {t.label: k for k, t in made.tasks.items() if t.kind == "evaluate"}

    first = keys()
    file.write_text(example().replace("# [..., intermediate]", "# of each token"))
    assert keys() == first
    file.write_text(example().replace("glu.abs() * norm", "glu.abs() * norm * 2"))
    changed = keys()
    assert {label for label in first if first[label] == changed[label]} == {
        label for label in first if label.startswith("dense")
    }


@pytest.mark.slow  # starts Ray
def test_a_ray_worker_needs_no_more_than_the_task(
    folder: Path, tiny_llama: Path, tiny_text_file: Path
) -> None:
    path = sweep_file(folder, tiny_llama, tiny_text_file)
    command = [sys.executable, "-m", "sweep", "run", "own", "--workers", "1"]
    ended = subprocess.run(
        [*command, "--file", str(path), "--out", str(folder / "run"), "--no-report"],
        cwd=ROOT,
        env={**os.environ, "SWEEP_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    table = parquet.read_table(folder / "run" / "results.parquet").to_pydict()
    assert set(table["status"]) == {"done"}
    assert set(table["method"]) == {"weighed-glu"}


# -- policies of one's own under gamma --------------------------------------------------------

MRU = '''
import simulator

@simulator.register
class MRU(simulator.Policy):
    """Evicts the most recent last use."""
    name = "mru"

    def __init__(self, units, start):
        super().__init__(units, start)
        self.last = {}

    def observe(self, token, used):
        for unit in used:
            self.last[unit] = token

    def worth(self, unit):
        return -self.last.get(unit, -1), -unit
'''
FAILS = MRU.replace('"mru"', '"half"') + "raise ValueError('no more')\n"
TEAL = '''
from dataclasses import dataclass
import methods

@methods.register
@dataclass(frozen=True)
class Teal(methods.Method):
    """Thresholds on the GLU, learnt by calibration."""
    name = "teals"
    groups = ("intermediate",)
    selector = "layer-threshold"
    share: float = 0.5

    def __post_init__(self):
        methods.Method.__post_init__(self)
        if self.density == 1 and self.share != 0.5:
            raise ValueError("share makes no sense where nothing is pruned")

    def forward(self, mlp, x, select):
        glu = mlp.glu(x)
        mask = select("intermediate", glu.abs(), self.group_densities()["intermediate"])
        return mlp.down(glu * mask)
'''


def test_a_file_that_fails_or_goes_leaves_no_policy_behind() -> None:
    with pytest.raises(InputError, match="no more"):
        plugins.install("half.py", FAILS)
    assert "half" not in POLICIES
    plugins.install("mru.py", MRU)
    plugins.install("mru.py", MRU.replace('"mru"', '"other"'))
    assert "mru" not in POLICIES
    assert "other" in POLICIES


def test_a_policy_of_ones_own_serves_a_cache_aware_selector() -> None:
    """As the plain twin tells Algorithm 1, mask for mask and hit for hit, window after window."""
    plugins.install("mru.py", MRU)
    scores = np.random.default_rng(3).random((2, 30, 24), np.float32)
    selector = CacheAwareSelector({"input": 7}, 0.4, "mru")
    for window in scores:
        masks, hits = policies.cache_aware(window, 12, 7, 0.4, "mru")
        selector.begin_window(30)
        got = selector(0, "input", torch.from_numpy(window)[None], 0.5)
        assert (got[0].numpy() == masks).all()
        assert selector._hits["input", 0][-1].tolist() == hits.tolist()


def test_a_policy_of_ones_own_under_gamma_runs_on_a_worker(
    tiny_llama: Path, tiny_text_file: Path, tmp_path: Path
) -> None:
    """Its source is in the key, and travels with the task."""
    (tmp_path / "my_method.py").write_text(MRU, encoding="utf-8")
    entry = "- {method: dip, density: 0.5, gamma: 0.5, policies: mru}"
    path = sweep_file(tmp_path, tiny_llama, tiny_text_file, entry)
    lines = [line for line in path.read_text().splitlines() if "weighed" not in line]
    path.write_text("\n".join(lines))
    sweep = spec.load(path).sweeps["own"]
    points = expand(sweep).points
    assert [(p.policy, p.selector) for p in points] == [("mru", "cache-aware")]
    plan = plan_points(points, Materials(sweep))
    (key,) = plan.points[0].evaluate_keys
    task = plan.tasks[key]
    assert task.where["policy_plugin_source"] == MRU
    for plugin in plugins.loaded():
        plugins._forget(plugin)
    record, _ = tasks.run(task, ())
    assert record.status == "done", record.error
    assert record.result["groups"]["input"]["hits_by_layer"]


def test_validate_tries_what_a_run_does_with_a_method(
    tiny_llama: Path, tiny_text_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_method.py").write_text(TEAL, encoding="utf-8")
    entry = "- {method: teals, density: 0.8, share: [0.5, 0.7], gamma: [0.5, 1]}"
    path = sweep_file(tmp_path, tiny_llama, tiny_text_file, entry)
    lines = [line for line in path.read_text().splitlines() if "weighed" not in line]
    path.write_text("\n".join(lines))
    sweep = spec.load(path).sweeps["own"]
    with pytest.raises(InputError) as caught:
        tried(sweep)
    (fault,) = str(caught.value).splitlines()
    assert "method teals at density 0.8, share 0.7: it cannot be calibrated" in fault
    assert "ValueError: share makes no sense" in fault
    path.write_text(path.read_text().replace("[0.5, 0.7]", "0.5"))
    found = tried(spec.load(path).sweeps["own"])
    assert [(p.gamma, p.selector) for p in found.points] == [(1.0, "layer-threshold")]
    assert "the selector of teals" in found.skipped[0].reason


def test_check_method_makes_it_at_density_1() -> None:
    faulty = TEAL.replace("self.share != 0.5", "self.share == 0.5")
    plugins.install("teals.py", faulty)
    broken = [v for v in contract.check("teals") if not v.passed]
    assert any("share makes no sense" in v.reason for v in broken)
