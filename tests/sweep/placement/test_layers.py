"""Sizes alone say whether a model fits, and on which GPU each layer lies."""

from __future__ import annotations

import pytest

from simulator.geometry import Geometry
from sweep.placement.layers import USABLE, Need, fewest, of_geometry, refusal, split

ALIKE = Need((10,) * 8, others=20, window=3, logits=2)


def test_one_gpu_holds_what_fits() -> None:
    assert split(ALIKE, (105 / USABLE,)) == (0,) * 8
    assert split(ALIKE, (104 / USABLE,)) is None


def test_layers_follow_one_another_and_fill_gpus_evenly() -> None:
    """The first GPU holds fewer, for it has the embedding, the head and the logits."""
    assert split(ALIKE, (100, 100)) == (0, 0, 0, 1, 1, 1, 1, 1)
    assert split(ALIKE, (60, 60, 60)) == (0, 1, 1, 1, 1, 2, 2, 2)
    assert split(ALIKE, (1000, 20)) == (0,) * 8
    assert split(ALIKE, (30, 200)) == (1,) * 8
    assert split(ALIKE, (25, 200)) is None
    assert split(Need((10, 100), 0, 0, 0), (50, 50)) is None


@pytest.mark.parametrize("gpus", [1, 2, 3, 5])
def test_no_gpu_is_fuller_than_it_may_be(gpus: int) -> None:
    need = Need(tuple(range(1, 30)), 40, 5, 6)
    room = next(r for r in range(1, 2000) if split(need, (r,) * gpus) is not None)
    layout = split(need, (room,) * gpus)
    assert layout is not None
    assert list(layout) == sorted(layout)
    for gpu in range(gpus):
        held = sum(s for s, of in zip(need.layers, layout, strict=True) if of == gpu)
        more = need.others + need.logits if gpu == 0 else 0
        assert held + more + need.window <= USABLE * room
    assert split(need, (room - 1,) * gpus) is None


def test_the_fewest_gpus_that_do() -> None:
    assert fewest(ALIKE, 200) == 1
    assert fewest(ALIKE, 40) == 4
    assert fewest(ALIKE, 40, most=3) is None
    assert fewest(ALIKE, 13) is None


def test_changed_weights_lie_beside_the_models_own() -> None:
    changed = ALIKE.with_changed()
    assert changed.weights == 180
    assert changed.whole == 185


def test_phi_3_medium_needs_a_large_gpu_or_several() -> None:
    """14 billion weights: 28 GB in bfloat16, 56 GB in float32."""
    sizes = Geometry.load("phi-3-medium")
    half, full = (of_geometry(sizes, dtype, 2048) for dtype in ("bfloat16", "float32"))
    assert half.weights / 1e9 == pytest.approx(27.9, abs=0.1)
    assert full.weights == 2 * half.weights
    assert 0.5e9 < half.window < 0.7e9
    assert [fewest(half, room * 1e9) for room in (24, 40, 80)] == [2, 1, 1]
    assert [fewest(full, room * 1e9) for room in (24, 40, 80)] == [3, 2, 1]


def test_a_refusal_says_what_is_needed_and_what_would_help() -> None:
    need = of_geometry(Geometry.load("phi-3-medium"), "float32", 2048)
    text = refusal("phi-3-medium", "float32", need, (24e9,), "this machine")
    assert text == (
        "model phi-3-medium takes 57.1 GB of GPU memory in float32 (55.8 GB of weights, the rest "
        "for a window), and this machine has one GPU of 24.0 GB; what would help: 3 such GPUs on "
        "one machine, dtype: bfloat16, which takes half as much, a larger GPU or the CPU "
        "(resources: {evaluate: {gpu: 0}})"
    )
    text = refusal("large", "bfloat16", need, (4e9, 4e9), "this task")
    assert "this task has 2 GPUs of 4.0 GB; what would help: a larger GPU or the CPU" in text
