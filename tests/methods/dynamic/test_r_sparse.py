"""Two branches: what is kept by W, what is left out by an approximation of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from methods import MethodError, contract, low_rank
from methods.apply import applied
from methods.dynamic.r_sparse import RSparse
from methods.training import fitted
from sweep.inputs import models
from tests.methods.lessons import Kept, lesson, logits, same, windows_of
from tests.methods.reference import PlainMLP, kept, largest, replaced

IDS = torch.arange(3, 35)[None]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def windows(tiny_text: str) -> Any:
    return windows_of(tiny_text)[:8]


def scales(matrix: Tensor, scaled: bool) -> Tensor:
    """Norms of the rows of V Sigma [inputs], or ones."""
    _, values, v = torch.linalg.svd(matrix, full_matrices=False)
    return (v.T * values).norm(dim=1) if scaled else torch.ones_like(v[0])


def plain(arrays: dict[str, Any], share: float, scaled: bool) -> Any:
    """A column of W or of what is near to it, one after the other."""
    known: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    def near(layer: int, name: str, matrix: Tensor) -> tuple[Tensor, Tensor]:
        if (layer, name) not in known:
            branch = torch.zeros_like(matrix)
            if arrays:
                parts = (arrays[f"{layer}.{name}.{part}"] for part in "uv")
                u, v = (torch.from_numpy(part).double() for part in parts)
                branch = u @ v
            known[layer, name] = branch, scales(matrix, scaled)
        return known[layer, name]

    def formula(layer: int, mlp: PlainMLP, x: Tensor) -> Tensor:
        def product(name: str, matrix: Tensor, at: Tensor) -> Tensor:
            branch, rows = near(layer, name, matrix)
            units = largest((at.abs() * rows).tolist(), kept(share, len(at)))
            total = torch.zeros(len(matrix)).double()
            for column in range(len(at)):
                total += (matrix if column in units else branch)[:, column] * at[column]
            return total

        gate = product("gate", mlp.gate, x) + mlp.gate_bias
        up = product("up", mlp.up, x) + mlp.up_bias
        return product("down", mlp.down, mlp.act(gate) * up) + mlp.down_bias

    return formula


@pytest.mark.parametrize(("rank", "scaled"), [(5, False), (12, True), (0, True)])
@pytest.mark.parametrize("folder", ["tiny_llama", "tiny_phi3", "tiny_bias"])
def test_it_is_its_equation(
    folder: str, rank: int, scaled: bool, windows: Any, request: Any
) -> None:
    model = models.load(str(request.getfixturevalue(folder)), "float32")
    method = methods.create("r-sparse", 0.5, branch_rank=rank, scaled=scaled)
    arrays = method.train(model, lesson(windows))[1] if rank else {}
    with torch.no_grad():
        with fitted(model, method, arrays) as ready, applied(model, ready):
            ours = model(input_ids=IDS).logits
        with replaced(model, plain(arrays, 0.5, scaled)):
            expected = model(input_ids=IDS).logits
    assert float((ours - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_full_rank_gives_the_dense_model(tiny_llama: Path, windows: Any) -> None:
    model: nn.Module = models.load(str(tiny_llama), "float32")
    method = methods.create("r-sparse", 0.3, branch_rank=48)
    result, arrays = method.train(model, lesson(windows))
    assert result["held"] == pytest.approx({"gate": 1, "up": 1, "down": 1})
    dense, ours = logits(model, windows[:1]), logits(model, windows[:1], method, arrays)
    assert float((ours - dense).abs().max()) < 3e-3 * float(dense.abs().max())


def test_the_approximation_is_the_best_of_its_rank() -> None:
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    u, v, held = low_rank.approximation(matrix, 4)
    left = matrix - torch.from_numpy(u).float() @ torch.from_numpy(v).float()
    values = torch.linalg.svdvals(matrix)
    assert float(left.norm()) == pytest.approx(float(values[4:].norm()), rel=1e-4)
    assert float(held) == pytest.approx(float(1 - (left.norm() / matrix.norm()) ** 2), abs=1e-3)
    assert low_rank.approximation(torch.zeros(3, 3), 2)[2] == 0


def test_one_that_is_killed_goes_on_after_the_layers_that_are_done(
    tiny_llama: Path, windows: Any
) -> None:
    model, method = models.load(str(tiny_llama), "float32"), methods.create("r-sparse", 0.5)
    kept_, whole = Kept(fail_after=1), method.train(model, lesson(windows))[1]
    with pytest.raises(KeyboardInterrupt):
        method.train(model, lesson(windows, checkpoint=kept_))
    assert {name.split(".")[0] for name in kept_.saved[-1]} == {"0"}
    kept_.fail_after = None
    assert same(whole, method.train(model, lesson(windows, checkpoint=kept_))[1])


def test_bytes_of_the_branches_are_counted() -> None:
    found = RSparse(density=0.5, branch_rank=16, scaled=True)
    assert found.resident_numbers(576, 1536) == 3 * 16 * (576 + 1536) + 2 * 576 + 1536
    assert RSparse(density=0.5, branch_rank=0).resident_numbers(576, 1536) == 0
    assert RSparse(branch_rank=10**6).resident_numbers(48, 96) == 3 * 48 * (48 + 96)


def test_what_cannot_be_used_is_said(tiny_llama: Path) -> None:
    for rank in (-1, 2.5, "8"):
        with pytest.raises(MethodError, match=r"branch_rank .* of r-sparse: a whole number"):
            methods.create("r-sparse", 0.5, branch_rank=rank)
    model = models.load(str(tiny_llama), "float32")
    with pytest.raises(ValueError, match="r-sparse must be trained before"):
        logits(model, np.ones((1, 8), np.int64), methods.create("r-sparse", 0.5))


@pytest.mark.parametrize("rule", contract.RULES, ids=lambda rule: rule.__name__)
def test_scaled_and_with_greedy_shares_it_keeps_every_rule(rule: contract.Rule) -> None:
    rule(contract.subject_of("r-sparse", branch_rank=4, scaled=True, shares="greedy"))
