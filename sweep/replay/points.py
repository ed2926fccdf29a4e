"""Which points of a run are replayed, and which units they miss, in the order of their layout."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.findings.points import configuration, device_label
from reports.findings.points import points as points_of
from reports.results import read_table, rows
from simulator.misses import miss_masks
from simulator.packing import unpack
from sweep.errors import InputError
from sweep.store.store import Store
from sweep.tasks.task import Record

MOST = 10
"""Points that are replayed where none is named."""


@dataclass(frozen=True, slots=True, eq=False)
class Phases:
    """One group of one layer: missed and used units bool `[tokens, units]`, as they lie in
    Flash."""

    missed: NDArray[np.bool_]
    used: NDArray[np.bool_]
    unit_bytes: int
    """Bytes of a unit, rounded up to a whole number."""


@dataclass(frozen=True, slots=True, eq=False)
class Replayable:
    """A point whose masks are kept."""

    key: str
    label: str
    phases: tuple[Phases, ...]
    """Layer by layer, in each the groups in the order in which a layer needs them."""

    @property
    def tokens(self) -> int:
        return len(self.phases[0].missed)


def replayable(run: Path, keys: Sequence[str], tokens: int) -> list[Replayable]:
    """The points that are named by the beginnings of their keys, or else up to `MOST` of those
    whose masks are kept, the fastest and the slowest among them; of each the misses of so many
    tokens in the middle of a window, behind a cache that has seen the tokens before them.

    Raises InputError for a key that is none or several, and where no masks are kept.
    """
    if tokens < 1:
        raise InputError(f"--tokens {tokens}: 1 or more are expected")
    listed = [row for row in rows(read_table(run / "results.parquet")) if row["status"] == "done"]
    bulky = dict(zip(*_reads(run), strict=True))
    store = Store(run)
    if not any(row.get("layout") for row in listed):
        raise InputError(f"{run}: {_NO_CURVE}")
    held = [row for row in listed if row.get("layout") and _simulation(store, row) is not None]
    if not held:
        raise InputError(
            f"{run}: no masks are kept, so there is nothing to replay; run it again with "
            "keep_traces: true, or a larger traces_gb"
        )
    chosen = [_named(store, listed, held, key) for key in keys] or _spread(held)
    return [_replayable(store, row, bulky[str(row["point_key"])], tokens) for row in chosen]


_NO_CURVE = (
    "its device says nothing of what a read costs, so nothing is predicted for its reads; give it "
    "latency_us or a table of flash (sweep probe writes one)"
)


def _reads(run: Path) -> tuple[list[str], list[str]]:
    """Keys of points, and the counts behind their speeds."""
    table = read_table(run / "results.parquet")
    return table.column("point_key").to_pylist(), table.column("reads").to_pylist()


def _named(store: Store, listed: Sequence[Any], held: Sequence[Any], key: str) -> Any:
    matching = [row for row in listed if str(row["point_key"]).startswith(key)]
    if len(matching) != 1:
        many = f"begins the keys of {len(matching)} points" if matching else "is no point's key"
        raise InputError(f"--point {key!r} {many}; keys are in the column point_key of the run")
    if not matching[0].get("layout") and _simulation(store, matching[0]) is not None:
        raise InputError(f"--point {key}: {_NO_CURVE}")
    if matching[0] not in held:
        raise InputError(
            f"--point {key}: its masks are not kept (keep_traces, traces_gb), or nothing is pruned"
        )
    return matching[0]


def _spread(held: Sequence[Any]) -> list[Any]:
    ordered = sorted(held, key=lambda row: (-float(row["tokens_per_s"]), str(row["point_key"])))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(MOST, len(ordered))).round())
    return [ordered[int(place)] for place in places]


def _simulation(store: Store, row: Any) -> Record | None:
    """The first simulation of a point whose trace, and whose order if it has one, are kept."""
    for key in json.loads(row["task_keys"]):
        record = store.records.get(key)
        if record is not None and record.kind == "simulate":
            if "preload_layers" in record.payload:  # of which no real reads are done yet
                return None
            inputs = record.payload["inputs"].values()
            return record if all(store.artefact(one) is not None for one in inputs) else None
    return None


def _replayable(store: Store, row: Any, counts: str, tokens: int) -> Replayable:
    record = _simulation(store, row)
    assert record is not None
    payload, groups = record.payload, json.loads(counts)
    handed = {role: store.load(key) for role, key in payload["inputs"].items()}
    trace, phases = handed["trace"], list[Phases]()
    first = max(0, min(trace.lengths[0] // 2, trace.lengths[0] - tokens))
    for layer in range(trace.layers):
        for group, units in trace.units.items():
            start = handed["start"][group][layer] if "start" in handed else None
            slots, masks = payload["slots"][group], trace.masks(group, layer, 0)
            packed = miss_masks(masks, slots, payload["policy"], start, units=units)
            both = [unpack(bits, units)[first : first + tokens] for bits in (packed, masks)]
            if "order" in handed:
                both = [bits[:, handed["order"][group][layer]] for bits in both]
            phases.append(Phases(both[0], both[1], math.ceil(groups[group]["unit_bytes"])))
    (point,) = points_of([row])
    label = f"{configuration(point)}, {device_label(point.setting)}"
    return Replayable(str(row["point_key"]), label, tuple(phases))
