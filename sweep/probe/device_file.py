"""The device file: what the simulator needs to know of the machine, and all rows beside it.

A curve is made of valid rows alone: where direct I/O is refused or nothing valid was read, there is
no device file, only the rows with their reasons.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from sweep.errors import InputError
from sweep.files.atomic import replace
from sweep.probe import fit, memory
from sweep.probe.run import Outcome

NAME = "device.yaml"


def rows_file(out: Path) -> Path:
    """Where the rows of a device file are: beside it, as lines of JSON."""
    return out.with_suffix(".jsonl")


def check_out(out: Path, force: bool) -> None:
    """Raises InputError where a device file cannot be written, or would write over another."""
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out {out}: a device file ends in .yaml")
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: {out.parent} is no folder")
    for path in (out, rows_file(out)):
        if path.is_dir():
            raise InputError(f"{path} is a folder; name another file with --out")
        if path.exists() and not force:
            raise InputError(f"{path} exists; give --force to replace it, or another --out")


def refusal(outcome: Outcome) -> str:
    """Why there can be no device file; empty where there can."""
    if outcome.curves:
        return ""
    refused = outcome.machine["direct_refused"]
    if refused:
        return f"direct I/O is refused here ({refused}), so no curve of the storage was measured"
    reasons = sorted({row.reason for row in outcome.rows if row.reason})
    why = reasons[0] if reasons else "two read sizes at one depth are needed"
    return f"no depth has two valid rows of random direct reads: {why}"


def device(outcome: Outcome, name: str, command: str, day: date) -> dict[str, Any]:
    """The fields of a device, in their order in the file. `outcome` has a curve."""
    machine = outcome.machine
    where = f"{machine['file_system'] or 'unknown file system'}, {machine['os']}"
    return {
        "name": name,
        "title": f"{machine['processor']}, {where}",
        "dram_gb": fit.figure(machine["free_memory_bytes"] / 1e9),
        "flash_gbps": fit.figure(fit.most_gbps(outcome.rows)),
        "dram_gbps": fit.figure(memory.best(outcome.rates, "read")),
        "flash": {
            "depth": {
                curve.depth: [[size, gbps] for size, gbps in curve.points]
                for curve in outcome.curves
            }
        },
        "io_depth": fit.best_depth(outcome.curves),
        "align_bytes": machine["align_bytes"],
        "compute_gbps": fit.figure(memory.best(outcome.rates, "compute")),
        "source": (
            f"Measured on {day.isoformat()} by `{command}` ({where}): random direct reads, medians "
            f"of valid repeats; memory that was free ({machine['free_memory_from']}); compute by "
            "sparse products of 4-bit weights."
        ),
    }


def text_of(fields: dict[str, Any]) -> str:
    """YAML with a pair of a curve on one line."""
    return yaml.safe_dump(
        fields, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
    )


def write_rows(outcome: Outcome, out: Path) -> None:
    """All rows, one JSON object a line, each with its `kind`; what was measured on comes first."""
    records = [{"kind": "machine", **outcome.machine, "notes": outcome.notes}]
    records += [{"kind": "flash", **asdict(row)} for row in outcome.rows]
    records += [{"kind": "rate", **asdict(rate)} for rate in outcome.rates]
    records += [{"kind": "fit", **asdict(law)} for law in outcome.fits]
    lines = (json.dumps(record, ensure_ascii=False) for record in records)
    replace(rows_file(out), ("\n".join(lines) + "\n").encode())


def write(fields: dict[str, Any], out: Path) -> None:
    replace(out, text_of(fields).encode())
