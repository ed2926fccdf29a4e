"""All kernels of `benchmarks gpu`, compiled at once on all cores into the cache of Triton."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

import torch

from benchmarks.gpu_tools import Page
from sweep.gpu.launch import Blocks


@dataclass(frozen=True, slots=True)
class Job:
    """A kernel for rows of a size and type."""

    units: int
    dtype: torch.dtype
    kind: str
    blocks: Blocks | None = None
    rows: int = 16


def warm(page: Page, jobs: list[Job]) -> None:
    """Compile them; one that fails is told."""
    began, context = time.perf_counter(), multiprocessing.get_context("spawn")
    workers = min(len(jobs), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        running = {pool.submit(compiled, job): job for job in jobs}
        for done in as_completed(running):
            page.attempt(f"compile {running[done]}", done.result)
    page.say(f"{len(jobs)} kernels compiled in {time.perf_counter() - began:.1f} s")


def compiled(job: Job, device: str = "cuda") -> None:
    """Run the kernel on two tokens."""
    from sweep.gpu import launch
    from sweep.gpu.state import new_caches

    values = torch.ones((1, 2, job.units), dtype=job.dtype, device=device)
    faults, k = launch.new_faults(values.device), job.units // 2
    if job.kind in ("top-k", "signed"):
        options = {"blocks": job.blocks, "rows_each": job.rows}
        target = torch.empty_like(values)
        for bits in (False, True):
            launch.top_k(values, k, job.kind == "top-k", faults, 0, target, bits=bits, **options)
        words = launch.top_k(values, k, job.kind == "top-k", faults, **options)
        assert words is not None
        launch.kept(values, words)
        launch.bars(values, k, faults)
    else:
        policy, place = job.kind.split() if " " in job.kind else (job.kind, "below")
        capacity = k - 1 if place == "below" else k + 1
        caches = new_caches(1, job.units, capacity, policy, device=device)
        launch.cache_aware(values, k, 0.5, caches, faults, blocks=job.blocks)
    if device == "cuda":
        torch.cuda.synchronize()
