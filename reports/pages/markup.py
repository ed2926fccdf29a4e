"""Values as literal text in Markdown and LaTeX: no name, error or YAML value can become markup.

And Markdown's tables and lists of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~$&]")
_START = re.compile(r"^(\s*)([-+:]|\d+(?=[.)]))")
_LINK = re.compile(r"(?<=[a-zA-Z])(:)(?=//)|(?<=www)(\.)|(@)", re.IGNORECASE)


def markdown(value: object) -> str:
    """`value` on one line of Markdown, read literally by CommonMark and GitHub.

    Markup characters get a backslash, `<` and `>` become entities, line breaks become spaces, and
    web addresses and mentions are kept from becoming links.
    """
    text = " ".join(str(value).split())
    text = _MARKUP.sub(_escaped, text)
    text = _LINK.sub(lambda m: f"&#{ord(m[0])};", text)
    return _START.sub(_escaped_start, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    entities = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"}
    return entities.get(character, f"\\{character}")


def _escaped_start(match: re.Match[str]) -> str:
    mark = match[2]
    return f"{match[1]}{mark}\\" if mark.isdigit() else f"{match[1]}\\{mark}"


_LATEX = {
    "\\": r"\textbackslash{}",
    **{mark: f"\\{mark}" for mark in "{}#$%&_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    **{mark: f"{{{mark}}}" for mark in "[]*"},  # after a row's end these would be its options
    "Δ": r"$\Delta$",
    "γ": r"$\gamma$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "−": "$-$",
    "≤": r"$\leq$",
    "–": r"\textendash{}",
    "…": r"\ldots{}",
}

_LIGATURE = re.compile(r"([-,])(?=\1)")  # two hyphens would be a dash, two commas a quote


def latex(value: object) -> str:
    """`value` on one line of LaTeX text, read literally; booktabs is all that a document needs.

    Letters of other scripts stay as they are: they need a font, not an escape. What cannot be
    printed, as control characters, is left out.
    """
    text = " ".join(str(value).split())
    written = "".join(_LATEX.get(mark, mark) for mark in text if mark.isprintable())
    return _LIGATURE.sub(r"\1{}", written)


def fence(text: str) -> str:
    """`text` as a code block whose fence no line of it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{text}\n{ticks}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: str = "") -> str:
    """A Markdown table; `numeric` has an `r` for each column that is set to the right."""
    ends = [
        ("---:" if k < len(numeric) and numeric[k] == "r" else "---") for k in range(len(header))
    ]
    lines = [header, ends, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(lines: Iterable[object]) -> str:
    """A list of escaped lines."""
    return "\n".join(f"- {markdown(line)}" for line in lines)
