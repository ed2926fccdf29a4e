"""TurboSparse's architecture, which transformers lacks: Mistral with ReLU on gate and up alike.

Its weights carry the architecture's name `bamboo` and bring code of their own, which is never run.
dReLU (Song et al. 2024, arXiv 2406.05955): W_down (relu(W_gate x) * relu(W_up x)). The files may
hold predictors beside the model; they are not read.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, MistralConfig, MistralForCausalLM
from transformers.models.mistral.modeling_mistral import MistralMLP

NAME = "bamboo"


class DReLUConfig(MistralConfig):
    """Sizes as Mistral's."""

    model_type = NAME


class DReLUMLP(MistralMLP):
    """A gated MLP with an activation of its own on W_up x: `up_act` (`methods.mlp` reads it)."""

    def __init__(self, config: DReLUConfig) -> None:
        super().__init__(config)
        self.up_act: nn.Module = self.act_fn

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_act(self.up_proj(x)))


class DReLUForCausalLM(MistralForCausalLM):
    """Mistral, each MLP with dReLU."""

    config_class = DReLUConfig

    def __init__(self, config: DReLUConfig) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            cast(Any, layer).mlp = DReLUMLP(config)
        self.post_init()


def register() -> None:
    """Make transformers' Auto classes know it; again and again does no harm."""
    AutoConfig.register(NAME, DReLUConfig, exist_ok=True)
    AutoModelForCausalLM.register(DReLUConfig, DReLUForCausalLM, exist_ok=True)
