"""Files that say of a run what it is: its plan, where its figures come from, how far it is."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import InputError
from sweep.execution import provenance
from sweep.files.atomic import clear
from sweep.store.store import Store
from sweep.tasks.run import NO_CUDA
from sweep.tasks.task import KINDS, Record

if TYPE_CHECKING:
    from sweep.plan.sweep_plan import SweepPlan
    from sweep.spec.entries import Sweep

LIVE = ".live.json"
"""What a running driver says of itself, for `sweep status`."""


CERTAINTY = "certainty.json"
"""What a certification states (`sweep.certainty.statement`)."""
FILES = ("plan.json", "provenance.json", "results.parquet", "results.csv", LIVE)
REPORT_FILES, FOLDERS = ("report.md", "report.html"), ("logs", "figures")


def cleared(out: Path) -> list[str]:
    """Set aside what is no file (no folder) where a run will write one; says what that was."""
    return clear((out / name for name in FILES + REPORT_FILES), (out / name for name in FOLDERS))


def reasons(todo: dict[str, str]) -> dict[str, int]:
    """How many tasks run for each reason, most frequent first."""
    return dict(Counter(todo.values()).most_common())


def status(folder: Path, store: Path | None = None) -> list[str]:
    """How far a run is, from its files alone: while it runs, after it ended, or died."""
    planned = _read_json(folder / "plan.json", sweep=str, task_keys=dict)
    results = Store(store or Path(planned.get("store", folder)))
    lines, open_tasks = [], 0
    for kind, keys in planned["task_keys"].items():
        states = Counter(
            results.records[k].status if k in results.records else "missing" for k in keys
        )
        open_tasks += states["missing"]
        if keys:
            shown = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
            lines.append(f"{kind}: {shown} of {len(keys)}")
    holder = results.holder()
    if holder:
        live = _live(folder / LIVE)
        lines += [live["line"], *(f"  {label}" for label in live.get("running", []))]
        state = f"running ({holder})"
    else:
        state = "not running; run the same command again to go on" if open_tasks else "finished"
    return [f"{planned['sweep']}: {state}", *lines]


def _live(path: Path) -> dict[str, Any]:
    """What the driver says of itself; it may not have said anything yet."""
    try:
        return _read_json(path, line=str, running=list)
    except InputError:
        return {"line": "starting"}


def _read_json(path: Path, **parts: type) -> dict[str, Any]:
    """A mapping that has these parts, each of its type."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(document[name], kind) for name, kind in parts.items()):
            return document
        raise ValueError("it is something else")
    except FileNotFoundError:
        raise InputError(
            f"{path.parent} is not the folder of a run: it has no {path.name}"
        ) from None
    except (ValueError, TypeError, LookupError, OSError):
        raise InputError(f"{path} cannot be read; run the sweep again to write it anew") from None


@dataclass(frozen=True, slots=True)
class MadeOf:
    """What a run folder says of the sweep that it is of, to go on with it."""

    folder: Path
    name: str
    file: str
    store: Path | None
    spec: dict[str, Any]

    def check_same(self, sweep: Sweep) -> None:
        """Raises InputError where the sweep would be another run: with other points or windows."""
        spec = sweep.model_dump(mode="json", exclude=set(_SAYS_NOTHING))
        other = [key for key in spec if key in self.spec and not _same(spec[key], self.spec[key])]
        if other:
            raise InputError(
                f"{self.folder} was run with another {', '.join(other)} than {sweep.source} has for"
                f" {self.name} now; give the same --set as it had, or run it again"
            )


def _same(now: Any, then: Any) -> bool:
    """Whether values are equal, but for keys of mappings that an earlier release did not have."""
    if isinstance(now, dict) and isinstance(then, dict):
        return all(_same(value, then[key]) for key, value in now.items() if key in then)
    if isinstance(now, list) and isinstance(then, list):
        return len(now) == len(then) and all(map(_same, now, then))
    return now == then


_SAYS_NOTHING = ("certify", "source", "description", "resources", "priority", "traces_gb")


