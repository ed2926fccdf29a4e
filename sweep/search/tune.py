"""`sweep tune STUDY`: search on one text, report on another.

The journal of the trials lies in the run folder, where optuna-dashboard opens it; the figures come
from the store like those of any sweep. What wins is measured on the text of the sweep, which no
trial has seen, and the report of the run is about that and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from methods import allocation, layers, share_tables, shares
from methods.registry import method_class
from sweep.allocation.files import Allocation
from sweep.execution.progress import duration
from sweep.execution.resources import check_out
from sweep.execution.session import Session
from sweep.files.atomic import replace as write_whole
from sweep.files.atomic import write_json
from sweep.inputs import model_ref
from sweep.options import Options
from sweep.plan import planner as planning
from sweep.plan.grid import Grid
from sweep.plan.materials import Materials
from sweep.plan.plan import Plan, PlannedPoint
from sweep.plan.point import Point
from sweep.plan.sweep_plan import SweepPlan
from sweep.results.folder import plan_summary, provenance_of
from sweep.results.rows import rows_of, table_of
from sweep.results.written import files
from sweep.search.batches import Batches, Setting
from sweep.search.study import TARGETS, ImpossibleError, Study
from sweep.search.study_files import write_trials
from sweep.search.study_outcome import Fit, Tuned, Winner
from sweep.search.study_page import markdown
from sweep.spec.entries import Sweep
from sweep.spec.spaces import bounds
from sweep.studies.ask_tell import Parameters

if TYPE_CHECKING:
    from rich.console import Console

JOURNAL = "study.journal"
SUMMARY = "study.md"


def tune(study: Study, options: Options, console: Console) -> Tuned:
    """Run the trials that are missing, measure what won, and write the run folder.

    Raises InputError or ResourceError before anything is run, StoppedError after a signal; the
    same call then goes on where it stopped.
    """
    started = time.time()
    check_out(options.out)
    done = Tuned(options.out)
    tuning = _materials(study.tuning, study, False, console.print)
    reported = _materials(study.reported, study, True, console.print)
    with Session(study.tuning, options, console) as session:
        options.out.mkdir(parents=True, exist_ok=True)
        _write_plan(study.tuning, planning.plan_points(study.settings, tuning), session, tuning)
        batches = Batches(study, session, tuning, options.out / JOURNAL)
        begun = sum(len(setting.search.trials()) for setting in batches.settings)
        first = time.monotonic()
        while batches.run():
            rate = session.ran["tokens"] / max(time.monotonic() - first, 1e-9)
            left = _left(batches.settings, begun, time.monotonic() - first)
            text = f"about {duration(left)} left, {rate:,.0f} tokens evaluated per second"
            console.print(f"{_progress(study, batches.settings)}, {text}", markup=False)
        done.trials = {s.label: s.search.trials() for s in batches.settings}
        done.importance = {s.label: s.search.importance() for s in batches.settings}
        done.failed = sum(t.state == "failed" for ts in done.trials.values() for t in ts)
        done.fit = _fitted(study, batches.settings)
        _measure(study, batches.settings, session, reported, done, started)
    done.ran, done.seconds = session.ran, time.time() - started
    write_trials(study, done)
    write_whole(options.out / SUMMARY, markdown(study, done).encode())
    if options.report:
        import reports

        reports.build(options.out)
    return done


def _materials(
    sweep: Sweep, study: Study, reported: bool, notify: Callable[[str], None]
) -> Materials:
    """Models and texts, all present, so that keys are final."""
    first = study.complete_first()[:1]
    points = [study.point(s, parameters, reported) for s in study.settings for parameters in first]
    Materials(sweep).fetch([*study.settings, *points], True, notify)
    return Materials(sweep)


def _left(settings: list[Setting], begun: int, elapsed: float) -> float:
    """Seconds for the trials that are left, at the rate of those of this run."""
    told = sum(len(setting.search.trials()) for setting in settings)
    return elapsed / max(1, told - begun) * (sum(s.total for s in settings) - told)


def _progress(study: Study, settings: list[Setting]) -> str:
    told = [s.search.trials() for s in settings]
    count = sum(map(len, told))
    stopped = sum(trial.state == "stopped" for trials in told for trial in trials)
    total = sum(setting.total for setting in settings)
    best = [f"{t.values[0]:.4g}" for s in settings for t in s.search.best()[:1]]
    if len(study.entry.objective.metrics) > 1:
        best = [f"{len(s.search.best())} on the frontier" for s in settings]
    return f"{study.name}: {count}/{total} trials, {stopped} stopped early, best {', '.join(best)}"


# -- what won, on the reported text --------------------------------------------------------------


def _measure(
    study: Study,
    settings: list[Setting],
    session: Session,
    materials: Materials,
    done: Tuned,
    started: float,
) -> None:
    """Measure winners, and what they are compared with, on the text that is reported."""
    won = [(s, trial) for s in settings for trial in s.search.best()]
    points = [study.point(s.dense.point, t.parameters, reported=True) for s, t in won]
    others = [p for s in settings for p in _compared(study, s, done.fit)]
    plan = planning.plan_points(dict.fromkeys([*points, *others]), materials)
    plan.notes = [*plan.notes, _note(study)]
    session.run_all(plan)
    rows = {row["point_key"]: row for row in rows_of(plan.points, session.store, materials)}
    planned = {p.point: p for p in plan.points}
    won_rows = rows_of([_against(study, planned[p]) for p in points], session.store, materials)
    for (setting, trial), point, row in zip(won, points, won_rows, strict=True):
        done.winners.append(
            Winner(setting.label, trial, trial.notes, row, _layers(point), _shares(study, point))
        )
    done.failed += sum(row["status"] != "done" for row in rows.values())
    _write_run(study, plan, session, materials, started, done.out)


def _against(study: Study, planned: PlannedPoint) -> PlannedPoint:
    """Held against what trials are held against (`Study.searches_quant`)."""
    return replace(planned, dense_keys=planned.full_keys) if study.searches_quant else planned


def _shares(study: Study, point: Point) -> Allocation | None:
    """The shares of a point that has a table of them, as a file holds them."""
    table = shares.parse(str(dict(point.parameters).get("shares", " ")))
    if not table:
        return None
    groups = method_class(point.method).groups
    return Allocation(
        shares=share_tables.mapping(groups, table),
        density=point.density,
        method=point.method,
        model=point.model,
        weights=model_ref.fingerprint(point.model),
        key=point.key,
        how={"study": study.name, "text": study.tuning.text},
    )


def _layers(point: Point) -> tuple[float, ...]:
    return layers.parse(str(dict(point.parameters).get("layers", "")))


def _compared(study: Study, setting: Setting, fit: Fit | None) -> list[Point]:
    """The dense run, the first trials, and for a fit the allocations at the target densities."""
    dense = study.dense(setting.dense.point)
    trials: list[Parameters] = study.complete_first()
    if study.sampler == "grid":
        trials = []
    if fit is not None:
        lines = ("paper", "uniform", str(fit.line))
        fixed = {k: v for k, v in trials[0].items() if k not in ("input", "intermediate")}
        densities = [d for d in TARGETS if _within(study, d)]
        trials = [{**fixed, "density": d, "allocation": a} for d in densities for a in lines]
    points = [dense]
    for parameters in trials:
        try:
            points.append(study.point(setting.dense.point, parameters, reported=True))
        except ImpossibleError:
            continue
    return points


def _within(study: Study, density: float) -> bool:
    """Whether the density is one that the searched densities of the two groups can make."""
    (low_in, high_in), (low_mid, high_mid) = (
        bounds(study.space[key]) for key in ("input", "intermediate")
    )
    return (2 * low_in + low_mid) / 3 <= density <= (2 * high_in + high_mid) / 3


def _note(study: Study) -> str:
    return (
        f"Study {study.name}: tuned on {study.tuning.text}; every figure here is measured on"
        f" {study.reported.text}, which no trial has seen."
    )


def _write_run(
    study: Study,
    plan: Plan,
    session: Session,
    materials: Materials,
    started: float,
    out: Path,
) -> None:
    """results.parquet and what a report needs beside it."""
    planned = _write_plan(study.reported, plan, session, materials)
    files.write(table_of(plan.points, session.store, materials), out)
    write_json(out / "provenance.json", provenance_of(planned, session.store, {}, started))


def _write_plan(sweep: Sweep, plan: Plan, session: Session, materials: Materials) -> SweepPlan:
    """plan.json, which makes the folder one of a run: for `sweep status`, and for the report."""
    grid = Grid(tuple(planned.point for planned in plan.points), ())
    planned = SweepPlan(sweep, grid, plan, materials)
    store = {"store": str(session.options.store_folder.resolve())}
    write_json(session.options.out / "plan.json", plan_summary(planned, {}) | store)
    return planned


# -- the fit of appendix B.1 ---------------------------------------------------------------------


def _fitted(study: Study, settings: list[Setting]) -> Fit | None:
    """The line through the frontiers of all settings together; None if none is asked for."""
    if study.entry.fit is None:
        return None
    points = [point for setting in settings for point in allocation.pareto(_measured(setting))]
    return fit_of(points)


def fit_of(points: list[tuple[float, float]]) -> Fit:
    """The line through (density, d_in) points in logits, with its share of explained variance."""
    line = allocation.fit(points)
    logits = [(_logit(line.input_density(d)), _logit(d_in)) for d, d_in in points]
    mean = sum(y for _, y in logits) / len(logits)
    spread = sum((y - mean) ** 2 for _, y in logits)
    off = sum((y - fitted) ** 2 for fitted, y in logits)
    return Fit(line, points, 1 - off / spread if spread else 1.0)


def _measured(setting: Setting) -> list[tuple[float, float, float]]:
    """(density, d_in, perplexity) of the trials that were measured whole."""
    measured = []
    for trial in setting.search.trials():
        if trial.state == "done":
            d_in, d_mid = (trial.parameters[key] for key in ("input", "intermediate"))
            measured.append(((2 * d_in + d_mid) / 3, d_in, trial.notes["ppl"]))
    return measured


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
