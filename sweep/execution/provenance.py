"""Where a run's figures come from: versions, machine, revision, weights, texts."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sweep.execution.resources import local_resources, memory_bytes

PACKAGES = (
    "flash-sweep",
    "peft",
    "torch",
    "transformers",
    "ray",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "plotly",
)


def versions() -> dict[str, str]:
    """Installed versions of what results depend on, and of Python."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def machine() -> dict[str, Any]:
    """Processor, cores, memory and GPUs of the driver's machine."""
    have = local_resources()
    return {
        "cpu": _cpu_name(),
        "cores": int(have.cpus),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "gpus": _gpu_names() if have.gpus else [],
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _gpu_names() -> list[str]:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return _output(query).splitlines()


def git() -> dict[str, Any] | None:
    """Revision of the working folder; in a job, what `sweep submit` passed along; else None."""
    passed = os.environ.get("SWEEP_GIT_SHA")
    if passed:
        return {"sha": passed, "dirty": None}
    sha = _output(["git", "rev-parse", "HEAD"]).strip()
    if not sha:
        return None
    return {"sha": sha, "dirty": bool(_output(["git", "status", "--porcelain"]).strip())}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def command() -> str:
    """The command, quoted so that a shell reads it, without the path of the program."""
    name = Path(sys.argv[0]).name
    program = ["python", "-m", "sweep"] if name == "__main__.py" else [name]
    return shlex.join([*program, *sys.argv[1:]])
