"""The tool that gives a small model ReLU gates, on a tiny one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import relufy
from methods.mlp import gated_mlps
from sweep import models


@pytest.fixture(scope="module")
def folder(save_tiny_model: Callable[..., Path]) -> Path:
    return save_tiny_model("Llama")


@pytest.fixture(scope="module")
def windows() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(1, 256, (1, 48), generator=generator) for _ in range(12)]


@pytest.fixture
def made(folder: Path, windows: list[Tensor], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relufy, "MODEL", str(folder))
    return relufy.relufied(windows, 0)


def divergence(folder: Path, model: torch.nn.Module, windows: list[Tensor]) -> float:
    """Mean KL from the dense model's next token, over all windows."""
    dense = models.load(str(folder))
    with torch.no_grad():
        pairs = [(dense(w).logits[0].log_softmax(-1), model(w).logits[0]) for w in windows]
    parts = [
        torch.nn.functional.kl_div(
            b.log_softmax(-1), a, log_target=True, reduction="batchmean"
        ).item()
        for a, b in pairs
    ]
    return sum(parts) / len(parts)


def test_it_has_exact_zeros_and_only_its_mlps_have_learnt(folder: Path, made: Any):
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(1))
    assert 0.2 < (gated_mlps(made)[0].glu(x) == 0).float().mean() < 0.8
    before = dict(models.load(str(folder)).named_parameters())
    changed = {n for n, p in made.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(".mlp." in name for name in changed)


def test_it_is_nearer_to_the_model_than_without_learning(
    folder: Path, made: Any, windows: list[Tensor]
):
    swapped = models.load(str(folder))
    for view in gated_mlps(swapped):
        view.module.act_fn = torch.nn.ReLU()
    assert divergence(folder, made, windows) < 0.9 * divergence(folder, swapped, windows)


def test_it_can_be_saved_and_loaded_and_is_the_same_again(
    folder: Path, made: Any, windows: list[Tensor], tmp_path: Path
):
    made.save_pretrained(tmp_path)
    models.tokenizer(str(folder)).save_pretrained(tmp_path)
    back, again = models.load(str(tmp_path)), relufy.relufied(windows, 0)
    with torch.no_grad():
        wanted = made(windows[0]).logits
        assert torch.equal(back(windows[0]).logits, wanted)
        assert torch.equal(again(windows[0]).logits, wanted)
