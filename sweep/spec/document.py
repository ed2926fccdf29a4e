"""YAML read into plain values that remember their lines; every fault is kept, none raises.

Python's YAML is version 1.1, in which `on` is a boolean, `010` is 8 and `1e-3` is text. Scalars
whose value would surprise are faults here, so that what is left means what it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

Route = tuple[str | int, ...]
"""Keys and list positions from the top of the document to a value."""

MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 40

_CORE_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    where: str
    route: Route
    text: str

    def __str__(self) -> str:
        path = route_text(self.route)
        line = f"{self.where}: {path}: {self.text}" if path else f"{self.where}: {self.text}"
        return _ESCAPED.sub(" ", line)


@dataclass(slots=True)
class Document:
    """Plain values, the place of each (`file:line`, or the override that set it), and faults."""

    source: str
    value: Any = None
    places: dict[Route, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, route: Route, text: str) -> None:
        """Keep a fault; its place is that of the nearest value around `route`."""
        self.faults.append(Fault(self.place(route), route, text))

    def written(self, route: Route) -> Route:
        """The part of `route` that the document has: plain text may stand for a mapping or list."""
        value = self.value
        for length, step in enumerate(route):
            inside = isinstance(value, dict) and step in value
            if not inside and not (isinstance(value, list) and isinstance(step, int)):
                return route[:length]
            value = value[step]  # type: ignore[index]
        return route

    def place(self, route: Route) -> str:
        """`file:line` of the value at `route`, or of the nearest one around it."""
        for length in range(len(route), -1, -1):
            if route[:length] in self.places:
                return self.places[route[:length]]
        return self.source

    def lines(self) -> list[str]:
        """The faults as text, in the order of the file, each once."""
        ordered = sorted(self.faults, key=lambda fault: _line(self.source, fault.where))
        return list(dict.fromkeys(str(fault) for fault in ordered))


def route_text(route: Route) -> str:
    """`sweeps.demo.methods[2].density`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in route)
    return text.removeprefix(".")


def _line(source: str, place: str) -> float:
    """Line of a place in the file; overrides come after the file."""
    line = place.removeprefix(f"{source}:")
    return int(line) if line.isdecimal() else 0 if place == source else float("inf")


def read(path: str | Path) -> Document:
    """The document in a file. A file that is missing, not text or not YAML is a fault."""
    document = Document(str(path))
    text = _text(document, Path(path))
    if text is not None:
        parse(text, document)
    return document


def parse(text: str, document: Document) -> None:
    """Fill `document` from YAML text."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{document.source}:{mark.line + 1}" if mark else document.source
        document.faults.append(Fault(where, (), f"not valid YAML: {_problem(error)}"))
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        document.faults.append(Fault(document.source, (), f"not valid YAML: {first}"))
    except RecursionError:
        document.fault((), "lists and mappings are nested too deeply")
    else:
        if node is None:
            document.fault((), "the file is empty")
        else:
            walk = _Walk(document)
            value = walk.value(node, ())
            document.value = value if walk.left >= 0 else None


def _text(document: Document, path: Path) -> str | None:
    """The file's text; None after a fault."""
    try:
        if path.is_dir():
            document.fault((), "is a folder; a YAML file is expected")
        elif not path.exists():
            document.fault((), f"no such file{_similar_files(path)}")
        elif not path.is_file():
            document.fault((), "is not a regular file; a YAML file is expected")
        elif path.stat().st_size > MAX_BYTES:
            size = f"{path.stat().st_size:,} bytes; at most {MAX_BYTES:,}"
            document.fault((), f"is too large for a sweep file: {size}")
        else:
            return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.fault((), f"is not a text file in UTF-8 (byte {error.start} is not part of any)")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        document.fault((), f"cannot be read: {reason}")
    return None


def _similar_files(path: Path) -> str:
    names = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    if near:
        return f"; did you mean {path.with_name(near[0])}?"
    return f"; YAML files beside it: {', '.join(names[:8])}" if names else ""


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or str(error)
    if "'\\t'" in problem:
        return "a tab where YAML allows only spaces"
    if "but found another document" in problem:
        return "a second document begins here ('---'); a sweep file is one document"
    return f"{problem} ({error.context})" if error.context else problem


