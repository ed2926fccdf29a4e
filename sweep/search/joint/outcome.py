"""What came of the searches of a joint search: rows, as `sweep best --search` has them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reports.findings.budgets import Budget
from sweep.plan import labels
from sweep.plan.plan import PlannedPoint
from sweep.plan.point import Point
from sweep.search.batches import Setting
from sweep.search.density_series import Found, Series
from sweep.search.joint.axes import PRICED, Coordinates, coordinates
from sweep.search.joint.listed import ListedStudy
from sweep.search.joint.settings import JointSetting
from sweep.search.limits import ends_of, surely_within
from sweep.spec.spaces import LAM
from sweep.studies.ask_tell import Trial

Row = dict[str, Any]

_NAMED = ("method", "density", "selector", "gamma", "policy", LAM, PRICED)
"""Coordinates that a name does not repeat as `axis value`."""
_FIGURES = ("tokens_per_s", "delta_ppl", "kl", "ppl", "mlp_density", "hit_rate", "windows")


@dataclass(frozen=True, slots=True)
class Searched:
    """The search of one setting within one budget, as it ended."""

    joint: JointSetting
    study: ListedStudy
    setting: Setting
    budget: Budget

    @property
    def label(self) -> str:
        """The model, its weights, the device, and the cache where a sweep has several ways."""
        return ", ".join(text for text in (self.setting.label, self.joint.cache) if text)

    @property
    def trials(self) -> list[Trial]:
        return self.setting.search.trials()

    def whole(self) -> list[tuple[Trial, PlannedPoint]]:
        """Trials within the budget that were measured whole, the fastest first, each point once."""
        within = [t for t in self.trials if t.state == "done" and t.feasible]
        within.sort(key=lambda trial: (-trial.values[0], trial.ordinal))
        points: dict[Point, Trial] = {}
        for trial in within:
            points.setdefault(self.study.axes.point(trial.parameters), trial)
        planned = {p.point: p for p in self.study.planned}
        return [(trial, planned[point]) for point, trial in points.items()]


def answers(searched: Searched, rows: Mapping[PlannedPoint, Row], dense: Row) -> list[Found]:
    """The fastest point of each method and selector within the budget, the fastest of all first.

    `rows` are of points as held against the setting's dense run, whose own row is `dense`. Where no
    trial is within, the one answer says so.
    """
    named: dict[tuple[str, str], PlannedPoint] = {}
    for _, planned in searched.whole():
        named.setdefault((planned.point.method, planned.point.selector), planned)
    if not named:
        series, name = Series([searched.setting.dense]), f"all {len(searched.study.planned)} points"
        nan, label = float("nan"), searched.label
        return [Found(series, searched.budget, None, {}, nan, nan, False, setting=label, name=name)]
    speed = dense["tokens_per_s"]
    return [
        _answer(searched, planned, rows[planned] | {"tokens_per_s_dense": speed}, place == 0)
        for place, planned in enumerate(named.values())
    ]


def _answer(searched: Searched, planned: PlannedPoint, row: Row, fastest: bool) -> Found:
    return Found(
        Series([planned]),
        searched.budget,
        planned,
        row,
        *ends_of(row, searched.budget),
        whole=True,
        best=fastest and row["tokens_per_s"] > row["tokens_per_s_dense"],
        sure=surely_within(row, searched.budget),
        setting=searched.label,
        name=name_of(planned.point, searched.study.axes.values),
    )


def name_of(point: Point, axes: Iterable[str]) -> str:
    """A point among others that differ on these axes, but for its density."""
    own = coordinates(point)
    gamma = f" γ {point.gamma:g}" if point.gamma < 1 else ""
    selector = f" {own['selector']}" if "selector" in axes and own["selector"] != "topk" else ""
    price = f" λ {point.lam:g}" if point.lam is not None else ""
    parameters = dict(point.parameters)
    further = [axis for axis in axes if axis in own and axis not in (*_NAMED, *parameters)]
    others = "".join(f" {axis} {own[axis]}" for axis in further)
    chosen = f"{labels.parameters_label(parameters)}{selector}{price}{gamma}"
    return f"{point.method}{chosen} {point.policy}{others}"


def chosen(answer: Found) -> Row:
    """What an entry of the file has beside those of a bisection: the coordinates of the point."""
    if answer.planned is None:
        return dict.fromkeys(("method", "parameters", "selector", "gamma", "policy"))
    return {"chosen": coordinates(answer.planned.point)}


# -- the trials -----------------------------------------------------------------------------------


def trials_text(searches: Iterable[Searched]) -> str:
    """Every trial of every search, as CSV."""
    lines = [line for searched in searches for line in _trial_lines(searched)]
    named = dict.fromkeys(name for line in lines for name in line)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(named), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _trial_lines(searched: Searched) -> Iterable[Row]:
    place = {"setting": searched.label, "budget": searched.budget.written}
    for trial in searched.trials:
        point = searched.study.axes.point(trial.parameters)
        how = {"trial": trial.ordinal, "state": trial.state, "feasible": trial.feasible}
        notes = {name: trial.notes.get(name, "") for name in ("known", "stopped", "error")}
        figures = {name: trial.notes[name] for name in _FIGURES if name in trial.notes}
        own: Coordinates = coordinates(point)
        yield {**place, **how, "point_key": point.key, **figures, **notes, **own}


# -- what it took ---------------------------------------------------------------------------------


def looked_at(searched: Searched, windows_of: Mapping[str, int]) -> set[str]:
    """Evaluations that the trials asked for and looked at, those that the store knew before the
    search left out; `windows_of` is how many windows each evaluation has."""
    planned = {p.point: p for p in searched.study.planned}
    keys: set[str] = set()
    for trial in searched.trials:
        if trial.notes.get("known"):
            continue
        left = int(trial.notes.get("windows", 0))
        for key in planned[searched.study.axes.point(trial.parameters)].evaluate_keys:
            if left <= 0:
                break
            keys.add(key)
            left -= windows_of[key]
    return keys


def held_against(searched: Searched, planned: PlannedPoint) -> PlannedPoint:
    """A point as the trials of its setting are held."""
    return replace(planned, dense_keys=searched.setting.dense.evaluate_keys)
