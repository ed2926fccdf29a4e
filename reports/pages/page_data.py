"""The data that the page's own script draws from: one JSON document of columns.

Texts are dictionary-coded and numbers carry seven significant digits, but for those that budgets
are held against, so 10,000 points take a few megabytes. The document is escaped for a `<script>`
element: it cannot end it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from reports.findings.budgets import KL, PPL
from reports.findings.costs import UNMEASURED
from reports.findings.points import Point, device_label, weights_label
from reports.findings.policies import policy_names
from reports.pages.palette import looks, policy_looks
from reports.pages.summary import frontier_points
from reports.reading import timeline
from reports.reading.command import recompute
from reports.reading.run import Run

TEXT_COLUMNS = (
    *("series", "method", "selector", "allocation", "told", "policy", "status", "error"),
    *("layout", "cache_shares"),
)
NUMBER_COLUMNS = (
    *("density", "mlp_density", "gamma", "cache_fraction", "ppl", "ppl_dense"),
    *("delta_ppl", "delta_ppl_low", "delta_ppl_high", "hit_rate"),
    *("flash_bytes_per_token", "dram_bytes_per_token", "tokens_per_s", "tokens_per_s_dense"),
    *("overhead_bytes", "reads_per_token", "mean_read_bytes", "ppl_ratio_high"),
    *("kl", "kl_low", "kl_high", "flip_rate", "flip_rate_low", "flip_rate_high"),
    "linear_density",
    *("chunk", "preload_layers", "wasted", "tokens_per_s_paper"),
)
KEY = "@@@"  # stands for a point's key in the command that computes it again
_WHOLE = ("ppl_dense", "delta_ppl", "delta_ppl_high", "ppl_ratio_high", "kl", "kl_high")
"""Compared with budgets: not shortened."""
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def results_document(run: Run) -> dict[str, Any]:
    """Columns, settings, series, policies and budgets of a run as JSON values."""
    position = {setting: i for i, setting in enumerate(run.settings)}
    columns: dict[str, Any] = {n: coded(getattr(p, n) for p in run.points) for n in TEXT_COLUMNS}
    columns |= {n: [_number(n, getattr(p, n)) for p in run.points] for n in NUMBER_COLUMNS}
    columns["key"] = [p.point_key for p in run.points]
    columns["setting"] = [position[p.setting] for p in run.points]
    columns["flags"] = [_flags(p) for p in run.points]
    columns["plain_flash"] = _plain_flash(run)
    columns["place"] = _places(run)
    for task in run.accuracy_tasks:
        columns[f"acc_{task}"] = [short(row.get(f"acc_{task}")) for row in run.rows]
    return {
        "count": len(run.points),
        "columns": columns,
        "accuracyTasks": list(run.accuracy_tasks),
        "settings": _settings(run),
        "series": _series(run.points),
        "policies": _policies(run.points),
        "timeline": timeline.document(run.tasks),
        "study": run.study,
        "versions": _versions(run),
        "command": recompute(run.provenance, run.title, KEY),
        "distances": run.has_distances,
        "attention": run.prunes_attention,
        "unmeasured": UNMEASURED,
        "budgets": [{"label": b.label, **asdict(b)} for b in run.budgets if b.of in (PPL, KL)],
    }


def _versions(run: Run) -> dict[str, str]:
    """Versions, the state of the code and the machine's processor, as the run recorded them."""
    recorded, git = run.provenance.get("versions"), run.provenance.get("git")
    versions = {str(k): str(v) for k, v in recorded.items()} if isinstance(recorded, dict) else {}
    if isinstance(git, dict) and git.get("sha"):
        versions["git"] = f"{git['sha']}{' with changes' if git.get('dirty') else ''}"
    return versions


def _settings(run: Run) -> list[dict[str, Any]]:
    return [
        {
            **asdict(setting),
            "weights": weights_label(setting),
            "label": device_label(setting, run.told_apart),
        }
        for setting in run.settings
    ]


def _series(points: Sequence[Point]) -> list[dict[str, Any]]:
    series_looks = looks(p.series for p in points)
    plain = {p.series: p.plain if p.cache_aware else "" for p in points}
    return [{"name": n, "plain": plain[n], **asdict(look)} for n, look in series_looks.items()]


def _policies(points: Sequence[Point]) -> list[dict[str, Any]]:
    policy_styles = policy_looks(policy_names(points))
    example = {p.policy: p for p in points}
    return [
        {
            "name": n,
            "light": look.light,
            "dark": look.dark,
            "dash": look.dash,
            "symbol": look.symbol,
            "offline": example[n].policy_offline,
            "rank": example[n].policy_rank,
        }
        for n, look in policy_styles.items()
    ]


def _places(run: Run) -> list[int | None]:
    """Place of each point on the frontiers of the settings, one after the other; None beside."""
    order = {p.point_key: i for i, p in enumerate(frontier_points(run.points))}
    return [order.get(p.point_key) for p in run.points]


def _flags(point: Point) -> int:
    """Bit 0 measured, bit 1 cache-aware, bit 2 bound."""
    return int(point.measured) + 2 * int(point.cache_aware) + 4 * int(point.bound)


def _plain_flash(run: Run) -> list[float | None]:
    """For each cache-aware point, Flash bytes of the plain method at the same ΔPPL."""
    plain_bytes = {id(c.point): c.plain_bytes for c in run.comparisons}
    return [short(plain_bytes.get(id(p))) for p in run.points]


def coded(values: Iterable[str]) -> dict[str, list[Any]]:
    """`{"names": distinct values, "codes": their positions}`."""
    names: dict[str, int] = {}
    codes = [names.setdefault(value, len(names)) for value in values]
    return {"names": list(names), "codes": codes}


def _number(name: str, value: float) -> float | int | None:
    if name not in _WHOLE:
        return short(value)
    return value if math.isfinite(value) else None


def short(value: float | None) -> float | int | None:
    """`value` to seven significant digits, None for what is not finite."""
    if value is None or not math.isfinite(value):
        return None
    rounded = float(f"{value:.7g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def script_json(document: Any) -> str:
    """JSON that may stand inside a `<script>` element."""
    written = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in _UNSAFE.items():
        written = written.replace(character, escape)
    return written