class _Walk:
    """Turns YAML nodes into values. Aliases are followed, but never past MAX_VALUES values."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.left = MAX_VALUES
        self.open: list[yaml.Node] = []
        self.merging = 0

    def value(self, node: yaml.Node, route: Route) -> Any:
        if not route:
            self._mark(route, node)
        if not self._admitted(node, route):
            return None
        self.open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, route)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, route)
            return self._scalar(node, route)
        finally:
            self.open.pop()

    def _admitted(self, node: yaml.Node, route: Route) -> bool:
        """False, after a fault, for a value that is too much or contains itself."""
        self.left -= 1
        if self.left < 0:
            if self.left == -1:
                limit = f"more than {MAX_VALUES:,} values once aliases are followed"
                self.document.fault((), limit)
            return False
        if any(node is outer for outer in self.open):
            line = node.start_mark.line + 1
            self.document.fault(route, f"an alias to line {line}, which contains the alias itself")
            return False
        if len(self.open) > MAX_DEPTH:
            self.document.fault(route, f"nested more than {MAX_DEPTH} levels deep")
            return False
        return True

    def _mark(self, route: Route, node: yaml.Node) -> None:
        place = f"{self.document.source}:{node.start_mark.line + 1}"
        if self.merging:  # what is written out keeps its own place
            self.document.places.setdefault(route, place)
        else:
            self.document.places[route] = place

    def _sequence(self, node: yaml.SequenceNode, route: Route) -> list[Any]:
        self._plain_tag(node, route, "seq")
        values = []
        for i, item in enumerate(node.value):
            if self.left < 0:
                break
            self._mark((*route, i), item)
            values.append(self.value(item, (*route, i)))
        return values

    def _mapping(self, node: yaml.MappingNode, route: Route) -> dict[str, Any]:
        self._plain_tag(node, route, "map")
        values: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if self.left < 0:
                break
            if key_node.tag == f"{_CORE_TAG}merge":
                merged.append(value_node)
                continue
            key = self._key(key_node, route)
            if key is None:
                continue
            line = key_node.start_mark.line + 1
            if key in first_line:
                place = f"{self.document.source}:{line}"
                text = f"is given twice; the first is in line {first_line[key]}"
                self.document.faults.append(Fault(place, (*route, key), text))
                continue
            first_line[key] = line
            self._mark((*route, key), key_node)
            values[key] = self.value(value_node, (*route, key))
        for other in self._merges(merged, route):
            for key, value in other.items():
                values.setdefault(key, value)
        return values

    def _merges(self, nodes: list[yaml.Node], route: Route) -> Iterator[dict[str, Any]]:
        """Mappings behind `<<`. Explicit keys win over them, and earlier ones over later ones."""
        for node in nodes:
            parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
            for part in parts:
                if self.left < 0:
                    return
                if isinstance(part, yaml.MappingNode):
                    yield self._merged(part, route)
                else:
                    self.document.fault(route, "<< takes a mapping or a list of mappings")

    def _merged(self, node: yaml.MappingNode, route: Route) -> dict[str, Any]:
        self.merging += 1
        try:
            return self.value(node, route) or {}
        finally:
            self.merging -= 1

    def _key(self, node: yaml.Node, route: Route) -> str | None:
        place = f"{self.document.source}:{node.start_mark.line + 1}"
        if not isinstance(node, yaml.ScalarNode):
            self.document.faults.append(Fault(place, route, "a key must be text"))
            return None
        if node.tag in (f"{_CORE_TAG}str", f"{_CORE_TAG}timestamp", f"{_CORE_TAG}value"):
            return node.value
        if node.tag == f"{_CORE_TAG}int" and route[-1:] == NUMBERED:
            return node.value
        kind = node.tag.removeprefix(_CORE_TAG)
        text = f"the key {node.value} is read as {_KINDS.get(kind, kind)}; quote it: '{node.value}'"
        self.document.faults.append(Fault(place, route, text))
        return None

    def _scalar(self, node: yaml.Node, route: Route) -> Any:
        if node.tag == f"{_CORE_TAG}str":
            return node.value
        implied = _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))
        if node.tag != implied:
            self._plain_tag(node, route, "str")
            return node.value
        value, fault = _SCALARS[node.tag.removeprefix(_CORE_TAG)](node.value)
        if fault:
            self.document.fault(route, fault)
        return value

    def _plain_tag(self, node: yaml.Node, route: Route, expected: str) -> None:
        if node.tag != _CORE_TAG + expected:
            tag = node.tag.replace(_CORE_TAG, "!!")
            self.document.fault(route, f"the tag {tag} is not allowed; write plain YAML")


_RESOLVER = yaml.resolver.Resolver()
_BASE_60 = "{} is read as a number to base 60 by YAML; quote it to mean text"
NUMBERED = ("depth",)
"""Keys under which numbers are keys, too: reads in flight, of a device's table."""
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing"}


def _bool(text: str) -> tuple[bool, str]:
    value = text.lower() in ("true", "yes", "on")
    if text.lower() in ("true", "false"):
        return value, ""
    word = "true" if value else "false"
    return value, f"{text} is read as {word} by YAML; write {word}, or quote it to mean text"


def _int(text: str) -> tuple[int, str]:
    """Only forms that every version of YAML reads alike: 12, -3, 0x1f."""
    if len(text) > 30:
        return 0, f"{text[:30]}... is too large a number"
    if _DECIMAL.fullmatch(text):
        return int(text, 0), ""
    if ":" in text:
        return 0, _BASE_60.format(text)
    sign, digits = text[: -len(text.lstrip("+-"))], text.lstrip("+-").replace("_", "")
    value = int(sign + digits, 0 if not digits.isdecimal() else 8 if digits[0] == "0" else 10)
    meant = sign + digits.lstrip("0") if digits.isdecimal() else str(value)
    return value, f"{text} is read as {value} by YAML; write {meant}, or quote it to mean text"


def _float(text: str) -> tuple[float, str]:
    if "_" not in text and ":" not in text:
        return float(re.sub(r"(?i)\.(inf|nan)", r"\1", text)), ""
    if ":" in text:
        return 0.0, _BASE_60.format(text)
    value = float(text.replace("_", ""))
    return value, f"{text} is read as {value:g} by YAML 1.1 only; write {value:g}"


_SCALARS: dict[str, Any] = {
    "str": lambda text: (text, ""),
    "timestamp": lambda text: (text, ""),
    "value": lambda text: (text, ""),
    "null": lambda text: (None, ""),
    "merge": lambda text: (text, ""),
    "bool": _bool,
    "int": _int,
    "float": _float,
}
