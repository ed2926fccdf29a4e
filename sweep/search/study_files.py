"""The files of a study beside those of a run: its trials, what mattered, and what a fit found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from methods import allocation
from sweep.allocation.files import write
from sweep.files.atomic import replace as write_whole
from sweep.files.atomic import write_json
from sweep.search.study import Study
from sweep.search.study_outcome import Fit, Tuned, Winner

TRIALS = "trials.csv"
ALLOCATION = "allocation.json"
LAYERS = "layers.json"
"""Densities by layer of a winner; `layers: runs/NAME/layers.json` of dip uses them."""
SHARES = "shares.json"
"""Shares by layer and group of a winner; `shares: runs/NAME/shares.json` uses them."""
STUDY = "study.json"


def write_trials(study: Study, done: Tuned) -> None:
    """trials.csv: every trial with its figures; study.json; allocation.json for a fit."""
    text = io.StringIO()
    names = list(study.space)
    notes = ["tokens_per_s", "delta_ppl", "ppl", "mlp_density", "hit_rate", "windows"]
    if any("kl" in trial.notes for trials in done.trials.values() for trial in trials):
        notes.insert(2, "kl")
    head = ("setting", "trial", "state", "feasible", *names, *notes, "stopped", "error", "known")
    writer = csv.DictWriter(text, head, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for setting, trials in done.trials.items():
        for trial in trials:
            identity = {"setting": setting, "trial": trial.ordinal, "state": trial.state}
            figures = {**trial.notes, **trial.parameters, "feasible": trial.feasible}
            writer.writerow({**figures, **identity})
    write_whole(done.out / TRIALS, text.getvalue().encode())
    write_json(done.out / STUDY, study_mapping(study, done))
    if done.fit is not None:
        write_json(done.out / ALLOCATION, fit_mapping(study, done.fit))
    for number, winner in enumerate((w for w in done.winners if w.layers), start=1):
        identity = {"setting": winner.setting, "trial": winner.trial.ordinal}
        content = {"layers": winner.layers, **identity, "study": study.name}
        write_json(done.out / _numbered(LAYERS, number), content)
    for number, winner in enumerate((w for w in done.winners if w.shares), start=1):
        assert winner.shares is not None
        write(done.out / _numbered(SHARES, number), winner.shares)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else name.replace(".", f"-{number}.")


def study_mapping(study: Study, done: Tuned) -> dict[str, Any]:
    """What study.json holds: what the study asked, and what mattered."""
    objective = study.entry.objective
    return {
        "name": study.name,
        "description": study.entry.description,
        "objective": dict(objective.metrics),
        "within": str(objective.within) if objective.within else None,
        "searched": list(study.space),
        "sampler": study.sampler,
        "seed": study.seed,
        "tuned_on": study.tuning.text,
        "reported_on": study.reported.text,
        "importance": done.importance,
        "winners": {name: sorted(w.trial.ordinal for w in won) for name, won in _won(done)},
    }


def _won(done: Tuned) -> Iterable[tuple[str, list[Winner]]]:
    for name in dict.fromkeys(winner.setting for winner in done.winners):
        yield name, [winner for winner in done.winners if winner.setting == name]


def fit_mapping(study: Study, fit: Fit) -> dict[str, Any]:
    """What allocation.json holds; `allocation: runs/NAME/allocation.json` uses it."""
    paper = allocation.PAPER
    return {
        "slope": fit.line.slope,
        "intercept": fit.line.intercept,
        "r2": fit.r2,
        "points": json.loads(json.dumps(fit.points)),
        "study": study.name,
        "text": study.tuning.text,
        "published": {"slope": paper.slope, "intercept": paper.intercept},
    }
