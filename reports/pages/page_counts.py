"""The page's second document: counts of reads, from which it prices points anew.

It is deflated and base64-coded, because the counts of 10,000 points take tens of megabytes as
text, and it is read only when a chart or a slider first asks for it.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from reports.findings.points import Point, Setting, number
from reports.findings.pricing import Group, Law, Reads, law_of, parse, speed_in
from reports.pages.page_data import coded
from reports.reading.run import Run

_EQUAL = 1e-6  # how near a speed must come to the stored one for its counts to be trusted


def counts_document(run: Run) -> dict[str, Any]:
    """Counts of a run as JSON values.

    `of[i]` is the place in `reads` of the counts of point `i`, or -1 where it has none or where
    they do not give the speed in the table; `static[i]` its static bytes; `dense[k]` the static
    bytes of the dense model in setting `k`. Lists of counts are written as `steps`, curves twice.
    `laws[k]` is what the device of setting k says of its reads. `tasks` and `seed` are the
    point's, dictionary-coded.
    """
    places: dict[str, int] = {}
    parsed: list[Reads | None] = []
    of: list[int] = []
    laws: dict[Setting, Law | None] = {}
    static: list[float | None] = []
    for point, row, written in zip(run.points, run.rows, run.reads, strict=True):
        key = written or ""
        if key not in places:
            places[key] = len(parsed)
            parsed.append(parse(key))
        size = number(row.get("static_bytes"))
        law = law_of(row.get("flash_law"))
        laws[point.setting] = law
        of.append(places[key] if _agrees(point, parsed[places[key]], size, law) else -1)
        static.append(size if math.isfinite(size) else None)
    return {
        "of": of,
        "static": static,
        "reads": [None if groups is None else [_written(g) for g in groups] for groups in parsed],
        "dense": _dense(run, of, static, parsed, laws),
        "laws": [laws.get(setting) for setting in run.settings],
        "tasks": coded(str(row.get("task_keys") or "[]") for row in run.rows),
        "seed": coded("" if row.get("seed") is None else str(row["seed"]) for row in run.rows),
    }


def packed(counts: dict[str, Any]) -> str:
    """The document as base64 of deflated JSON, which needs no escaping anywhere."""
    written = json.dumps(counts, allow_nan=False, separators=(",", ":")).encode()
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(deflate.compress(written) + deflate.flush()).decode()


def _agrees(point: Point, groups: Reads | None, static: float, law: Law | None) -> bool:
    """Whether the counts give the speed of the table: only then may they give another."""
    if groups is None or not point.measured or not math.isfinite(static):
        return False
    s = point.setting
    if not min(s.dram_gb, s.flash_gbps, s.dram_gbps) > 0:
        return False
    return math.isclose(speed_in(s, groups, static, law), point.tokens_per_s, rel_tol=_EQUAL)


def _dense(
    run: Run,
    of: Sequence[int],
    static: Sequence[float | None],
    parsed: Sequence[Reads | None],
    laws: Mapping[Setting, Law | None],
) -> list[float | None]:
    """Static bytes of the dense model of each setting, if they give its speed in the table."""
    sizes: dict[Setting, float] = {}
    for i, point in enumerate(run.points):
        size = static[i]
        if of[i] < 0 or size is None:
            continue
        pruned = sum(g.total_bytes for g in parsed[of[i]] or ())
        overhead = point.overhead_bytes if math.isfinite(point.overhead_bytes) else 0.0
        whole = size - overhead + pruned
        s = point.setting
        dense = speed_in(s, (), whole, laws.get(s))
        if math.isclose(dense, point.tokens_per_s_dense, rel_tol=_EQUAL):
            sizes[s] = max(whole, sizes.get(s, 0.0)) if not point.dense else whole
    return [sizes.get(setting) for setting in run.settings]


def _written(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "units": group.units,
        "layers": group.layers,
        "bytes": group.unit_bytes,
        "slots": group.slots,
        "used": _plain(group.used),
        "missed": steps(group.missed),
        "count": group.count,
        "usedByLayer": _plain(group.used_by_layer),
        "hitRates": steps(_rates(group)),
        "curve": steps(steps(group.hits_by_percent)),
        **({"came": asdict(group.came)} if group.came else {}),
        **({} if group.share is None else {"share": group.share}),
    }


def _rates(group: Group) -> list[int]:
    """Hit rate of each layer in thousandths, which is what a chart shows; -1 for none used."""
    pairs = zip(group.hits_by_layer, group.used_by_layer, strict=False)
    return [round(1000 * hits / used) if used else -1 for hits, used in pairs]


def _plain(values: Sequence[int]) -> int | Sequence[int]:
    """One number where all are equal, as with a top-k; steps otherwise."""
    return values[0] if values and all(v == values[0] for v in values) else steps(values)


def steps(values: Sequence[int]) -> list[int]:
    """The first value, then differences of neighbours: small numbers, which deflate well."""
    return [*values[:1], *(b - a for a, b in pairwise(values))]
