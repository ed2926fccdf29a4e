"""What the store knows before a study begins, as the study's first trials.

Evaluations on the text that is tuned on, of earlier studies or other searches, say of which method,
density, γ and cache they are. From that comes a guess of what a trial would have chosen; the guess
counts if the plan of its point has no task that the store lacks. So what enters is what the trial
would have computed, and costs nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from methods import allocation, layers
from sweep.errors import SweepError
from sweep.files.atomic import write_json
from sweep.plan import planner as planning
from sweep.plan.materials import Materials
from sweep.plan.plan import PlannedPoint
from sweep.plan.point import Point
from sweep.results.rows import rows_of
from sweep.search.limits import Limit
from sweep.search.study import Study
from sweep.search.trial_entry import GROUPS, registered
from sweep.spec.spaces import BITS, CHUNK, DIGITS, Choices, Space, bounds, is_layer
from sweep.store.store import Store

FILE = "known.json"
MOST = 100
"""Known trials that a search begins with: those nearest to the budget."""
MOST_GUESSES = 5000
_SAME = ("weights", "text", "window_tokens", "dtype")
"""Fields of an evaluation that are those of the dense run."""

Parameters = dict[str, Any]


def remembered(journal: Path, name: str, look: Callable[[], list[Parameters]]) -> list[Parameters]:
    """What a search begins with: what was found when it began, for what it adds to the store itself
    must not enter when it goes on. A study of a release that did not look begins with nothing."""
    path = journal.with_name(FILE)
    begun = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if name not in begun:
        begun[name] = [] if journal.exists() and not path.exists() else look()
        write_json(path, begun)
    return begun[name]


def known_trials(
    study: Study, dense: PlannedPoint, limit: Limit | None, store: Store, materials: Materials
) -> list[Parameters]:
    """Parameters of trials that need nothing that the store lacks, each point once; of more than
    `MOST` those that are nearest to `limit`."""
    guesses: dict[Point, Parameters] = {}
    listed = study.recalled(store)
    given = _guesses(study, dense, store) if listed is None else listed
    for parameters, _ in zip(given, range(MOST_GUESSES), strict=False):
        try:
            guesses.setdefault(study.point(dense.point, parameters), parameters)
        except SweepError:
            continue
    try:
        plan = planning.plan_points(guesses, materials)
    except SweepError:
        return []
    done = [p for p in plan.points if all(store.done(key) is not None for key in p.measured)]
    rows = rows_of(done, store, materials)
    order = sorted(range(len(done)), key=lambda i: (_far(rows[i], limit), i))
    return [guesses[done[i].point] for i in sorted(order[:MOST])]


def _far(row: Mapping[str, Any], limit: Limit | None) -> float:
    return 0.0 if limit is None else abs(row[limit.column] - limit.most)


def _guesses(study: Study, dense: PlannedPoint, store: Store) -> Iterator[Parameters]:
    """What trials may have chosen, by evaluations like the dense run, in an order that does not
    depend on when they were run."""
    ours = store.records[dense.evaluate_keys[0]].payload
    alike: dict[str, Mapping[str, Any]] = {}
    for record in store.records.values():
        payload = record.payload
        if record.kind != "evaluate" or record.status != "done" or not payload["selector"]:
            continue
        if all(payload.get(name) == ours.get(name) for name in _SAME):
            alike[_identity(payload)] = payload
    for identity in sorted(alike):
        said = _said(alike[identity]) | _split_said(alike[identity])
        yield from _choices_of(study.space, said | _logits_said(study.space, alike[identity]))


def _identity(payload: Mapping[str, Any]) -> str:
    chosen = {k: v for k, v in payload["selector"].items() if k not in ("slots", "reads")}
    named = [payload[name] for name in ("method", "density", "parameters")]
    return json.dumps([*named, chosen], sort_keys=True)


def _choices_of(space: Mapping[str, Space], said: Mapping[str, Any]) -> Iterator[Parameters]:
    axes = [_values(key, one, said) for key, one in space.items()]
    for values in product(*axes):
        yield dict(zip(space, values, strict=True))


def _said(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation says of the choices of its trial, by the names of a study."""
    selector = payload["selector"]
    name = selector["name"]
    said = {"method": payload["method"], "density": payload["density"]}
    said |= {CHUNK: selector.get("chunk", 1)}
    said["selector"] = "topk" if name == "cache-aware" else name
    said |= {"gamma": selector.get("gamma", 1.0)} if said["selector"] == "topk" else {}
    said |= {key: selector[key] for key in ("policy",) if key in selector}
    return said | {k: v for k, v in payload["parameters"].items() if not isinstance(v, str)}


def _split_said(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Densities of dip's two groups, from the density and the line that splits it."""
    line, density = payload["parameters"].get("allocation"), payload["density"]
    if line is None:
        return {}
    d_in = allocation.parse(line).input_density(density)
    densities = (d_in, 3 * density - 2 * d_in)
    return dict(zip(GROUPS, (round(d, DIGITS) for d in densities), strict=True))


def _logits_said(space: Mapping[str, Space], payload: Mapping[str, Any]) -> dict[str, Any]:
    """Logits of layers, from their densities: what is added to all changes nothing, so it is chosen
    to lie in the middle of what is searched. A full layer does not tell its logit."""
    names = [name for name in space if is_layer(name)]
    own = layers.parse(str(payload["parameters"].get("layers", "")))
    if not names or (own and (len(own) != len(names) or max(own) >= 1)):
        return dict.fromkeys(names, math.nan)
    logs = [math.log(density / own[0]) for density in own] or [0.0] * len(names)
    middle = sum(bounds(space[names[0]])) / 2 if own else 0.0
    shift = round((min(logs) + max(logs)) / 2 - middle, DIGITS)
    return {n: round(round(x, DIGITS) - shift, DIGITS) for n, x in zip(names, logs, strict=True)}


def _values(key: str, space: Space, said: Mapping[str, Any]) -> list[Any]:
    """The values that a trial may have had: the one that is said, if it can be searched; of what is
    not said every name, and one number, which makes another point if it matters."""
    if isinstance(space, Choices) and (key == BITS or isinstance(space.values[0], str)):
        listed = list(space.values)
        if key == "method":
            return [name for name in listed if registered(str(name)) == said["method"]]
        return [name for name in listed if name == said[key]] if key in said else listed
    low, high = bounds(space)
    if key not in said:
        return [high]
    value = said[key]
    if isinstance(space, Choices):
        return [v for v in space.values if math.isclose(v, value, abs_tol=1e-9)][:1]
    return [value] if low <= value <= high else []
