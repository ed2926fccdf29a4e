"""`sweep report --paper`: runs, counted activations and computed figures for `reports.paper`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from methods.thresholds import Quantiles, bin_edges
from reports.paper.registry import select
from reports.paper.source import Computed, Magnitudes, PaperRun, Source, read_run
from reports.paper.summary import page
from reports.paper.write import Drawn, build
from reports.report import write
from simulator.selfcheck import rows
from sweep.errors import InputError
from sweep.store.store import Store

_GLU_METHODS = ("glu", "glu-oracle")  # whose scores are abs(GLU(x))


def exhibits(
    folders: Sequence[Path], names: Sequence[str], out: Path | None, summary: Path | None
) -> list[Path]:
    """Draw exhibits of the paper from runs; returns the files.

    They go to `out`, by default the folder `paper` of the first run. `summary` is a Markdown page
    about all of them. Raises ReportError for an unknown exhibit, InputError for a folder that is no
    run's.
    """
    chosen = select(names)
    runs = [read_run(folder) for folder in folders]
    source = Source([replace(run, magnitudes=magnitudes(run)) for run in runs], computed())
    target = out or folders[0] / "paper"
    drawn = build(chosen, source, target)
    files = [path for drawing in drawn for path in drawing.files]
    if summary is not None:
        files += _summary(drawn, source, folders, names, summary)
    return files


def _summary(
    drawn: Sequence[Drawn],
    source: Source,
    folders: Sequence[Path],
    names: Sequence[str],
    summary: Path,
) -> list[Path]:
    """The page, and a copy of each figure in `images/PAGE` beside it."""
    runs = " ".join(f"runs/{folder.resolve().name}" for folder in folders)
    command = f"sweep report {runs} --paper {','.join(names)} --summary {summary.name}"
    images = summary.parent / "images" / summary.stem
    images.mkdir(parents=True, exist_ok=True)
    figures = [drawing.figure for drawing in drawn if drawing.figure is not None]
    copies = [write(images / path.name, path.read_text(encoding="utf-8")) for path in figures]
    text = page(drawn, source, command, f"images/{summary.stem}/")
    return [*copies, write(summary, text)]


def computed() -> Computed:
    """Figures of the tables that need no weights, as `sweep selfcheck` computes them."""
    figures: dict[tuple[str, str, str, float, float], float] = {}
    for check in rows():
        cell = check.cell
        method = "size_gb" if cell.method == "size" else cell.method
        table = cell.table.lower().replace(" ", "")
        figures[table, cell.model, method, cell.dram_gb, cell.flash_gbps] = check.computed
    return figures


def magnitudes(run: PaperRun) -> dict[str, Magnitudes]:
    """Counts of abs(GLU(x)) that calibrations behind a run's points have kept, by model."""
    keys = (run.run.plan.get("task_keys") or {}).get("calibrate") or []
    if not keys:
        return {}
    store = Store(Path(run.run.plan.get("store") or run.folder))
    keys = [
        key
        for key in keys
        if (calibration := store.done(key)) and "selector" not in calibration.payload
    ]
    counted_by_model = {}
    for model, key in _models(run, keys).items():
        record = store.done(key)
        counted = record is not None and record.payload.get("method") in _GLU_METHODS
        if counted and store.keeps(key):
            counted_by_model[model] = _counted(Quantiles.of(store.load(key)))
    return counted_by_model


def _models(run: PaperRun, keys: Sequence[str]) -> dict[str, str]:
    """The first of the tasks that stands behind a point of each model."""
    keys_by_model: dict[str, str] = {}
    for row in run.rows.values():
        for key in json.loads(row.get("task_keys") or "[]"):
            if key in keys and str(row["method"]) in _GLU_METHODS:
                keys_by_model.setdefault(str(row["model"]), key)
    return keys_by_model


def _counted(quantiles: Quantiles) -> Magnitudes:
    if len(quantiles.groups) != 1:
        raise InputError(f"one group of units was expected, not {[*quantiles.groups]}")
    ((bins, counts),) = quantiles.groups.values()
    edges = [bin_edges(np.asarray(bins, np.int64) + i) for i in (0, 1)]
    return Magnitudes(edges[0].tolist(), edges[1].tolist(), counts.tolist())
