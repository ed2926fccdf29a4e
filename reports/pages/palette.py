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


@dataclass(frozen=True, slots=True)
class PolicyLook:
    """A policy's colours on the two themes, its line, and its marker by both of its names."""

    light: str
    dark: str
    dash: str
    symbol: str
    marker: str


_POLICIES = {
    "none": PolicyLook("#7d8590", "#98a1ad", "dot", "x", "X"),
    "static": PolicyLook("#7a4a26", "#cfa27c", "longdash", "square", "s"),
    "lru": PolicyLook("#0a5fc2", "#62aef8", "dashdot", "triangle-up", "^"),
    "lfu": PolicyLook("#007a5c", "#3fcaa0", "solid", "circle", "o"),
    "belady": PolicyLook("#ad3f86", "#eb8fcb", "dash", "triangle-down", "v"),
    "min": PolicyLook("#6437b5", "#bb9ff8", "longdashdot", "pentagon", "p"),
}
_SPARE_DASHES = ("longdash", "dash", "dashdot", "longdashdot", "dot", "solid")


def looks(series: Iterable[str]) -> dict[str, Look]:
    """A look for each name; unknown names take spare ones in order of name."""
    names = sorted(set(series))
    spare = [name for name in names if name not in _KNOWN]
    extra = {name: _SPARE[i % len(_SPARE)] for i, name in enumerate(spare)}
    return {name: _KNOWN.get(name) or extra[name] for name in names}


def policy_looks(policies: Iterable[str]) -> dict[str, PolicyLook]:
    """A look for each policy, no two alike: unknown ones take spare colours and markers."""
    names = sorted(set(policies))
    spare = [name for name in names if name not in _POLICIES]
    extra = {name: _spare_look(i) for i, name in enumerate(spare)}
    return {name: _POLICIES.get(name) or extra[name] for name in names}


def _spare_look(i: int) -> PolicyLook:
    look, dash = _SPARE[i % len(_SPARE)], _SPARE_DASHES[i // len(_SPARE) % len(_SPARE_DASHES)]
    return PolicyLook(look.light, look.dark, dash, look.symbol, look.marker)
