"""Descriptions of the sweep file's keys, for its schema: the texts under the fields of its entries.

They are read from the source when a schema is asked for, so that no other command waits for it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import methods
from methods.registry import method_class
from methods.static import quantiser
from sweep.spec.names import LAM

Schema = dict[str, Any]

_PARAMETERS: Mapping[str, str] = {
    "width": "hidden units of a predictor",
    "tokens": "tokens of the calibration text that predictors are trained on",
    "epochs": "how many times predictors see these tokens, at most",
    "allocation": "how the density is split over the two groups: paper, uniform, a fit of your own"
    " {slope, intercept}, or a JSON file that holds one",
    "layers": 'a density for each layer, with the mean `density`: text "0.4 0.6", or a JSON file'
    " (`sweep tune` writes one); left out: all alike",
    "lean": "density of W_up less that of W_gate",
    "pattern": 'unstructured, or "2:4" or "4:8", which have the density 0.5',
    "calibration_windows": "windows of the calibration text to learn from, if it has as many",
    "damping": "share of the mean second moment of the inputs that is added to each",
    "act_order": "whether columns with large inputs are rounded first",
    "iterations": "rounds of fitting a codebook",
    "rank": "rank of the adapters; of losa the mean one of the first round, 1 more in each",
    "steps": "steps that adapters are trained for; of losa in a round, six times in the last",
    "variant": "paper: as its source writes it; code: as released, where that differs (section 2 of"
    " docs/semantics.md)",
    "batch": "windows of a step",
    "learning_rate": "highest learning rate of the adapters",
}


_PRICE = (
    "With selector read-aware: what a second of reads is worth, of a token's largest score; the "
    "density is then what comes of it, and none is written. Left out: what meets the density."
)


def field_docs(cls: type) -> dict[str, str]:
    """The text under each field of a class and of what it inherits from, each as one line."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        path = getattr(sys.modules.get(base.__module__), "__file__", None)
        docs |= _texts(path).get(base.__name__, {}) if path else {}
    return docs


def method_parameters() -> dict[str, Schema]:
    """What every parameter of a method means, and its default. A price of reads has none: left out,
    it is found."""
    classes = {name: method_class(name) for name in methods.names()}
    every = _parameters({name: (cls, cls.parameter_names()) for name, cls in classes.items()})
    own = every[LAM]
    own["description"] = f"{_PRICE} {own['description']} Left out: {own['default']}."
    own["default"] = None
    own_shares = {name: ", ".join(getattr(cls, "own_shares", ())) for name, cls in classes.items()}
    for name, known in own_shares.items():
        every["shares"]["description"] += f" Of {name} also {known}." if known else ""
    return every


def quantiser_parameters() -> dict[str, Schema]:
    """What every parameter of a quantiser means, and its default."""
    return _parameters(
        {n: (quantiser.quantiser_class(n), quantiser.parameter_names(n)) for n in quantiser.names()}
    )


def _parameters(owners: Mapping[str, tuple[Any, tuple[str, ...]]]) -> dict[str, Schema]:
    """By parameter: whose it is, what it means, and its default."""
    users: dict[str, list[str]] = {}
    defaults: dict[str, dict[str, Any]] = {}
    docs: dict[str, str] = {}
    for name, (cls, parameters) in owners.items():
        values = {field.name: field.default for field in dataclasses.fields(cls)}
        for parameter in parameters:
            users.setdefault(parameter, []).append(name)
            if values[parameter] is not dataclasses.MISSING:
                defaults.setdefault(parameter, {})[name] = values[parameter]
            docs.setdefault(parameter, field_docs(cls).get(parameter, "a parameter").rstrip("."))
    return {
        parameter: _schema(names, text, defaults.get(parameter, {}))
        for parameter, names in users.items()
        for text in [_PARAMETERS.get(parameter, docs[parameter])]
    }


def _schema(names: Sequence[str], text: str, defaults: Mapping[str, Any]) -> Schema:
    """A parameter, with the default of the first that has one, and of others where they differ."""
    usual = next(iter(defaults.values()), None)
    differing = {name: value for name, value in defaults.items() if value != usual}
    others = "".join(f" Default of {name}: {value}." for name, value in differing.items())
    return {"description": f"Of {', '.join(names)}: {text}.{others}", "default": usual}


@cache
def _texts(path: str) -> dict[str, dict[str, str]]:
    """By class and field of a file: the string that follows the field; none without a source."""
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: _field_texts(node) for node in classes}


def _field_texts(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for field, below in zip(node.body, node.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            texts[field.target.id] = " ".join(inspect.cleandoc(str(below.value.value)).split())
    return texts
