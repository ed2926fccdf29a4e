"""The executor that a run's options ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweep.execution.executor import Executor, InProcessExecutor

if TYPE_CHECKING:
    from sweep.options import Options


def open_executor(options: Options) -> Executor:
    """This process for no workers, Ray otherwise. Raises ResourceError."""
    if options.workers == 0:
        return InProcessExecutor()
    from sweep.execution.ray_executor import RayExecutor

    return RayExecutor(options.address, options.workers)
