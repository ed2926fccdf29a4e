"""What a plan will take, before it runs: minutes, memory of a task, disk.

Minutes are from tasks of the same kind that the store has; of kinds that it has none of, a guess
from sizes and from how fast this machine multiplies matrices.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from simulator.errors import SimulatorError
from simulator.geometry import Geometry
from sweep.errors import SweepError
from sweep.execution.progress import duration, past_seconds
from sweep.inputs import model_sizes
from sweep.inputs.model_ref import resolve
from sweep.plan.sizes import footprint_of
from sweep.store.store import Store
from sweep.tasks.task import Task

if TYPE_CHECKING:
    from sweep.plan.sweep_plan import SweepPlan
    from sweep.spec.entries import Sweep

PROCESS = 0.8e9
"""Bytes of a worker that has torch and numba, and no model."""
_BYTES = {"float32": 4, "bfloat16": 2}
LOSS_ROWS = 256
"""Positions whose logits are held at a time: `ROWS` of `sweep.measures.losses` (it needs torch)."""
_LOGIT = {"float32": 4 + 4, "bfloat16": 2 + 4 + 4}
"""Bytes of a logit as the model makes it, in float32 where that is another, and of its softmax."""
_PASSES = {"evaluate": 1.5, "score": 1.5, "calibrate": 1.5, "transform": 3.0, "train": 3.0}
"""Work of a task over that of the dense model on the same tokens, about: masks are chosen too."""
_AN_EPOCH = 0.7
"""The same of an epoch of a predictor, which is far smaller than the model and learns from states
that are computed once."""
_SIMULATION = 0.5
"""Seconds of a simulation, about."""


def memory_gb(sweep: Sweep) -> float:
    """What a task with the largest model of a sweep needs, about, in 1e9 bytes; 0 where no model's
    sizes are known yet."""
    return max((_memory(sweep, model) for model in sweep.models), default=0.0) / 1e9


def _memory(sweep: Sweep, entry: Any) -> float:
    geometry = geometry_of(entry)
    if geometry is None:
        return 0.0
    number = _BYTES[sweep.dtype]
    states = sweep.window_tokens * (8 * geometry.hidden + 5 * geometry.intermediate)
    logits = min(LOSS_ROWS, sweep.window_tokens) * geometry.vocabulary
    return PROCESS + number * (geometry.weights + states) + _LOGIT[sweep.dtype] * logits


def geometry_of(entry: Any) -> Geometry | None:
    """Sizes of a model of the sweep; None where they are not known without a download."""
    geometry = entry.load_geometry()
    if geometry is not None:
        return geometry
    try:
        here = entry.model in Geometry.names() or resolve(entry.model).path is not None
        return model_sizes.geometry(entry.model) if here else None
    except (SweepError, SimulatorError):  # said where the model is planned with
        return None


def lines(planned: SweepPlan, todo: Mapping[str, str], store: Store, cores: float) -> Iterator[str]:
    """What is left to run takes: minutes on this machine, memory of a task, disk."""
    if not todo:
        return
    tasks = [planned.plan.tasks[key] for key in todo]
    past = past_seconds(store.records.values())
    seconds = sum(past.get(task.kind) or _guess(planned, task) for task in tasks)
    guessed = sorted({task.kind for task in tasks} - set(past))
    at_once = max(1.0, cores // planned.sweep.resources.evaluate.cpu)
    how = f"a guess from sizes of {', '.join(guessed)}" if guessed else "as long as such tasks took"
    yield f"about {duration(seconds / at_once)} on the {cores:g} cores of this machine ({how})"
    memory = memory_gb(planned.sweep)
    if memory:
        yield f"about {memory:.2g} GB of memory for each task with a model"
    yield f"about {_disk(planned, tasks) / 1e9:.2g} GB of disk for traces and changed weights"


def _guess(planned: SweepPlan, task: Task) -> float:
    """Seconds of a task on a core, from the sizes of the largest model."""
    if task.kind == "simulate":
        return _SIMULATION
    weights = [
        geometry.weights for entry in planned.sweep.models if (geometry := geometry_of(entry))
    ]
    passes = _PASSES[task.kind]
    if task.kind == "train":
        passes += _AN_EPOCH * int(dict(task.payload["parameters"]).get("epochs", 0))
    return passes * 2 * max(weights, default=0) * _tokens(planned, task) / _speed()


def _tokens(planned: SweepPlan, task: Task) -> int:
    windows = task.payload.get("windows", 1)
    count = windows if isinstance(windows, int) else len(windows)
    return max(1, count) * planned.sweep.window_tokens


_measured: list[float] = []


def _speed() -> float:
    """Operations a second of a core on products of matrices, measured once in a process; what else
    the machine does counts little, as time on the cores is taken."""
    if not _measured:
        import numpy as np

        square = np.ones((768, 768), dtype=np.float32)
        _measured.append(2 * 768**3 / min(_timed(square) for _ in range(6)))
    return _measured[0]


def _timed(square: Any) -> float:
    """Seconds of all cores together."""
    began = time.process_time()
    _ = square @ square
    return max(1e-6, time.process_time() - began)


def _disk(planned: SweepPlan, tasks: list[Task]) -> float:
    """Bytes of masks, a bit a unit, and of weights that are changed."""
    kinds = Counter(task.kind for task in tasks)
    keys = {task.key for task in tasks if task.kind == "evaluate"}
    traces: dict[str, float] = {}
    weights = 0
    for planned_point in planned.plan.points:
        geometry = planned.materials.geometry(planned_point.point)
        weights = max(weights, geometry.layers * (geometry.mlp_weights) + geometry.mixer_weights)
        if planned_point.simulate_keys:
            groups = footprint_of(
                planned_point.point, geometry, planned.materials.storage(planned_point.point)
            ).groups
            bits = sum(group.units * group.layers for group in groups.values())
            for key in keys.intersection(planned_point.evaluate_keys):
                traces[key] = bits / 8 * _tokens(planned, planned.plan.tasks[key])
    return sum(traces.values()) + kinds["transform"] * weights * _BYTES[planned.sweep.dtype]
