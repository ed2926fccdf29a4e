"""`sweep best NAME --search`: the adaptive search of a sweep, what it found and what it cost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reports.findings.budgets import KL, Budget, parse_all
from reports.findings.points import short_name
from sweep.errors import InputError
from sweep.execution.session import Session
from sweep.files.atomic import write_json
from sweep.keys import digest
from sweep.messages import nearest
from sweep.options import Options
from sweep.plan import labels
from sweep.plan import planner as planning
from sweep.plan.plan import Plan
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.results.rows import rows_of
from sweep.search.batches import label
from sweep.search.bisection import Bisection
from sweep.search.density_series import Found, dense_of, evaluated_tokens
from sweep.search.limits import KINDS, column_of, measuring
from sweep.spec.entries import Sweep

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

FILE = "search.json"
_DOUBT = (
    "± The 95 % interval of ΔPPL or KL, of the text from these windows, reaches beyond the budget:"
    " more windows would tell."
)
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Cost:
    """Evaluations and tokens: of the search, of those run now, and of the grid of its series."""

    evaluations: int
    tokens: int
    run_now: int
    grid_evaluations: int
    grid_tokens: int
    seconds: float

    @property
    def share(self) -> float:
        """Tokens of the search over those of the grid."""
        return self.tokens / self.grid_tokens if self.grid_tokens else 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What each series reaches within each budget, and what it cost to know."""

    found: list[Found]
    cost: Cost
    left_out: int
    """Points of the grid that need to know the future: no device can run them."""
    dense: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The row of the dense model by setting, as `setting_of` names it."""

    @property
    def best(self) -> list[Found]:
        """The fastest of each setting and budget; none where the dense model is as fast."""
        return [answer for answer in self.found if answer.best]

    @property
    def dense_wins(self) -> list[tuple[str, Budget]]:
        """Settings and budgets within which nothing is faster than the dense model."""
        pairs = dict.fromkeys((setting_of(f), f.budget) for f in self.found)
        beaten = {(setting_of(f), f.budget) for f in self.best}
        return [pair for pair in pairs if pair not in beaten]


def setting_of(answer: Found) -> str:
    """The model, its weights and the device, without the folders of a path."""
    model = answer.series.point.model
    return _label_of(answer).replace(model, short_name(model), 1)


def _label_of(answer: Found) -> str:
    return answer.setting or label(answer.series.points[0])


def search(
    sweep: Sweep,
    options: Options,
    console: Console,
    budgets: Iterable[str] = (),
    screen: str | None = None,
) -> Answer:
    """Bisect every series of a sweep within its budgets, or those given.

    `screen` is a faster dtype to look around in; what wins is measured in the sweep's own. Raises
    InputError or ResourceError before anything runs, StoppedError after a signal.
    """
    started = time.time()
    limits = limits_of(tuple(budgets), sweep, console)
    sweep = searched(sweep, limits)
    planned = plan_sweep(sweep, fetch=True, notify=console.print)
    with Session(sweep, options, console) as session:
        screening = _screening(planned, screen)
        looking = Bisection(session, planned.plan, planned.materials, limits, screening)
        answers = looking.run()
        cost = _cost(looking, planned.plan, session.ran, time.time() - started)
        answer = Answer(answers, cost, looking.left_out, _dense_rows(answers, session, planned))
        options.out.mkdir(parents=True, exist_ok=True)
        written = {"search": identity(planned, limits), "screen": screen}
        write_json(options.out / FILE, summary(answer) | written)
    return answer


def identity(planned: SweepPlan, budgets: Iterable[Budget]) -> str:
    """Equal for searches of the same points within the same budgets."""
    return digest([[p.key for p in planned.grid.points], [b.written for b in budgets]])


def searched(sweep: Sweep, budgets: Iterable[Budget]) -> Sweep:
    """The sweep without downstream tasks, as windows decide here, and with what budgets need."""
    return measuring(sweep.model_copy(update={"tasks": ()}), budgets)


def limits_of(asked: tuple[str, ...], sweep: Sweep, console: Console) -> tuple[Budget, ...]:
    """Budgets of perplexity and KL, of which alone the windows of a search tell when to stop: those
    asked for, or those of the sweep."""
    given = parse_all(asked or sweep.budgets)
    usable = tuple(budget for budget in given if budget.of in KINDS)
    others = ", ".join(budget.label for budget in given if budget not in usable)
    if others and (asked or not usable):
        raise InputError(
            f"--search looks by perplexity or KL and cannot keep {others}: run the sweep, and ask"
            " `sweep best RUN` for it"
        )
    if others:
        console.print(f"{others}: left out, as --search looks by perplexity or KL")
    if any(budget.of == KL for budget in usable) and not sweep.distances:
        console.print("KL is measured as with `distances: true`, for the budgets of it")
    return usable


def _dense_rows(
    answers: Iterable[Found], session: Session, planned: SweepPlan
) -> dict[str, dict[str, Any]]:
    """The dense model on each device, from the dense runs that all differences are to."""
    rows: dict[str, dict[str, Any]] = {}
    for answer in answers:
        if setting_of(answer) not in rows:
            (row,) = rows_of([dense_of(answer.series.points[0])], session.store, planned.materials)
            rows[setting_of(answer)] = row
    return {setting: row for setting, row in rows.items() if row["status"] == "done"}


def _screening(planned: SweepPlan, dtype: str | None) -> Plan | None:
    """The plan of the same points in another number format."""
    if dtype is None or dtype == planned.sweep.dtype:
        return None
    if dtype not in DTYPES:
        raise InputError(f"--screen {dtype}: unknown dtype{nearest(dtype, DTYPES)}")
    points = [replace(p, accuracy=replace(p.accuracy, dtype=dtype)) for p in planned.grid.points]
    return planning.plan_points(points, planned.materials)


def _cost(looking: Bisection, plan: Plan, ran: Counter[str], seconds: float) -> Cost:
    points = looking.exact_points()
    keys = {key for planned in points for key in (*planned.evaluate_keys, *planned.dense_keys)}
    grid = [plan.tasks[key] for key in keys if key in plan.tasks]
    return Cost(
        evaluations=len(looking.asked),
        tokens=sum(looking.asked.values()),
        run_now=ran["tokens"],
        grid_evaluations=len(grid),
        grid_tokens=sum(evaluated_tokens(task.payload) for task in grid),
        seconds=seconds,
    )


def summary(answer: Answer) -> dict[str, Any]:
    """search.json: every series and budget, and the cost."""
    cost = answer.cost
    return {
        "found": [_entry(entry) for entry in answer.found],
        "dense": [
            {"setting": setting, "tokens_per_s": row["tokens_per_s"], "ppl": row["ppl"]}
            for setting, row in answer.dense.items()
        ],
        "dense_wins": [
            {"setting": setting, "budget": budget.label} for setting, budget in answer.dense_wins
        ],
        "evaluations": cost.evaluations,
        "tokens": cost.tokens,
        "tokens_run_now": cost.run_now,
        "grid_evaluations": cost.grid_evaluations,
        "grid_tokens": cost.grid_tokens,
        "share": round(cost.share, 4),
        "seconds": round(cost.seconds, 1),
        "points_left_out": answer.left_out,
    }


def _entry(answer: Found) -> dict[str, Any]:
    point, planned = answer.series.point, answer.planned
    entry = {
        "setting": _label_of(answer),
        "budget": answer.budget.label,
        "method": point.method,
        "parameters": dict(point.parameters),
        "selector": point.selector,
        "gamma": point.gamma,
        "policy": point.policy,
        "density": planned.point.density if planned else None,
        "best": answer.best,
    }
    if planned is None:
        return entry
    row, lost = answer.row, dict[str, Any]()
    if answer.budget.of == KL:
        lost = {"kl": [row.get("kl_low"), row.get("kl_high")], "kl_estimate": row["kl"]}
    return entry | {
        "point_key": planned.point.key,
        "tokens_per_s": row["tokens_per_s"],
        "tokens_per_s_dense": row["tokens_per_s_dense"],
        **lost,
        "delta_ppl": [row.get("delta_ppl_low"), row.get("delta_ppl_high")],
        "delta_ppl_estimate": row["delta_ppl"],
        "sure": answer.sure,
        "windows": row["windows"],
        "dtype": row["dtype"],
        "measured": answer.whole,
    }


def tables(answer: Answer, notes: Iterable[str] = ()) -> Group:
    """For the terminal: where dense is to be shipped, a table for each setting, the best of each
    budget first and dense among them, the cost, and notes under it."""
    from rich.console import Group
    from rich.text import Text

    by_setting: dict[tuple[str, str], Table] = {}
    wins = answer.dense_wins
    order = sorted((f.budget for f in answer.found), key=lambda b: (b.of == KL, b.amount))
    for budget in dict.fromkeys(order):
        members = [f for f in answer.found if f.budget == budget]
        for setting in dict.fromkeys(map(setting_of, members)):
            table = by_setting.setdefault((setting, budget.of), _table(setting, budget))
            of_setting = [f for f in members if setting_of(f) == setting]
            rows = [(not f.best, -_speed(f), _cells(f)) for f in of_setting]
            dense, won = answer.dense.get(setting), (setting, budget) in wins
            if dense is not None:
                rows.append((not won, -dense["tokens_per_s"], _dense_cells(budget, dense, won)))
            for _, _, cells in sorted(rows, key=lambda row: row[:2]):
                table.add_row(*cells)
    lines = [cost_text(answer), *notes]
    if any(entry.planned is not None and not entry.sure for entry in answer.found):
        lines.append(_DOUBT)
    ship = [Text(f"Ship dense: nothing within {b.label} is faster ({s}).") for s, b in wins]
    return Group(*ship, *by_setting.values(), Text("\n".join(lines)))


def cost_text(answer: Answer) -> str:
    """What the search took in place of the grid, and what it left out."""
    cost = answer.cost
    text = (
        f"{cost.evaluations:,} evaluations of {cost.tokens:,} tokens ({cost.run_now:,} run now) in"
        f" place of {cost.grid_evaluations:,} of {cost.grid_tokens:,} for the grid:"
        f" {cost.share:.1%}"
    )
    note = f"; {answer.left_out:,} points that need to know the future are left out"
    return text + (note if answer.left_out else "")


def _dense_cells(budget: Budget, row: dict[str, Any], won: bool) -> list[str]:
    speed, windows = f"{row['tokens_per_s']:.4g}", str(row["windows"])
    return [budget.label, "best" if won else "", "dense", "1", speed, "1.00×", "0", windows]


def _speed(answer: Found) -> float:
    return answer.row.get("tokens_per_s", 0.0)


def _table(title: str, budget: Budget) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    lost = "KL" if budget.of == KL else "ΔPPL"
    for name in ("within", "", "series", "density", "tok/s", "gain", lost, "windows"):
        left = name in ("within", "", "series")
        table.add_column(name, justify="left" if left else "right")
    return table


def _cells(answer: Found) -> list[str]:
    point, row = answer.series.point, answer.row
    gamma = f" γ {point.gamma:g}" if point.gamma < 1 else ""
    parameters = labels.parameters_label(dict(point.parameters))
    series = answer.name or f"{point.method}{parameters}{gamma} {point.policy}"
    if answer.planned is None:
        lacking = "no trial is within" if answer.name else "no density is within"
        return [answer.budget.label, "", series, "-", "-", "-", lacking, ""]
    how = ".4f" if answer.budget.of == KL else "+.3f"
    ends = "" if math.isnan(answer.low) else f" [{answer.low:{how}}, {answer.high:{how}}]"
    lost = f"{row[column_of(answer.budget)]:{how}}{ends}{'' if answer.sure else ' ±'}"
    return [
        answer.budget.label,
        "best" if answer.best else "",
        series,
        f"{answer.planned.point.density:g}" if point.lam is None else f"{row['mlp_density']:.4g}",
        f"{row['tokens_per_s']:.4g}",
        f"{row['tokens_per_s'] / row['tokens_per_s_dense']:.2f}×",
        lost,
        str(row["windows"]),
    ]
