"""Traces as files: made from a model here, or by others; and policies tried on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sweep.errors import InputError

if TYPE_CHECKING:
    from simulator import Trace
    from simulator.events import EventCounts
    from sweep.plan.sweep_plan import SweepPlan

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class HitRate:
    """What one policy did on one group of a trace, with `slots` units cached in each layer."""

    policy: str
    group: str
    fraction: float
    slots: int
    used: int
    hits: int

    @property
    def rate(self) -> float:
        return self.hits / self.used if self.used else 0.0


def export(
    path: Path,
    settings: dict[str, Any],
    notify: Callable[[str], None] = print,
    plugins: Sequence[str] = (),
) -> Trace:
    """Evaluate a model with a method and write the trace of its masks.

    `settings` are keys of a sweep with one model and one method entry whose selector reads no
    cache; `plugins` are files of methods. The masks are those that an accuracy task would make, and
    the trace says which sizes the model has. Raises InputError as a sweep file would.
    """
    from sweep.plan.sweep_plan import plan_sweep
    from sweep.spec.file import from_mapping

    device = {"device": "apple-a18"}
    source: dict[str, Any] = {"plugins": list(plugins)} if plugins else {}
    source |= {"sweeps": {"trace": settings | {"devices": [device], "policies": ["none"]}}}
    sweep = from_mapping(source, "trace export").sweeps["trace"]
    shard = {} if sweep.windows is None else {"shard_windows": sweep.windows}
    sweep = sweep.model_copy(update=shard | {"keep_traces": True})
    planned = plan_sweep(sweep, fetch=True, notify=notify)
    (point,) = planned.plan.points
    if not point.simulate_keys:
        raise InputError(
            f"{point.point.method} leaves no trace: it prunes nothing, or reads a cache"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".trace-") as folder:
        return _evaluated(planned, point.evaluate_keys[0], Path(folder), path)


def parameters_of(texts: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE texts as parameters of a method, values as YAML has them."""
    import yaml

    parameters: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"--parameter {text!r}: write KEY=VALUE")
        try:
            parameters[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            parameters[key] = value
    return parameters


def _evaluated(planned: SweepPlan, key: str, folder: Path, path: Path) -> Trace:
    """Run one evaluation with a store in `folder`, and write the trace that it leaves to `path`."""
    from rich.console import Console

    from simulator.tracefile import write_trace
    from sweep.execution.session import Session
    from sweep.options import Options
    from sweep.plan.plan import tasks_of

    options = Options(out=folder, workers=0)
    with Session(planned.sweep, options, Console(quiet=True)) as session:
        session.run_all(tasks_of(planned.plan, [key]))
        record = session.store.records[key]
        if record.status == "failed":
            raise InputError(record.error)
        trace = session.store.load(key)
    about = {"label": record.label, "key": record.key, "payload": record.payload}
    write_trace(trace, path, about | _sizes(planned))
    return trace


def _sizes(planned: SweepPlan) -> dict[str, Any]:
    """What `try_devices` must know of the model and of the method's own bytes."""
    from sweep.plan.sizes import overhead_bytes

    (point,) = (of_point.point for of_point in planned.plan.points)
    geometry, storage = planned.materials.geometry(point), planned.materials.storage(point)
    return {
        "model": point.model,
        "geometry": geometry.to_mapping(),
        "storage": asdict(storage),
        "overhead_bytes": overhead_bytes(point, geometry, storage),
    }


def import_routes(form: str, source: Path, path: Path, experts: int | None = None) -> Trace:
    """Write the trace file of a route trace of another engine (`simulator.routes`)."""
    from simulator.errors import SimulatorError
    from simulator.routes import read_routes
    from simulator.tracefile import write_trace

    try:
        trace = read_routes(source, form, experts)
    except SimulatorError as error:
        raise InputError(str(error)) from None
    write_trace(trace, path, {"label": f"{form} {source.name}"})
    return trace


def convert_routes(path: Path, form: str, target: Path) -> None:
    """Write the experts of a trace file as others have them."""
    from simulator.errors import SimulatorError
    from simulator.routes import write_routes
    from simulator.tracefile import read_trace

    try:
        write_routes(read_trace(path), target, form)
    except SimulatorError as error:
        raise InputError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Events:
    """What one policy did on one group of a trace, event by event."""

    policy: str
    group: str
    fraction: float
    counts: EventCounts
    gap: float | None
    """Of the fraction, how much of the misses of the best causal policy the best bound avoids; None
    where one of these was not tried."""


def try_events(path: Path, policies: Sequence[str], fractions: Sequence[float]) -> list[Events]:
    """Counts of every policy at every cached fraction of each group of a trace file; what slots do
    not divide by the layers goes to the first ones."""
    from simulator.events import event_counts, pooled_slots, recoverable_gap
    from simulator.policies import policy_class
    from simulator.tracefile import TraceFile

    tried: list[Events] = []
    with TraceFile(path) as trace:
        for group, fraction in product(trace.units, fractions):
            slots = pooled_slots(fraction, trace.units[group], trace.layers)
            counts = {policy: event_counts(trace, group, policy, slots) for policy in policies}
            bounds = [c for policy, c in counts.items() if policy_class(policy).offline]
            causal = [c for policy, c in counts.items() if not policy_class(policy).offline]
            best = min(bounds, key=lambda c: c.misses) if bounds and causal else None
            gap = None if best is None else recoverable_gap(causal, best)
            tried += [Events(p, group, fraction, of_policy, gap) for p, of_policy in counts.items()]
    return tried


def try_policies(
    path: Path,
    policies: Iterable[str],
    fractions: Iterable[float],
    scope: str = "window",
    step: Callable[[str], None] = lambda text: None,
) -> list[HitRate]:
    """Hits of every policy at every cached fraction of each group of a trace file.

    `slots` are those that the policy uses: none of a policy that caches nothing. `step` is told
    what is simulated next, and nothing at the end.
    """
    from simulator.policies import policy_class
    from simulator.simulation import simulate_trace
    from simulator.tracefile import TraceFile

    rates = []
    with TraceFile(path) as trace:
        for policy, fraction in product(policies, fractions):
            step(f"{policy}, {fraction:.0%} cached")
            share = fraction if policy_class(policy).caches else 0.0
            slots = {g: math.floor(share * units + 1e-9) for g, units in trace.units.items()}
            for group, counts in simulate_trace(trace, policy, slots, scope).items():
                used, hits = int(counts.used_by_layer.sum()), int(counts.hits_by_layer.sum())
                rates.append(HitRate(policy, group, fraction, slots[group], used, hits))
    step("")
    return rates
