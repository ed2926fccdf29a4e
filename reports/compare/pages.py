"""A comparison as text, as Markdown, as JSON and as a page of HTML without a script."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

from reports.compare.changes import ADDED_METRICS, JUDGED, Best, Changes, Difference, Pair, describe
from reports.compare.gate import Verdict
from reports.findings.points import Point, configuration, setting_label
from reports.numbers import ABSENT, figure, signed
from reports.pages.json_report import clean
from reports.pages.markup import markdown as md
from reports.pages.markup import table

SCHEMA_NAME = "flash-sweep/compare"
SCHEMA_VERSION = 1
MOST_ROWS = 200  # of a table; JSON has all
_SHOWN = ("tokens_per_s", "delta_ppl", "hit_rate", "mlp_density")
_PLACES = {"tokens_per_s": 2}

Header = Sequence[str]
Rows = list[list[str]]


def sections(changes: Changes) -> Iterator[tuple[str, Header, Rows]]:
    """(title, header, rows of plain text) of every table; the title says how many there are."""
    decided = [b for b in changes.best if b.old or b.new]
    best = [b for b in decided if b.changed]
    yield (
        f"Decisions that changed: {len(best)} of {len(decided)}",
        ("Setting", "Budget", "Was", "tok/s", "Is", "tok/s", "Change"),
        [_best(b) for b in best],
    )
    names = _shown(changes)
    yield (
        f"Points that changed: {len(changes.changed)} of {len(changes.pairs)}",
        ("Point", *(f"{n}: was, is" for n in names), "Sure?"),
        [_pair(pair, names) for pair in _by_size(changes.changed)],
    )
    for title, points in (("added", changes.added), ("removed", changes.removed)):
        yield (
            f"Points {title}: {len(points)}",
            ("Point", "tok/s", "ΔPPL", "Status"),
            [_point(p) for p in points],
        )


def _shown(changes: Changes) -> list[str]:
    """Metrics of the table: those of every run, and others where they changed."""
    differences = [pair.differences for pair in changes.changed]
    changed = [n for n in ADDED_METRICS if any(n in d and not d[n].same for d in differences)]
    return [*_SHOWN, *changed]


def _by_size(pairs: Sequence[Pair]) -> list[Pair]:
    """Failures first, then by the change of speed and of ΔPPL."""
    return sorted(
        pairs,
        key=lambda pair: (
            not pair.failed,
            -_size(pair.differences["tokens_per_s"].share),
            -_size(pair.differences["delta_ppl"].change),
            pair.new.point_key,
        ),
    )


def _size(value: float) -> float:
    return 0.0 if math.isnan(value) else abs(value)


def _best(best: Best) -> list[str]:
    speed = best.speed
    return [
        setting_label(best.setting),
        best.budget.label,
        configuration(best.old) if best.old else "none within",
        figure(speed.old),
        configuration(best.new) if best.new else "none within",
        figure(speed.new),
        _share(speed),
    ]


def _share(difference: Difference) -> str:
    return f"{signed(100 * difference.share, 2)} %" if math.isfinite(difference.share) else ABSENT


def _pair(pair: Pair, names: Sequence[str]) -> list[str]:
    differences = (pair.differences.get(name) for name in names)
    cells = [ABSENT if difference is None else _two(difference) for difference in differences]
    status = "" if pair.old.status == pair.new.status else f"{pair.old.status} -> {pair.new.status}"
    return [describe(pair.new), *cells, status or sure(pair.differences["delta_ppl"])]


def _two(difference: Difference) -> str:
    if math.isnan(difference.old) and math.isnan(difference.new):
        return ABSENT
    values = f"{figure(difference.old, 4)}, {figure(difference.new, 4)}"
    if difference.same:
        return f"{figure(difference.new, 4)}"
    return f"{values} ({signed(difference.change, _PLACES.get(difference.metric, 4))})"


def sure(difference: Difference) -> str:
    """Whether ΔPPL changed for sure, with the interval of its change."""
    if difference.significant is None or difference.interval is None:
        return "" if difference.same else "unknown"
    low, high = difference.interval
    word = "yes" if difference.significant else "no"
    return f"{word} [{signed(low, 4)}, {signed(high, 4)}]"


def _point(p: Point) -> list[str]:
    return [describe(p), figure(p.tokens_per_s), signed(p.delta_ppl), p.status]


def lead(changes: Changes) -> str:
    """One sentence about both runs."""
    same = len(changes.pairs) - len(changes.changed)
    return (
        f"{changes.old.name} has {len(changes.old.points):,} points, {changes.new.name}"
        f" {len(changes.new.points):,}; {len(changes.pairs):,} are in both, {same:,} of these are"
        " unchanged."
    )


def _gates(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for v in verdicts:
        state = f"FAILED, {len(v.hits)} of {v.looked_at:,}" if v.hits else "passed"
        unknown = f"; {v.unknown:,} without an interval" if v.unknown else ""
        lines.append(f"{v.gate.text}: {state} (looked at {v.looked_at:,}{unknown})")
        lines += [hit.text for hit in v.hits]
    return lines


NOTE = (
    "A change of ΔPPL is sure when its 95 % interval, from the paired windows that"
    " both runs evaluated, leaves out zero. Tokens per second follow from counts and have no"
    " interval."
)


def markdown(comparisons: Sequence[tuple[Changes, Sequence[Verdict]]]) -> str:
    """All comparisons as Markdown; every name is escaped."""
    parts: list[str] = []
    for changes, verdicts in comparisons:
        parts += [f"# {md(changes.old.name)} and {md(changes.new.name)}", md(lead(changes))]
        if verdicts:
            parts += ["## Gate", "\n".join(f"- {md(line)}" for line in _gates(verdicts))]
        for title, header, rows in sections(changes):
            parts.append(f"## {md(title)}")
            if rows:
                cells = [[md(cell) for cell in row] for row in rows[:MOST_ROWS]]
                parts += [table([md(h) for h in header], cells), _more(rows)]
        parts.append(md(NOTE))
    return "\n\n".join(part for part in parts if part) + "\n"


def _more(rows: Rows) -> str:
    return f"The first {MOST_ROWS} of {len(rows):,}." if len(rows) > MOST_ROWS else ""


def text(comparisons: Sequence[tuple[Changes, Sequence[Verdict]]]) -> str:
    """All comparisons as plain text for a terminal: no markup, a point or decision a block."""
    parts: list[str] = []
    for changes, verdicts in comparisons:
        parts += [f"{changes.old.name} and {changes.new.name}", lead(changes)]
        parts += [f"Gate: {line}" for line in _gates(verdicts)]
        for title, header, rows in sections(changes):
            parts.append("\n".join([title, *(_block(header, row) for row in rows[:MOST_ROWS])]))
            parts.append(_more(rows))
        parts.append(NOTE)
    return "\n\n".join(" ".join(p.split()) if "\n" not in p else p for p in parts if p) + "\n"


def _block(header: Header, row: Sequence[str]) -> str:
    """A row of a table as lines: what it is about, then what is known of it."""
    first, *others = (" ".join(cell.split()) for cell in row)
    filled = [f"{name} {cell}" for name, cell in zip(header[1:], others, strict=True) if cell]
    return f"  {first}\n    {'; '.join(filled)}"


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;"
    "color-scheme:light dark}div{overflow-x:auto}table{border-collapse:collapse;font-size:13px}"
    "td,th{padding:.25rem .6rem;border-bottom:1px solid #8885;text-align:left;vertical-align:top}"
)


def html(comparisons: Sequence[tuple[Changes, Sequence[Verdict]]]) -> str:
    """All comparisons as one page that loads and runs nothing; every name is escaped."""
    body = Markup("")
    for changes, verdicts in comparisons:
        body += Markup("<h1>{} and {}</h1><p>{}</p>").format(
            changes.old.name, changes.new.name, lead(changes)
        )
        if verdicts:
            items = Markup("").join(Markup("<li>{}</li>").format(x) for x in _gates(verdicts))
            body += Markup("<h2>Gate</h2><ul>{}</ul>").format(items)
        for title, header, rows in sections(changes):
            body += Markup("<h2>{}</h2>").format(title) + _html_table(header, rows)
        body += Markup("<p>{}</p>").format(NOTE)
    names = ", ".join(dict.fromkeys(side.name for c, _ in comparisons for side in (c.old, c.new)))
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src"
        " 'unsafe-inline'\"><meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<title>{escape(names)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _html_table(header: Header, rows: Rows) -> Markup:
    if not rows:
        return Markup("")
    heads = Markup("").join(Markup("<th>{}</th>").format(h) for h in header)
    lines = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(c) for c in row))
        for row in rows[:MOST_ROWS]
    )
    return Markup("<div tabindex='0'><table><tr>{}</tr>{}</table></div><p>{}</p>").format(
        heads, lines, _more(rows)
    )


def document(comparisons: Sequence[tuple[Changes, Sequence[Verdict]]]) -> str:
    """All comparisons as JSON (docs/report.md)."""
    written = {
        "schema": SCHEMA_NAME,
        "schema_version": SCHEMA_VERSION,
        "failed": any(v.hits for _, verdicts in comparisons for v in verdicts),
        "comparisons": [_comparison(changes, verdicts) for changes, verdicts in comparisons],
    }
    return json.dumps(written, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _comparison(changes: Changes, verdicts: Sequence[Verdict]) -> dict[str, object]:
    return {
        "old": {"name": changes.old.name, "points": len(changes.old.points)},
        "new": {"name": changes.new.name, "points": len(changes.new.points)},
        "in_both": len(changes.pairs),
        "changed": [
            {
                "old_key": pair.old.point_key,
                "new_key": pair.new.point_key,
                "what": describe(pair.new),
                "old_status": pair.old.status,
                "new_status": pair.new.status,
                "metrics": {
                    name: _difference(d) for name, d in pair.differences.items() if not d.same
                },
            }
            for pair in changes.changed
        ],
        "added": [{"key": p.point_key, "what": describe(p)} for p in changes.added],
        "removed": [{"key": p.point_key, "what": describe(p)} for p in changes.removed],
        "best": [
            {
                "setting": setting_label(b.setting),
                "budget": b.budget.label,
                "old_key": b.old.point_key if b.old else None,
                "new_key": b.new.point_key if b.new else None,
                "tokens_per_s": _difference(b.speed),
                "changed": b.changed,
            }
            for b in changes.best
        ],
        "gates": [
            {
                "expression": v.gate.text,
                "failed": bool(v.hits),
                "looked_at": v.looked_at,
                "without_interval": v.unknown,
                "hits": [hit.text for hit in v.hits],
            }
            for v in verdicts
        ],
    }


def _difference(difference: Difference) -> dict[str, object]:
    interval = {"interval": clean(difference.interval), "significant": difference.significant}
    return {
        "old": clean(difference.old),
        "new": clean(difference.new),
        "change": clean(difference.change),
        "share": clean(difference.share),
        **(interval if difference.metric in JUDGED else {}),
    }


WRITERS = {"text": text, "md": markdown, "html": html, "json": document}
