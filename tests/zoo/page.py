"""docs/models.md: what becomes of each decoder family, and what a file must be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.zoo.look import DENSE, NO_TWIN, REFUSED, ROUTED, RUNS, Found

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
FILES = Path(__file__).with_name("files.md")
"""The part of the page that is written by hand."""

KINDS: Mapping[str, tuple[str, str]] = {
    "experts": ("A mixture of experts", r"mixture of experts|tid2eid"),
    "ungated": ("An MLP without a gate", r"not a gated MLP|without a gate|has no gated MLP"),
    "other": ("Something else", r""),
}
"""Kinds of refusals by a pattern of the sentence, the last for those that no other fits."""


def page(found: Iterable[Found]) -> str:
    """The page, of the families in the order of their names."""
    import transformers

    rows = sorted(found, key=lambda one: one.family)
    of = {outcome: [one for one in rows if one.outcome == outcome] for outcome in HEADINGS}
    counts = {name.replace(" ", "_"): len(members) for name, members in of.items()}
    head = HEAD.format(version=transformers.__version__, total=len(rows), **counts)
    parts = [head, *_runs(of[RUNS]), *_routed(of[ROUTED])]
    parts += [*_dense(of[DENSE]), *_refused(of[REFUSED])]
    parts += [*_without(of[NO_TWIN]), FILES.read_text(encoding="utf-8")]
    return "\n".join(parts)


def _runs(rows: list[Found]) -> list[str]:
    eager = [one for one in rows if one.attention == "eager"]
    lines = [_heading(RUNS, rows), f"{_names(rows)}.\n"]
    if eager:
        lines.append(f"With eager attention, as transformers has no other: {_names(eager)}.\n")
    return lines + _silent(rows)


def _routed(rows: list[Found]) -> list[str]:
    return [_heading(ROUTED, rows), f"{_names(rows)}.\n", *_silent(rows)]


def _dense(rows: list[Found]) -> list[str]:
    return [_heading(DENSE, rows), *_table(rows), *_silent(rows)]


def _refused(rows: list[Found]) -> list[str]:
    lines = [_heading(REFUSED, rows)]
    for kind, (title, _) in KINDS.items():
        members = [one for one in rows if kind_of(one.reason) == kind]
        if not members:
            continue
        lines.append(f"### {title} ({len(members)})\n")
        if kind == "other":
            lines += _table(members)
        else:
            lines += [f"{_names(members)}.\n", f"As {_example(members)}.\n"]
    return lines


def _without(rows: list[Found]) -> list[str]:
    return [_heading(NO_TWIN, rows), *_table(rows)] if rows else []


def kind_of(reason: str) -> str:
    """Which of `KINDS` a refusal is."""
    return next(kind for kind, (_, pattern) in KINDS.items() if re.search(pattern, reason))


def _heading(outcome: str, rows: list[Found]) -> str:
    title, text = HEADINGS[outcome]
    return f"## {title} ({len(rows)})\n\n{text}\n"


def _names(rows: Iterable[Found]) -> str:
    return ", ".join(f"`{one.family}`" for one in rows)


def _example(rows: list[Found]) -> str:
    return f"`{rows[0].family}`: “{rows[0].reason}”"


def _silent(rows: list[Found]) -> list[str]:
    """Families that transformers does not continue a text with."""
    silent = [one for one in rows if not one.generates]
    if not silent:
        return []
    return [f"`generate` of transformers fails for {_names(silent)}: nothing was compared.\n"]


def _table(rows: list[Found]) -> list[str]:
    lines = [row(one) for one in rows]
    return ["| family | why |", "| --- | --- |", *lines, ""]


def row(one: Found) -> str:
    """A family's row of a table."""
    return f"| `{one.family}` | {one.reason.replace('|', '/')} |"


HEAD = """# Models and files

Which models run, what of them is refused and with which words, and what their files must be.

A tiny random model of every decoder family of transformers {version}, {total} of them, made from
its configuration class, goes through the same door as yours: `python -m tests.zoo` writes this
page, and a test holds it to what comes out. Of what runs, the logits are the model's own, the bytes
that are simulated at the bits of the files are those of its matrices, and greedy continuations are
those of `generate`.

| | families |
| --- | --- |
| run with every method | {runs} |
| are mixtures of experts that run with routing rules | {routed} |
| run densely alone | {dense} |
| are refused when a sweep is planned | {refused} |
| have no tiny instance here | {no_twin} |

Of a family that is refused, the logits after loading are its own too. A model of yours is asked
again before a run: one MLP of each kind is filled with random values and compared with
`W_down (W_up x * act(W_gate x))`, and the loaded one once more.
"""
HEADINGS: Mapping[str, tuple[str, str]] = {
    RUNS: (
        "Families that run with every method",
        """`dip` and `glu` at density 1 have the model's own logits, and at density 0.5 every layer
is pruned.""",
    ),
    ROUTED: (
        "Mixtures of experts that run with routing rules",
        """`dense` has the model's own logits, as has its router's choice through the view of its
experts. `stock`, `cache-prior` and the other rules run, and neuron methods inside of experts;
those that prune plain MLPs are refused.""",
    ),
    DENSE: (
        "Families that run densely alone",
        """`dense` has the model's own logits, at its true size. Methods are refused before anything
runs, with these words.""",
    ),
    REFUSED: (
        "Families that are refused",
        """Nothing runs: the simulator's formulas are those of a decoder with dense gated MLPs of
one width, and the speed of anything else would be that of another model. The plan says so and names
the part.""",
    ),
    NO_TWIN: (
        "Families without a tiny instance",
        "Nothing is said of them here.",
    ),
}
