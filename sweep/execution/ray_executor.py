"""Tasks on Ray: the laptop's own cluster, an attached one, or the job's. Alone imports ray."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.errors import ResourceError
from sweep.execution.executor import RETRIES, ExecutorLostError, Handle, HandoverLostError, Outcome
from sweep.execution.ray_head import HeadWatch, check_reachable
from sweep.execution.ray_job import CODE_EXCLUDES, PACKAGES
from sweep.execution.resources import Resources, gpu_gb
from sweep.tasks import run as tasks
from sweep.tasks.task import Record, Task, lost_record

LOST: list[str] = []
"""Heads that were lost: Ray would wait a minute for one at exit, and choose the exit code."""
STARTS = 3
"""How often Ray is started anew where it does not come up."""

ANSWER_SECONDS = 60.0
"""How long a node may take to say how much memory its GPUs have."""

NODE_DIGITS = 8
"""Of a node's id, in the name of a worker: one machine may have several nodes."""

_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


class RayExecutor:
    """Runs tasks as Ray tasks; hand-overs stay in Ray's object store.

    `address` attaches to a cluster; without one, a job uses its own cluster and anything else
    starts one on this machine with `workers` CPUs (default: all).
    """

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        # Read when ray is imported: no usage report, and no restart of workers through uv.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        # Without this, a task that needs more memory than there is would be tried for ever.
        os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
        address = address or os.environ.get("RAY_ADDRESS")
        if address is not None:
            check_reachable(address)
        else:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a cluster of this process alone
        import ray

        self._ray: Any = ray
        self._started = not ray.is_initialized()
        if self._started:
            _connect(ray, address, workers)
        self.where = "the Ray cluster" if address else "this machine"
        self._gpu_gb: dict[str, float] = {}
        self._is_here = self._started and address is None
        self._remote = ray.remote(num_returns=2, max_retries=RETRIES)(_run)
        self._has_gpus = self.resources().gpus > 0
        self._running: dict[Any, tuple[Task, Any]] = {}
        self._head = _head_watch(ray)
        self._lost = False

    def resources(self) -> Resources:
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        memory = self._gpu_memory([n["NodeID"] for n in alive if n["Resources"].get("GPU")])
        nodes = [_node(node["Resources"], memory.get(node["NodeID"], 0.0)) for node in alive]
        return _node(self._ray.cluster_resources(), nodes=tuple(nodes))

    def _gpu_memory(self, nodes: list[str]) -> dict[str, float]:
        """Of each node its GPUs' memory, as `gpu_gb` there says; each node is asked once, and one
        that does not answer in time counts as not known."""
        if self._is_here:
            return dict.fromkeys(nodes, gpu_gb())
        new = [node for node in nodes if node not in self._gpu_gb]
        ask = self._ray.remote(num_cpus=0, max_retries=0)(_gpu_gb)
        told = {node: ask.options(scheduling_strategy=_on_node(node)).remote() for node in new}
        if told:
            self._ray.wait(list(told.values()), num_returns=len(told), timeout=ANSWER_SECONDS)
        for node, answer in told.items():
            try:
                self._gpu_gb[node] = float(self._ray.get(answer, timeout=0))
            except (self._ray.exceptions.RayError, OSError):
                self._gpu_gb[node] = 0.0
        return self._gpu_gb

    def submit(self, task: Task, needs: Resources, inputs: tuple[Handle, ...]) -> None:
        call: Any = self._remote.options(**self._options(task, needs))
        record, handover = call.remote(task, needs.device, *inputs)
        self._running[record] = (task, handover)

    def _options(self, task: Task, needs: Resources) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": needs.cpus, "name": task.kind}
        if needs.memory_gb:
            options["memory"] = int(needs.memory_gb * 1e9)
        if needs.custom:
            options["resources"] = dict(needs.custom)
        if needs.gpus:
            return options | {"num_gpus": needs.gpus}
        if self._has_gpus:  # Ray leaves the variable unset for CPU tasks, so they would see GPUs
            return options | {"runtime_env": {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}}
        return options

    def wait(self, timeout: float) -> list[Outcome]:
        if not self._running:
            return []
        if self._head is not None and (what := self._head.lost()):
            self._lost = True
            LOST.append(self._head.address)
            raise ExecutorLostError(f"the loss of the Ray head at {self._head.address} ({what})")
        waiting = list(self._running)
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout, fetch_local=False)
        if ready:  # whatever else has ended by now
            ready, _ = self._ray.wait(
                waiting, num_returns=len(waiting), timeout=0, fetch_local=False
            )
        return [self._outcome(reference) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        task, handover = self._running.pop(reference)
        try:
            return Outcome(self._ray.get(reference), handover)
        except (self._ray.exceptions.RayError, OSError) as error:
            return Outcome(self._failed(task, error), None)

    def _failed(self, task: Task, error: Exception) -> Record:
        """An exception on a worker is the task's own, unless it is that an input was lost."""
        errors = self._ray.exceptions
        of_task = isinstance(error, errors.RayTaskError) and not isinstance(
            error, errors.ObjectLostError | errors.OutOfMemoryError | errors.OutOfDiskError
        )
        lines = str(error).strip().splitlines() or ["lost"]
        text = f"{_name(error)}: {lines[-1 if of_task else 0]}"
        return replace(lost_record(task, text), infrastructure=not of_task, log="\n".join(lines))

    def put(self, value: Any) -> Handle:
        return self._ray.put(value)

    def get(self, handle: Handle) -> Any:
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayError as error:
            raise HandoverLostError(f"{_name(error)}: what it handed over is lost") from error

    def close(self) -> None:
        if self._head is not None:
            self._head.close()
        if self._lost:  # Ray would wait a minute for its head, and then end this process
            self._running.clear()
            return
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        if self._started:
            self._ray.shutdown()


def _gpu_gb() -> float:
    return gpu_gb()


def _on_node(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _node(
    have: dict[str, float], gpu_memory: float = 0.0, nodes: tuple[Resources, ...] = ()
) -> Resources:
    """Ray's resources of a node or of all; those that name a node or Ray's own are left out."""
    custom = {k: v for k, v in have.items() if not k.startswith("node:") and k not in _RAYS_OWN}
    return Resources(
        cpus=have.get("CPU", 0.0),
        gpus=have.get("GPU", 0.0),
        memory_gb=have.get("memory", 0.0) / 1e9,
        custom=tuple(sorted(custom.items())),
        gpu_gb=gpu_memory,
        nodes=nodes,
    )


def _name(error: Exception) -> str:
    """The name of a Ray error; RayTaskError(X), as Ray calls what is raised on a worker, is X."""
    name = type(error).__name__
    return name.removeprefix("RayTaskError(").removesuffix(")")


def _head_watch(ray: Any) -> HeadWatch | None:
    """A watch on the head, where Ray tells its address and identity; not through `ray://`."""
    try:
        client: Any = importlib.import_module("ray._raylet").GcsClient
        address = ray.get_runtime_context().gcs_address
        return HeadWatch(address, lambda: client(address=address).cluster_id.hex())
    except Exception:
        return None


def _run(task: Task, device: str, *inputs: Any) -> tuple[Record, Any]:
    import ray

    record, handover = tasks.run(task, inputs, device)
    node = ray.get_runtime_context().get_node_id()[:NODE_DIGITS]
    return replace(record, worker=f"{record.worker}@{node}"), handover


def _connect(ray: Any, address: str | None, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        _start(ray, num_cpus=workers, include_dashboard=False, **quiet)
        return
    environment = None if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else _own_code()
    try:
        ray.init(address=address, runtime_env=environment, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        first = str(error).strip().splitlines()[0]
        raise ResourceError(f"cannot attach to Ray at {address}: {first}") from None


def _start(ray: Any, **settings: Any) -> None:
    """A cluster of this machine; Ray gives up after half a minute where the machine is busy."""
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", **settings)
            return
        except Exception as error:
            ray.shutdown()
            if not left:
                first = str(error).strip().splitlines()[0]
                raise ResourceError(f"Ray cannot be started on this machine: {first}") from error


def _own_code() -> dict[str, Any]:
    """Ship these packages to a cluster that does not have them installed."""
    spec = importlib.util.find_spec("sweep")
    if spec is None or spec.origin is None:
        raise ResourceError("the package `sweep` cannot be found for the cluster's workers")
    root = Path(spec.origin).parent.parent
    if (root / "site-packages").exists() or root.name == "site-packages":
        return {"py_modules": [str(root / name) for name in PACKAGES]}
    return {"working_dir": str(root), "excludes": CODE_EXCLUDES}
