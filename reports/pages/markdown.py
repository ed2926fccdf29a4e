"""`report.md`: the decision, figures and record in Markdown that renders on GitHub.

Every value passes through `markup.markdown`; only this module's own words are markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.experts import section
from reports.findings.budgets import Budget
from reports.findings.certified import HEADER
from reports.findings.costs import cost, cost_name, cost_text, flips_text, kl_text, written
from reports.findings.decisions import Decision, MethodResult
from reports.findings.points import Point, Setting, configuration, device_label, weights_label
from reports.numbers import ABSENT, figure, fixed, megabytes, percent, signed, times
from reports.pages import announcements, flash
from reports.pages.accuracy import markdown_section
from reports.pages.figures import Figure
from reports.pages.glossary import TERMS
from reports.pages.markup import bullets, fence, table
from reports.pages.markup import markdown as md
from reports.pages.summary import (
    PolicyTable,
    by_frontier,
    caveats,
    certain_rows,
    failures,
    flatten,
    headlines,
    policy_table,
    reads_of,
    setting_name,
)
from reports.reading.run import Run
from reports.results import Row

MOST_POINTS = 200  # rows of the table of points; the rest is in results.csv


def render(run: Run, figures: Sequence[Figure] = ()) -> str:
    """`report.md` as text."""
    parts = [
        *_head(run),
        *_decision(run),
        *_figures(figures),
        *_cache_aware(run),
        *_policies(run),
        *flash.markdown_section(run),
        *markdown_section(run),
        *announcements.markdown_section(run),
        *section.markdown_section(run),
        *_points(run),
        *_plan(run),
        *_failures(run),
        *_provenance(run),
        *_meaning(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(run: Run) -> Iterator[str]:
    yield f"# {md(run.title)}"
    counts = [f"{len(run.points):,} points", f"{len(run.settings)} model and device settings"]
    counts += [f"{run.count(s)} {s}" for s in ("partial", "failed", "missing") if run.count(s)]
    yield f"{', '.join(counts)}. The same with interactive charts: [report.html](report.html)."


def _decision(run: Run) -> Iterator[str]:
    yield "## What to ship"
    yield bullets([*headlines(run), *run.sentences])
    certain = certain_rows(run)
    if certain:
        yield "**What is certain**"
        yield table(HEADER, [[md(cell) for cell in row] for row in certain], "---rrr--")
    care = caveats(run)
    if care:
        yield "**Read with care**"
        yield bullets(care)
    for settings in run.of_weights().values():
        yield f"### {md(weights_label(settings[0]))}"
        yield _matrix(run, settings)
        for setting in settings:
            yield from _setting(run, setting)


def _matrix(run: Run, settings: Sequence[Setting]) -> str:
    header = ["Device setting", "Dense", *(b.label for b in run.budgets)]
    rows = []
    for setting in settings:
        decisions = run.decided(setting)
        name = md(device_label(setting, run.told_apart))
        dense = decisions[0].dense if decisions else None
        rows.append([name, _speed(dense), *(_cell(d) for d in decisions)])
    return table(header, rows)


def _speed(point: Point | None) -> str:
    return ABSENT if point is None else figure(point.tokens_per_s)


def _cell(decision: Decision) -> str:
    best, certain = decision.best, decision.conservative
    if best is None:
        return _no_choice(decision)
    doubt = "" if decision.certainty == "within" else " ±"
    choice = f"**{_speed(best)}**{doubt} {times(best.gain)} {md(best.series)}"
    if not doubt or certain is None:
        return choice
    return f"{choice}; sure: {_speed(certain)} {md(certain.series)}"


def _no_choice(decision: Decision) -> str:
    if decision.unmeasured:
        return "not measured"
    return "dense" if decision.is_dense else "none within"


_COLUMNS = ("Budget", "Best configuration", "tok/s", "Interpolated", "Gain", "ΔPPL", "Hit rate")
_DISTANCES = ("KL", "Flips")
_MORE = ("Flash/token", "DRAM/token", "Fastest sure", "Runner-up", "Bound", "Reads")


def _setting(run: Run, setting: Setting) -> Iterator[str]:
    decisions = run.decided(setting)
    title = md(device_label(setting, run.told_apart))
    yield f"<details><summary>{title}: details</summary>"
    far = run.has_distances
    columns = [*_COLUMNS, *(_DISTANCES if far else ()), *_MORE]
    yield table(columns, [_details(d, far) for d in decisions], "--rrr-rrr" + "rr" * far)
    yield (
        "Every method at each budget: tok/s of its fastest measured point, in italics the value"
        " interpolated at it."
    )
    header = ["Method", *(d.budget.label for d in decisions)]
    by_method = zip(*(d.methods for d in decisions), strict=True)
    yield table(header, [[md(r[0].series), *map(_method, r)] for r in by_method])
    yield "</details>"


def _details(d: Decision, far: bool) -> list[str]:
    """The row of a decision; with KL and flips where `far`."""
    if d.best is None:
        rest = [ABSENT] * (len(_COLUMNS) + len(_DISTANCES) * far + len(_MORE) - 4)
        return [d.budget.label, md(d.message), *rest, _other(d.bound, None, d.budget), ABSENT]
    best = d.best
    between = figure(d.interpolated.tokens_per_s) if d.interpolated else ABSENT
    return [
        d.budget.label,
        md(configuration(best)) + (f" ({md(d.message)})" if d.message else ""),
        f"**{_speed(best)}**",
        between if between == ABSENT else f"*{between}*",
        times(best.gain),
        cost_text(best),
        percent(best.hit_rate),
        *([kl_text(best), flips_text(best)] if far else []),
        megabytes(best.flash_bytes_per_token),
        megabytes(best.dram_bytes_per_token),
        _other(d.conservative, best, d.budget),
        _other(d.runner_up, None, d.budget),
        _other(d.bound, None, d.budget),
        reads_of(best) or ABSENT,
    ]


def _other(point: Point | None, best: Point | None, budget: Budget) -> str:
    if point is None:
        return "none"
    if best is not None and point.point_key == best.point_key:
        return "the same"
    lost = f"{cost_name(budget)} {written(cost(point, budget), budget)}"
    return f"{md(configuration(point))}: {_speed(point)} tok/s, {lost}"


def _method(result: MethodResult) -> str:
    if result.best is None:
        return "none"
    between = f" *{figure(result.interpolated.tokens_per_s)}*" if result.interpolated else ""
    return f"{_speed(result.best)}{between}"


def _figures(figures: Sequence[Figure]) -> Iterator[str]:
    if figures:
        yield "## Figures"
    for drawn in figures:
        yield f"![{md(drawn.alt)}]({drawn.path})"


def _cache_aware(run: Run) -> Iterator[str]:
    yield "## Cache-aware against plain"
    if not run.sentences:
        yield "The run has no cache-aware point."
        return
    yield bullets(run.sentences)
    header = ("Setting", "Method", "Policy", "γ", "Median", "From", "To", "Fewer at", "Left out")
    rows = []
    for f in run.findings:
        ratios = [f"{signed(100 * (r - 1), 1)} %" if r else ABSENT for r in _ratios(f)]
        name = setting_name(f.setting, run.told_apart)
        counts = [f"{f.fewer} of {f.compared}", str(f.outside)]
        rows.append([md(name), md(f.series), md(f.policy), f"{f.gamma:g}", *ratios, *counts])
    yield table(header, rows, "---rrrrrr")


def _ratios(finding: object) -> list[float | None]:
    return [getattr(finding, f"{name}_ratio") for name in ("median", "low", "high")]


def _policies(run: Run) -> Iterator[str]:
    compared = policy_table(run)
    if compared is None:
        return
    yield "## Cache policies"
    yield f"Fastest tok/s within {compared.budget}{_looking_ahead(compared)}."
    rows = [
        [md(setting_name(r.setting, run.told_apart)), md(r.series)]
        + [_speed(r.best[name]) for name in compared.policies]
        for r in compared.rows
    ]
    header = ["Setting", "Method", *map(md, compared.policies)]
    yield table(header, rows, "--" + "r" * len(compared.policies))


def _looking_ahead(compared: PolicyTable) -> str:
    """What is said of the policies that no device can run; nothing where there is none."""
    if not compared.offline:
        return ""
    verb = "looks" if len(compared.offline) == 1 else "look"
    return f"; {' and '.join(map(md, compared.offline))} {verb} ahead and cannot be shipped"


def _points(run: Run) -> Iterator[str]:
    yield "## All points"
    shown = by_frontier(run.points)
    more = f" The first {MOST_POINTS} of {len(shown):,}; results.csv and the page have all."
    yield (
        "Those on the frontier of their setting first, by rising ΔPPL, then the others, the fastest"
        f" first.{more if len(shown) > MOST_POINTS else ''}"
    )
    header = [
        *("Configuration", "Setting", "tok/s", "Gain", "ΔPPL"),
        *(_DISTANCES if run.has_distances else ()),
        *(("Linear density",) if run.prunes_attention else ()),
        *("Hit rate", "Flash/token", "Status"),
    ]
    rows = [_point(p, run) for p in shown[:MOST_POINTS]]
    more_columns = "rr" * run.has_distances + "r" * run.prunes_attention
    yield "<details><summary>Table of points</summary>"
    yield table(header, rows, f"--rr-{more_columns}rr")
    yield "</details>"


def _point(p: Point, run: Run) -> list[str]:
    return [
        md(configuration(p)),
        md(setting_name(p.setting, run.told_apart)),
        figure(p.tokens_per_s),
        times(p.gain),
        cost_text(p),
        *([kl_text(p), flips_text(p)] if run.has_distances else []),
        *([fixed(p.linear_density, 3)] if run.prunes_attention else []),
        percent(p.hit_rate),
        megabytes(p.flash_bytes_per_token),
        md(p.status),
    ]


def _plan(run: Run) -> Iterator[str]:
    yield "## Plan"
    if not run.plan:
        yield "No plan was found in the run folder."
        return
    tasks = [f"{n} {kind}" for kind, n in (run.plan.get("tasks") or {}).items()]
    points = run.plan.get("points") or len(run.points)
    yield f"{md(points)} points became these tasks: {md(', '.join(tasks) or 'none')}."
    why = [f"{reason} {n}" for reason, n in (run.plan.get("why") or {}).items()]
    yield f"By reason: {md(', '.join(why))}." if why else ""
    skipped: Sequence[Row] = run.plan.get("skipped") or []
    if skipped:
        rows = [[md(s.get("reason", "")), md(s.get("points", ""))] for s in skipped]
        yield table(("Skipped because", "Points"), rows, "-r")


def _failures(run: Run) -> Iterator[str]:
    failed = failures(run.points)
    if failed:
        yield "## Failures"
    for failure in failed:
        yield f"{failure.count} point{'' if failure.count == 1 else 's'}:"
        yield fence(failure.error)
        yield bullets(failure.examples)


def _provenance(run: Run) -> Iterator[str]:
    yield "## Provenance"
    pairs = flatten({k: v for k, v in run.provenance.items() if k != "notes"})
    if not pairs:
        yield "No provenance was found in the run folder."
        return
    yield "<details><summary>How this was made</summary>"
    yield table(("What", "Value"), [[md(path), md(value)] for path, value in pairs])
    yield "</details>"


def _meaning() -> Iterator[str]:
    yield "## What the numbers mean"
    yield "\n".join(f"- **{md(term)}**: {md(meaning)}" for term, meaning in TERMS)
