"""What a plan knows of GPUs before anything runs: how many, how large, and whether that will do."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.errors import ResourceError
from sweep.execution import gpus
from sweep.execution.resources import Resources, smallest
from sweep.spec import file as spec
from sweep.spec.entries import Sweep

A24 = Resources(8, 1, 64, gpu_gb=24.0)


def sweep_of(**changes: Any) -> Sweep:
    body = {
        "models": ["phi-3-medium", "phi-3-mini"],
        "methods": [{"method": "dip", "density": 0.5}],
        "devices": [{"device": "apple-a18", "dram_gb": 4}],
        "dtype": "bfloat16",
        **changes,
    }
    return spec.from_mapping({"sweeps": {"large": body}}).sweeps["large"]


def machine(count: float, room: float) -> Resources:
    return Resources(8, count, 64, gpu_gb=room)


def cluster(*machines: Resources) -> Resources:
    total = sum(one.gpus for one in machines)
    return Resources(8 * len(machines), total, nodes=machines)


@pytest.mark.parametrize(
    ("have", "count"),
    [
        (Resources(8), 0),
        (machine(1, 80.0), 1),
        (machine(4, 24.0), 2),
        (machine(4, 0.0), 1),  # not known: the task asks its own GPU
        (machine(2, 4.0), 2),  # refused then
        (cluster(machine(8, 12.0), Resources(64)), 3),
        (
            cluster(machine(1, 80.0), machine(4, 24.0)),
            2,
        ),  # what both kinds of machine would do with
        (cluster(machine(1, 24.0), machine(1, 80.0)), 1),  # one of them has to be asked for
    ],
)
def test_as_many_gpus_as_the_largest_model_takes(have: Resources, count: float) -> None:
    assert gpus.wanted(sweep_of(), have) == count


def test_float32_and_changed_weights_take_more() -> None:
    have = machine(16, 24.0)
    assert gpus.wanted(sweep_of(dtype="float32"), have) == 3
    assert gpus.wanted(sweep_of(), have, changed=True) == 3


def test_each_model_that_fits_no_machine_is_a_line() -> None:
    with pytest.raises(ResourceError) as caught:
        gpus.check_room(sweep_of(), 1, machine(1, 6.0), "this machine")
    medium, mini = str(caught.value).splitlines()
    assert medium.startswith("model phi-3-medium takes 28.6 GB of GPU memory in bfloat16 (27.9 GB")
    assert "and this machine has one GPU of 6.0 GB; what would help: 6 such GPUs" in medium
    assert "dtype: bfloat16" not in medium
    assert mini.startswith("model phi-3-mini takes ")


@pytest.mark.parametrize(
    ("count", "have"),
    [
        (0, machine(1, 6.0)),  # on the CPU
        (1, Resources(8)),  # no GPU: said elsewhere
        (1, machine(1, 0.0)),  # not known
        (1, cluster(machine(1, 6.0), machine(1, 80.0))),
        (0.5, machine(1, 80.0)),
        (2, machine(2, 24.0)),
    ],
)
def test_what_may_fit_is_not_refused(count: float, have: Resources) -> None:
    gpus.check_room(sweep_of(), count, have, "this machine")


def test_half_a_gpu_has_half_of_its_memory() -> None:
    with pytest.raises(ResourceError, match=r"one GPU of 24\.0 GB"):
        gpus.check_room(sweep_of(), 0.5, machine(1, 48.0), "this machine")


def test_a_plan_says_what_a_model_takes_and_whether_it_fits() -> None:
    sweep = sweep_of(shard_windows=16)
    (takes,) = gpus.lines(sweep, Resources(8))
    assert takes == "about 29 GB of GPU memory for phi-3-medium in bfloat16"
    assert list(gpus.lines(sweep, machine(1, 80.0))) == [takes]
    _, refused = gpus.lines(sweep, A24)
    assert refused.startswith("note: model phi-3-medium takes 28.6 GB of GPU memory")
    _, several = gpus.lines(sweep, machine(4, 24.0))
    assert several == "2 GPUs for each task with a model: one does not hold the largest"
    unknown = sweep_of(models=["some/model"])
    assert list(gpus.lines(unknown, A24)) == []


def test_a_plan_says_that_tasks_of_one_window_leave_a_gpu_with_one() -> None:
    _, one = gpus.lines(sweep_of(), machine(1, 80.0))
    assert one.startswith("note: a task has one window; with shard_windows: 16 a GPU takes")
    assert len([*gpus.lines(sweep_of(windows=1), machine(1, 80.0))]) == 1
    assert len([*gpus.lines(sweep_of(), Resources(8))]) == 1


@pytest.mark.parametrize(
    ("told", "visible", "room"),
    [
        ("81559\n24576\n", None, 25.8),
        ("81559\n24576\n", "0", 85.5),
        ("81559\n24576\n", "1,0", 25.8),
        ("81559\n24576\n", "GPU-8f6a", 25.8),  # by another name than a number: the least of all
        ("81559\n", "7", 85.5),
        ("[N/A]\n", None, 0.0),
        ("", None, 0.0),
    ],
)
def test_memory_is_that_of_the_smallest_gpu_that_is_seen(
    told: str, visible: str | None, room: float
) -> None:
    assert smallest(told, visible) == pytest.approx(room, abs=0.05)
