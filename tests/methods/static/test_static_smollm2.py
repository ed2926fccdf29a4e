"""Quantisation and static pruning of SmolLM2: the order that their papers report.

Calibrated on embedded web pages, measured on WikiText-2. A few windows are enough: the differences
are many times the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sweep.inputs import model_ref as weights
from sweep.inputs import models
from sweep.tasks.evaluate import evaluate
from sweep.tasks.transform import transform
from tests.sweep.task_call import apart

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TOKENS, CALIBRATION = 512, 16
Perplexity = Callable[..., float]


@pytest.fixture(scope="module")
def perplexity(shared_data: Path) -> Perplexity:
    models.prepare(weights.EMBEDDED)
    text = str(shared_data / "wikitext-2-raw" / "wiki.test.raw")
    shared = {"model": weights.EMBEDDED, "dtype": "float32", "threads": 2, "window_tokens": TOKENS}

    @cache
    def measure(method: str = "", bits: int = 0, pattern: str = "unstructured") -> float:
        recipe: dict[str, Any] = {}
        if bits:
            recipe["quant"] = {"method": method, "bits": bits, "group_size": 64, "parameters": {}}
        elif method:
            own = {"pattern": pattern}
            recipe["prune"] = {"method": method, "density": 0.5, "parameters": own}
        learn = {"text_name": "embedded-c4", "windows": list(range(CALIBRATION))}
        _, weights = transform(*apart({**shared, **learn, "recipe": recipe}), {}, "cpu")
        dense = {"method": "dense", "density": 1.0, "parameters": {}}
        on = {"text_name": text, "windows": [0, 1, 2, 3]}
        result, _ = evaluate(*apart({**shared, **on, **dense}), {"weights": weights}, "cpu")
        return math.exp(sum(result["nll"]) / sum(result["predicted"]))

    return measure


def test_gptq_beats_round_to_nearest_at_3_bits(perplexity: Perplexity) -> None:
    full, rtn, gptq = perplexity(), perplexity("rtn", 3), perplexity("gptq", 3)
    assert full < gptq < 0.8 * rtn


def test_8_bits_lose_next_to_nothing(perplexity: Perplexity) -> None:
    assert perplexity("rtn", 8) == pytest.approx(perplexity(), rel=0.01)


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_sparsegpt_beats_wanda_and_wanda_magnitude(perplexity: Perplexity, pattern: str) -> None:
    by = {name: perplexity(name, 0, pattern) for name in ("magnitude", "wanda", "sparsegpt")}
    assert perplexity() < by["sparsegpt"] < by["wanda"] < by["magnitude"]


def test_a_pattern_costs_more_than_no_pattern(perplexity: Perplexity) -> None:
    assert perplexity("sparsegpt") < perplexity("sparsegpt", 0, "2:4")
