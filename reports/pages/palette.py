"""One colour, marker and line for each series, the same in every chart and both themes.

Neighbouring hues differ in lightness too, and every series has its own marker, so charts can be
read without telling colours apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """`light` and `dark` are colours on the two themes; markers by their plotly/matplotlib name."""

    light: str
    dark: str
    symbol: str
    marker: str


_KNOWN = {
    "dense": Look("#3d4450", "#d3d8e0", "star", "*"),
    "glu": Look("#b07d00", "#edc251", "square", "s"),
    "glu-oracle": Look("#7d8590", "#98a1ad", "hexagon2", "h"),
    "gate": Look("#ad3f86", "#eb8fcb", "triangle-up", "^"),
    "up": Look("#007a5c", "#3fcaa0", "triangle-down", "v"),
    "dip": Look("#0a5fc2", "#62aef8", "circle", "o"),
    "dip-ca": Look("#d0430a", "#ff8f57", "diamond", "D"),
    "cats": Look("#6437b5", "#bb9ff8", "cross", "P"),
    "dejavu": Look("#7a4a26", "#cfa27c", "pentagon", "p"),
}
_SPARE = (
    Look("#007a94", "#4fc8de", "hexagon", "H"),
    Look("#8a1538", "#f5809a", "x", "X"),
    Look("#55691f", "#aac46c", "triangle-right", ">"),
    Look("#a34f00", "#f7ab62", "triangle-left", "<"),
    Look("#4a4ba8", "#9da0f5", "square-x", "8"),
    Look("#8c2f6b", "#e79acb", "hourglass", "d"),
)
_POLICIES = {
    "none": ("#7d8590", "#98a1ad", "dot"),
    "static": ("#7a4a26", "#cfa27c", "longdash"),
    "lru": ("#0a5fc2", "#62aef8", "dashdot"),
    "lfu": ("#007a5c", "#3fcaa0", "solid"),
    "belady": ("#ad3f86", "#eb8fcb", "dash"),
    "min": ("#6437b5", "#bb9ff8", "longdashdot"),
}


def looks(series: Iterable[str]) -> dict[str, Look]:
    """A look for each name; unknown names take spare ones in order of name."""
    names = sorted(set(series))
    spare = [name for name in names if name not in _KNOWN]
    extra = {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(spare)}
    return {name: _KNOWN.get(name) or extra[name] for name in names}


def policy_looks(policies: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """(light, dark, line dash) for each policy; unknown ones take spare colours."""
    names = sorted(set(policies))
    spare = [name for name in names if name not in _POLICIES]
    extra = {name: _spare_line(i) for i, name in enumerate(spare)}
    return {name: _POLICIES.get(name) or extra[name] for name in names}


def _spare_line(i: int) -> tuple[str, str, str]:
    look = _SPARE[i % len(_SPARE)]
    return look.light, look.dark, "longdash"
