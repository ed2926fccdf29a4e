"""What a task depends on, changed on disk: no old result is served; what is left alone is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweep.execution.missing import missing
from sweep.plan import code
from sweep.plan.plan import Plan
from sweep.store.store import Store
from sweep.tasks.task import Record
from tests.sweep.tinysweep import planned, sweep_of

DIP = {"method": "dip", "density": 0.5}


@dataclass(frozen=True, slots=True)
class Done:
    """A sweep over a model of its own, whose tasks are all in a store."""

    model: Path
    folder: Path
    text: str

    def plan(self, *methods: Any, **settings: Any) -> Plan:
        chosen = methods or ("dense", DIP)
        settings = {"policies": ["static"], **settings}
        return planned(sweep_of(self.model, self.folder, self.text, *chosen, **settings))

    def todo(self, plan: Plan | None = None) -> dict[str, str]:
        return missing(plan or self.plan(), Store(self.folder / "store"))


@pytest.fixture
def done(tiny_llama: Path, tmp_path: Path, tiny_text: str) -> Done:
    made = Done(Path(shutil.copytree(tiny_llama, tmp_path / "model")), tmp_path, tiny_text)
    with Store(tmp_path / "store") as store:
        for task in made.plan().tasks.values():
            store.add(Record(task.key, task.kind, task.label, "done", task.payload))
    assert made.todo() == {}
    return made


def flip(path: Path, keep_times: bool = False) -> None:
    """One bit of the last byte."""
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_changed_weight_file_makes_all_new(done: Done, keep_times: bool) -> None:
    flip(done.model / "model.safetensors", keep_times)
    todo = done.todo()
    assert set(todo) == set(done.plan().tasks)
    assert "changed since the last run: weights" in todo.values()


def test_a_changed_configuration_or_tokenizer_makes_all_new(done: Done) -> None:
    config = json.loads((done.model / "config.json").read_text())
    (done.model / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    assert set(done.todo()) == set(done.plan().tasks)


@pytest.mark.parametrize(
    "settings", [{"dtype": "bfloat16"}, {"window_tokens": 32}, {"policies": ["lru"]}]
)
def test_a_changed_parameter_makes_what_it_changes_new(
    done: Done, settings: dict[str, Any]
) -> None:
    assert done.todo(done.plan(**settings))


def with_code(patch: pytest.MonkeyPatch, module: str, change: Callable[[str], str]) -> None:
    """As if the source of a module of ours were another."""
    path, read = code._file(module), Path.read_text

    def changed(self: Path, *given: Any, **options: Any) -> str:
        text = read(self, *given, **options)
        return change(text) if self == path else text

    patch.setattr(Path, "read_text", changed)
    code.forget()


@pytest.fixture
def forgetful() -> Any:
    """No fingerprint of changed code outlives its test."""
    yield
    code.forget()


@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        ("methods.dynamic.dip", {"evaluate", "calibrate", "simulate"}),
        ("sweep.tasks.evaluate", {"evaluate", "simulate"}),
        ("simulator.simulation", {"simulate"}),
    ],
)
def test_a_changed_algorithm_makes_what_runs_it_new(
    done: Done, module: str, kinds: set[str], monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    with_code(monkeypatch, module, lambda text: text + "\nCHANGED = 1\n")
    plan = done.plan()
    todo = done.todo(plan)
    assert kinds <= {plan.tasks[key].kind for key in todo}
    assert any(reason.startswith("changed since the last run: code") for reason in todo.values())


def test_comments_and_formatting_change_nothing(
    done: Done, monkeypatch: pytest.MonkeyPatch, forgetful: None
) -> None:
    with_code(
        monkeypatch, "methods.dynamic.dip", lambda text: f"# a remark\n\n\n{text}\n\n# another\n"
    )
    assert done.todo() == {}
