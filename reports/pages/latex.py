r"""`report.tex`: the decisions and their grounds as LaTeX tables, to be read with \input.

The tables need the package booktabs and nothing else. Every value passes through `markup.latex`;
only this module's own words are markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reports.findings.costs import cost_text, flips_text, kl_text
from reports.findings.decisions import Decision
from reports.findings.points import Point, Setting, configuration, device_label, weights_label
from reports.numbers import ABSENT, figure, fixed, megabytes, percent, times
from reports.pages.markup import latex as tex
from reports.pages.summary import policy_table, setting_name
from reports.reading.run import Run

MOST_POINTS = 40  # rows of the table of points: one page


def render(run: Run) -> str:
    """`report.tex` as text: tables with captions and labels, one after the other."""
    head = (
        f"% Tables of the sweep {tex(run.title)}, made by sweep report.\n"
        "% In the preamble: \\usepackage{booktabs}. Then: \\input{report}"
    )
    return "\n\n".join([head, *_tables(run)]) + "\n"


def table(
    caption: str, label: str, header: Sequence[str], rows: Iterable[Sequence[str]], columns: str
) -> str:
    """A table environment; cells are LaTeX already, caption and label are plain text."""
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{tex(caption)}}}",
        rf"\label{{tab:{label}}}",
        *tabular(header, rows, columns),
        r"\end{table}",
    ]
    return "\n".join(lines)


def tabular(
    header: Sequence[str], rows: Iterable[Sequence[str]], columns: str, above: Sequence[str] = ()
) -> list[str]:
    """The lines of a tabular with the rules of booktabs; `above` stands over the header."""
    return [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *above,
        _row(header),
        r"\midrule",
        *map(_row, rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tables(run: Run) -> Iterator[str]:
    for number, settings in enumerate(run.of_weights().values(), 1):
        name = weights_label(settings[0])
        yield _matrix(run, settings, f"Fastest tok/s within each budget: {name}", number)
        yield _choices(run, settings, f"The configurations behind them: {name}", number)
    compared = policy_table(run)
    if compared is not None:
        rows = [
            [tex(setting_name(r.setting, run.told_apart)), tex(r.series)]
            + [_speed(r.best[name]) for name in compared.policies]
            for r in compared.rows
        ]
        header = ["Setting", "Method", *map(tex, compared.policies)]
        caption = f"Cache policies: fastest tok/s within {compared.budget}"
        yield table(caption, "policies", header, rows, "ll" + "r" * len(compared.policies))
    yield _points(run)


def _matrix(run: Run, settings: Sequence[Setting], caption: str, number: int) -> str:
    rows = []
    for setting in settings:
        decisions = run.decided(setting)
        dense = decisions[0].dense if decisions else None
        name = tex(device_label(setting, run.told_apart))
        rows.append([name, _speed(dense), *map(_cell, decisions)])
    header = ["Device setting", "Dense", *(tex(b.label) for b in run.budgets)]
    return table(caption, f"best-{number}", header, rows, "lr" + "r" * len(run.budgets))


def _speed(point: Point | None) -> str:
    return tex(ABSENT if point is None else figure(point.tokens_per_s))


def _cell(decision: Decision) -> str:
    best, certain = decision.best, decision.conservative
    if best is None and decision.unmeasured:
        return "not measured"
    if best is None:
        return "dense" if decision.is_dense else "none"
    doubt = "" if decision.certainty == "within" else tex(" ±")
    choice = rf"\textbf{{{_speed(best)}}}{doubt} ({tex(times(best.gain))} {tex(best.series)})"
    if not doubt or certain is None:
        return choice
    return f"{choice}, sure {_speed(certain)} ({tex(certain.series)})"


def _choices(run: Run, settings: Sequence[Setting], caption: str, number: int) -> str:
    rows = [
        [tex(device_label(d.setting, run.told_apart)), tex(d.budget.label), *_choice(d, run)]
        for setting in settings
        for d in run.decided(setting)
    ]
    header = ["Device setting", "Budget", "Configuration", "tok/s", tex("ΔPPL")]
    header += [*_distance_names(run), "Hit rate", "Flash/token"]
    return table(caption, f"choice-{number}", header, rows, "lll" + "r" * (len(header) - 3))


def _distance_names(run: Run) -> list[str]:
    return ["KL", "Flips"] if run.has_distances else []


def _distances(point: Point, run: Run) -> list[str]:
    return [tex(kl_text(point)), tex(flips_text(point))] if run.has_distances else []


def _choice(d: Decision, run: Run) -> list[str]:
    if d.best is None:
        missing = "not measured" if d.unmeasured else "none within"
        return [missing, *[tex(ABSENT)] * (4 + len(_distance_names(run)))]
    return [
        tex(configuration(d.best)),
        _speed(d.best),
        tex(cost_text(d.best)),
        *_distances(d.best, run),
        tex(percent(d.best.hit_rate)),
        tex(megabytes(d.best.flash_bytes_per_token)),
    ]


def _points(run: Run) -> str:
    shown = sorted((p for p in run.points if p.measured), key=lambda p: -p.tokens_per_s)
    rows = [
        [
            tex(configuration(p)),
            tex(setting_name(p.setting, run.told_apart)),
            _speed(p),
            tex(cost_text(p)),
            *_distances(p, run),
            *([tex(fixed(p.linear_density, 3))] if run.prunes_attention else []),
        ]
        for p in shown[:MOST_POINTS]
    ]
    caption = f"The {len(rows)} fastest of {len(shown)} measured points"
    header = ["Configuration", "Setting", "tok/s", tex("ΔPPL"), *_distance_names(run)]
    header += ["Linear density"] if run.prunes_attention else []
    return table(caption, "points", header, rows, "ll" + "r" * (len(header) - 2))
