"""The command that computes a point again, from what the run recorded of its own command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_KEPT = ("-f", "--file", "--set", "--point")
"""Options that say what is computed; all others say where or how."""
_OTHER_POINTS = "--point"


def recompute(provenance: Mapping[str, Any], sweep: str, point_key: str) -> str:
    """A shell command that measures one point anew, in a run folder and a store of its own.

    The sweep file and the `--set` of the run's own command are in it. A point of a study comes from
    its search, so there the command is that of the whole study.
    """
    words = _words(str(provenance.get("command") or ""))
    if "tune" in words:
        return shlex.join(["sweep", *words[words.index("tune") :]])
    options = [] if "run" not in words else [*_kept(words[words.index("run") + 1 :])]
    return shlex.join(["sweep", "run", sweep, *options, _OTHER_POINTS, point_key])


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an unfinished quote: not a command that a shell would take
        return []


def _kept(words: Sequence[str]) -> Iterator[str]:
    following = iter(words)
    for word in following:
        name, equals, _ = word.partition("=")
        if name not in _KEPT:
            continue
        value = [] if equals else [next(following, "")]
        if name != _OTHER_POINTS:
            yield from (word, *value)
