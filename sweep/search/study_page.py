"""study.md: what a study found, in a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reports.findings.budgets import KL, Budget
from reports.pages.markup import table
from sweep.execution.progress import duration
from sweep.spec.spaces import is_layer

if TYPE_CHECKING:
    from sweep.search.study import Study
    from sweep.search.study_outcome import Fit, Tuned, Winner


def markdown(study: Study, done: Tuned) -> str:
    """The page: what was searched, what won on both texts, the fit, what it cost."""
    parts = [
        f"# Study {study.name}",
        study.entry.description,
        _searched(study),
        "## What won",
        _note(study),
        _winners(study, done.winners),
        *([_fit(done.fit)] if done.fit else []),
        "## What it cost",
        _cost(done),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _searched(study: Study) -> str:
    entry = study.entry
    goals = [f"{way} {metric}" for metric, way in entry.objective.metrics.items()]
    within = f" within {_within(entry.objective.within)}" if entry.objective.within else ""
    by_layer = {name: space for name, space in study.space.items() if is_layer(name)}
    shown = {name: space for name, space in study.space.items() if name not in by_layer}
    if by_layer:
        shown[f"logits of {len(by_layer)} layers"] = next(iter(by_layer.values()))
    spaces = ", ".join(f"{name} {_space(space)}" for name, space in shown.items())
    return (
        f"{' and '.join(goals)}{within}; searched: {spaces}. Sampler {study.sampler}, seed"
        f" {study.seed}, {study.trials} trials for each setting in batches of {entry.batch}."
    )


def _within(budget: str) -> str:
    parsed = Budget.parse(budget)
    return parsed.label if parsed.of == KL else f"ΔPPL ≤ {budget}"


def _space(space: Any) -> str:
    if hasattr(space, "values"):
        return "/".join(map(str, space.values))
    return f"{space.low:g} to {space.high:g}{' (log)' if space.log else ''}"


def _note(study: Study) -> str:
    return (
        f"Tuned on {study.tuning.text}; the columns *reported* are measured on"
        f" {study.reported.text}, which no trial has seen. A winner that is beyond the budget there"
        " is shown as it is: choosing again would be tuning on the reported text."
    )


def _winners(study: Study, winners: Sequence[Winner]) -> str:
    names = [name for name in study.space if not is_layer(name)]
    by_layer = ["density by layer"] if any(winner.layers for winner in winners) else []
    head = [
        *("setting", "trial", *names, *by_layer),
        *("tok/s tuned", "ΔPPL tuned", "tok/s reported", "ΔPPL reported", "95 % interval"),
    ]
    has_kl = any("kl" in winner.tuned for winner in winners)
    head += ["KL tuned", "KL reported", "95 % interval"] if has_kl else []
    rows = [
        _winner(names, winner, bool(by_layer)) + (_kl(winner) if has_kl else [])
        for winner in winners
    ]
    if not rows:
        return "No trial is within the budget."
    return table(head, rows)


def _winner(names: Sequence[str], winner: Winner, by_layer: bool) -> list[str]:
    tuned, row = winner.tuned, winner.reported
    cells = [winner.setting, str(winner.trial.ordinal)]
    cells += [_value(winner.trial.parameters[name]) for name in names]
    if by_layer:
        layers = winner.layers
        cells.append(f"{min(layers):.3g} to {max(layers):.3g}" if layers else "the same")
    cells += [f"{tuned['tokens_per_s']:.4g}", f"{tuned['delta_ppl']:+.3f}"]
    if row["status"] != "done":
        return [*cells, row["status"], row["error"] or "", ""]
    low, high = row["delta_ppl_low"], row["delta_ppl_high"]
    between = "" if low is None else f"{low:+.3f} … {high:+.3f}"
    return [*cells, f"{row['tokens_per_s']:.4g}", f"{row['delta_ppl']:+.3f}", between]


def _kl(winner: Winner) -> list[str]:
    """KL to the dense model on both texts, in nats."""
    row = winner.reported
    tuned = f"{winner.tuned['kl']:.4f}" if "kl" in winner.tuned else ""
    if row["status"] != "done" or row["kl"] is None:
        return [tuned, "", ""]
    low, high = row["kl_low"], row["kl_high"]
    return [tuned, f"{row['kl']:.4f}", "" if low is None else f"{low:.4f} … {high:.4f}"]


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fit(fit: Fit) -> str:
    line = fit.line
    rows = [[f"{d:.3f}", f"{x:.3f}", f"{line.input_density(d):.3f}"] for d, x in fit.points]
    text = (
        f"logit(d_in) = {line.slope:.4f} · logit(D) {line.intercept:+.4f} through"
        f" {len(fit.points)} points of the frontier (R² {fit.r2:.3f}); published: 0.9850 and"
        f" +0.2998. Use it as `allocation: {{slope: {line.slope!r}, intercept:"
        f" {line.intercept!r}}}`, or name the file allocation.json there."
    )
    points = table(["density", "d_in of the frontier", "d_in of the fit"], rows)
    return "\n\n".join(["## Fit of the allocation (appendix B.1)", text, points])


def _cost(done: Tuned) -> str:
    trials = [trial for told in done.trials.values() for trial in told]
    states = [sum(t.state == state for t in trials) for state in ("done", "stopped", "failed")]
    windows = sum(int(t.notes.get("windows", 0)) for t in trials)
    known = sum(bool(t.notes.get("known")) for t in trials)
    before = f"; {known} of them the store knew before" if known else ""
    return (
        f"{len(trials)} trials: {states[0]} measured whole, {states[1]} stopped early, {states[2]}"
        f" failed{before}; {windows:,} windows looked at. This run evaluated"
        f" {done.ran['tokens']:,} tokens in {done.ran['evaluate']} evaluations and"
        f" {duration(done.seconds)}; the rest was known."
    )
