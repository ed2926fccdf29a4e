"""The Triton kernels, in the interpreter or on a GPU, and plain torch, against the CPU kernels."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from simulator.packing import pack
from simulator.selection import select
from simulator.state import CacheState, new_state
from sweep.gpu import launch, plain
from sweep.gpu.launch import Blocks
from sweep.gpu.state import new_caches
from tests.sweep.gpu.cases import DEVICE, HARD, Case, floats, words

WAYS = pytest.mark.parametrize("way", [launch, plain], ids=["triton", "torch"])
CASES = pytest.mark.parametrize("case", HARD, ids=str)


def faults_of(way: ModuleType) -> tuple[Tensor, ...]:
    return (launch.new_faults(torch.device(DEVICE)),) if way is launch else ()


@WAYS
@CASES
@pytest.mark.parametrize("magnitude", [True, False])
def test_top_k_is_that_of_the_cpu(way: Any, case: Case, magnitude: bool) -> None:
    """Masks, and what is kept of the values, or ones."""
    values, written = case.values, torch.empty_like(case.values)
    for ones in (False, True) if magnitude else (True,):
        target = floats(values) * 0
        bits = way.top_k(values, case.k, magnitude, *faults_of(way), target=written, ones=ones)
        chosen = select(floats(values), case.k, magnitude=magnitude, target=target, ones=ones)
        assert np.array_equal(words(bits), chosen.packed)
        assert np.array_equal(floats(written), target)
        assert np.array_equal(floats(way.kept(values, bits, ones)), target)


@WAYS
@pytest.mark.parametrize("policy", ["lfu", "lru"])
@CASES
def test_a_scan_is_that_of_the_cpu(way: Any, case: Case, policy: str) -> None:
    """Masks, hits and the caches that are left, in two calls, as windows are carried on."""
    values = case.values
    caches = new_caches(case.sequences, case.units, case.capacity, policy, case.start, DEVICE)
    cut = case.tokens // 2
    parts = [
        way.cache_aware(part.contiguous(), case.k, case.gamma, caches, *faults_of(way))
        for part in (values[:, :cut], values[:, cut:])
    ]
    masks, hits = (torch.cat(of_parts, dim=1) for of_parts in zip(*parts, strict=True))
    states = [
        new_state(case.units, case.capacity, policy, case.start) for _ in range(case.sequences)
    ]
    expected = select(floats(values), case.k, gamma=case.gamma, state=states)
    assert np.array_equal(words(masks), expected.packed)
    assert hits.tolist() == (expected.hits.tolist() if expected.hits is not None else None)
    for mine, theirs in zip(caches.on_host(), states, strict=True):
        assert_same_state(mine, theirs)


def assert_same_state(mine: CacheState, theirs: CacheState) -> None:
    assert np.array_equal(mine.content, theirs.content)
    assert np.array_equal(mine.uses, theirs.uses)
    assert mine.tokens == theirs.tokens
    if mine.policy == "lru":
        assert mine.seen == theirs.seen
        assert np.array_equal(mine.order, theirs.order)


@pytest.mark.parametrize("policy", ["lfu", "lru"])
def test_the_units_of_the_largest_model(policy: str) -> None:
    """17,920 units lie in two blocks."""
    case = Case("normal", 17920, 8960, 7168, 0.2, torch.bfloat16, tokens=2, sequences=1)
    assert Blocks.of(case.units) == Blocks(16384, 2048, 16)
    test_a_scan_is_that_of_the_cpu(launch, case, policy)


@pytest.mark.parametrize("units", [1, 31, 32, 33, 64, 65, 200])
def test_bits_are_those_of_the_cpu(units: int) -> None:
    masks = torch.rand((2, 3, units)) < 0.4
    bits = plain.packed(masks.to(DEVICE))
    assert np.array_equal(words(bits), pack(masks.numpy()))
    assert torch.equal(plain.unpacked(bits, units).cpu(), masks)


@pytest.mark.parametrize("units", [1, 17, 100, 576, 1536, 3072, 5120, 8192, 13824, 17920])
def test_blocks_have_room_and_waste_little(units: int) -> None:
    blocks = Blocks.of(units)
    room = blocks.head + blocks.tail
    assert units <= room <= max(64, 1.5 * units)
    assert blocks.head & (blocks.head - 1) == 0
    assert blocks.tail & (blocks.tail - 1) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_first_score_that_is_not_finite_is_named(value: float) -> None:
    values = torch.randn((2, 3, 50), device=DEVICE)
    values[1, 1, 49] = value
    values[1, 2, 3] = value
    faults = launch.new_faults(values.device)
    launch.top_k(values, 10, True, faults, call=7)
    assert launch.read_fault(faults) == (7, 4, 49, np.isnan(value))
    assert launch.read_fault(launch.new_faults(values.device)) is None
