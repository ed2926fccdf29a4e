"""`sweep report --paper`: runs, counted activations and computed figures for `reports.paper`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from methods.thresholds import Quantiles, bin_edges
from reports.paper.registry import select
from reports.paper.source import Computed, Magnitudes, Source, read_run
from reports.paper.summary import page
from reports.paper.write import Drawn, build
from reports.report import write
from simulator.selfcheck import rows
from sweep.errors import InputError
from sweep.store import Store

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
    source = Source([read_run(folder, magnitudes(folder)) for folder in folders], computed())
    place = out or folders[0] / "paper"
    drawn = build(chosen, source, place)
    files = [path for one in drawn for path in one.files]
    if summary is not None:
        files.append(_summary(drawn, source, folders, names, place, summary))
    return files


def _summary(
    drawn: Sequence[Drawn],
    source: Source,
    folders: Sequence[Path],
    names: Sequence[str],
    place: Path,
    summary: Path,
) -> Path:
    runs = " ".join(folder.name for folder in folders)
    command = f"sweep report {runs} --paper {','.join(names)} --summary {summary.name}"
    images = Path(os.path.relpath(place, summary.parent)).as_posix()
    return write(summary, page(drawn, source, command, f"{images}/"))


def computed() -> Computed:
    """Figures of the tables that need no weights, as `sweep selfcheck` computes them."""
    found: dict[tuple[str, str, str, float, float], float] = {}
    for check in rows():
        cell = check.cell
        method = "size_gb" if cell.method == "size" else cell.method
        table = cell.table.lower().replace(" ", "")
        found[table, cell.model, method, cell.dram_gb, cell.flash_gbps] = check.computed
    return found


def magnitudes(folder: Path) -> dict[str, Magnitudes]:
    """Counts of abs(GLU(x)) that calibrations of a run have kept, by model."""
    try:
        planned = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # without a plan there are no calibrations to look for
    if not isinstance(planned, dict):
        return {}
    store = Store(Path(planned.get("store") or folder))
    found = {}
    for key in (planned.get("task_keys") or {}).get("calibrate", []):
        record = store.done(key)
        if record is None or record.payload.get("method") not in _GLU_METHODS:
            continue
        if store.artefact(key) is not None:
            known = Quantiles.of(store.load(key))
            found[record.label.split()[-1]] = _counted(known)
    return found


def _counted(known: Quantiles) -> Magnitudes:
    if len(known.groups) != 1:
        raise InputError(f"one group of units was expected, not {[*known.groups]}")
    ((bins, counts),) = known.groups.values()
    edges = [bin_edges(np.asarray(bins, np.int64) + i) for i in (0, 1)]
    return Magnitudes(edges[0].tolist(), edges[1].tolist(), counts.tolist())
