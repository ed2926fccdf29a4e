"""Losses in slices: the same digits, a bounded memory, and whole logits where slices cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from sweep.measures import losses as own

SIZES: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}


def made(family: str, **more: Any) -> Any:
    """A tiny random model, of a family whose logits are capped or scaled after the head."""
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **more})
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def by_hand(model: Any, tokens: Tensor) -> list[float]:
    logits = model(input_ids=tokens).logits[0, :-1].float()
    parts = zip(logits.split(own.ROWS), tokens[0, 1:].split(own.ROWS), strict=True)
    return [float(nn.functional.cross_entropy(a, b, reduction="sum")) for a, b in parts]


FAMILIES = [
    ("Llama", {}),
    ("Gemma2", {"head_dim": 16, "final_logit_softcapping": 3.0}),
    ("Cohere", {"logit_scale": 0.25}),
    ("Granite", {"logits_scaling": 4.0}),
]


@pytest.mark.parametrize(("family", "more"), FAMILIES, ids=lambda value: str(value))
@pytest.mark.parametrize("tokens", [600, 2 + 2 * own.ROWS, 7])
def test_slices_are_to_the_digit_what_whole_logits_give(
    family: str, more: dict[str, Any], tokens: int
) -> None:
    torch.set_num_threads(1)
    model = made(family, **more)
    ids = torch.randint(0, 1024, (1, tokens), generator=torch.Generator().manual_seed(1))
    own.prove(model)
    assert own._sliceable[model]
    with torch.inference_mode():
        assert own.losses(model, ids).tolist() == by_hand(model, ids)
        assert "forward" not in model.base_model.__dict__


class _Mixing(transformers.LlamaForCausalLM):
    """A head whose logits of a token depend on those beside it: it cannot be cut."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        answer: Any = super().forward(*args, **kwargs)
        answer.logits = answer.logits - answer.logits.mean(dim=1, keepdim=True)
        return answer


def test_a_head_that_mixes_tokens_is_not_cut() -> None:
    torch.manual_seed(3)
    model = _Mixing(transformers.LlamaConfig(**SIZES)).eval()
    ids = torch.arange(300)[None]
    own.prove(model)
    assert not own._sliceable.get(model)
    with torch.inference_mode():
        assert own.losses(model, ids).tolist() == by_hand(model, ids)


def test_no_more_rows_of_logits_than_a_slice_exist_at_once() -> None:
    model, rows = made("Llama"), list[int]()
    own.prove(model)
    model.lm_head.register_forward_hook(lambda _m, _i, out: rows.append(out.shape[1]))
    with torch.inference_mode():
        found = own.losses(model, torch.arange(1000)[None])
    assert max(rows) == own.ROWS
    assert sum(rows) == 999
    assert math.isfinite(float(found.sum()))
