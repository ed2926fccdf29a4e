"""Which sampler finds the best point of a grid, and with how many of its tokens.

    python -m benchmarks search

The grid of benchmarks/search.yaml is measured once, on a small model that is trained for it; then
the searches of `sweep tune`, and that of `sweep best grid --search --joint`, run against the store,
and every token that they look at is counted, though none is computed again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks import search_model
from benchmarks.results import machine, table
from reports.findings.budgets import Budget
from sweep.execution.session import Session
from sweep.inputs import text_files
from sweep.options import Options
from sweep.plan.materials import Materials
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.results.rows import rows_of
from sweep.search import study as studies
from sweep.search.batches import Batches
from sweep.search.density_series import evaluated_tokens
from sweep.search.joint.command import MOST_TRIALS
from sweep.search.joint.listed import PATIENCE, study_of
from sweep.search.joint.settings import settings_of
from sweep.spec.file import SweepFile, load, select

FILE = Path(__file__).with_name("search.yaml")
OUT = Path(__file__).parent / "out" / "search"
SAMPLERS, BUDGETS, SEEDS = ("gp", "tpe", "joint"), ("2%", "5%", "10%"), 6
"""`joint` is the search over the sweep's own points, which ends by itself."""
TENTH, MOST = 0.1, 0.25
"""Of the tokens of the grid: what a search is to need, and where it ends."""
CLOSE = 0.99
QUIET = Console(quiet=True)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Course:
    """How a search went: after each batch the share of the grid's tokens that it had looked at, and
    the speed of its best point over that of the grid's."""

    tokens: tuple[float, ...]
    speeds: tuple[float, ...]

    def needed(self, speed: float) -> float:
        """The share of tokens after which it had a point so fast; infinite if it never had."""
        pairs = zip(self.tokens, self.speeds, strict=True)
        return next((tokens for tokens, reached in pairs if reached >= speed - 1e-9), np.inf)

    def reached(self, share: float) -> float:
        """The speed that it had with so many tokens, 0 before it had a point."""
        pairs = zip(self.tokens, self.speeds, strict=True)
        return max((speed for tokens, speed in pairs if tokens <= share + 1e-9), default=0.0)


@dataclass(frozen=True, slots=True)
class Whole:
    """The grid, measured."""

    file: SweepFile
    session: Session
    planned: SweepPlan
    rows: list[Row]
    tokens: int

    def best(self, budget: str) -> float:
        """Tokens per second of its fastest point within a budget."""
        limit = Budget.parse(budget).limit(self.rows[0]["ppl_dense"])
        return max(r["tokens_per_s"] for r in self.rows if r["delta_ppl"] <= limit)


def report(seeds: int = SEEDS) -> str:
    """Tokens to the best of the grid by sampler and budget."""
    search_model.make(OUT / "model", text_files.read("embedded-c4", calibration=True))
    file = load(FILE, [f"sweeps.grid.models=[{OUT / 'model'}]"])
    tuning = studies.load(file, "search").tuning
    sweep = select(file, "grid").model_copy(update={"text": tuning.text})
    planned = plan_sweep(sweep, fetch=True)
    with Session(sweep, Options(OUT, workers=0), QUIET) as session:
        session.run_all(planned.plan)
        rows = rows_of(planned.plan.points, session.store, planned.materials)
        whole = Whole(file, session, planned, rows, _tokens(planned))
        lines = [_line(whole, budget, sampler, seeds) for budget in BUDGETS for sampler in SAMPLERS]
    columns = ["within, sampler", "tokens to the best", "tokens to 99 % of it"]
    columns += ["best found with a tenth", "speed with a tenth", "met"]
    return "\n\n".join(["## Search", _about(whole, seeds), table(columns, lines)])


def _tokens(planned: SweepPlan) -> int:
    tasks = planned.plan.tasks.values()
    return sum(evaluated_tokens(task.payload) for task in tasks if task.kind == "evaluate")


