"""Submit a sweep as a Ray job: code and sweep file travel, results go to a lasting folder."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sweep.errors import InputError, ResourceError
from sweep.execution import provenance
from sweep.execution.ray_head import check_reachable
from sweep.files.mirror import is_url

EXCLUDES = [".git", ".venv", "runs", "**/__pycache__"]
"""What of the working folder stays here; a sweep file, a plug-in or a text may be in any other."""
CODE_EXCLUDES = [*EXCLUDES, "docs", "tests"]
"""Where these packages alone travel."""
_FAULTS = (
    (
        re.compile(
            r"no available agent|agent.{0,40}(not|un)\w* ?(available|reachable|responding)", re.I
        ),
        (
            "Ray's agent on the head does not answer, and it is what starts jobs: its port "
            "(--dashboard-agent-listen-port of `ray start`, 52365 unless set) must be free on the "
            "head and open to it; two Ray nodes on one machine need two ports"
        ),
    ),
    (
        re.compile(r"(python\d?: (command )?not found|No such file or directory: .python)", re.I),
        (
            "the job found no `python`: a job has the PATH that `ray start --head` was run with; "
            "start the head with the environment of Python 3.11 active"
        ),
    ),
    (
        re.compile(
            r"No module named .?(sweep|typer|torch|transformers|pydantic|numpy|pyarrow|yaml)"
        ),
        (
            "the `python` that the job found lacks a package: a job has the PATH that `ray start "
            "--head` was run with; start the head with the environment active in which flash-sweep "
            "and what it needs are installed"
        ),
    ),
)
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
    check_reachable(address)
    inside = _inside(file)
    if not (is_url(out) or Path(out).is_absolute()):
        raise InputError(f"--out {out} is relative: give a folder that all nodes can reach")
    command = ["python", "-m", "sweep", "run", name, "--file", str(inside), "--out", out]
    follow = [] if wait else ["--no-wait"]
    return _followed(
        [
            *(program, "job", "submit", "--address", address, *follow),
            *("--runtime-env-json", json.dumps(environment()), "--", *command, *extra),
        ]
    )


def _followed(command: list[str]) -> int:
    """Run it and pass on what it says; a fault that is known is said in a sentence at the end."""
    faults: dict[str, None] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as job:
        assert job.stdout is not None
        for line in job.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            faults |= dict.fromkeys(text for sign, text in _FAULTS if sign.search(line))
    if job.returncode:
        for text in faults:
            sys.stderr.write(f"{text} (docs/clusters.md)\n")
    return job.returncode


def _inside(file: Path) -> Path:
    """The sweep file relative to the working folder that travels with the job."""
    here = Path.cwd().resolve()
    if not file.resolve().is_relative_to(here):
        raise InputError(f"--file {file} lies outside the working folder, which travels to the job")
    inside = file.resolve().relative_to(here)
    if inside.parts[0] in EXCLUDES:
        raise InputError(f"--file {file} lies in {inside.parts[0]}/, which stays on this machine")
    return inside


def environment() -> dict[str, Any]:
    """Ray's runtime environment of the job: this folder, these packages, the git revision."""
    revision = provenance.git()
    variables = {"SWEEP_GIT_SHA": revision["sha"]} if revision else {}
    settings: dict[str, Any] = {"working_dir": ".", "excludes": EXCLUDES, "env_vars": variables}
    if not all((Path.cwd() / package).is_dir() for package in PACKAGES):
        settings["py_modules"] = [str(_folder(package)) for package in PACKAGES]
    return settings


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ResourceError(f"the package {package!r} cannot be found")
    return Path(spec.origin).parent
