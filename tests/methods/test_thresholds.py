"""Counted scores and the thresholds read from them, against sorting all scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import methods
from methods.thresholds import BINS, Histogram, Quantiles, ThresholdSelect, _bins, bin_edges


def counted(*layers: Tensor, group: str = "neuron") -> Quantiles:
    histogram = Histogram()
    for layer, scores in enumerate(layers):
        histogram.add(layer, scores)
    return Quantiles.of(histogram.arrays(group))


def kept(scores: Tensor, threshold: float) -> float:
    return float((scores >= threshold).float().mean())


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2))
def test_bins_are_in_the_order_of_the_numbers(values: list[float]) -> None:
    scores = torch.tensor(sorted(values))
    bins = _bins(scores)
    assert torch.equal(bins, bins.sort().values)
    assert int(bins.min()) >= 0
    assert int(bins.max()) < BINS
    edges = bin_edges(bins.numpy())
    above = bin_edges(bins.numpy() + 1)
    assert (edges <= scores.double().numpy()).all()
    assert (scores.double().numpy() < above).all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["normal", "absolute", "heavy"])
def test_a_threshold_keeps_its_share(kind: str, share: float) -> None:
    drawn = torch.from_numpy(np.random.default_rng(0).normal(size=200_000).astype(np.float32))
    scores = {"normal": drawn, "absolute": drawn.abs(), "heavy": (drawn * 4).exp()}[kind]
    (found,) = counted(scores).thresholds("layer-threshold", "neuron", share)
    assert kept(scores, found) == pytest.approx(share, abs=2e-4)


def test_layers_have_their_own_and_all_together_one() -> None:
    drawn = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 50_000)).astype(np.float32))
    quiet, loud = drawn[0].abs(), 10 * drawn[1].abs()
    known = counted(quiet, loud)
    own = known.thresholds("layer-threshold", "neuron", 0.5)
    assert [kept(quiet, own[0]), kept(loud, own[1])] == pytest.approx([0.5, 0.5], abs=1e-3)
    one, same = known.thresholds("global-threshold", "neuron", 0.5)
    assert one == same
    assert kept(torch.cat([quiet, loud]), one) == pytest.approx(0.5, abs=1e-3)
    assert kept(quiet, one) < 0.3 < 0.7 < kept(loud, one)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000))
def test_shards_add_up_exactly(parts: int, seed: int) -> None:
    scores = torch.from_numpy(np.random.default_rng(seed).normal(size=300).astype(np.float32))
    whole, merged = Histogram(), Histogram()
    whole.add(0, scores)
    for part in reversed(scores.chunk(parts)):
        shard = Histogram()
        shard.add(0, part)
        merged.merge(shard)
    expected = whole.arrays("g")
    assert all(np.array_equal(expected[n], a) for n, a in merged.arrays("g").items())


def test_zeros_are_left_out_rather_than_all_kept() -> None:
    """After a ReLU most scores are zero: half of them cannot be told from the other half."""
    scores = torch.cat([torch.zeros(900), torch.linspace(1, 2, 100)])
    (found,) = counted(scores).thresholds("layer-threshold", "neuron", 0.5)
    assert kept(scores, found) == pytest.approx(0.1)


def test_all_and_nothing() -> None:
    known = counted(torch.randn(100))
    assert known.thresholds("layer-threshold", "neuron", 1.0) == [-np.inf]
    assert known.thresholds("layer-threshold", "neuron", 0.0) == [np.inf]


def test_what_was_not_counted_is_an_error() -> None:
    known = counted(torch.randn(10))
    with pytest.raises(ValueError, match="no scores of group 'input'"):
        known.thresholds("layer-threshold", "input", 0.5)
    with pytest.raises(ValueError, match="'topk' has no threshold"):
        known.thresholds("topk", "neuron", 0.5)


def test_masks_are_of_scores_at_or_above_the_threshold_of_the_layer() -> None:
    first, second = torch.rand(1000), 5 * torch.rand(1000)
    known = counted(first, second)
    select = ThresholdSelect(known, "layer-threshold")
    low, high = known.thresholds("layer-threshold", "neuron", 0.25)
    scores = torch.tensor([[[low, 0.99 * low, high, 0.0]]], dtype=torch.float32)
    assert select(0, "neuron", scores, 0.25).tolist() == [[[1, 0, 1, 0]]]
    assert select(1, "neuron", scores, 0.25).tolist() == [[[0, 0, 1, 0]]]
    assert select(0, "neuron", scores.bfloat16(), 0.25).dtype == torch.bfloat16


def test_a_mask_is_a_constant_for_gradients() -> None:
    scores = torch.rand(1, 4, 8, requires_grad=True)
    select = ThresholdSelect(counted(torch.rand(100)), "layer-threshold")
    assert not select(0, "neuron", scores, 0.5).requires_grad
    assert not methods.topk(0, "neuron", scores, 0.5).requires_grad  # type: ignore[attr-defined]


def test_cats_is_gate_pruning_with_a_threshold_for_each_layer() -> None:
    cats, gate = methods.create("cats", 0.6), methods.create("gate", 0.6)
    assert (cats.selector, gate.selector) == ("layer-threshold", "topk")
    assert cats.groups == gate.groups == ("up-neuron",)
    assert cats.group_densities() == gate.group_densities()
    assert cats.group_densities()["up-neuron"] == pytest.approx((3 * 0.6 - 1) / 2)
    assert type(cats).forward is type(gate).forward
