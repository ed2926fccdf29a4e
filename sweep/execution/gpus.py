"""GPUs that the models of a sweep take, before anything runs: from sizes, dtype and GPU memory.

Where sizes or memory are not known nothing is refused here: the task asks its own GPU then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sweep.errors import ResourceError
from sweep.execution.estimates import geometry_of
from sweep.placement.layers import GB, MOST, Need, of_geometry, refusal, split

if TYPE_CHECKING:
    from sweep.execution.resources import Resources
    from sweep.spec.entries import Sweep


def needs(sweep: Sweep, changed: bool = False) -> dict[str, Need]:
    """What models of the sweep take on GPUs, by name; those whose sizes are not known are left out.
    `changed`: tasks bring weights that lie beside the model's own."""
    known = {entry.model: geometry_of(entry) for entry in sweep.models}
    found = {
        model: of_geometry(geometry, sweep.dtype, sweep.window_tokens)
        for model, geometry in known.items()
        if geometry is not None
    }
    return {model: n.with_changed() if changed else n for model, n in found.items()}


def wanted(sweep: Sweep, have: Resources, changed: bool = False) -> float:
    """GPUs that a task with a model asks for where the sweep leaves it open: one, or so many that
    every machine which has them holds the largest model; 0 where there is no GPU."""
    machines = [machine for machine in have.nodes or (have,) if machine.gpus]
    if not machines:
        return 0.0
    by_model = needs(sweep, changed).values()
    counts = range(1, min(MOST, max(int(machine.gpus) for machine in machines)) + 1)
    for each in (all, any):
        for count in counts:
            offers = [machine for machine in machines if machine.gpus >= count]
            if each(all(_holds(offer, count, need) for need in by_model) for offer in offers):
                return float(count)
    return float(counts[-1]) if counts else 1.0


def _holds(machine: Resources, gpus: float, need: Need) -> bool:
    """Whether so many GPUs of a machine, or a share of one, take a model; yes where their memory is
    not known."""
    return not machine.gpu_gb or split(need, _rooms(machine, gpus)) is not None


def _rooms(machine: Resources, gpus: float) -> tuple[float, ...]:
    """Bytes of each GPU that a task gets."""
    return (min(1.0, gpus) * machine.gpu_gb * GB,) * max(1, int(gpus))


def check_room(
    sweep: Sweep, gpus: float, have: Resources, where: str, changed: bool = False
) -> None:
    """Raise ResourceError, before anything starts, for models that so many GPUs of no machine hold;
    below 1 they are a share of one."""
    machines = [machine for machine in have.nodes or (have,) if machine.gpus >= gpus > 0]
    lines = [
        refusal(model, sweep.dtype, need, max(_rooms(machine, gpus) for machine in machines), where)
        for model, need in (needs(sweep, changed) if machines else {}).items()
        if not any(_holds(machine, gpus, need) for machine in machines)
    ]
    if lines:
        raise ResourceError("\n".join(lines))


def lines(sweep: Sweep, have: Resources) -> Iterator[str]:
    """What a plan says of GPUs: what the largest model takes, and whether those here hold it."""
    by_model = needs(sweep)
    if not by_model:
        return
    model, need = max(by_model.items(), key=lambda item: item[1].whole)
    yield f"about {need.whole / GB:.2g} GB of GPU memory for {model} in {sweep.dtype}"
    asked = sweep.resources.evaluate.gpu
    gpus = wanted(sweep, have) if asked is None else asked
    try:
        check_room(sweep, gpus, have, "this machine")
    except ResourceError as error:
        yield from (f"note: {line}" for line in str(error).splitlines())
        return
    if gpus and sweep.shard_windows == 1 and sweep.windows != 1:
        yield "note: a task has one window; with shard_windows: 16 a GPU takes up to 16 at once"
    if asked is None and gpus > 1:
        yield f"{gpus:g} GPUs for each task with a model: one does not hold the largest"
