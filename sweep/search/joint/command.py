"""`sweep best NAME --search --joint`: all axes of a sweep at once, in place of its grid.

A bisection goes through the densities of every method with every γ, policy and parameter by itself.
This search goes over all of them together: *joint* is the word that papers and tools of
hyperparameter search have for one search over choices that others search one by one. The axes of
the sweep's own entries are the space of a study for each setting and budget (`settings`, `listed`),
which the machinery of `sweep tune` runs: the sampler, trials that the store answers before the
first is asked, trials that stop early, and a journal with which an interrupted search goes on.

Trials are points of the grid, measured on the sweep's text as those of the grid and of a bisection
are. So an answer is what the grid would say of it, and as little sure of another text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.findings.budgets import Budget
from sweep.execution.session import Session
from sweep.files.atomic import replace as write_whole
from sweep.files.atomic import write_json
from sweep.options import Options
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.results.facts import is_bound
from sweep.results.rows import rows_of
from sweep.search import best
from sweep.search.batches import Batches
from sweep.search.best import Answer, Cost
from sweep.search.density_series import evaluated_tokens
from sweep.search.joint.listed import PATIENCE, study_of
from sweep.search.joint.outcome import (
    Row,
    Searched,
    answers,
    chosen,
    held_against,
    looked_at,
    trials_text,
)
from sweep.search.joint.settings import JointSetting, settings_of, waves
from sweep.spec.entries import Sweep

if TYPE_CHECKING:
    from rich.console import Console

FILE = "joint.json"
JOURNAL = "joint.journal"
TRIALS = "joint-trials.csv"
MOST_TRIALS = 60
"""Trials of a search, as of a study; one that brings nothing faster any more ends before."""


def search(
    sweep: Sweep,
    options: Options,
    console: Console,
    budgets: Iterable[str] = (),
    trials: int = MOST_TRIALS,
) -> tuple[Answer, list[str]]:
    """Search all axes of a sweep within its budgets, or those given; the answer, and notes to it.

    Raises InputError or ResourceError before anything runs, StoppedError after a signal; the same
    call then goes on where it stopped.
    """
    started = time.time()
    limits = best.limits_of(tuple(budgets), sweep, console)
    sweep = best.searched(sweep, limits)
    planned = plan_sweep(sweep, fetch=True, notify=console.print)
    settings = settings_of(planned, limits)
    with Session(sweep, options, console) as session:
        options.out.mkdir(parents=True, exist_ok=True)
        searches = [
            searched
            for budget in limits
            for wave in waves(settings)
            for searched in _run(wave, budget, planned, session, trials)
        ]
        answer = _answer(searches, planned, session, started)
        notes = _notes(searches, planned, limits, options.out)
        written = {"search": best.identity(planned, limits), "notes": notes}
        write_json(options.out / FILE, _summary(answer) | written)
        write_whole(options.out / TRIALS, trials_text(searches).encode())
    return answer, notes


def _run(
    wave: list[JointSetting], budget: Budget, planned: SweepPlan, session: Session, trials: int
) -> list[Searched]:
    """The searches of some settings within a budget, all together."""
    studies = [study_of(planned.sweep, setting, budget, trials) for setting in wave]
    journal = session.options.out / JOURNAL
    batches = Batches(studies, session, planned.materials, journal, PATIENCE)
    searches = [
        Searched(*whole, budget) for whole in zip(wave, studies, batches.settings, strict=True)
    ]
    while batches.run():
        session.console.print(_progress(searches, session.ran["tokens"]), markup=False)
    return searches


def _progress(searches: list[Searched], tokens: int) -> str:
    told = [trial for searched in searches for trial in searched.trials]
    stopped = sum(trial.state == "stopped" for trial in told)
    best_of = [s.setting.search.best() for s in searches]
    speeds = ", ".join(f"{won[0].values[0]:.4g} tok/s" if won else "dense" for won in best_of)
    return (
        f"{searches[0].budget.label}: {len(told)} trials, {stopped} stopped early, best {speeds};"
        f" {tokens:,} tokens evaluated"
    )


# -- the answer -----------------------------------------------------------------------------------


def _answer(
    searches: list[Searched], planned: SweepPlan, session: Session, started: float
) -> Answer:
    found, dense = [], dict[str, Row]()
    for searched in searches:
        (own,) = rows_of([searched.setting.dense], session.store, planned.materials)
        points = [point for _, point in searched.whole()]
        held = [held_against(searched, point) for point in points]
        rows = dict(zip(points, rows_of(held, session.store, planned.materials), strict=True))
        of_setting = answers(searched, rows, own)
        dense[best.setting_of(of_setting[0])] = own
        found += of_setting
    cost = _cost(searches, planned, session, time.time() - started)
    left_out = sum(is_bound(point.point) for point in planned.plan.points)
    return Answer(found, cost, left_out, dense)


def _cost(searches: list[Searched], planned: SweepPlan, session: Session, seconds: float) -> Cost:
    tasks = planned.plan.tasks
    windows_of = {k: len(t.payload["windows"]) for k, t in tasks.items() if t.kind == "evaluate"}
    baselines = {key for searched in searches for key in searched.setting.dense.evaluate_keys}
    looked = baselines.union(*(looked_at(searched, windows_of) for searched in searches))
    points = (point for searched in searches for point in searched.study.planned)
    grid = baselines | {key for point in points for key in point.evaluate_keys}

    def tokens(keys: set[str]) -> int:
        """Of evaluations; a dense run that no point of the sweep has was run by the search."""
        records = session.store.records
        payloads = (tasks[k].payload if k in tasks else records[k].payload for k in keys)
        return sum(map(evaluated_tokens, payloads))

    return Cost(
        evaluations=len(looked),
        tokens=tokens(looked),
        run_now=session.ran["tokens"],
        grid_evaluations=len(grid),
        grid_tokens=tokens(grid),
        seconds=seconds,
    )


def _notes(
    searches: list[Searched], planned: SweepPlan, budgets: Iterable[Budget], out: Path
) -> list[str]:
    """What is to be said of the cost: trials that were known, and what a bisection took."""
    told = [trial for searched in searches for trial in searched.trials]
    known = sum(bool(trial.notes.get("known")) for trial in told)
    stopped = sum(trial.state == "stopped" for trial in told)
    notes = [f"{len(told) - known} trials, {stopped} of them stopped early"]
    if known:
        notes[0] += f"; {known} more were known when their search began, and cost nothing"
    failed = [trial for trial in told if trial.state == "failed"]
    if failed:
        notes.append(f"{len(failed)} trials failed; `sweep logs {out}` shows why")
    bisected = _bisected(out, best.identity(planned, budgets))
    if bisected is not None:
        notes.append(f"The bisection of the same sweep (search.json) took {bisected:,} tokens.")
    return notes


def _bisected(out: Path, identity: str) -> int | None:
    """Tokens of the bisection of the same points and budgets in this folder, if there was one."""
    try:
        written: Any = json.loads((out / best.FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(written, dict) and written.get("search") == identity
    return written["tokens"] if same and not written.get("screen") else None


def _summary(answer: Answer) -> dict[str, Any]:
    written = best.summary(answer)
    entries = zip(written["found"], answer.found, strict=True)
    return written | {"found": [entry | chosen(found) for entry, found in entries]}
