"""What a task needs and what a machine or a cluster has."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError, ResourceError

if TYPE_CHECKING:
    from sweep.shape import Sweep


@dataclass(frozen=True, slots=True)
class Resources:
    """CPU cores and GPUs; fractions of a GPU are allowed."""

    cpus: float
    gpus: float = 0.0

    @property
    def device(self) -> str:
        """The torch device of a task that has these: `cuda` where it was given a GPU."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"


def local_resources(workers: int | None = None) -> Resources:
    """What this machine has, without importing torch or ray; `workers` replaces the core count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Resources(cpus=float(workers or cores or 1), gpus=float(_local_gpus()))


def _local_gpus() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([v for v in visible.split(",") if v.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def check_feasible(needs: dict[str, Resources], have: Resources, where: str) -> None:
    """Raise ResourceError, before anything starts, for a kind of task that could never run."""
    too_much: dict[Resources, list[str]] = {}
    for kind, need in needs.items():
        if need.cpus > have.cpus or need.gpus > have.gpus:
            too_much.setdefault(need, []).append(kind)
    if too_much:
        raise ResourceError(
            "\n".join(
                f"tasks of kind {', '.join(kinds)} ask for {need} each, but {where} has {have}"
                for need, kinds in too_much.items()
            )
        )


def needs_of(sweep: Sweep, gpus: float | None = None) -> dict[str, Resources]:
    """What each kind asks for. `gpu: auto` is one where there is one (none until that is known)."""
    asked = sweep.resources
    gpu = asked.evaluate.gpu
    if gpu is None:
        gpu = 1.0 if gpus else 0.0
    model = Resources(cpus=asked.evaluate.cpu, gpus=gpu)
    return {
        "calibrate": model,
        "transform": model,
        "train": model,
        "evaluate": model,
        "simulate": Resources(cpus=asked.simulate.cpu),
    }


def check_out(out: Path) -> None:
    """A relative folder of a Ray job would be lost with the job's copy of the code."""
    if "runtime_resources" in Path.cwd().parts and out.resolve().is_relative_to(Path.cwd()):
        raise InputError(
            f"--out {out} lies in the job's temporary copy of the working directory and would be"
            " lost; give an absolute folder that outlives the job"
        )
