"""`--set path=value`: values put into a document from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sweep.messages import nearest
from sweep.spec.document import Document, Fault, Route, parse, route_text
from sweep.spec.entries import SweepEntry

_STEP = re.compile(r"\.?([^.\[\]=]+)|\[(\d+)\]")
_TOP = ("plugins", "defaults", "sweeps", "studies")
_NAMED: Mapping[Route, str] = {("sweeps",): "sweep", ("studies",): "study"}
"""Mappings of the user's own names: an override changes one, it does not add one."""


def apply(document: Document, overrides: Iterable[str]) -> None:
    """Set each `path=value`, the value read as YAML. What cannot be set is a fault."""
    for text in overrides:
        _Override(document, text).apply()


class _Override:
    def __init__(self, document: Document, text: str) -> None:
        self.document = document
        self.place = f"--set {text}"

    def apply(self) -> None:
        path, equals, value = self.place.removeprefix("--set ").partition("=")
        route = _route(path.strip())
        if not equals:
            return self._fault((), "has no '='; write path=value, as sweeps.demo.windows=1")
        if not route:
            return self._fault((), f"{path.strip()!r} is no path; write sweeps.demo.windows=1")
        document = Document(self.place)
        if value.strip():
            parse(value, document)
        for fault in document.faults:
            self._fault((*route, *fault.route), fault.text)
        if not document.faults:
            self._put(route, document.value)
        return None

    def _put(self, route: Route, value: Any) -> None:
        container, here = self.document.value, ()
        for i, step in enumerate(route):
            step = self._checked(container, here, step)
            if step is None:
                return
            here = (*here, step)
            if i == len(route) - 1:
                container[step] = value
                self._mark(here)
            elif isinstance(container, dict) and step not in container:
                container[step] = {}
                self._mark(here)
            container = container[step]

    def _checked(self, container: Any, here: Route, step: str | int) -> str | int | None:
        """The step as the container's key or index; None, after a fault, if it has none."""
        if isinstance(container, list):
            return self._index(container, here, step)
        if not isinstance(container, dict):
            where = route_text(here) or "the file"
            self._fault((), f"unknown path: {where} is not a mapping, so it has no {step!r}")
            return None
        names = _TOP if not here else tuple(container) if here in _NAMED else None
        if names is not None and step not in names:
            kind = _NAMED.get(here, "key")
            whole = not here and step in SweepEntry.model_fields
            hint = f"; write sweeps.NAME.{step}" if whole else nearest(str(step), names)
            self._fault((), f"unknown path: no {kind} {step!r}{hint}")
            return None
        return str(step)

    def _index(self, items: Sequence[Any], here: Route, step: str | int) -> int | None:
        index = int(step) if str(step).isdecimal() else -1
        if 0 <= index < len(items):
            return index
        count = f"is a list of {len(items)}" + (f", up to [{len(items) - 1}]" if items else "")
        self._fault((), f"unknown path: no {step!r} in {route_text(here)}, which {count}")
        return None

    def _mark(self, route: Route) -> None:
        stale = [r for r in self.document.places if r[: len(route)] == route]
        for old in stale:
            del self.document.places[old]
        self.document.places[route] = self.place

    def _fault(self, route: Route, text: str) -> None:
        self.document.faults.append(Fault(self.place, route, text))


def _route(path: str) -> Route:
    """`a.b[2].c` as steps; empty for anything else."""
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            return ()
        steps.append(match[1].strip() if match[1] is not None else int(match[2]))
        position = match.end()
    return tuple(steps)
