"""TurboSparse's architecture, which transformers lacks: Mistral with ReLU on gate and up alike.

Its weights carry the architecture's name `bamboo` and bring code of their own, which is never run.
dReLU (Song et al. 2024, arXiv 2406.05955): W_down (relu(W_gate x) * relu(W_up x)). The files may
hold predictors beside the model; they are not read.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

NAME = "bamboo"


def register(transformers: Any) -> None:
    """Make the Auto classes of transformers (the module) know the architecture."""
    if NAME in transformers.CONFIG_MAPPING:
        return

    class DReLUConfig(transformers.MistralConfig):
        """Sizes as Mistral's."""

        model_type = NAME

    class DReLUMLP(transformers.models.mistral.modeling_mistral.MistralMLP):
        """With an activation on W_up x too: `up_act` (`methods.mlp` reads it)."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.up_act = self.act_fn

        def forward(self, x: Tensor) -> Tensor:
            return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_act(self.up_proj(x)))

    class DReLUForCausalLM(transformers.MistralForCausalLM):
        """Mistral, each MLP with dReLU."""

        config_class = DReLUConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            for layer in self.model.layers:
                layer.mlp = DReLUMLP(config)
            self.post_init()

    transformers.AutoConfig.register(NAME, DReLUConfig)
    transformers.AutoModelForCausalLM.register(DReLUConfig, DReLUForCausalLM)