def made_of(folder: Path) -> MadeOf:
    """The sweep of a run folder. Raises InputError where the folder does not say."""
    planned = _read_json(folder / "plan.json", sweep=str)
    spec = _read_json(folder / "provenance.json", spec=dict)["spec"]
    store = planned.get("store")
    at = Path(store) if store and Path(store) != folder.resolve() else None
    return MadeOf(folder, planned["sweep"], str(spec.get("source", "")), at, spec)


def plan_summary(planned: SweepPlan, todo: dict[str, str]) -> dict[str, Any]:
    """plan.json: points, tasks, what was skipped and why each task runs."""
    kinds: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for key, task in planned.plan.tasks.items():
        kinds[task.kind].append(key)
    return {
        "sweep": planned.sweep.name,
        "budgets": list(planned.sweep.budgets),
        "points": len(planned.plan.points),
        "tasks": planned.plan.counts(),
        "to_run": len(todo),
        "skipped": [{"reason": s.reason, "points": s.points} for s in planned.grid.skipped],
        "why": reasons(todo),
        "notes": planned.plan.notes,
        "task_keys": kinds,
    }


def provenance_of(
    planned: SweepPlan, store: Store, todo: dict[str, str], started: float
) -> dict[str, Any]:
    records = [r for key in planned.plan.tasks if (r := store.records.get(key)) is not None]
    seconds: Counter[str] = Counter()
    for record in records:
        seconds[record.kind] += record.seconds  # type: ignore[assignment]
    done = [r for r in records if r.status == "done"]
    return {
        "command": provenance.command(),
        "started": _iso(started),
        "finished": _iso(time.time()),
        "seconds": round(max(0.0, time.time() - started), 1),  # the clock may have been set back
        "git": provenance.git(),
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "spec": planned.sweep.model_dump(mode="json"),
        "models": planned.materials.describe_models(),
        "texts": planned.materials.describe_texts(),
        "tasks": {
            "done": sum(r.key in todo for r in done),
            "reused": sum(r.key not in todo for r in done),
            "failed": len(records) - len(done),
        },
        "seconds_by_kind": {kind: round(total, 1) for kind, total in seconds.items()},
        "notes": [
            *planned.plan.notes,
            *planned.materials.caveats(),
            *_training_notes(planned, store),
            *_device_notes(done),
        ],
    }


def _training_notes(planned: SweepPlan, store: Store) -> list[str]:
    """What a reader should know of the trainings: how well predictors find, what adapters gain."""
    trained = [store.done(t.key) for t in planned.plan.tasks.values() if t.kind == "train"]
    return [
        f"{record.label.removeprefix('train ')}: {text}"
        for record in trained
        if record is not None and (text := _training_note(record.result))
    ]


def _device_notes(records: list[Record]) -> list[str]:
    """Tasks that were to run on a GPU and did not."""
    count = sum(NO_CUDA in record.log for record in records)
    return [f"{count} tasks: {NO_CUDA}"] if count else []


def _training_note(result: dict[str, Any]) -> str:
    if "recall_of_largest" in result:
        return (
            f"its predictors find {result['recall']:.0%} of the units that they are to find "
            f"(recall), and {result['precision']:.0%} of those they name are right (precision); "
            f"of as many largest logits as are wanted, {result['recall_of_largest']:.0%} are"
        )
    if "recall" in result:
        recalls = result["recall"] if isinstance(result["recall"], list) else [result["recall"]]
        found = ", ".join(f"{recall:.0%}" for recall in recalls)
        by_share = [f"{share:.0%}" for share in result.get("kept", [])]
        of = f", where {', '.join(by_share)} of all are looked for" if by_share else ""
        return f"it finds {found} of the units that matter (recall){of}"
    if "validation_loss" in result:
        losses = dict(result["validation_loss"])
        best = result["best_step"]
        return (
            f"KL to the dense model {losses[0]:.4f} before training, {losses[best]:.4f} after "
            f"{best} of {result['steps']} steps, on validation windows of the calibration text"
        )
    if "shares" in result:
        means = (f"{group} {share:.3f}" for group, share in result["shares"].items())
        return f"shares at density {result['shares_density']:g}: {', '.join(means)}"
    if "cett_by_density" in result:
        errors = result["cett_by_density"].items()
        return f"CETT by density: {', '.join(f'{d} {cett:.3f}' for d, cett in errors)}"
    return ""


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
