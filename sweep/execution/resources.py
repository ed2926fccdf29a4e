"""What a task needs and what a machine or a cluster has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError, ResourceError

if TYPE_CHECKING:
    from sweep.spec.entries import Sweep
    from sweep.spec.resources import Resources as Requested

_QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_MIB, _GB = 1 << 20, 1e9
ACCELERATOR = "accelerator_type:"
"""Ray's prefix of the custom resource that says which accelerator a node has."""

_BRANDED = re.compile(r"GPU \d+: \w+\s+(?:\w+\s+)*?([A-Z]+\d[A-Z0-9]*)\b")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task asks for, or what a machine or cluster has; fractions of a GPU are allowed."""

    cpus: float
    gpus: float = 0.0
    memory_gb: float = 0.0
    """In 1e9 bytes; 0 asks for none in particular."""
    custom: tuple[tuple[str, float], ...] = ()
    """Ray's custom resources by name, accelerator types among them."""
    gpu_gb: float = 0.0
    """Memory of the smallest GPU in 1e9 bytes; 0 where it is not known. No task asks for it."""
    nodes: tuple[Resources, ...] = ()
    """Of a cluster: what each of its machines has, as a task runs on one of them."""

    @property
    def device(self) -> str:
        """The torch device of a task that has these: `cuda` where it was given a GPU."""
        return "cuda" if self.gpus else "cpu"

    def holds(self, need: Resources) -> bool:
        """Whether a task with this need could run here if nothing else did."""
        amounts = dict(self.custom)
        return (
            need.cpus <= self.cpus
            and need.gpus <= self.gpus
            and need.memory_gb <= self.memory_gb
            and all(amount <= amounts.get(name, 0.0) for name, amount in need.custom)
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU and {self.gpus:g} GPU"]
        if self.memory_gb:
            parts.append(f"{self.memory_gb:.3g} GB memory")
        for name, amount in self.custom:
            is_type = name.startswith(ACCELERATOR)
            parts.append(name.removeprefix(ACCELERATOR) if is_type else f"{amount:g} {name}")
        return ", ".join(parts)


def local_resources(workers: int | None = None) -> Resources:
    """What this machine has, without importing torch or ray; `workers` replaces the core count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    names = _local_gpus()
    types = {branded[1] for name in names if (branded := _BRANDED.match(name))}
    return Resources(
        cpus=float(workers or cores or 1),
        gpus=float(len(names)),
        memory_gb=memory_bytes() / 1e9,
        custom=tuple((f"{ACCELERATOR}{name}", 1.0) for name in sorted(types)),
        gpu_gb=gpu_gb() if names else 0.0,
    )


def memory_bytes() -> int:
    """Memory of this machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _local_gpus() -> list[str]:
    """A line of nvidia-smi for each GPU that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    allowed = None
    if visible is not None:
        allowed = len([v for v in visible.split(",") if v.strip() not in ("", "-1")])
    if allowed == 0:
        return []
    listed = _nvidia_smi()
    return listed if allowed is None else (listed + ["GPU"] * allowed)[:allowed]


def _nvidia_smi() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]


@cache
def gpu_gb() -> float:
    """Memory of the smallest GPU of this machine in 1e9 bytes; 0 where it is not known or torch is
    a build for the CPU, which would not use it."""
    if metadata.version("torch").endswith("+cpu") or shutil.which(_QUERY[0]) is None:
        return 0.0
    try:
        told = subprocess.run(_QUERY, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0.0
    return smallest(told.stdout, os.environ.get("CUDA_VISIBLE_DEVICES"))


def smallest(told: str, visible: str | None) -> float:
    """The least of nvidia-smi's lines of MiB, in 1e9 bytes, of the GPUs that are visible by number;
    0 where a line is no number."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    numbers = [part.strip() for part in visible.split(",")] if visible else []
    if numbers and all(part.isdecimal() and int(part) < len(lines) for part in numbers):
        lines = [lines[int(part)] for part in numbers]
    if not lines or not all(line.isdecimal() for line in lines):
        return 0.0
    return min(map(int, lines)) * _MIB / _GB


def check_feasible(needs: dict[str, Resources], have: Resources, where: str) -> None:
    """Raise ResourceError, before anything starts, for a kind of task that could never run."""
    machines = have.nodes or (have,)
    too_much: dict[Resources, list[str]] = {}
    for kind, need in needs.items():
        if not any(machine.holds(need) for machine in machines):
            too_much.setdefault(need, []).append(kind)
    if too_much:
        offer = f"{where} has {machines[0]}"
        if len(machines) > 1:
            offer = f"no machine of {where} has that: {'; '.join(map(str, machines))}"
        raise ResourceError(
            "\n".join(
                f"tasks of kind {', '.join(kinds)} ask for {need} each, but {offer}"
                for need, kinds in too_much.items()
            )
        )


def needs_of(
    sweep: Sweep, gpus: float | None = None, have: Resources | None = None
) -> dict[str, Resources]:
    """What each kind asks for. `gpus` are those of `gpu: auto`, none until that is known.

    Kinds that run the model ask for what `evaluate` does, but for what is given for them. Memory
    that is not given is estimated from sizes, and no more than the largest machine of `have` has:
    an estimate alone refuses nothing.
    """
    from sweep.execution.estimates import memory_gb
    from sweep.tasks.task import KINDS

    machines = (have.nodes or (have,)) if have else ()
    most = max((machine.memory_gb for machine in machines), default=0.0)
    estimate = min(memory_gb(sweep), most)
    return {kind: _need(sweep.resources, kind, gpus, estimate) for kind in KINDS}


def _need(requested: Requested, kind: str, gpus: float | None, estimate: float) -> Resources:
    if kind == "simulate":
        simulation = requested.simulate
        return Resources(
            simulation.cpu, 0.0, simulation.memory_gb, tuple(sorted(simulation.custom.items()))
        )
    model = requested.of_model(kind)
    custom = dict(model.custom)
    if model.accelerator:
        custom[f"{ACCELERATOR}{model.accelerator}"] = 0.001  # as Ray asks for it
    gpu = model.gpu
    if gpu is None:
        gpu = gpus or 0.0
    cpus = float(requested.evaluate.cpu)
    memory = estimate if model.memory_gb is None else model.memory_gb
    return Resources(cpus, gpu, memory, tuple(sorted(custom.items())))


def check_out(out: Path) -> None:
    """A relative folder of a Ray job would be lost with the job's copy of the code."""
    if "runtime_resources" in Path.cwd().parts and out.resolve().is_relative_to(Path.cwd()):
        raise InputError(
            f"--out {out} lies in the job's temporary copy of the working directory and would be"
            " lost; give an absolute folder that outlives the job"
        )
