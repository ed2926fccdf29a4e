"""Submit a sweep as a Ray job: code and sweep file travel, results go to a lasting folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sweep.errors import InputError, ResourceError
from sweep.execution import provenance
from sweep.files.mirror import is_url

EXCLUDES = [".git", ".venv", "runs", "docs", "tests", "**/__pycache__"]
PACKAGES = ("sweep", "methods", "simulator", "reports")


def submit(
    name: str, file: Path, out: str, address: str, extra: list[str], wait: bool = True
) -> int:
    """Submit `sweep run NAME` to the cluster behind `address` and follow its log.

    The working folder travels to the cluster, so the sweep file and whatever it names by a relative
    path must lie in it; `out` must be absolute, as the job's own folder is lost with the job.
    Returns the exit code of the job. Raises InputError and ResourceError before anything is sent.
    """
    program = shutil.which("ray", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    if program is None:
        raise ResourceError("the program `ray` is not installed beside this Python")
    inside = _inside(file)
    if not (is_url(out) or Path(out).is_absolute()):
        raise InputError(f"--out {out} is relative: give a folder that all nodes can reach")
    command = ["python", "-m", "sweep", "run", name, "--file", str(inside), "--out", out]
    follow = [] if wait else ["--no-wait"]
    done = subprocess.run(
        [
            *(program, "job", "submit", "--address", address, *follow),
            *("--runtime-env-json", json.dumps(environment()), "--", *command, *extra),
        ],
        check=False,
    )
    return done.returncode


def _inside(file: Path) -> Path:
    """The sweep file relative to the working folder that travels with the job."""
    here = Path.cwd().resolve()
    if not file.resolve().is_relative_to(here):
        raise InputError(f"--file {file} lies outside the working folder, which travels to the job")
    return file.resolve().relative_to(here)


def environment() -> dict[str, Any]:
    """Ray's runtime environment of the job: this folder, these packages, the git revision."""
    revision = provenance.git()
    variables = {"SWEEP_GIT_SHA": revision["sha"]} if revision else {}
    made: dict[str, Any] = {"working_dir": ".", "excludes": EXCLUDES, "env_vars": variables}
    if not all((Path.cwd() / package).is_dir() for package in PACKAGES):
        made["py_modules"] = [str(_folder(package)) for package in PACKAGES]
    return made


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ResourceError(f"the package {package!r} cannot be found")
    return Path(spec.origin).parent
