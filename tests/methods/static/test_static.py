"""Quantisers and static pruning on single matrices: grids, exact sparsity, codebooks, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.base import MethodError
from methods.registry import create
from methods.static import quantiser as quantisers
from methods.static.codebook import codebooks_by_row, fit, in_8_bits
from methods.static.gptvq import GPTVQ
from methods.static.pruning import StaticPruning
from methods.static.uniform import nearest, scales

PRUNING = ("magnitude", "wanda", "sparsegpt")
QUANTISERS = ("rtn", "gptq", "gptvq")


def weight_and_moments(rows: int = 24, columns: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(rows, columns, generator=generator)
    x = torch.randn(200, columns, generator=generator)
    return weight, x.T @ x


def pruned(name: str, weight: Tensor, moments: Tensor, density: float, pattern: str) -> Tensor:
    method = create(name, density, pattern=pattern)
    assert isinstance(method, StaticPruning)
    statistic = {"nothing": None, "norms": moments.diagonal(), "moments": moments}[method.needs]
    return method.pruned(weight, statistic)


# -- the uniform grid ------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_grid_has_two_to_the_bits_points_around_zero(bits: int) -> None:
    scale = torch.tensor([[0.5]])
    points = nearest(torch.linspace(-200, 200, 10001)[None], scale, bits).unique()
    assert len(points) == 2**bits
    assert points[0] == -0.5 * 2 ** (bits - 1)
    assert 0 in points


def test_scale_is_a_16_bit_float_that_centres_the_range() -> None:
    group = torch.tensor([[-3.0, 1.0], [0.0, 0.0]])
    scale = scales(group, 4)
    assert scale[0].item() == torch.tensor(3 / 7.5).half().item()
    assert torch.equal(nearest(group, scale, 4)[1], torch.zeros(2))  # no division by 0


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rtn_is_the_nearest_point_of_each_group(bits: int) -> None:
    weight, _ = weight_and_moments(6, 40)
    made = quantisers.create("rtn", bits, 16, {}).quantised(weight, None, 0)
    for start in (0, 16, 32):  # the last group is the shorter one
        group = weight[:, start : start + 16]
        scale = scales(group, bits)
        grid = scale[..., None] * torch.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
        distance = (group[..., None] - grid).abs()
        expected = distance.min(-1).values
        assert torch.allclose((group - made[:, start : start + 16]).abs(), expected, atol=1e-6)


# -- pruning ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize("density", [0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("shape", [(24, 64), (7, 130), (1, 1000)])
def test_unstructured_sparsity_is_exact(name: str, density: float, shape: tuple[int, int]) -> None:
    weight, moments = weight_and_moments(*shape)
    made = pruned(name, weight, moments, density, "unstructured")
    rows, columns = shape
    whole, by_row = int(density * rows * columns + 1e-9), rows * int(density * columns + 1e-9)
    assert int((made != 0).sum()) == (by_row if name == "wanda" else whole)
    if density == 1:
        assert torch.equal(made, weight)


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize(("pattern", "kept", "of"), [("2:4", 2, 4), ("4:8", 4, 8)])
def test_every_block_of_a_pattern_keeps_its_number(
    name: str, pattern: str, kept: int, of: int
) -> None:
    weight, moments = weight_and_moments()
    made = pruned(name, weight, moments, 0.5, pattern)
    assert ((made.reshape(24, -1, of) != 0).sum(-1) == kept).all()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
def test_magnitude_and_wanda_prune_the_lowest_scores_and_keep_the_rest(pattern: str) -> None:
    weight, moments = weight_and_moments()
    width = {"2:4": 4, "4:8": 8}.get(pattern)
    for name, scores in (
        ("magnitude", weight.abs()),
        ("wanda", weight.abs() * moments.diagonal().sqrt()),
    ):
        made = pruned(name, weight, moments, 0.5, pattern)
        assert torch.equal(made[made != 0], weight[made != 0])
        among = width or (scores.numel() if name == "magnitude" else scores.shape[1])
        groups, kept = scores.reshape(-1, among), (made != 0).reshape(-1, among)
        for values, mask in zip(groups, kept, strict=True):
            assert values[~mask].max() <= values[mask].min()


def test_ties_keep_the_lower_index() -> None:
    weight = torch.ones(2, 4)
    assert pruned("magnitude", weight, weight, 0.5, "unstructured").tolist() == [[1] * 4, [0] * 4]
    assert pruned("magnitude", weight, weight, 0.5, "2:4").tolist() == [[1, 1, 0, 0]] * 2


@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
def test_patterns_have_one_density_and_fit_whole_blocks_alone(pattern: str) -> None:
    with pytest.raises(MethodError, match=r"reachable is 0\.5 to 0\.5"):
        create("sparsegpt", 0.4, pattern=pattern)
    for name in PRUNING:
        with pytest.raises(MethodError, match="does not fit a matrix of 65 columns"):
            pruned(name, *weight_and_moments(3, 65), 0.5, pattern)


@pytest.mark.parametrize(
    ("pattern", "bits"), [("unstructured", 1.0), ("2:4", 0.75), ("4:8", 0.875)]
)
def test_mask_bits_tell_all_patterns_of_a_block_apart(pattern: str, bits: float) -> None:
    method = create("wanda", 0.5, pattern=pattern)
    assert isinstance(method, StaticPruning)
    assert method.mask_bits == bits
    dense = create("wanda", 1.0)
    assert isinstance(dense, StaticPruning)
    assert dense.mask_bits == 0


# -- codebooks -------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group_size", [64, 128])
@pytest.mark.parametrize("shape", [(512, 576), (192, 576), (192, 1536)])
def test_codebooks_cost_no_more_than_is_counted(
    bits: int, group_size: int, shape: tuple[int, int]
) -> None:
    """8-bit entries and a 16-bit scale, over the weights of the matrix: 16 / group_size bits."""
    vq = GPTVQ(bits=bits, group_size=group_size, iterations=0)
    weight, books = torch.randn(shape, generator=torch.Generator().manual_seed(0)), 0
    for span in weight.split(256, dim=1):
        of_rows = codebooks_by_row(vq, span, torch.ones(span.shape[1]), 0)
        books += 1 + int((of_rows[1:] != of_rows[:-1]).flatten(1).any(1).sum())
    cost = books * (8 * 2 * vq.entries + 16) / weight.numel()
    assert cost <= 16 / group_size * (1 + 1e-3) or books == 3
    assert vq.entries == 2 ** (2 * bits)


def test_pairs_of_a_row_are_entries_of_its_codebook() -> None:
    weight, moments = weight_and_moments(24, 64)
    vq = GPTVQ(bits=2, group_size=4)
    made = vq.quantised(weight, moments, 0)
    assert vq.weights_per_codebook == 68
    pairs = made.reshape(24, 32, 2)
    for row in range(0, 24, 2):  # 24 * 64 // 68 = 22 codebooks, so two rows share one
        assert len(pairs[row : row + 2].reshape(-1, 2).unique(dim=0)) <= vq.entries


def test_fit_finds_separated_clusters_and_each_round_helps() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-4.0, 0], [4, 0], [0, 4], [0, -4]])
    points = (centres.repeat(50, 1) + 0.1 * torch.randn(200, 2, generator=generator))[None]
    weights = torch.ones_like(points)
    found = fit(points, weights, 4, 10, seed=0)[0]
    assert torch.cdist(centres, found).min(1).values.max() < 0.1

    def error(iterations: int) -> float:
        noise = torch.randn(1, 400, 2, generator=torch.Generator().manual_seed(2))
        fitted = fit(noise, torch.ones_like(noise), 16, iterations, seed=0)
        return float(torch.cdist(noise, fitted).min(-1).values.square().sum())

    assert error(10) < error(1) < error(0)


def test_fit_is_the_weighted_mean_and_ignores_weight_0() -> None:
    points = torch.tensor([[[0.0, 0.0], [1.0, 3.0], [50.0, 50.0]]])
    weights = torch.tensor([[[1.0, 3.0], [3.0, 1.0], [0.0, 0.0]]])
    assert fit(points, weights, 1, 1, seed=0).flatten().tolist() == [0.75, 0.75]


def test_codebook_entries_are_8_bit_integers_times_a_16_bit_scale() -> None:
    books = torch.randn(3, 16, 2, generator=torch.Generator().manual_seed(0))
    made = in_8_bits(books)
    scale = (books.abs().amax(dim=(1, 2), keepdim=True) / 127).half().float()
    steps = made / scale
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert steps.abs().max() <= 128
    assert torch.allclose(made, books, atol=float(scale.max()) / 2 * 1.001)


def test_seed_decides_a_codebook() -> None:
    weight, moments = weight_and_moments()
    vq = GPTVQ(bits=2, group_size=16)
    again, other = vq.quantised(weight, moments, 0), vq.quantised(weight, moments, 1)
    assert torch.equal(vq.quantised(weight, moments, 0), again)
    assert not torch.equal(again, other)


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bits", "group_size", "own", "message"),
    [
        ("gptk", 4, 128, {}, "unknown quantisation 'gptk'; did you mean 'gptq'"),
        ("rtn", 5, 128, {}, r"rtn has no 5 bits \(it has: 2, 3, 4, 8\)"),
        ("gptvq", 8, 128, {}, r"gptvq has no 8 bits \(it has: 2, 3, 4\)"),
        ("gptq", 2.5, 128, {}, "gptq has no 2.5 bits"),
        ("gptq", 4, 0, {}, "group_size 0 of gptq"),
        ("gptq", 4, 128, {"damping": 0}, "damping 0 of gptq is not above 0"),
        ("gptq", 4, 128, {"calibration_windows": 0}, "calibration_windows 0 of gptq"),
        ("gptq", 4, 128, {"order": True}, "gptq has no parameter 'order'"),
        ("rtn", 4, 128, {"calibration_windows": 4}, "no parameter 'calibration_windows'"),
        ("gptvq", 4, 128, {"iterations": -1}, "iterations -1 of gptvq"),
    ],
)
def test_quantisations_that_there_are_not(
    name: str, bits: float, group_size: int, own: dict[str, object], message: str
) -> None:
    with pytest.raises(MethodError, match=message):
        quantisers.create(name, bits, group_size, own)


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("sparsegpt", {"pattern": "1:4"}, "unknown pattern '1:4' of sparsegpt"),
        ("sparsegpt", {"damping": -1}, "damping -1 of sparsegpt"),
        ("wanda", {"calibration_windows": 1.5}, "calibration_windows 1.5 of wanda"),
        ("magnitude", {"calibration_windows": 4}, "no parameter 'calibration_windows'"),
    ],
)
def test_static_pruning_that_there_is_not(name: str, own: dict[str, object], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        create(name, 0.5, **own)


@pytest.mark.parametrize("name", QUANTISERS)
def test_weights_handed_in_stay_as_they_were(name: str) -> None:
    weight, moments = weight_and_moments()
    before = weight.clone()
    quantisers.create(name, 3, 16, {}).quantised(weight, moments, 0)
    assert torch.equal(weight, before)
