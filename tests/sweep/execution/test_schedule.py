"""Order of tasks, parts of a run, and what a run does when its time is up."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep import api
from sweep.errors import InputError
from sweep.execution.driver import Driver
from sweep.execution.executor import Outcome
from sweep.execution.resources import Resources
from sweep.execution.schedule import DENSE, FIRST, REST, Rank, effort, ranks, stages
from sweep.inputs import model_ref as weights
from sweep.inputs import models
from sweep.keys import digest
from sweep.plan.plan import Plan, PlannedPoint
from sweep.plan.task_patterns import selected
from sweep.spec import file as spec
from sweep.store.store import Store
from sweep.tasks.task import KINDS, Record, Task
from tests.sweep import made_up
from tests.sweep.tinysweep import planned, run, sweep_of

DIP = {"method": "dip", "density": [0.5, 0.7]}
UP = {"method": "up", "density": 0.7}
PLANNED = PlannedPoint(None, (), (), ())  # type: ignore[arg-type]


def task(name: str, kind: str = "evaluate", **payload: Any) -> Task:
    return Task(kind, name, payload, name)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """DIP, cache-aware DIP and Up on two models, two windows each; nothing is present."""
    made_up.install(monkeypatch)
    monkeypatch.setattr(weights, "fingerprint", lambda ref: digest([ref]))
    methods = ["dense", DIP, {**DIP, "gamma": 0.2, "density": 0.5}, UP]
    file = made_up.sweep_file(methods=methods, models=["smollm2-135m", "phi-3-mini"], windows=3)
    file["sweeps"]["a"] |= {"shard_windows": 2, "policies": ["lfu", "lru"]}
    return api.plan_sweep(spec.from_mapping(file).sweeps["a"]).plan


def in_order(plan: Plan) -> list[Task]:
    found = ranks(plan, plan.tasks, {})
    return [plan.tasks[key] for key in sorted(plan.tasks, key=lambda key: found[key])]


def test_dense_runs_go_first_and_then_a_shard_of_every_point(plan: Plan) -> None:
    """So that a run that is stopped has answers."""
    order = [task for task in in_order(plan) if task.kind == "evaluate"]
    dense = {key for planned in plan.points for key in planned.dense_keys}
    first = {planned.evaluate_keys[0] for planned in plan.points} - dense
    assert {task.key for task in order[: len(dense)]} == dense
    assert {task.key for task in order[len(dense) : len(dense) + len(first)]} == first
    assert len(order) > len(dense) + len(first)


def test_what_a_dense_run_needs_goes_with_it_and_large_hand_overs_do_not_wait() -> None:
    """Weights are quantised for a dense run; what runs on them is done while they are held."""
    held: dict[str, Any] = {"inputs": {"weights": "q"}}
    quantised = task("q", "transform")
    own = [quantised, task("d", **held), task("e0", **held), task("e1", **held), task("c", "score")]
    every = Plan(tasks={t.key: t for t in own})
    every.points = [replace(PLANNED, evaluate_keys=("e0", "e1"), dense_keys=("d",))]
    assert stages(every) == {"q": DENSE, "d": DENSE, "e0": FIRST, "e1": FIRST, "c": REST}


def test_in_a_stage_a_model_is_done_before_the_next(plan: Plan) -> None:
    staged = stages(plan)
    order = [task for task in in_order(plan) if task.kind == "evaluate"]
    for stage in (DENSE, FIRST, REST):
        at = [task.where["model"] for task in order if staged[task.key] == stage]
        assert at == sorted(at, key=at.index)
        assert len(set(at)) == 2


def test_in_a_stage_long_tasks_come_first(plan: Plan) -> None:
    """Shards of two windows before those of one; cache-aware before masked."""
    staged = stages(plan)
    model = next(iter(plan.tasks.values())).where["model"]
    own = [t for t in in_order(plan) if t.kind == "evaluate" and t.where["model"] == model]
    dense = [len(t.payload["windows"]) for t in own if staged[t.key] == DENSE]
    assert dense == [2, 1]
    first = [t.payload["selector"]["name"] for t in own if staged[t.key] == FIRST]
    assert first.index("topk") == first.count("cache-aware") > 0


def test_effort_counts_windows_however_they_are_given() -> None:
    seven = task("t", "train", windows=7, window_tokens=10)
    listed = task("e", windows=[0, 1, 2, 3, 4, 5, 6], window_tokens=10)
    assert effort(seven) > effort(listed) == 70
    assert effort(task("s", "simulate")) == 0


def test_priority_goes_over_model_and_length(plan: Plan) -> None:
    found = ranks(plan, plan.tasks, {"up": 2, "dip-ca": -1})
    order = [plan.tasks[k] for k in sorted(plan.tasks, key=lambda k: found[k])]
    methods = [t.payload["method"] for t in order if t.kind == "evaluate"]
    first = [m for m in methods[: methods.index("dip")] if m != "dense"]
    assert set(first) == {"up"}
    assert len(first) == methods.count("up")
    last = [t for t in order if t.kind == "evaluate"][-1]
    assert last.payload["selector"]["name"] == "cache-aware"


def test_what_several_points_need_has_the_highest_priority(plan: Plan) -> None:
    """The dense run is needed by all."""
    found = ranks(plan, plan.tasks, {"up": 2, "dip": -1})
    dense = [k for k, t in plan.tasks.items() if t.payload.get("method") == "dense"]
    assert {found[key].priority for key in dense} == {-2}


def test_priority_is_of_methods(tmp_path: Path, tiny_llama: Path, tiny_text: str) -> None:
    with pytest.raises(InputError, match=r"unknown method 'dipp'; did you mean dip\?"):
        sweep_of(tiny_llama, tmp_path, tiny_text, "dense", priority={"dipp": 1})


# -- the driver --------------------------------------------------------------------------------


class Machine:
    """An executor that ends tasks one after another in the order given to it."""

    where = "a machine"

    def __init__(self, cpus: float, gpus: float = 0.0) -> None:
        self.have = Resources(cpus, gpus)
        self.waiting: list[Task] = []
        self.begun: list[str] = []
        self.most: dict[str, int] = {}

    def resources(self) -> Resources:
        return self.have

    def submit(self, task: Task, needs: Resources, inputs: tuple[Any, ...]) -> None:
        self.waiting.append(task)
        self.begun.append(task.key)
        counted = sum(t.kind == task.kind for t in self.waiting)
        self.most[task.kind] = max(counted, self.most.get(task.kind, 0))

    def wait(self, timeout: float) -> list[Outcome]:
        """Models end first: what waits for CPUs piles up."""
        if not self.waiting:
            time.sleep(min(timeout, 0.01))
            return []
        self.waiting.sort(key=lambda t: t.kind == "simulate")
        done = self.waiting.pop(0)
        return [Outcome(Record(done.key, done.kind, done.label, "done"), None)]

    def put(self, value: Any) -> Any:
        return value

    def get(self, handle: Any) -> Any:
        return handle

    def close(self) -> None:
        self.waiting.clear()


class Silent:
    def started(self, task: Task) -> None: ...
    def ended(self, record: Record) -> None: ...
    def dropped(self, task: Task) -> None: ...
    def tick(self) -> None: ...


def drive(tmp_path: Path, machine: Machine, tasks: list[Task], **options: Any) -> Driver:
    gpus = 1.0 if machine.have.gpus else 0.0
    needs = {kind: Resources(1, 0 if kind == "simulate" else gpus) for kind in KINDS}
    with Store(tmp_path / "store") as store:
        made = Plan(tasks={t.key: t for t in tasks})
        run = Driver(made, dict.fromkeys(made.tasks, "new"), store, machine, needs, Silent())
        for name, value in options.items():
            setattr(run, name, value)
        run.execute()
    return run


def chains(count: int, policies: int = 3) -> list[Task]:
    made = []
    for n in range(count):
        made.append(task(f"trace {n}", windows=[n]))
        made += [
            task(f"sim {n} {p}", "simulate", inputs={"trace": f"trace {n}"})
            for p in range(policies)
        ]
    return made


def test_ranks_decide_what_runs_first(tmp_path: Path) -> None:
    tasks = [task(name) for name in "abcd"]
    order = {"a": Rank(0, 1, 0), "b": Rank(0, 0, -1), "c": Rank(-1, 1, 0), "d": Rank(0, 0, -2)}
    machine = Machine(1)
    drive(tmp_path, machine, tasks, ranks=order)
    assert machine.begun == ["c", "d", "b", "a"]


def test_gpus_go_on_while_simulations_wait(tmp_path: Path) -> None:
    """Two GPUs are kept fed although one CPU has a queue; and the queue stays bounded."""
    machine = Machine(1, gpus=2)
    drive(tmp_path, machine, chains(40))
    assert machine.most["evaluate"] == 4  # two run, two wait, as long as there are any
    assert machine.most["simulate"] == 3
    early = machine.begun[: machine.begun.index("sim 3 2")]
    assert sum(name.startswith("trace") for name in early) > 4
    assert len(machine.begun) == 160


def test_traces_are_not_made_without_end(tmp_path: Path) -> None:
    machine = Machine(1, gpus=2)
    drive(tmp_path, machine, chains(60))
    ahead = most = 0
    for name in machine.begun:
        ahead += 3 if name.startswith("trace") else -1
        most = max(most, ahead)
    assert most <= 8 * 3 + 3 * (4 + 1) + 3


def test_without_gpus_simulations_come_first(tmp_path: Path) -> None:
    machine = Machine(1)
    drive(tmp_path, machine, chains(10))
    assert machine.most["evaluate"] <= 3
    assert max(machine.most.values()) <= 3


def test_no_model_is_begun_after_the_deadline(tmp_path: Path) -> None:
    machine = Machine(1)
    done = drive(tmp_path, machine, chains(5), deadline=time.monotonic() - 0.01)
    assert machine.begun == []
    assert done.stopped_by == "--max-hours"


def test_simulations_of_traces_that_exist_go_on_after_the_deadline(tmp_path: Path) -> None:
    """Else the evaluations that made them would be lost."""
    machine = Machine(1)
    original = machine.wait

    def late(timeout: float) -> list[Outcome]:
        run_.deadline = time.monotonic()  # from now on it is late
        return original(timeout)

    machine.wait = late  # type: ignore[method-assign]
    tasks = chains(9, policies=2)
    needs = {kind: Resources(1) for kind in KINDS}
    with Store(tmp_path / "store") as store:
        made = Plan(tasks={t.key: t for t in tasks})
        run_ = Driver(made, dict.fromkeys(made.tasks, "new"), store, machine, needs, Silent())
        run_.execute()
        assert sorted(store.records) == sorted(machine.begun)
    assert run_.stopped_by == "--max-hours"
    traces = [name for name in machine.begun if name.startswith("trace")]
    assert len(traces) == 3  # what was in flight
    assert len(machine.begun) == 9


def test_a_run_that_ends_in_time_is_not_stopped(tmp_path: Path) -> None:
    done = drive(tmp_path, Machine(1), chains(3), deadline=time.monotonic() + 600)
    assert done.stopped_by == ""


# -- a part of a run ---------------------------------------------------------------------------


def todo(plan: Plan) -> dict[str, str]:
    return dict.fromkeys(plan.tasks, "new")


def methods_of(plan: Plan, keys: dict[str, str]) -> set[str]:
    return {plan.tasks[k].payload["method"] for k in keys if plan.tasks[k].kind == "evaluate"}


def test_only_a_method(plan: Plan) -> None:
    for pattern in ("up", "method=up", "u?"):
        assert methods_of(plan, selected(plan, todo(plan), [pattern])) == {"up", "dense"}
    both = selected(plan, todo(plan), ["up", "method=dip"])
    assert both == todo(plan)


def test_only_an_alias_is_cache_aware(plan: Plan) -> None:
    found = selected(plan, todo(plan), ["dip-ca"])
    own = [plan.tasks[k].payload for k in found if plan.tasks[k].payload.get("method") == "dip"]
    assert {payload["selector"]["name"] for payload in own} == {"cache-aware"}


def test_fields_narrow_each_other(plan: Plan) -> None:
    found = selected(plan, todo(plan), ["model=smol*", "method=dip", "policy=lru"])
    assert {t.where["model"] for t in map(plan.tasks.__getitem__, found) if t.where} == {
        "smollm2-135m"
    }
    simulated = [plan.tasks[k].payload["policy"] for k in found if plan.tasks[k].kind == "simulate"]
    assert set(simulated) == {"lru"}


def test_only_a_kind_and_what_it_needs(plan: Plan) -> None:
    evaluate = selected(plan, todo(plan), ["kind=evaluate"])
    assert {plan.tasks[k].kind for k in evaluate} == {"evaluate"}
    simulate = selected(plan, todo(plan), ["simulate"])
    assert {plan.tasks[k].kind for k in simulate} == {"evaluate", "simulate"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("dipp", r"no method, model or kind of task is called so; did you mean dip\?"),
        ("methd=dip", r"unknown field; did you mean method\?"),
        ("method=glu", "names no task of this sweep"),
    ],
)
def test_patterns_that_name_nothing(plan: Plan, pattern: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        selected(plan, todo(plan), [pattern])


def test_part_after_part_is_the_whole(tmp_path: Path, tiny_llama: Path, tiny_text: str) -> None:
    """A second policy finds the traces of the first part; the table is that of a whole run."""
    import io

    from rich.console import Console

    sweep = sweep_of(tiny_llama, tmp_path, tiny_text, "dense", DIP, policies=["lru", "belady"])

    def part(out: str, *only: str) -> api.Finished:
        options = api.Options(tmp_path / out, workers=0, report=False, only=only)
        return api.run(sweep, options, Console(file=io.StringIO()))

    first = part("parts", "policy=lru")
    states = [row["status"] for row in first.table.to_pylist()]
    assert set(states) == {"done", "missing"}
    assert first.exit_code == 0
    second = part("parts")
    kinds = [r.kind for r in Store(tmp_path / "parts").records.values()]
    assert second.ran == 4  # the simulations of belady, and no evaluation again
    assert second.table.equals(part("whole").table)
    assert kinds.count("simulate") == 8


# -- workers keep their model ------------------------------------------------------------------


def test_models_are_loaded_twice_at_most(
    tmp_path: Path, save_tiny_model: Any, tiny_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker keeps one model; dense runs of both go first, and stages turn at the last model."""
    places = [save_tiny_model("Llama", seed=n) for n in (0, 1)]
    loaded: list[str] = []
    original = models.load

    def load(ref: str, *arguments: Any) -> Any:
        loaded.append(ref)
        return original(ref, *arguments)

    monkeypatch.setattr(models, "load", load)
    models._kept.clear()
    cats = {"method": "cats", "density": [0.6, 0.8]}
    methods = ["dense", DIP, cats, {**UP, "gamma": 0.3}]
    sweep = sweep_of(
        places[0],
        tmp_path,
        tiny_text,
        *methods,
        models=[str(p) for p in places],
        policies=["lfu", "static"],
    )
    done, _ = run(sweep, tmp_path / "out")
    assert done.exit_code == 0
    assert loaded == [str(places[n]) for n in (0, 1, 0, 1)]
    assert len(planned(sweep).tasks) == done.ran
