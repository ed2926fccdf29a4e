"""What is installed, what the machine has, where the caches are, and what a sweep still needs.

Nothing is fetched and neither torch nor transformers is imported, so that this is quick and works
offline, before a node loses its network.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from sweep.downstream import cards as downstream
from sweep.errors import SweepError
from sweep.execution import provenance
from sweep.files.cache import cache_dir
from sweep.inputs import model_ref, models, text_files

if TYPE_CHECKING:
    from sweep.spec.entries import Sweep

DISTRIBUTION = "flash-sweep"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `state` is ok, missing, unusable, old, note, or nothing for plain facts."""

    section: str
    what: str
    state: str = ""


def report(sweep: Sweep | None = None) -> list[str]:
    """The findings as lines, one section after another."""
    lines = []
    for section, of_section in groupby(checks(sweep), key=lambda check: check.section):
        lines.append(section)
        lines.extend(f"  {check.state:9}{check.what}" for check in of_section)
    return lines


def checks(sweep: Sweep | None = None) -> list[Check]:
    """All findings; those of `sweep` are the models and texts that it names."""
    needs = _needs(sweep) if sweep is not None else ()
    return [*_versions(), *_machine(), *_caches(), *needs]


def _versions() -> Iterator[Check]:
    yield Check("versions", f"python {provenance.versions()['python']}", "ok")
    for line in _requirements():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        allowed = f"{requirement.name} {requirement.specifier}"
        try:
            have = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Check("versions", allowed, "missing")
            continue
        if requirement.specifier.contains(have, prereleases=True):
            yield Check("versions", f"{requirement.name} {have}", "ok")
        else:
            yield Check("versions", f"{requirement.name} {have}, wanted {allowed}", "old")


def _requirements() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def _machine() -> Iterator[Check]:
    machine = provenance.machine()
    yield Check("machine", f"{machine['cpu']}, {machine['cores']} cores")
    yield Check("machine", f"{machine['memory_gb']} GB memory")
    gpus = machine["gpus"]
    yield Check("machine", f"GPUs: {', '.join(gpus) or 'none'}")
    if gpus and provenance.versions()["torch"].endswith("+cpu"):
        yield Check("machine", "torch is a CPU build, so the GPUs are not used", "note")


def _caches() -> Iterator[Check]:
    ours = cache_dir()
    yield Check("caches", f"models and texts: {ours} ({_gigabytes(ours)}; $SWEEP_CACHE moves it)")
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    yield Check("caches", f"model hub: {home} ({_gigabytes(home)}; $HF_HOME moves it)")
    standing = next(folder for folder in (ours, *ours.parents) if folder.exists())
    yield Check("caches", f"free: {shutil.disk_usage(standing).free / 1e9:.0f} GB")


def _gigabytes(folder: Path) -> str:
    if not folder.is_dir():
        return "empty"
    files = (Path(directory) / name for directory, _, names in os.walk(folder) for name in names)
    return f"{sum(file.lstat().st_size for file in files) / 1e9:.2f} GB"


def _needs(sweep: Sweep) -> Iterator[Check]:
    section = f"needed by {sweep.name}"
    for ref in dict.fromkeys(entry.model for entry in sweep.models):
        yield _model(section, ref)
    yield _need(section, f"text {sweep.text}", sweep.text, partial(_text_here, sweep.text, False))
    name = sweep.calibration
    yield _need(section, f"text {name}, calibration", name, partial(_text_here, name, True))
    for task in downstream.asked(sweep):
        state, what = downstream.need(task)
        yield Check(section, what, state)


def _model(section: str, ref: str) -> Check:
    """A GGUF file that is here is all that is needed: what is made of it is made on the way."""
    need = _need(section, f"model {ref}", ref, partial(models.present, ref))
    if need.state != "missing" or not model_ref.resolve(ref).is_gguf:
        return need
    return Check(section, f"model {ref}: the first run, or `sweep fetch {ref}`, unpacks it", "ok")


def _text_here(text: str, calibration: bool) -> bool:
    text_files.locate(text)  # a path that leads nowhere is an error, not something to fetch
    return text_files.present(text, calibration)


def _need(section: str, what: str, name: str, look: Callable[[], bool]) -> Check:
    try:
        here = look()
    except SweepError as error:
        return Check(section, f"{what}: {error}", "unusable")
    if here:
        return Check(section, what, "ok")
    return Check(section, f"{what}: `sweep fetch {name}` gets it", "missing")
