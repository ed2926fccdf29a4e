"""What a store of release 0.1.0 has finished is taken over, and nothing whose code differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from methods.registry import method_class
from sweep import plugins
from sweep.execution.missing import missing
from sweep.keys import digest
from sweep.plan import code
from sweep.plan.plan import Plan
from sweep.store.adopt import Release, adopt
from sweep.store.store import Store
from tests.sweep.tinysweep import SMALL_DEJAVU, planned, run, sweep_of

METHODS = (
    "dense",
    {"method": "dip", "density": 0.5},
    {"method": "dip", "density": 0.5, "gamma": 0.5},
    {"method": "dejavu", "density": 0.5, **SMALL_DEJAVU},
    {"method": "magnitude", "density": 0.5},
)
PLUGIN = """
import torch
import methods
from methods.base import Select
from methods.mlp import GatedMLP

@methods.register
class Mine(methods.Method):
    \"\"\"GLU pruning by another name.\"\"\"
    name = "mine"
    groups = ("intermediate",)

    def forward(self, mlp: GatedMLP, x: torch.Tensor, select: Select) -> torch.Tensor:
        glu = mlp.glu(x)
        mask = select("intermediate", glu.abs(), self.group_densities()["intermediate"])
        return mlp.down(glu * mask)
"""


def aged(store: Store, older: Path, code_of: Callable[[str, dict[str, Any]], str]) -> None:
    """The store as release 0.1.0 would have written it: the same results under its keys."""
    keys: dict[str, str] = {}

    def write(key: str) -> str:
        if key not in keys:
            record = store.records[key]
            inputs = {role: write(needed) for role, needed in record.payload["inputs"].items()}
            payload = {**record.payload, "inputs": inputs}
            payload["code"] = code_of(record.kind, payload)
            keys[key] = digest([record.kind, payload])
            if store.artefact(key):
                target.save(keys[key], store.load(key))
            target.add(replace(record, key=keys[key], payload=payload))
        return keys[key]

    with Store(older) as target:
        for key in store.records:
            write(key)


def in_release(kind: str, payload: dict[str, Any]) -> str:
    """Fingerprint of the code of a task, as release 0.1.0 computed it."""
    release = Release.load()
    if kind == "simulate":
        return release.fingerprint([release.kinds[kind]])
    if kind == "transform":
        return release.fingerprint([release.kinds[kind], "methods.static.magnitude"])
    plugin = plugins.origin(payload["method"])
    if plugin:
        return release.fingerprint([release.kinds[kind]], plugin.source)
    module = method_class(payload["method"]).__module__.replace("methods.dynamic", "methods")
    return release.fingerprint([release.kinds[kind], module])


@pytest.fixture
def done(tiny_llama: Path, tiny_text: str, tmp_path: Path) -> tuple[Plan, Path]:
    """A plan with tasks of all kinds but scores, and a store of 0.1.0 that has them all."""
    plugins.install("mine.py", PLUGIN)
    chosen = (*METHODS, {"method": "mine", "density": 0.8})
    settings = {"policies": ["lru"], "cache": {"start": "hot"}, "windows": 1}
    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, *chosen, **settings)
    run(sweep, tmp_path / "now")
    aged(Store(tmp_path / "now"), tmp_path / "before", in_release)
    return planned(sweep), tmp_path / "before"


def test_what_was_finished_is_not_run_again(done: tuple[Plan, Path]) -> None:
    plan, folder = done
    assert set(missing(plan, Store(folder))) == set(plan.tasks)
    with Store(folder) as store:
        adopted = adopt(store)
    assert adopted.tasks == len(plan.tasks)
    assert adopted.left == 0
    store = Store(folder)
    assert missing(plan, store) == {}
    kept = [task.key for task in plan.tasks.values() if task.kind in ("train", "transform")]
    assert kept
    assert all(map(store.keeps, kept))
    with Store(folder) as again:
        adopt(again)
    assert missing(plan, Store(folder)) == {}


def test_what_another_code_has_made_is_left(done: tuple[Plan, Path], tmp_path: Path) -> None:
    """An evaluation of other code, and what is simulated on its trace."""
    plan, _ = done

    def other(kind: str, payload: dict[str, Any]) -> str:
        changed = kind == "evaluate" and payload["method"] == "dip"
        return "0123456789abcdef" if changed else in_release(kind, payload)

    aged(Store(tmp_path / "now"), tmp_path / "other", other)
    with Store(tmp_path / "other") as store:
        adopted = adopt(store)
    assert adopted.left == 2
    reasons = missing(plan, Store(tmp_path / "other"))
    kinds = sorted(plan.tasks[key].kind for key in reasons)
    assert kinds == ["evaluate", "evaluate", "simulate"]


def test_code_of_today_that_differs_adopts_nothing_of_its_kind(
    done: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = done
    path, read = code._file("methods.dynamic.dip"), Path.read_text

    def changed(self: Path, *given: Any, **options: Any) -> str:
        return read(self, *given, **options) + ("\nCHANGED = 1\n" if self == path else "")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", changed)
        code.forget()
        with Store(folder) as store:
            adopt(store)
    code.forget()
    left = {plan.tasks[key].payload.get("method") for key in missing(plan, Store(folder))}
    assert left == {"dip", None}  # None: simulations, of which those on dip's traces are left
