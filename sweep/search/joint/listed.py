"""A study over the points that a sweep lists for one setting, and for one budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reports.findings.budgets import Budget
from sweep.keys import digest
from sweep.plan.plan import PlannedPoint
from sweep.plan.point import Point
from sweep.search.joint.axes import Axes
from sweep.search.joint.settings import JointSetting
from sweep.search.study import Study, known_good
from sweep.spec.entries import Sweep
from sweep.spec.studies import Objective, StudyEntry
from sweep.store.store import Store

FIRST_DENSITY = 2 / 3
"""Where in the list of densities the first trial of each further name is: such a trial is likely to
be near the budgets, and says more than one at the highest density."""
PATIENCE = 16
"""Trials in a row that bring nothing faster, after which a search ends: four batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedStudy(Study):
    """A study whose trials are points of a sweep, on the text of the sweep.

    The machinery of `sweep tune` runs it; what it may try is a list, so what the store knows of it
    is read off the list, too.
    """

    axes: Axes
    planned: tuple[PlannedPoint, ...]
    """Of the points of `axes`, in their order."""
    weights_differ: bool
    """Whether its points differ in what is done to the weights."""

    @property
    def first(self) -> list[dict[str, Any]]:
        """A safe point and the paper's; then each name that neither has, at a middling density."""
        return [self.axes.choice(place) for place in _first(self.axes)]

    @property
    def searches_quant(self) -> bool:
        return self.weights_differ

    def point(self, setting: Point, parameters: Mapping[str, Any], reported: bool = False) -> Point:
        """The point of a trial; `setting` and text are those of the list."""
        return self.axes.point(parameters)

    def dense(self, setting: Point) -> Point:
        return setting

    def near(
        self, best: Mapping[str, Any], tried: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Points that differ from the best one by a step on one axis, and were not tried."""
        places = {self.axes.place(parameters) for parameters in tried}
        near = self.axes.near(self.axes.place(best))
        return [self.axes.choice(place) for place in near if place not in places]

    def recalled(self, store: Store) -> Iterable[dict[str, Any]]:
        for place, planned in enumerate(self.planned):
            if all(store.done(key) is not None for key in planned.measured):
                yield self.axes.choice(place)


def study_of(sweep: Sweep, setting: JointSetting, budget: Budget, trials: int) -> ListedStudy:
    """The study of a setting within a budget."""
    axes = setting.axes
    listed = digest([point.key for point in axes.points])[:8]
    goal = Objective(maximize=("tokens_per_s",))
    entry = StudyEntry(
        sweep=sweep.name,
        search=dict(axes.space),
        objective=goal.model_copy(update={"within": budget.written}),
        trials=trials,
    )
    return ListedStudy(
        name=f"joint {budget.written} {listed}",
        place=f"{sweep.source}: sweeps.{sweep.name}",
        entry=entry,
        tuning=sweep,
        reported=sweep,
        space=axes.space,
        settings=(setting.dense,),
        axes=axes,
        planned=setting.points,
        weights_differ=setting.weights_differ,
    )


def _first(axes: Axes) -> list[int]:
    """Places of the first trials, each once."""
    wanted = known_good(axes.values)
    paper = wanted[min(1, len(wanted) - 1)]
    middling = paper | ({"density": _middling(axes)} if "density" in axes.values else {})
    places = [axes.nearest(values) for values in wanted]
    for name, choices in axes.values.items():
        for value in choices.values if isinstance(choices.values[0], str) else ():
            having = [i for i, row in enumerate(axes.rows) if row.get(name) == value]
            if not set(having) & set(places):
                places.append(axes.nearest(middling, having))
    return list(dict.fromkeys(places))


def _middling(axes: Axes) -> float:
    values = axes.values["density"].values
    return values[int(FIRST_DENSITY * (len(values) - 1))]
