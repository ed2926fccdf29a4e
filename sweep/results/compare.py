"""`sweep compare`: reads runs and stores, pairs their windows, and asks `reports.compare`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reports.compare.changes import Changes, Intervals, Side, compare, side
from reports.compare.gate import Gate, Verdict, judge, parse
from reports.findings.budgets import Budget, parse_all
from reports.reading import certified
from reports.results import Row, read_table, rows, with_facts
from sweep.errors import InputError
from sweep.keys import digest
from sweep.results.perplexity import Losses, change_interval
from sweep.store.store import Store
from sweep.tasks.task import Record

Windows = dict[int, tuple[float, float]]
"""Summed loss and predicted tokens of each window."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A run or store as it is compared: `losses` by key of the point, own and dense."""

    side: Side
    budgets: tuple[Budget, ...]
    losses: Mapping[str, tuple[Evaluated, Evaluated | None]]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Losses by window, and the text, window length and BOS that they belong to."""

    text: tuple[str, int, str]
    windows: Windows

    @property
    def perplexity(self) -> float:
        return losses_of(self, sorted(self.windows)).perplexity


def run(folders: Sequence[Path], expressions: Sequence[str]) -> list[tuple[Changes, list[Verdict]]]:
    """The first folder against each of the others, and what each expression finds there.

    Raises InputError for a folder that is neither run nor store, ReportError for an expression that
    cannot be read or finds nothing to look at.
    """
    gates = [parse(text) for text in expressions]
    if len(folders) < 2:
        raise InputError("two runs at least are needed to compare: sweep compare OLD NEW")
    names = _names(folders)
    old, *others = [_measured(f, name) for f, name in zip(folders, names, strict=True)]
    return [_compared(old, new, gates) for new in others]


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or whole paths where two would be alike."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _compared(old: Measured, new: Measured, gates: Sequence[Gate]) -> tuple[Changes, list[Verdict]]:
    gated = [g.budget for g in gates if g.budget is not None]
    budgets = parse_all([*old.budgets, *new.budgets, *gated])
    bare = compare(old.side, new.side, budgets)
    pairs = [(pair.old.point_key, pair.new.point_key) for pair in bare.pairs]
    changes = compare(old.side, new.side, budgets, intervals(old, new, pairs))
    return changes, [judge(gate, changes) for gate in gates]


def intervals(old: Measured, new: Measured, pairs: Iterable[tuple[str, str]]) -> Intervals:
    """95 % intervals of the changes of ppl and delta_ppl, where both sides have the windows."""
    changes: dict[tuple[str, str], tuple[float, float]] = {}
    for old_key, new_key in pairs:
        a, b = old.losses.get(old_key), new.losses.get(new_key)
        if a is None or b is None or a[0].text != b[0].text:
            continue
        shared = sorted(set(a[0].windows) & set(b[0].windows))
        both = losses_of(a[0], shared), losses_of(b[0], shared)
        changes[new_key, "ppl"] = change_interval(*both)
        base = [losses_of(d, shared) for d in (a[1], b[1]) if d and d.windows.keys() >= {*shared}]
        if len(base) == 2:
            changes[new_key, "delta_ppl"] = change_interval(*both, base[0], base[1])
    return {key: pair for key, pair in changes.items() if all(map(math.isfinite, pair))}


def losses_of(evaluated: Evaluated, windows: Sequence[int]) -> Losses:
    """The losses of these windows, in this order."""
    values = [evaluated.windows[w] for w in windows]
    nll, predicted = (np.array([v[i] for v in values], dtype=np.float64) for i in (0, 1))
    return Losses(nll, predicted)


# -- reading ---------------------------------------------------------------------------------


def _measured(folder: Path, name: str) -> Measured:
    if (folder / "results.parquet").is_file():
        return _of_run(folder, name)
    if (folder / "journal.jsonl").is_file():
        return _of_store(folder, name)
    raise InputError(f"{folder} is neither the folder of a run nor a store")


def _of_run(folder: Path, name: str) -> Measured:
    table = rows(read_table(folder / "results.parquet"))
    planned = _read_json(folder / "plan.json")
    store = Store(Path(planned.get("store") or folder))
    losses_by_point = {}
    for row in table:
        losses = _losses(row, store)
        if losses is not None:
            losses_by_point[str(row["point_key"])] = losses
    budgets = planned.get("budgets")
    read = side(name, table)
    said, _ = certified.read(folder, read.points)
    read = replace(read, certified=said.cells if said else {})
    return Measured(read, parse_all(budgets if budgets else ()), losses_by_point)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # the table is enough to compare; windows are then unknown
    return document if isinstance(document, dict) else {}


def _losses(row: Row, store: Store) -> tuple[Evaluated, Evaluated | None] | None:
    """A point's own losses and those of its dense run, told apart by the row's perplexities."""
    keys = json.loads(row.get("task_keys") or "[]")
    records = [r for key in keys if (r := store.done(key)) is not None and r.kind == "evaluate"]
    evaluations = [(e, e.perplexity) for e in _evaluations(records).values()]
    evaluated = next((e for e, ppl in evaluations if _close(ppl, row.get("ppl"))), None)
    dense = next((e for e, ppl in evaluations if _close(ppl, row.get("ppl_dense"))), None)
    return None if evaluated is None else (evaluated, dense)


def _close(a: float, b: float | None) -> bool:
    return b is not None and math.isclose(a, b, rel_tol=1e-12)


def _evaluations(records: Iterable[Record]) -> dict[str, Evaluated]:
    """Evaluations by what they are, their shards put together."""
    evaluations: dict[str, Evaluated] = {}
    for record in records:
        payload = {k: v for k, v in record.payload.items() if k != "windows"}
        bos = str(payload.get("bos", ""))
        text = str(payload.get("text")), int(payload.get("window_tokens") or 0), bos
        evaluation = evaluations.setdefault(digest(payload), Evaluated(text, {}))
        result = record.result
        values = zip(record.payload["windows"], result["nll"], result["predicted"], strict=True)
        evaluation.windows.update({w: (nll, predicted) for w, nll, predicted in values})
    return evaluations


def _of_store(folder: Path, name: str) -> Measured:
    """A store without a table: each of its evaluations is a point, with a perplexity alone."""
    groups: dict[str, list[Record]] = {}
    for record in Store(folder).records.values():
        if record.kind == "evaluate":
            settings = {k: v for k, v in record.payload.items() if k not in ("windows", "code")}
            groups.setdefault(digest(settings), []).append(record)
    losses_by_point, table = {}, []
    for key, records in groups.items():
        done = [r for r in records if r.status == "done"]
        losses = next(iter(_evaluations(_newest(done)).values()), None)
        table.append(_store_row(key, records, losses))
        if losses is not None:
            losses_by_point[key] = (losses, None)
    return Measured(side(name, with_facts(table)), (), losses_by_point)


def _newest(records: Sequence[Record]) -> list[Record]:
    """The records of the code that ran last: others may be of former versions."""
    last = max(records, key=lambda r: r.ended, default=None)
    code = last.payload.get("code") if last else None
    return [r for r in records if r.payload.get("code") == code]


def _store_row(key: str, records: Sequence[Record], losses: Evaluated | None) -> Row:
    payload, failed = records[0].payload, next((r for r in records if r.status != "done"), None)
    chosen = payload.get("selector") or {}
    aware = "gamma" in chosen
    return {
        "point_key": key,
        "model": records[0].label.partition(" window ")[0],
        "method": payload.get("method"),
        "density": payload.get("density"),
        "selector": "cache-aware" if aware else chosen.get("name", "topk"),
        "gamma": chosen.get("gamma", 1.0),
        "policy": chosen.get("policy", "none"),
        "parameters": json.dumps(payload.get("parameters") or {}),
        "ppl": None if losses is None else losses.perplexity,
        "mlp_density": records[0].result.get("mlp_density"),
        "windows": None if losses is None else len(losses.windows),
        "window_tokens": payload.get("window_tokens"),
        "dense_tokens": payload.get("dense_tokens", 0),
        "dtype": payload.get("dtype"),
        "text": str(payload.get("text"))[:12],
        "status": "failed" if failed or losses is None else "done",
        "error": failed.error if failed else "",
    }
