"""docs/sweep-file.md, written from the JSON schema of the sweep file: `sweep schema --markdown`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_HEAD = """\
# The sweep file

<!-- `sweep schema --markdown` writes this page from the texts under the fields of its entries. -->

A sweep file says which configurations to compare: models, methods with their densities, cache
policies and devices, each with each other. `sweep run NAME` runs a sweep of `sweeps.yaml`, or of
another file with `--file`.

- **Every list is an axis.** An entry stands for all combinations of its values. Where a list may
  stand, so may one number or text, but a mapping goes into a list, as `[{method: dip}]`. A list of
  numbers may also be written `{from: 0.5, to: 0.9, step: 0.1}`, both ends included.
- **Text stands for an entry** of which nothing else is said: `dense` is `{method: dense}`.
- **What means something else in YAML is refused**: write `1.0e-3`, not `1e-3`, which is text.
- **Sweeps share settings** through `defaults`, or by plain YAML: `&name` keeps a value, `*name`
  repeats it, and `<<: *name` takes the keys of a mapping that are not written out.
- **`--set sweeps.demo.windows=1`** puts in another value for one command.
- **`sweep validate FILE`** names all faults at once, each with its line. An editor with a YAML
  language server completes names and shows the texts below, if the first line of the file is
  `# yaml-language-server: $schema=./sweeps.schema.json`.
"""

_SECTIONS = (
    ("File", "", ""),
    ("Sweep", "SweepEntry", "`sweeps: {NAME: ...}`, with the keys of [settings](#settings) too."),
    ("Settings", "Settings", "`defaults: ...`, and in every sweep."),
    ("Model", "ModelEntry", "An entry of `models`."),
    ("Geometry", "GeometryEntry", "`geometry` of a model."),
    ("Method", "MethodEntry", "An entry of `methods` or `include`, or `method` of a study."),
    ("Quant", "QuantEntry", "An entry of `quant`."),
    ("Device", "DeviceEntry", "An entry of `devices`."),
    ("Exclude", "ExcludeRule", "An entry of `exclude`."),
    ("Cache", "Cache", "`cache: ...`"),
    ("KV", "KV", "`kv: ...`"),
    ("Certify", "Certify", "`certify: ...`"),
    ("Task", "TaskEntry", "An entry of `tasks`."),
    ("Resources", "Resources", "`resources: ...`"),
    ("Evaluate", "EvaluateResources", "`resources: {evaluate: ...}`"),
    ("Simulate", "SimulateResources", "`resources: {simulate: ...}`"),
    ("Other tasks", "ModelResources", "`resources: {calibrate: ..., transform: ..., train: ...}`"),
    ("Study", "StudyEntry", "`studies: {NAME: ...}`; [studies.md](studies.md) explains them."),
    ("Objective", "Objective", "`objective` of a study."),
)
"""(title, definition of the schema, where it stands in a file)."""

_TITLES = {f"#/$defs/{name}": title for title, name, _ in _SECTIONS}
_LARGE = 1e6
"""Bounds from here on only keep values sane; the page does not mention them."""
_LONG = 20
"""Names that the page lists; `sweep list` has those of which there are more."""


def markdown(schema: Schema, example: str = "") -> str:
    """The page: rules, an example of a sweep in YAML, and a table of keys for each entry."""
    parts = [_HEAD]
    if example:
        parts.append(f"```yaml\n{example.rstrip()}\n```\n")
    settings = schema["$defs"]["Settings"]["properties"]
    for title, name, where in _SECTIONS:
        body = _mapping(schema["$defs"][name]) if name else schema
        left_out = settings if name == "SweepEntry" else {}
        parts.append(f"## {title}\n\n{where} {body.get('description', '')}\n".replace("\n ", "\n"))
        parts.append("\n".join(_table(body, left_out)) + "\n")
    return "\n".join(parts)


def example_of(text: str, name: str) -> str:
    """The lines of one sweep in the text of a sweep file, up to the next empty line."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line == f"  {name}:"), len(lines))
    stop = next((i for i in range(start, len(lines)) if not lines[i].strip()), len(lines))
    return "\n".join(["sweeps:", *lines[start:stop]]) if start < len(lines) else ""


def _mapping(definition: Schema) -> Schema:
    """The mapping itself, where text may stand for it."""
    return definition.get("anyOf", [definition])[-1]


def _table(body: Schema, left_out: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | values | default | what it means |"
    yield "| --- | --- | --- | --- |"
    needed = body.get("required", ())
    for key, node in body["properties"].items():
        if key not in left_out:
            default = "*needed*" if key in needed else _written(node.get("default"))
            meaning = " ".join(node["description"].split())
            row = (f"`{key}`", _values(node), default, meaning)
            yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _written(default: Any) -> str:
    if default is None:
        return ""
    values = default if isinstance(default, list) else [default]
    return ", ".join(f"`{v if isinstance(v, str) else json.dumps(v)}`" for v in values)


def _values(node: Schema) -> str:
    """What may stand at a key, in words."""
    choices = [choice for choice in node.get("anyOf", [node]) if choice.get("type") != "null"]
    words = list(dict.fromkeys(filter(None, map(_kind, choices))))
    lists = [choice for choice in choices if choice.get("type") == "array"]
    if len(choices) > 1 and lists and _values(lists[0]["items"]) in words:
        words.remove(_kind(lists[0]))
        words.append("a list")
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def _kind(node: Schema) -> str:
    if "$ref" in node:
        title = _TITLES[node["$ref"]]
        return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
    if "anyOf" in node:
        return _values(node)
    if "enum" in node:
        names = [f"`{name}`" for name in node["enum"]]
        return ", ".join(names) if len(names) <= _LONG else f"one of {len(names)} names"
    if node.get("type") == "array":
        pair = node.get("maxItems") == 2
        return "`[low, high]`" if pair else f"a list of {_values(node['items'])}"
    if node.get("type") == "object":
        return _object(node)
    if "%" in node.get("pattern", ""):
        return "a share as `5%`"
    if node.get("pattern", "").startswith("^(kl|"):
        return "a name with a limit as `kl=0.02`"
    if "[0-9]" in node.get("pattern", "") and "-" in node["pattern"].partition("[")[0]:
        return "a name with a number"
    plain = {"string": "text", "boolean": "`true`, `false`"}
    return plain.get(node.get("type", ""), "") or _number(node)


def _object(node: Schema) -> str:
    if "step" in node.get("properties", {}):
        return "a range"
    named = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    return f"by name: {_values(named[0])}" if isinstance(named[0], Mapping) else "a mapping"


def _number(node: Schema) -> str:
    if node.get("type") not in ("integer", "number"):
        return ""
    words = ["a whole number" if node["type"] == "integer" else "a number"]
    if "exclusiveMinimum" in node:
        words.append(f"above {node['exclusiveMinimum']:g}")
    elif node.get("minimum", -_LARGE) > -_LARGE:
        words.append(f"from {node['minimum']:g}")
    if node.get("maximum", _LARGE) < _LARGE:
        words.append(f"to {node['maximum']:g}")
    return " ".join(words)
