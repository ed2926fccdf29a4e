"""What orchestration costs: a sweep against a shell loop, time between tasks, plans, resuming.

python -m benchmarks planning
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.results import machine, table

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = 6
"""Points of the shell loop that are run; the others are taken to be like them."""
SECONDS, TASKS = 1.0, 40

_DEVICE = {"device": "apple-a18", "dram_gb": [0.06, 0.066, 0.072], "flash_gbps": [1, 2]}
SIXTY = {
    "models": ["smollm2-135m"],
    "methods": [{"method": "dip", "density": [0.5, 0.6, 0.7, 0.8, 0.9], "gamma": [0.2, 1]}],
    "devices": [_DEVICE],
    "windows": 1,
    "window_tokens": 512,
}


def _many(speeds: int) -> dict[str, Any]:
    """About 6,600 points for each Flash speed, and 10,122 tasks however many speeds."""
    by_cache = {"method": "dip", "density": {"from": 0.5, "to": 0.99, "step": 0.01}}
    plain = {"method": ["glu", "up", "gate"], "density": {"from": 0.7, "to": 0.99, "step": 0.01}}
    dram = {"from": 0.06, "to": 0.079, "step": 0.001}
    flash = {"from": 1.0, "to": 1.0 + 0.1 * (speeds - 1), "step": 0.1}
    return {
        "models": ["smollm2-135m"],
        "methods": ["dense", by_cache | {"gamma": [0.2, 0.5, 1], "policies": "lfu"}, plain],
        "devices": [{"device": "apple-a18", "dram_gb": dram, "flash_gbps": flash}],
        "policies": ["lfu", "lru"],
    }


def report() -> str:
    """All measurements as a table with what they are to reach."""
    from sweep.inputs import models

    if not models.present("smollm2-135m"):
        return "## Orchestration\n\nSmolLM2 is not on this machine (`sweep fetch`)."
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        sweeps = {"sixty": SIXTY, "many": _many(16), "fewer": _many(2)}
        (directory / "s.yaml").write_text(yaml.safe_dump({"sweeps": sweeps}))
        rows = [*_loop(directory), *_between(), *_plans(directory)]
    about = (
        f"{machine()}. SmolLM2-135M, one window of 512 tokens for the sweep of 60 points; the loop"
        f" runs each point as a process of its own, of which {SAMPLE} are run and counted for all."
        f" Time between tasks: {TASKS} tasks that sleep {SECONDS:g} s on two Ray workers. Large"
        " plans have made-up counts of the real size. The tokens of the adaptive search against"
        " the grid's are compared by a test (`tests/sweep/search/test_bisection.py`) and in"
        " docs/studies.md."
    )
    columns = ["what", "measured", "at least or most", "met"]
    return "\n\n".join(["## Orchestration", about, table(columns, rows)])


def _row(what: str, value: float, shown: str, bound: float, most: bool) -> list[str]:
    met = value <= bound if most else value >= bound
    return [what, shown, f"{'≤' if most else '≥'} {bound:g}", "yes" if met else "**no**"]


def _sweep(folder: Path, *arguments: str) -> tuple[float, str]:
    """Seconds that a command takes, and what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


def _loop(folder: Path) -> list[list[str]]:
    from sweep import api
    from sweep.spec import file as spec

    planned = api.plan_sweep(spec.load(folder / "s.yaml").sweeps["sixty"])
    keys = [point.point.key for point in planned.plan.points]
    run = ("sweep", "run", "sixty", "-f", "s.yaml", "--no-report")
    whole, _ = _sweep(folder, *run, "--out", "sixty")
    alone = [
        _sweep(folder, *run, "--point", key, "--workers", "0", "--out", f"point-{key}")[0]
        for key in keys[:: len(keys) // SAMPLE]
    ]
    loop = sum(alone) / len(alone) * len(keys)
    shown = f"{loop / whole:.1f} times ({loop:.0f} s, {whole:.1f} s)"
    return [
        _row(f"shell loop over {len(keys)} points, over the sweep", loop / whole, shown, 6, False)
    ]


def _between() -> list[list[str]]:
    single, double = _slept(1, TASKS // 4), _slept(2, TASKS)
    outside = 1 - TASKS * SECONDS / 2 / double
    ratio = (single / (TASKS // 4)) / (double / TASKS)
    return [
        _row("time outside tasks of 1 s, two workers", outside, f"{outside:.1%}", 0.05, True),
        _row("two workers over one, same tasks", ratio, f"{ratio:.2f} times", 1.8, False),
    ]


def _slept(workers: int, count: int) -> float:
    """Seconds that a run of sleeping tasks takes; Ray and its workers have started before."""
    import ray

    from sweep.execution.ray_executor import RayExecutor

    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    hook = {"worker_process_setup_hook": "benchmarks.made_up.install_sleep"}
    hook |= {"env_vars": {"PYTHONPATH": str(ROOT)}}
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(address="local", num_cpus=workers, runtime_env=hook, **quiet)
    try:
        executor = RayExecutor()
        _run(executor, 0.01, workers * 4)
        began = time.perf_counter()
        _run(executor, SECONDS, count)
        return time.perf_counter() - began
    finally:
        ray.shutdown()


def _run(executor: Any, seconds: float, count: int) -> None:
    from sweep.execution.driver import Driver
    from sweep.execution.progress import Progress, Tally
    from sweep.execution.resources import Resources
    from sweep.plan.plan import Plan
    from sweep.store.store import Store
    from sweep.tasks.task import KINDS, Task

    tasks = [
        Task("evaluate", f"{i}", {"seconds": seconds, "n": i}, f"task {i}") for i in range(count)
    ]
    plan = Plan(tasks={task.key: task for task in tasks})
    needs = {kind: Resources(1) for kind in KINDS}
    from rich.console import Console

    with (
        tempfile.TemporaryDirectory() as folder,
        Store(Path(folder)) as store,
        Progress(Console(quiet=True), Tally({"evaluate": count})) as progress,
    ):
        Driver(plan, dict.fromkeys(plan.tasks, "new"), store, executor, needs, progress).execute()


def _plans(folder: Path) -> list[list[str]]:
    seconds, printed = _sweep(folder, "sweep", "plan", "many", "-f", "s.yaml", "--out", "many")
    points = printed.splitlines()[0].split(": ")[1].split(" points")[0]
    _, peak = _sweep(folder, "benchmarks.made_up", "s.yaml", "many", "many")
    again = ("sweep", "run", "fewer", "-f", "s.yaml", "--no-report", "--store", "many")
    _sweep(folder, *again, "--out", "fewer", "--workers", "0")
    resumed, _ = _sweep(folder, *again, "--out", "fewer", "--workers", "0")
    megabytes = float(peak.strip().splitlines()[-1])
    memory = f"peak memory of the driver, {points} points, MB"
    return [
        _row(f"plan of {points} points, s", seconds, f"{seconds:.1f}", 20, True),
        _row(memory, megabytes, f"{megabytes:.0f}", 1000, True),
        _row("a finished run of 10,122 tasks again, s", resumed, f"{resumed:.1f}", 5, True),
    ]
