"""rtn rounds embedding and head where it is asked to, once where they are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from methods.base import MethodError
from methods.static import quantiser
from methods.static.recipe import Recipe, changed_weights
from sweep.inputs import models


def changed(folder: Path, embeddings: int) -> dict[str, torch.Tensor]:
    rtn = quantiser.create("rtn", 4, 16, {"embeddings": embeddings})
    return dict(changed_weights(models.load(str(folder)), [], Recipe(None, rtn)))


def test_embedding_and_head_are_left_unless_asked_for(tiny_llama: Path) -> None:
    left, rounded = changed(tiny_llama, 0), changed(tiny_llama, 8)
    assert set(rounded) - set(left) == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(torch.equal(rounded[name], left[name]) for name in left)
    embedding: Any = models.load(str(tiny_llama)).get_input_embeddings()
    weight = embedding.weight
    new = rounded["model.embed_tokens.weight"]
    for group in new.split(16, dim=1):  # at most 2^8 values a group of a row
        assert max(len(row.unique()) for row in group) <= 16
    assert 0 < (new - weight).abs().max() < weight.abs().max() / 128


def test_one_matrix_at_both_ends_is_rounded_once(tiny_llama: Path) -> None:
    model = models.load(str(tiny_llama))
    model.lm_head.weight = model.model.embed_tokens.weight
    rtn = quantiser.create("rtn", 4, 16, {"embeddings": 2})
    names = [name for name, _ in changed_weights(model, [], Recipe(None, rtn))]
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


@pytest.mark.parametrize("bits", [5, -4, True])
def test_bits_that_rtn_has_not_are_refused(bits: int) -> None:
    with pytest.raises(MethodError, match="embeddings"):
        quantiser.create("rtn", 4, 16, {"embeddings": bits})
    with pytest.raises(MethodError, match="no parameter 'embeddings'"):
        quantiser.create("gptq", 4, 16, {"embeddings": 4})
