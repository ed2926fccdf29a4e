"""Reading a sweep file: all faults at once, each with its line, in plain words.

`load` is the only door. What passes is complete: defaults are merged into every sweep, names exist,
densities are in reach. `sweep.plan.grid` turns a sweep into points.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import Field, ValidationError

from sweep import plugins
from sweep.errors import InputError
from sweep.messages import nearest, show
from sweep.spec import checks
from sweep.spec import document as yamlfile
from sweep.spec.document import NUMBERED, Document, Route
from sweep.spec.entries import Settings, Sweep, SweepEntry
from sweep.spec.entry import Entry
from sweep.spec.overrides import apply
from sweep.spec.studies import StudyEntry
from sweep.spec.values import Axis, Label, Words


class FileEntry(Entry):
    """The whole file."""

    plugins: Annotated[tuple[Words, ...], Axis(or_none=True)] = ()
    """Files with methods or policies of your own, by path from this file."""
    defaults: Settings = Settings()
    """Settings of every sweep; a sweep's own value wins."""
    sweeps: Annotated[dict[Label, SweepEntry], Field(min_length=1)]
    """Sweeps by name, of letters, digits, '-' and '_'; `sweep run NAME` writes to runs/NAME."""
    studies: dict[Label, StudyEntry] = Field(default_factory=dict)
    """Searches with Optuna by name; `sweep tune NAME` runs one."""


@dataclass(frozen=True, slots=True)
class SweepFile:
    """What a sweep file holds; everything in it has been checked."""

    source: str
    plugins: tuple[str, ...]
    sweeps: dict[str, Sweep]
    studies: dict[str, StudyEntry]


def load(path: str | Path, overrides: Sequence[str] = ()) -> SweepFile:
    """The sweeps of a file, after `--set` overrides such as `sweeps.demo.windows=1`.

    Raises InputError whose text has one line for each fault: `file:line: path: what is wrong`.
    """
    document = yamlfile.read(path)
    if document.value is None:
        _raise(document)
    apply(document, overrides)
    return _checked(document)


def from_mapping(value: Mapping[str, Any], source: str = "sweeps") -> SweepFile:
    """The same for a mapping with the shape of the file. Raises InputError."""
    document = Document(source)
    document.value = _plain(document, value, ())
    return _checked(document)


def select(file: SweepFile, name: str) -> Sweep:
    """The sweep of that name; InputError with the nearest name otherwise."""
    if name not in file.sweeps:
        raise InputError(f"{file.source}: no sweep {show(name)}{nearest(name, file.sweeps)}")
    return file.sweeps[name]


def json_schema() -> dict[str, Any]:
    """JSON schema of the file for editors, with the names of methods, devices and policies."""
    schema = _without_noise(FileEntry.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The JSON schema as `sweep schema` prints it and as it is kept beside the sweep file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_noise(schema: Any) -> Any:
    """Without pydantic's titles and without defaults that only stand for `not given`."""
    if isinstance(schema, list):
        return [_without_noise(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: value for key, value in schema.items() if key not in ("title", "default")}
    if isinstance(schema.get("title"), dict):  # a property of that name
        plain["title"] = schema["title"]
    plain = {key: _without_noise(value) for key, value in plain.items()}
    default = _as_written(schema.get("default"))
    return plain if default is None else {**plain, "default": default}


def _as_written(default: Any) -> Any:
    """A default as one would write it; None for one that stands for `not given` or is an entry."""
    if isinstance(default, list):
        values = [_as_written(value) for value in default]
        return None if None in values or not values else values[0] if len(values) == 1 else values
    if isinstance(default, str):
        default = float(default) if re.fullmatch(r"[0-9.]+", default) else default or None
    if isinstance(default, float) and default.is_integer():
        return int(default)
    return None if isinstance(default, dict) else default


def _plain(document: Document, value: Any, route: Route) -> Any:
    """A value of Python as YAML would give it; keys that are not text are faults."""
    if isinstance(value, Mapping):
        if route[-1:] == NUMBERED:
            value = {str(key) if type(key) is int else key: item for key, item in value.items()}
        for key in value:
            if not isinstance(key, str):
                document.fault(route, f"the key {key!r} is not text")
        items = ((key, item) for key, item in value.items() if isinstance(key, str))
        return {key: _plain(document, item, (*route, key)) for key, item in items}
    if isinstance(value, list | tuple):
        return [_plain(document, item, (*route, i)) for i, item in enumerate(value)]
    return value


def _checked(document: Document) -> SweepFile:
    _load_plugins(document)
    entry = _validated(document)
    checks.check(document)
    _raise(document)
    if entry is None:
        raise InputError(f"{document.source}: cannot be read")
    sweeps = {
        name: Sweep.model_construct(
            name=name, source=document.source, **dict(written.over(entry.defaults))
        )
        for name, written in entry.sweeps.items()
    }
    return SweepFile(document.source, entry.plugins, sweeps, dict(entry.studies))


def _load_plugins(document: Document) -> None:
    """Register the methods of the plug-ins, paths from the sweep file, before names are checked."""
    written = document.value.get("plugins") if isinstance(document.value, dict) else None
    folder = Path(document.source).parent
    seen: set[str] = set()
    for index, name in enumerate(written if isinstance(written, list) else [written]):
        if not isinstance(name, str):
            continue
        route: Route = ("plugins", index) if isinstance(written, list) else ("plugins",)
        path = folder / Path(name).expanduser()
        if path.name in seen:
            document.fault(route, f"two plug-ins are called {path.name}; rename one")
            continue
        seen.add(path.name)
        try:
            plugins.load(path)
        except InputError as error:
            document.fault(route, str(error))


def _raise(document: Document) -> None:
    if document.faults:
        raise InputError("\n".join(document.lines()))


def _validated(document: Document) -> FileEntry | None:
    """The file as models; None after faults."""
    try:
        return FileEntry.model_validate(document.value)
    except ValidationError as error:
        taken = {fault.route for fault in document.faults}
        for problem in error.errors(include_url=False):
            route = tuple(step for step in problem["loc"] if step != "[key]")
            if problem["type"] == "missing":
                document.fault(document.written(route[:-1]), f"{route[-1]!r} is missing")
            elif document.written(route) not in taken:
                document.fault(document.written(route), _in_words(problem, route))
    return None


_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping of names",
    "tuple_type": "a list",
    "model_type": "a mapping",
}


def _in_words(problem: Mapping[str, Any], route: Route) -> str:
    kind, value = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(route[-1]), _keys(FileEntry, route[:-1]))}"
    if kind == "too_short":
        return f"{show(value)} is given; at least one entry is expected"
    if kind in _EXPECTED:
        return f"{show(value)} is given; {_EXPECTED[kind]} is expected"
    return problem["msg"]


def _keys(model: type[Entry], route: Iterable[str | int]) -> tuple[str, ...]:
    """Keys that the mapping at `route` may have."""
    named = False
    for step in route:
        if isinstance(step, int) or named:
            named = False
            continue
        annotation = model.model_fields[step].annotation
        inner = _part(annotation)
        if inner is None:
            return ()
        model, named = inner, get_origin(annotation) is dict
    return tuple(model.model_fields)


def _part(annotation: Any) -> type[Entry] | None:
    """The model inside `tuple[Model, ...]`, `dict[str, Model]`, `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        return annotation
    parts = (_part(argument) for argument in get_args(annotation))
    return next((part for part in parts if part is not None), None)
