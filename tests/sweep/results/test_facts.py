"""Facts of the results table: of built-in names as ever, of plug-ins as they say themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reports.reading.run import load
from reports.results import with_facts
from simulator import policies
from sweep import plugins
from sweep.cli import app as cli
from sweep.plan.grid import expand
from sweep.plan.point import MethodTraits
from sweep.results import facts
from sweep.spec.file import from_mapping
from sweep.spec.names import SELECTORS
from tests.sweep import made_up, tinysweep

LOOKAHEAD = '''
import simulator

@simulator.register
class Clairvoyant(simulator.policies.Min):
    """Knows the future, under a name that does not say so."""
    name = "clairvoyant"
    description = "the optimum, by a user"
    offline = True
'''
ORACLE = '''
from dataclasses import dataclass
import methods
from methods.dynamic.glu import GLU

@methods.register
@dataclass(frozen=True)
class Told(GLU):
    """Is told what it prunes."""
    name = "told"
    oracle = True
'''


@pytest.fixture
def forget() -> Iterator[None]:
    """What a test loads is gone after it."""
    yield
    for plugin in list(plugins._loaded.values()):
        plugins._forget(plugin)
    for registered in (policies.POLICIES, policies._CLASSES):
        registered.pop("clairvoyant", None)


def columns(method: str, selector: str, policy: str) -> dict[str, Any]:
    """Facts of a point of these names."""
    sweep = from_mapping(made_up.sweep_file()).sweeps["a"]
    traits = MethodTraits.of(method)
    named = {"method": method, "traits": traits, "selector": selector, "policy": policy}
    return facts.columns(replace(expand(sweep).points[0], **named))


OLDER = ("dense", "glu", "glu-oracle", "gate", "up", "cats", "dejavu", "dip", "dip-split")
OLDER += ("sparsegpt", "wanda", "magnitude", "cats+lora", "dip+lora")
"""Methods that tables without columns of facts have."""


def test_builtin_names_stand_for_what_older_tables_meant_by_them() -> None:
    ways = (*SELECTORS, "cache-aware")
    builtin = [
        n for n in policies.POLICIES if policies.policy_class(n).__module__ == "simulator.policies"
    ]
    for method, selector, policy in product(OLDER, ways, builtin):
        names = {"method": method, "selector": selector, "policy": policy}
        assert [names | columns(method, selector, policy)] == with_facts([names])


def test_a_method_that_says_so_is_a_bound(forget: None) -> None:
    plugins.install("told.py", ORACLE)
    assert columns("told", "topk", "lru") == {
        "series": "told",
        "bound": True,
        "policy_offline": False,
        "policy_rank": 1,
    }


@pytest.fixture
def file(tiny_llama: Path, tiny_text: str, tmp_path: Path, forget: None) -> Path:
    """A sweep whose fastest points are those of a user's policy that knows the future."""
    (tmp_path / "clairvoyant.py").write_text(LOOKAHEAD, encoding="utf-8")
    reported, calibration = tinysweep.texts(tmp_path, tiny_text)
    path = tmp_path / "sweeps.yaml"
    path.write_text(
        f"""
plugins: [clairvoyant.py]
sweeps:
  tiny:
    models: [{tiny_llama}]
    methods: [dense, {{method: dip, density: [0.5, 0.7]}}]
    policies: [lru, clairvoyant]
    devices: [{{device: mine, dram_gb: 0.000035, flash_gbps: 0.001, dram_gbps: 60}}]
    text: {reported}
    calibration: {calibration}
    windows: 2
    window_tokens: 64
    kv: {{tokens: 64}}
    budgets: [1000%]
""",
        encoding="utf-8",
    )
    return path


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_users_policy_that_knows_the_future_is_a_bound_and_never_a_choice(
    file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    common = ("--file", file, "--out", out, "--workers", 0)
    printed("run", "tiny", *common)
    run = load(out)
    ahead = [p for p in run.points if p.policy == "clairvoyant"]
    real = [p for p in run.points if p.policy == "lru"]
    assert ahead
    assert all(p.bound and p.policy_offline for p in ahead)
    assert not any(p.bound for p in real)
    assert max(p.tokens_per_s for p in ahead) > max(p.tokens_per_s for p in real)

    (decision,) = run.decisions
    assert decision.bound is not None
    assert decision.bound.policy == "clairvoyant"
    chosen = (decision.best, decision.runner_up, decision.conservative)
    assert [p.policy for p in chosen if p is not None and not p.dense] == ["lru"] * 2
    shipped, _, rest = (out / "report.md").read_text(encoding="utf-8").partition("## Figures")
    assert "clairvoyant looks ahead and cannot be shipped" in rest
    headline = shipped.partition("<details>")[0]
    assert "lru" in shipped
    assert "clairvoyant" not in headline
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "clairvoyant (bound)" in page

    assert "clairvoyant" not in printed("best", out, "-b", "1000%")
    searched = printed("best", "tiny", "--search", "-b", "1000%", *common)
    assert "lru" in searched
    assert "clairvoyant" not in searched
