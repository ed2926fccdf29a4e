"""Scores to measure on: recorded from SmolLM2, and made up in the sizes of Phi-3-Medium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODEL, TEXT = "smollm2-135m", "embedded-wiki"
LAYERS = (2, 14, 27)
TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores float32 `[tokens, units]` of one layer and group."""

    name: str
    group: str
    values: NDArray[np.float32]

    @property
    def unit_tokens(self) -> int:
        return self.values.size


def made_up(units: int, tokens: int = 512) -> Scores:
    """Heavy-tailed magnitudes; units differ in scale, tokens too, and neighbours are alike."""
    rng = np.random.default_rng(units)
    drift = rng.standard_normal((tokens, units), dtype=np.float32)
    for token in range(1, tokens):
        drift[token] = 0.8 * drift[token - 1] + 0.6 * drift[token]
    scale = np.exp(0.5 * rng.standard_normal(units)) * np.exp(
        0.3 * rng.standard_normal((tokens, 1))
    )
    return Scores(
        f"made up, {units:,} units", "", (np.abs(drift) ** 1.5 * scale).astype(np.float32)
    )


def recorded() -> list[Scores]:
    """What DIP at density 0.5 ranks in three layers of SmolLM2, on one window of real text.

    Empty if the model or the text has not been fetched (`sweep fetch`).
    """
    from sweep.inputs import models, text_files

    if not (models.present(MODEL) and text_files.present(TEXT)):
        return []
    return _record()


def _record() -> list[Scores]:
    import torch

    from methods import create
    from methods.apply import applied
    from methods.density import kept_units
    from methods.select import topk_mask
    from sweep.inputs import models, texts

    scores_at: dict[tuple[str, int], NDArray[np.float32]] = {}

    def keep(layer: int, group: str, scores: torch.Tensor, density: float) -> torch.Tensor:
        if layer in LAYERS:
            scores_at[group, layer] = scores.reshape(-1, scores.shape[-1]).numpy().copy()
        return topk_mask(scores, kept_units(density, scores.shape[-1])).to(scores.dtype)

    model = models.loaded(MODEL)
    window = texts.windows(TEXT, MODEL, TOKENS)[0]
    with torch.inference_mode(), applied(model, create("dip", 0.5), keep):
        model(input_ids=torch.from_numpy(window)[None])
    return [
        Scores(f"SmolLM2, {group}, layer {layer}", group, values)
        for (group, layer), values in sorted(scores_at.items())
    ]
