"""Values as literal text in Markdown: no name, error or YAML value can become markup."""

from __future__ import annotations

import re

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


def fence(text: str) -> str:
    """`text` as a code block whose fence no line of it can close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{text}\n{ticks}"
