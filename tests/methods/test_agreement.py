"""An MLP that computes more than the equation is refused by name; one that is it, is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import methods
from methods import agreement
from methods.agreement import agreeing_mlps
from methods.apply import applied
from methods.mlp import UnsupportedModelError, gated_mlps
from tests.methods.test_families import SIZES as FAMILY_SIZES
from tests.methods.test_families import made, window

SIZES: Any = FAMILY_SIZES

MAMBA = {
    "mamba_d_ssm": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}


def random_model(kind: str, **config: Any) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    name = {"Gemma4": "Gemma4Text"}.get(kind, kind)
    shape = getattr(transformers, f"{name}Config")(**{**SIZES, **config})
    model = getattr(transformers, f"{kind}ForCausalLM")(shape)
    for key, parameter in model.named_parameters():
        if "norm" not in key:
            nn.init.normal_(parameter, std=0.15)
    return model.eval().requires_grad_(False)


def test_multipliers_in_the_module_are_found() -> None:
    """Falcon-H1 multiplies the gate and the output; with multipliers of 1 it is the equation."""
    plain = random_model("FalconH1", mlp_multipliers=[1.0, 1.0], **MAMBA)
    assert len(agreeing_mlps(plain)) == SIZES["num_hidden_layers"]
    scaled = random_model("FalconH1", mlp_multipliers=[0.884, 0.586], **MAMBA)
    ids = window()
    with torch.no_grad():
        before = scaled(input_ids=ids).logits
    with (
        pytest.raises(UnsupportedModelError, match=r"layers\.0\.feed_forward.*more than a gated"),
        applied(scaled, methods.create("dip", 0.5)),
    ):
        pass
    with torch.no_grad():
        assert torch.equal(scaled(input_ids=ids).logits, before)


def test_one_layer_that_differs_is_named() -> None:
    model = random_model("Llama")
    down = gated_mlps(model)[2].module

    down.__class__ = type("DoubledMLP", (type(down),), {})
    setattr(type(down), "forward", lambda self, x: 2 * _llama_forward(self, x))  # noqa: B010
    with pytest.raises(UnsupportedModelError, match=r"layers\.2\.mlp \(DoubledMLP\)"):
        agreeing_mlps(model)


def _llama_forward(module: Any, x: Tensor) -> Tensor:
    return module.down_proj(module.act_fn(module.gate_proj(x)) * module.up_proj(x))


def test_layers_of_different_width_are_one_sentence() -> None:
    model = random_model(
        "Gemma4",
        vocab_size_per_layer_input=96,
        hidden_size_per_layer_input=16,
        num_hidden_layers=4,
        head_dim=8,
        global_head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
        use_double_wide_mlp=True,
    )
    with pytest.raises(UnsupportedModelError, match=r"layers 2, 3 have another .* size \(128\)"):
        agreeing_mlps(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["Llama", "Phi3", "Gemma3", "Glm4"])
def test_gated_mlps_agree_in_every_type(family: str, dtype: torch.dtype) -> None:
    model = made(family).to(dtype)
    try:
        assert [view.layer for view in agreeing_mlps(model)] == [0, 1, 2]
    finally:
        model.to(torch.float32)


def test_the_check_is_made_once_and_leaves_random_numbers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tried = random_model("Llama"), []
    real = agreement.check_agrees
    monkeypatch.setattr(agreement, "check_agrees", lambda v: (tried.append(v.layer), real(v)))
    before = torch.get_rng_state()
    with applied(model, methods.create("glu", 0.8)):
        pass
    with applied(model, methods.create("dip", 0.8)):
        pass
    assert tried == [0, 1, 2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_method_in_place_is_not_asked_and_dropout_is_off() -> None:
    model = random_model("Llama").train()
    with applied(model, methods.create("dip", 0.5)):
        agreement._AGREED.discard(model)
        assert len(agreeing_mlps(model)) == 3
    assert all(module.training for module in model.modules())


def test_a_model_without_values_is_passed_over() -> None:
    import transformers

    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES))
    assert len(agreeing_mlps(model)) == 3
