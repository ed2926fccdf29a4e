"""A local Ray for tests whose workers do `sweep.contracts.deeds`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def local_ray(cpus: int, gpus: int = 0) -> Iterator[None]:
    """GPUs are numbers alone. `python -m sweep` starts its own Ray, so no test may start one
    beside this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("PYTHONPATH", str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""))
        import ray

        hook = {"worker_process_setup_hook": "sweep.contracts.deeds.install"}
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
        ray.init(address="local", num_cpus=cpus, num_gpus=gpus, runtime_env=hook, **quiet)
        try:
            yield
        finally:
            ray.shutdown()
