"""Downstream tasks of a sweep before they are run: what is asked, where it is, what is known of it.

Light: lm-eval itself is only asked (`sweep.downstream.harness.look`) when a sweep runs, and what
it said is remembered as a card in the cache folder, so that a plan knows documents and prompts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from sweep.downstream import data as taskdata
from sweep.downstream.task import DownstreamTask, frozen
from sweep.errors import InputError
from sweep.files.cache import cache_dir, staged
from sweep.keys import digest
from sweep.spec.entries import Sweep, TaskEntry


def asked(sweep: Sweep) -> tuple[DownstreamTask, ...]:
    """The tasks of a sweep. Raises InputError for a path to nothing, or a name used twice."""
    chosen = [_asked(sweep, i, entry) for i, entry in enumerate(sweep.tasks)]
    names = [task.name for task in chosen]
    for task in chosen:
        if names.count(task.name) > 1:
            raise InputError(
                f"{task.place}: two tasks are called {task.name}; give one of them a name: of its"
                " own"
            )
    return tuple(chosen)


def _asked(sweep: Sweep, index: int, entry: TaskEntry) -> DownstreamTask:
    where = f"{sweep.source}: sweeps.{sweep.name}.tasks[{index}]"
    folder, lm_eval_name, source = "", entry.task, "local"
    if _is_path(entry.task):
        folder, lm_eval_name, source = _own_files(sweep, entry.task, where)
    elif entry.task not in taskdata.KNOWN and not entry.data:
        source = "hub"
    data = ""
    if entry.data:
        path = _beside(sweep, entry.data)
        if not path.is_dir():
            raise InputError(f"{where}.data: {entry.data} is not a folder")
        data = str(path)
    return DownstreamTask(
        name=entry.name or lm_eval_name,
        task=entry.task,
        wanted=lm_eval_name,
        source=source,
        folder=folder,
        data=data,
        shots=entry.shots,
        limit=entry.limit,
        shard=entry.shard,
        metric=entry.metric,
        generation=frozen(entry.generation),
        max_length=entry.max_length,
        seed=sweep.seed,
        place=where,
    )


def _is_path(task: str) -> bool:
    return "/" in task or task.endswith((".yaml", ".yml")) or task.startswith((".", "~"))


def _beside(sweep: Sweep, path: str) -> Path:
    """A path of the sweep file, which is meant from where that file lies."""
    return (Path(sweep.source).parent / Path(path).expanduser()).resolve()


def _own_files(sweep: Sweep, task: str, where: str) -> tuple[str, str, str]:
    """Folder, name and source of a task file, or of a folder of them with one group or task."""
    path = _beside(sweep, task)
    if path.is_file():
        names = _names_in([path])
        if len(names) == 1:
            return str(path.parent), names[0], "file"
        raise InputError(f"{where}: {task} names no task or group")
    if not path.is_dir():
        raise InputError(f"{where}: {task} is neither a task file nor a folder of them")
    files = sorted(path.rglob("*.yaml"))
    groups = _names_in(files, ("group",))
    names = groups or _names_in(files)
    if len(names) != 1:
        shown = ", ".join(names[:8]) or "none"
        raise InputError(f"{where}: {task} has several tasks; name the file of one ({shown})")
    return str(path), names[0], "file"


def _names_in(files: Iterable[Path], keys: tuple[str, ...] = ("group", "task")) -> list[str]:
    """Names of groups or tasks of task files, in their order."""
    names = []
    for file in files:
        body = _read_yaml(file)
        name = next((body[k] for k in keys if isinstance(body.get(k), str)), None)
        if name is not None:
            names.append(name)
    return names


class _Inert(yaml.SafeLoader):
    """Reads task files without running anything: what `!function` names stays a name."""


_Inert.add_multi_constructor("!", lambda _loader, tag, _node: tag)


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        body = yaml.load(file.read_text(encoding="utf-8"), _Inert)
    except (yaml.YAMLError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


# -- cards -----------------------------------------------------------------------------------


@cache
def version() -> str:
    """Of lm-eval, which is installed with flash-sweep."""
    return metadata.version("lm_eval")


def card(task: DownstreamTask) -> dict[str, Any] | None:
    """What is remembered of a task; None if it was not looked at, or its files have changed."""
    try:
        document = json.loads(_card_file(task).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def look(task: DownstreamTask) -> dict[str, Any]:
    """Ask lm-eval about a task, and remember it. A task of one's own files is asked each time."""
    from sweep.downstream import harness

    looked_at = card(task) if task.source == "local" and not task.data else None
    if looked_at is None:
        looked_at = harness.look(task)
        with suppress(OSError), staged(_card_file(task)) as temporary:
            temporary.write_text(json.dumps(looked_at), encoding="utf-8")
    return looked_at


def _card_file(task: DownstreamTask) -> Path:
    identity = {**task.identity, "task": task.task, "folder": task.folder, "data": task.data}
    name = digest([identity, version(), _files(task), taskdata.WHEEL.sha256, taskdata.LAYOUT])
    return cache_dir() / "tasks" / f"{name}.json"


def own_code(task: DownstreamTask) -> str:
    """Hash of the task files of the user's own; empty for tasks of lm-eval's."""
    return digest(_files(task)) if task.folder else ""


def _files(task: DownstreamTask) -> list[list[str]]:
    """Hashes of the task files of one's own."""
    if not task.folder:
        return []
    files = [p for p in Path(task.folder).rglob("*") if p.suffix in (".yaml", ".yml", ".py")]
    return [[p.name, hashlib.sha256(p.read_bytes()).hexdigest()] for p in sorted(files)]


def ensure(tasks: Iterable[DownstreamTask], notify: Callable[[str], None]) -> list[dict[str, Any]]:
    """Make the data of tasks present, where it can be fetched, and look at each of them.

    Raises InputError or ResourceError.
    """
    cards = []
    for task in tasks:
        if task.source == "local" and not task.data and not taskdata.present():
            notify(f"the data of {task.task} is fetched once")
            taskdata.ensure()
        cards.append(look(task))
    return cards


def need(task: DownstreamTask) -> tuple[str, str]:
    """State (ok, missing or note) of what a task needs, and what it is, for `sweep doctor`."""
    if task.source == "file":
        return "ok", f"task {task.name}: files in {task.folder}, and the data that they name"
    if task.data:
        return "ok", f"task {task.name}: data in {task.data}"
    if task.source == "local":
        if taskdata.present():
            return "ok", f"task {task.name}: embedded data"
        return "missing", f"task {task.name}: `sweep fetch {task.task}` gets it"
    if card(task) is not None:
        return "ok", f"task {task.name}: looked at before; its data is in the hub's cache or on it"
    return "note", f"task {task.name}: its data comes from the model hub when the sweep is run"
