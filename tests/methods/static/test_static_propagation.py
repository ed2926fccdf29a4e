"""GPTQ, GPTVQ and SparseGPT against direct dense solutions of the objective that they lower.

The objective is tr((W - V) H (W - V)'). Once the columns F of V are settled, the best values of the
others are W_R + (W_F - V_F) H_FR H_RR^-1, an ordinary least-squares solution. All tests of it are
in float64, where the blocked algorithm must agree to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from methods.base import MethodError
from methods.registry import create
from methods.static import quantiser as quantisers
from methods.static.pruning import StaticPruning
from methods.static.uniform import nearest, scales

DAMPING = 0.01


def layer(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight [rows, columns] and second moments of correlated inputs, float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    x = torch.randn(2 * columns, columns, generator=generator, dtype=torch.float64) @ mix
    return weight, x.T @ x


def damped(moments: Tensor) -> Tensor:
    return moments + DAMPING * moments.diagonal().mean() * torch.eye(len(moments)).double()


def best_rest(weight: Tensor, settled: Tensor, h: Tensor, column: int, until: int) -> Tensor:
    """Columns `column` to `until` as they are best when all before `column` are settled."""
    gap = weight[:, :column] - settled[:, :column]
    wanted = torch.eye(len(h) - column, until - column).double()
    solved = torch.linalg.solve(h[column:, column:], wanted)
    return weight[:, column:until] + gap @ h[:column, column:] @ solved


def loss(weight: Tensor, changed: Tensor, h: Tensor) -> float:
    return float(((weight - changed) @ h * (weight - changed)).sum())


def directly_quantised(weight: Tensor, h: Tensor, bits: int, group: int) -> Tensor:
    """GPTQ by its definition: solve for the rest anew before each column is rounded."""
    result = torch.zeros_like(weight)
    scale = torch.zeros(0)
    for column in range(weight.shape[1]):
        if column % group == 0:
            until = min(column + group, weight.shape[1])
            scale = scales(best_rest(weight, result, h, column, until), bits)
        now = best_rest(weight, result, h, column, column + 1)
        result[:, [column]] = nearest(now, scale, bits)
    return result


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("columns", "group"), [(40, 8), (40, 128), (150, 64), (30, 7)])
def test_gptq_is_the_direct_solution(bits: int, columns: int, group: int) -> None:
    weight, moments = layer(12, columns)
    made = quantisers.create("gptq", bits, group, {}).quantised(weight, moments, 0)
    expected = directly_quantised(weight, damped(moments), bits, group)
    assert torch.allclose(made, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
@pytest.mark.parametrize("columns", [40, 264])
def test_sparsegpt_is_the_direct_solution(pattern: str, columns: int) -> None:
    weight, moments = layer(12, columns)
    method = pruning("sparsegpt", 0.5, pattern)
    made = method.pruned(weight, moments)
    check_pruned(weight, made, damped(moments), {"2:4": 4, "4:8": 8}.get(pattern, 128))
    assert int((made == 0).sum()) == weight.numel() // 2


def check_pruned(weight: Tensor, made: Tensor, h: Tensor, width: int, every: int = 1) -> None:
    """Kept values are the best ones; pruned ones had the lowest increase of the objective."""
    for column in range(0, weight.shape[1], width * every):
        until = min(column + width, weight.shape[1])
        now = best_rest(weight, made, h, column, until)
        inverse = torch.linalg.inv(h[column:, column:])
        factor = torch.linalg.cholesky(inverse, upper=True).diagonal()[: until - column]
        rise = (now / factor) ** 2
        kept = made[:, column:until] != 0
        groups = rise.flatten()[None] if width == 128 else rise.reshape(-1, width)
        of = kept.flatten()[None] if width == 128 else kept.reshape(-1, width)
        for scores, mask in zip(groups, of, strict=True):
            assert scores[~mask].max() <= scores[mask].min() * (1 + 1e-9)
        first = torch.where(kept[:, 0], now[:, 0], 0)
        assert torch.allclose(made[:, column], first, rtol=0, atol=1e-9)


def test_sparsegpt_keeps_the_best_values_in_every_column() -> None:
    weight, moments = layer(8, 40)
    made = pruning("sparsegpt", 0.4).pruned(weight, moments)
    for column in range(40):
        now = best_rest(weight, made, damped(moments), column, column + 1)[:, 0]
        assert torch.allclose(made[:, column], torch.where(made[:, column] != 0, now, 0), atol=1e-9)


def test_sparsegpt_with_gptq_is_the_direct_solution_of_both() -> None:
    weight, moments = layer(12, 40)
    method, by = pruning("sparsegpt", 0.5, "2:4"), quantisers.create("gptq", 4, 8, {})
    made = method.pruned(weight, moments, by)  # type: ignore[call-arg]
    h, scale = damped(moments), torch.zeros(0)
    for column in range(40):
        if column % 8 == 0:
            scale = scales(best_rest(weight, made, h, column, column + 8), 4)
        now = best_rest(weight, made, h, column, column + 1)
        rounded = nearest(now, scale, 4)[:, 0]
        assert torch.allclose(
            made[:, column], torch.where(made[:, column] != 0, rounded, 0), atol=1e-9
        )
    zeros = (made.reshape(12, 10, 4) == 0).sum(-1)
    assert int(zeros.min()) >= 2


def test_gptvq_takes_the_entry_of_lowest_loss_for_each_pair() -> None:
    from methods.static.codebook import codebooks_by_row
    from methods.static.gptvq import GPTVQ

    weight, moments = layer(12, 24)
    vq = GPTVQ(bits=2, group_size=8)
    made = vq.quantised(weight, moments, 3)
    h = damped(moments)
    factor = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    books = codebooks_by_row(vq, weight, factor.diagonal() ** -2, 3)  # [rows, entries, 2]
    for column in range(0, 24, 2):
        now = best_rest(weight, made, h, column, column + 2)
        change = now[:, None] - books  # [rows, entries, 2]
        schur = torch.linalg.inv(torch.linalg.inv(h[column:, column:])[:2, :2])
        rise = torch.einsum("rei,ij,rej->re", change, schur, change)
        best = books.take_along_dim(rise.argmin(1)[:, None, None], 1)[:, 0]
        assert torch.allclose(made[:, column : column + 2], best, rtol=0, atol=1e-9)


@pytest.mark.parametrize("act_order", [False, True])
def test_act_order_gives_values_of_the_grids_of_the_unchanged_groups(act_order: bool) -> None:
    weight, moments = layer(12, 40)
    own = {"act_order": act_order}
    made = quantisers.create("gptq", 3, 8, own).quantised(weight, moments, 0)
    steps = torch.cat(
        [g / scales(w, 3) for g, w in zip(made.split(8, 1), weight.split(8, 1), strict=True)], 1
    )
    on_these = torch.allclose(steps, steps.round(), atol=1e-9)
    assert on_these == act_order


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_errors_carried_on_lower_the_objective(bits: int) -> None:
    weight, moments = layer(64, 96)
    found = {
        name: loss(
            weight, quantisers.create(name, bits, 32, {}).quantised(weight, moments, 0), moments
        )
        for name in ("rtn", "gptq", "gptvq")
    }
    assert found["gptvq"] < found["gptq"] < found["rtn"]


def test_more_bits_and_smaller_groups_lower_the_objective() -> None:
    weight, moments = layer(32, 128)

    def of(bits: int, group: int) -> float:
        made = quantisers.create("gptq", bits, group, {}).quantised(weight, moments, 0)
        return loss(weight, made, moments)

    assert of(8, 128) < of(4, 128) < of(3, 128) < of(2, 128)
    assert of(3, 16) < of(3, 128)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
def test_sparsegpt_lowers_the_objective_most(pattern: str) -> None:
    weight, moments = layer(64, 96)
    weight = weight * torch.linspace(0.2, 2, 96).double()
    found = {
        name: loss(
            weight, pruning(name, 0.5, pattern).pruned(weight, needed(name, moments)), moments
        )
        for name in ("magnitude", "wanda", "sparsegpt")
    }
    assert found["sparsegpt"] < found["wanda"]
    assert found["sparsegpt"] < found["magnitude"]


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    weight, moments = layer(12, 40)
    moments[:, 7] = moments[7] = 0
    for name in ("gptq", "gptvq"):
        made = quantisers.create(name, 4, 8, {}).quantised(weight, moments, 0)
        assert torch.isfinite(made).all(), name
    made = pruning("sparsegpt", 0.5).pruned(weight, moments)
    assert torch.isfinite(made).all()
    assert (made[:, 7] == 0).all()  # nothing is lost by pruning these
    zero = torch.zeros_like(moments)
    nothing_known = quantisers.create("gptq", 4, 8, {}).quantised(weight, zero, 0)
    rounded = quantisers.create("rtn", 4, 8, {}).quantised(weight, None, 0)
    assert torch.allclose(nothing_known, rounded)


def test_gptvq_refuses_an_odd_number_of_columns_and_sparsegpt_other_roundings() -> None:
    weight, moments = layer(4, 7)
    with pytest.raises(MethodError, match="even number of columns, not 7"):
        quantisers.create("gptvq", 2, 8, {}).quantised(weight, moments, 0)
    weight, moments = layer(4, 8)
    with pytest.raises(MethodError, match="rounds on the way with gptq alone"):
        pruning("sparsegpt", 0.5).pruned(weight, moments, quantisers.create("rtn", 4, 8, {}))  # type: ignore[call-arg]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gptq", "sparsegpt"])
def test_a_layer_of_1536_by_576_agrees_with_the_direct_solution(name: str) -> None:
    weight, moments = layer(1536, 576)
    h = damped(moments)
    if name == "sparsegpt":
        made = pruning("sparsegpt", 0.5, "2:4").pruned(weight, moments)
        check_pruned(weight, made, h, 4, every=8)
        return
    made = quantisers.create("gptq", 3, 128, {}).quantised(weight, moments, 0)
    for column, now, scale in direct_columns(weight, made, h):
        rounded = nearest(now, scale, 3)
        assert torch.allclose(made[:, [column]], rounded, rtol=0, atol=1e-9), column


def direct_columns(weight: Tensor, made: Tensor, h: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    scale = torch.zeros(0)
    for column in range(0, 576, 16):
        if column % 128 == 0:
            scale = scales(best_rest(weight, made, h, column, min(column + 128, 576)), 3)
        yield column, best_rest(weight, made, h, column, column + 1), scale


def pruning(name: str, density: float, pattern: str = "unstructured") -> StaticPruning:
    method = create(name, density, pattern=pattern)
    assert isinstance(method, StaticPruning)
    return method


def needed(name: str, moments: Tensor) -> Tensor | None:
    return {"magnitude": None, "wanda": moments.diagonal(), "sparsegpt": moments}[name]
