"""The tool that gives a small model ReLU gates, on a tiny one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div

from benchmarks import relufy
from methods.mlp import gated_mlps
from sweep.inputs import models

TOKENS = torch.randint(1, 256, (12, 1, 48), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def made(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(relufy, "MODEL", str(tiny_llama))
    return relufy.relufied([*TOKENS], 0)


def divergence(dense: Any, model: Any) -> float:
    """Mean KL from the dense model's next token."""
    with torch.no_grad():
        wanted, given = (
            m(TOKENS[:, 0]).logits.flatten(0, 1).log_softmax(-1) for m in (dense, model)
        )
    return float(kl_div(given, wanted, log_target=True, reduction="batchmean"))


def test_it_has_exact_zeros_and_only_its_mlps_have_learnt(tiny_llama: Path, made: Any):
    x = torch.randn(4, 48, generator=torch.Generator().manual_seed(1))
    assert 0.2 < (gated_mlps(made)[0].glu(x) == 0).float().mean() < 0.8
    before = dict(models.load(str(tiny_llama)).named_parameters())
    changed = {n for n, p in made.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(".mlp." in name for name in changed)


def test_it_is_nearer_to_the_model_than_without_learning(tiny_llama: Path, made: Any):
    dense, swapped = models.load(str(tiny_llama)), models.load(str(tiny_llama))
    for view in gated_mlps(swapped):
        view.module.act_fn = torch.nn.ReLU()
    assert divergence(dense, made) < 0.9 * divergence(dense, swapped)


def test_it_can_be_saved_and_loaded_and_is_the_same_again(
    tiny_llama: Path, made: Any, tmp_path: Path
):
    made.save_pretrained(tmp_path)
    models.tokenizer(str(tiny_llama)).save_pretrained(tmp_path)
    back, again = models.load(str(tmp_path)), relufy.relufied([*TOKENS], 0)
    with torch.no_grad():
        wanted = made(TOKENS[0]).logits
        assert torch.equal(back(TOKENS[0]).logits, wanted)
        assert torch.equal(again(TOKENS[0]).logits, wanted)
