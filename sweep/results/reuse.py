"""Whether the table in a run folder is still the one that a run would write: then it is kept.

A run that had nothing to do would else spend most of its time making the same table again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.keys import digest
from sweep.plan.code import code_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from sweep.plan.sweep_plan import SweepPlan
    from sweep.store.store import Store

FILES = ("results.parquet", "results.csv")


def seal(planned: SweepPlan, store: Store, out: Path) -> dict[str, Any]:
    """What the table was made of, and hashes of its files, for provenance.json."""
    return {"of": _contents(planned, store), "files": {name: _sha256(out / name) for name in FILES}}


def kept(planned: SweepPlan, store: Store, out: Path) -> pa.Table | None:
    """The table, if it was made of the same records by the same code and its files are whole."""
    from pyarrow import parquet

    try:
        sealed = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["table"]
        if sealed != seal(planned, store, out):
            return None
        return parquet.read_table(out / FILES[0])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _contents(planned: SweepPlan, store: Store) -> str:
    """Digest of the points, of the records that answer them, and of the code that makes rows."""
    points = planned.plan.points
    states = [
        [key, record.status, record.ended] if (record := store.records.get(key)) else [key]
        for key in planned.plan.tasks
    ]
    return digest(
        [
            planned.sweep.model_dump(mode="json", exclude={"source", "description"}),
            len(points),
            [points[0].point.key, points[-1].point.key],
            sorted({repr(planned.point.device) for planned in points}),
            planned.materials.describe_models(),
            states,
            code_fingerprint("sweep.results.table"),
        ]
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
