"""Optuna behind its wall: the same trials however often a study is interrupted; its two traps."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweep.spec.spaces import Choices, Span, combinations
from sweep.studies.ask_tell import AskedTrial, Search, Told, Trial

SPACE = {
    "gamma": Span(0.05, 1.0, log=True),
    "density": Span(0.5, 0.95),
    "name": Choices(("a", "b")),
}
FIRST = [{"gamma": 0.2, "density": 0.8, "name": "a"}, {"gamma": 2.0, "density": 0.9, "name": "b"}]


class KilledError(Exception):
    """Stands for a SIGKILL: nothing runs after it."""


def opened(journal: Path, sampler: str = "tpe", seed: int = 7, goals: int = 1) -> Search:
    directions = ["maximize", "minimize"][:goals]
    return Search(journal, "s", SPACE, directions, sampler, seed, FIRST)  # type: ignore[arg-type]


def told(asked: AskedTrial, goals: int = 1) -> Told:
    """Whole, stopped and failed trials, by where they are."""
    given = asked.parameters
    value = 3 * given["gamma"] - 5 * (given["density"] - 0.7) ** 2 + 0.3 * (given["name"] == "a")
    limits = {"delta_ppl": given["gamma"] - 0.6}
    if given["density"] < 0.52:
        return Told(error="the task failed")
    if given["gamma"] > 0.9:
        return Told((), limits, {"stopped": "beyond the budget"}, (1, value))
    return Told((value, given["density"])[:goals], limits, {"value": value})


def run(journal: Path, sampler: str, kills: Collection[int] = (), goals: int = 1) -> list[Trial]:
    """16 trials in batches of 4; at each step in `kills` everything is lost but the journal."""
    steps = iter(range(10_000))

    def step() -> None:
        if next(steps) in kills:
            raise KilledError

    while True:
        search = opened(journal, sampler, goals=goals)
        try:
            while len(search.trials()) < 16:
                asked = []
                count = len(search.trials())
                for i in range(4 - count % 4):
                    asked.append(search._ask(count + i))
                    step()
                for one in asked:
                    search.tell(one, told(one, goals))
                    step()
            return search.trials()
        except KilledError:
            continue


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("goals", [1, 2])
def test_interrupted_equals_uninterrupted(tmp_path: Path, sampler: str, goals: int):
    undisturbed = run(tmp_path / "a.journal", sampler, goals=goals)
    kills = (1, 2, 10, 13, 14, 22, 23, 31)
    assert run(tmp_path / "b.journal", sampler, kills, goals) == undisturbed
    assert [trial.ordinal for trial in undisturbed] == list(range(16))
    assert len({str(trial.parameters) for trial in undisturbed}) > 12


@pytest.mark.slow
def test_interrupted_equals_uninterrupted_with_gp(tmp_path: Path):
    undisturbed = run(tmp_path / "a.journal", "gp")
    assert run(tmp_path / "b.journal", "gp", (5, 13, 22)) == undisturbed


def test_first_trials_are_the_given_ones_within_bounds(tmp_path: Path):
    asked = opened(tmp_path / "j").ask(3)
    assert asked[0].parameters == FIRST[0]
    assert asked[1].parameters == {**FIRST[1], "gamma": 1.0}
    assert asked[2].parameters not in FIRST


def test_wanted_trials_come_after_the_first_and_again_after_a_kill(tmp_path: Path):
    wanted = [
        {"gamma": 0.3, "density": 0.7, "name": "a"},
        {"gamma": 0.4, "density": 0.6, "name": "b"},
    ]
    asked = opened(tmp_path / "j").ask(5, wanted)
    assert [a.parameters for a in asked[2:4]] == wanted
    assert asked[4].parameters not in wanted
    again = opened(tmp_path / "j").ask(5)
    assert [a.parameters for a in again] == [a.parameters for a in asked]


def test_a_reopened_study_does_not_repeat_its_suggestions(tmp_path: Path):
    """A sampler of one seed, made anew, would: the trap that seeds by trial avoid."""
    journal = tmp_path / "j"
    seen = []
    for _ in range(4):
        search = opened(journal, "random")
        (asked,) = search.ask(1)
        search.tell(asked, told(asked))
        seen.append(str(asked.parameters))
    assert len(set(seen)) == 4


def test_a_killed_driver_leaves_no_trial_that_runs_for_ever(tmp_path: Path):
    first = opened(tmp_path / "j").ask(2)
    search = opened(tmp_path / "j")
    states = [trial.state for trial in search.study.trials]
    assert states == [TrialState.FAIL, TrialState.FAIL]
    assert search.trials() == []
    assert [a.parameters for a in search.ask(2)] == [a.parameters for a in first]


def test_other_seeds_and_samplers_ask_for_other_points(tmp_path: Path):
    asked = [opened(tmp_path / f"{i}", seed=i).ask(4)[3].parameters for i in range(3)]
    assert len({str(given) for given in asked}) == 3


def test_a_lock_left_by_a_killed_driver_is_not_waited_for(tmp_path: Path):
    run(tmp_path / "j", "random")
    (tmp_path / "j.lock").symlink_to(tmp_path / "j")
    started = time.monotonic()
    opened(tmp_path / "j", "random").ask(1)
    assert time.monotonic() - started < 10


def test_a_line_cut_short_is_cut_off(tmp_path: Path):
    whole = run(tmp_path / "j", "random")
    with (tmp_path / "j").open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    search = opened(tmp_path / "j", "random")
    assert search.trials() == whole
    (asked,) = search.ask(1)
    search.tell(asked, told(asked))
    assert opened(tmp_path / "j", "random").trials()[:-1] == whole


def test_a_damaged_journal_is_set_aside(tmp_path: Path):
    whole = run(tmp_path / "study.journal", "random")
    content = (tmp_path / "study.journal").read_bytes()
    (tmp_path / "study.journal").write_bytes(content[:400] + b"\x00" + content[401:])
    assert opened(tmp_path / "study.journal", "random").trials() == []
    assert (tmp_path / "study.damaged").exists()
    assert run(tmp_path / "study.journal", "random") == whole


def test_best_is_the_best_feasible_trial_and_the_earlier_of_equals(tmp_path: Path):
    search = opened(tmp_path / "j")
    figures = [(1.0, 0.1), (3.0, 0.5), (2.0, -0.1), (2.0, -0.2), (9.0, 0.01)]
    for asked, (value, over) in zip(search.ask(5), figures, strict=True):
        search.tell(asked, Told((value,), {"delta_ppl": over}))
    assert [trial.ordinal for trial in search.best()] == [2]


def test_nothing_is_best_where_nothing_is_feasible(tmp_path: Path):
    search = opened(tmp_path / "j")
    for asked in search.ask(2):
        search.tell(asked, Told((1.0,), {"delta_ppl": 0.5}))
    assert search.best() == []


def test_the_frontier_of_two_objectives(tmp_path: Path):
    search = opened(tmp_path / "j", goals=2)
    figures = [(5.0, 5.0), (4.0, 6.0), (3.0, 1.0), (6.0, 9.0), (9.0, 9.0)]
    for asked, values in zip(search.ask(5), figures, strict=True):
        over = 1.0 if values == (9.0, 9.0) else -1.0
        search.tell(asked, Told(values, {"delta_ppl": over}))
    assert [trial.ordinal for trial in search.best()] == [0, 2, 3]
    ours = {trial.ordinal for trial in search.best()}
    assert ours == {trial.number for trial in search.study.best_trials}


def test_optuna_sees_the_constraint_and_the_dashboard_a_note(tmp_path: Path):
    search = opened(tmp_path / "j")
    for asked, over in zip(search.ask(2), (0.5, -0.5), strict=True):
        search.tell(asked, Told((1.0,), {"delta_ppl": over}, {"hit_rate": 0.5}))
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "j")))
    study = optuna.load_study(study_name="s", storage=storage)
    assert [trial.constraints for trial in study.trials] == [
        {"delta_ppl": 0.5},
        {"delta_ppl": -0.5},
    ]
    assert [trial.user_attrs["feasible"] for trial in study.trials] == [False, True]
    assert study.trials[1].user_attrs["hit_rate"] == 0.5
    assert json.loads((tmp_path / "j").read_text().splitlines()[0])["study_name"] == "s"


def test_combinations_are_all_choices_in_order():
    space = {"density": Choices((0.5, 0.6)), "name": Choices(("a", "b", "c"))}
    found = combinations(space)
    assert len(found) == 6
    assert found[0] == {"density": 0.5, "name": "a"}
    assert found[-1] == {"density": 0.6, "name": "c"}
