"""What a certification begins with: whether it can be had, and the plan of all its windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reports.findings.budgets import JOULE, KL, PPL, parse_all
from simulator.energy import joules
from sweep.certainty.looks import planned_looks
from sweep.errors import InputError
from sweep.plan.materials import FEW
from sweep.plan.plan import PlannedPoint
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.spec.entries import Sweep


@dataclass(frozen=True, slots=True)
class Start:
    """Points with all windows that each may get, and the counts of windows at which they are looked
    at. `planned.sweep` is the sweep itself, and points have its keys."""

    planned: SweepPlan
    looks: tuple[int, ...]
    of_text: int
    """Windows that the text has."""

    @property
    def alpha(self) -> float:
        return self.planned.sweep.certify.alpha


def begin(sweep: Sweep, notify: Callable[[str], None] = print) -> Start:
    """Plan a certification. Raises InputError where the sweep cannot have one."""
    _check_windows(sweep)
    short = plan_sweep(sweep, fetch=True, notify=notify)
    _check_budgets(short)
    have, model = min(_windows_of_texts(short))
    most = _most(sweep, have, model)
    if sweep.windows == most:
        return Start(short, (most,), have)
    long = plan_sweep(sweep.model_copy(update={"windows": most}), fetch=True, notify=notify)
    named = [_as_asked(planned, sweep) for planned in long.plan.points]
    plan = replace(long.plan, points=named)
    looks = planned_looks(max(sweep.windows or 0, FEW + 1), most, sweep.shard_windows)
    return Start(SweepPlan(sweep, short.grid, plan, long.materials), looks, have)


def _as_asked(planned: PlannedPoint, sweep: Sweep) -> PlannedPoint:
    """Under the key that the point has in the sweep."""
    accuracy = replace(planned.point.accuracy, windows=sweep.windows)
    return replace(planned, point=replace(planned.point, accuracy=accuracy))


def _windows_of_texts(short: SweepPlan) -> list[tuple[int, str]]:
    """By model: their tokenizers cut a text into other numbers of windows."""
    models = dict.fromkeys(planned.point.model for planned in short.plan.points)
    return [(short.materials.text_windows(model) or 0, model) for model in models]


def _place(sweep: Sweep, key: str) -> str:
    return f"{sweep.source}: sweeps.{sweep.name}.{key}"


def _check_windows(sweep: Sweep) -> None:
    first, most = sweep.windows, sweep.certify.most_windows
    if first is None:
        raise InputError(
            f"{_place(sweep, 'windows')}: all are asked for at once, so that nothing is left to"
            " become certain by; give the number of a first pass, such as 4"
        )
    if sweep.window_order == "first":
        raise InputError(
            f"{_place(sweep, 'window_order')}: the first windows of a text say little of the rest,"
            " so nothing becomes certain by them; leave window_order out, or write spread"
        )
    if most is not None and most < max(first, FEW + 1):
        least = f"the first pass has {first}" if first > FEW else f"{FEW + 1} are the least"
        raise InputError(
            f"{_place(sweep, 'certify.most_windows')}: {most} windows are allowed, and {least}"
        )


def _most(sweep: Sweep, have: int, model: str) -> int:
    """The last look: what is allowed, or all that the text has."""
    text = f"text {sweep.text} has {have} windows of {sweep.window_tokens} tokens for {model}"
    if have <= FEW:
        raise InputError(f"{_place(sweep, 'text')}: {text}; {FEW + 1} are the least to be certain")
    most = sweep.certify.most_windows
    if most is not None and most > have:
        raise InputError(
            f"{_place(sweep, 'certify.most_windows')}: {most} windows are asked for; {text}"
        )
    return most or have


def _check_budgets(short: SweepPlan) -> None:
    """Budgets of what the sweep does not measure could never be decided."""
    sweep = short.sweep
    tasks = {f"acc_{task.name}" for task, _ in short.materials.tasks()}
    for budget in parse_all(sweep.budgets):
        fault = ""
        if budget.of == KL and not sweep.distances:
            fault = "KL is not measured; set distances: true"
        elif budget.of == JOULE and not any(_has_energy(p) for p in short.plan.points):
            fault = "no device of the sweep says what a byte takes; take one that does"
        elif budget.of not in (PPL, KL, JOULE) and budget.of not in tasks:
            fault = f"the sweep has no task {budget.of.removeprefix('acc_')}; add it to tasks"
        if fault:
            raise InputError(f"{_place(sweep, 'budgets')}: {budget.written}: {fault}")


def _has_energy(planned: PlannedPoint) -> bool:
    return joules(planned.point.device, 1.0, 1.0, 1.0) is not None