def _line(whole: Whole, budget: str, sampler: str, seeds: int) -> list[str]:
    paths = [searched(whole, budget, sampler, seed) for seed in range(seeds)]
    exact, close = ([p.needed(speed) for p in paths] for speed in (1.0, CLOSE))
    speeds = [p.reached(TENTH) for p in paths]
    found = sum(need <= TENTH for need in exact)
    met = "yes" if np.median(exact) <= TENTH else "**no**"
    return [
        f"{budget}, {sampler}",
        *(_share(needs, sampler == "joint") for needs in (exact, close)),
        f"{found} of {seeds}",
        f"{np.median(speeds):.3f} [{min(speeds):.3f}, {max(speeds):.3f}]",
        met,
    ]


def _share(needs: list[float], ends_itself: bool) -> str:
    """Median and range of shares of the grid's tokens; what was never reached is beyond `MOST`, or
    beyond where the search ended by itself."""
    never = "never" if ends_itself else f"> {MOST:.0%}"
    ends = (float(np.median(needs)), min(needs), max(needs))
    middle, low, high = (f"{end:.1%}" if np.isfinite(end) else never for end in ends)
    return f"{middle} [{low}, {high}]"


def searched(whole: Whole, budget: str, sampler: str, seed: int) -> Course:
    """One search, to its best point or to the end."""
    best, tokens, speeds = whole.best(budget), [0.0], [0.0]
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        make = _jointly if sampler == "joint" else _by_study
        for share, speed in _batches(make(whole, budget, sampler, seed, journal), whole.tokens):
            tokens.append(share)
            speeds.append(speed / best)
            if speed >= best * (1 - 1e-9) or share > MOST:
                break
    return Course(tuple(tokens), tuple(speeds))


def _by_study(whole: Whole, budget: str, sampler: str, seed: int, journal: Path) -> Batches:
    """The study of the file, with this sampler."""
    changed = [f"studies.search.sampler={sampler}", f"studies.search.seed={seed}"]
    changed += [f"studies.search.objective.within={budget}"]
    file = load(FILE, [f"sweeps.grid.models=[{OUT / 'model'}]", *changed])
    study = studies.load(file, "search")
    return Batches([study], whole.session, Materials(study.tuning), journal)


def _jointly(whole: Whole, budget: str, sampler: str, seed: int, journal: Path) -> Batches:
    """The joint search of the sweep, as if the store knew nothing."""
    within = Budget.parse(budget)
    (setting,) = settings_of(whole.planned, [within])
    study = study_of(whole.planned.sweep, setting, within, MOST_TRIALS)
    alone = study.entry.model_copy(update={"seed": seed, "known": False})
    made = replace(study, entry=alone)
    return Batches([made], whole.session, whole.planned.materials, journal, PATIENCE)


def _batches(batches: Batches, tokens: int) -> Iterator[tuple[float, float]]:
    """After each batch: tokens that were looked at over those of the grid, and the best speed."""
    (setting,) = batches.settings
    while batches.run():
        won = setting.search.best()
        speed = won[0].values[0] if won else 0.0
        yield sum(batches.asked.values()) / tokens, speed


def _about(whole: Whole, seeds: int) -> str:
    return (
        f"{machine()}. A model of 0.2 million weights, trained for it on the calibration half of "
        f"`embedded-c4`; DIP under top-k and `resident-threshold` at 9 densities, 7 γ, both "
        f"allocations and policies: {len(whole.rows)} points, {whole.tokens:,} tokens. Each search "
        f"of {seeds} seeds begins with the same two points, and stops trials early by the rule of "
        f"`sweep tune`. `joint` is `sweep best --search --joint`, which begins with a point of "
        f"each name and ends by itself. Medians, and the lowest and highest seed. Asked: the best "
        f"of the grid with at most a tenth of its tokens (median)."
    )
