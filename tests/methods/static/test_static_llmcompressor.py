"""SparseGPT and GPTQ against llm-compressor, where it is installed.

pip would resolve it with older versions of other packages; it works beside those of this project
when it is installed without its dependencies, and may lie in a folder of its own:

    pip install --no-deps --target FOLDER llmcompressor compressed-tensors loguru
    PYTHONPATH=FOLDER pytest -m slow tests/methods/static/test_static_llmcompressor.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.static.recipe import Recipe, changed_weights
from sweep.inputs import models

pytestmark = pytest.mark.slow

llmcompressor: Any = pytest.importorskip(
    "llmcompressor", reason="llm-compressor is not installed (see the head of this file)"
)

TOKENS, WINDOWS = 64, 16


@pytest.fixture(scope="module")
def windows() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(1, 256, (1, TOKENS), generator=generator) for _ in range(WINDOWS)]


def theirs(folder: Path, windows: list[Tensor], modifier: Any) -> dict[str, Tensor]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = [{"input_ids": w[0].tolist(), "attention_mask": [1] * TOKENS} for w in windows]
    llmcompressor.oneshot(
        model=model,
        processor=AutoTokenizer.from_pretrained(folder),
        dataset=Dataset.from_list(rows),
        recipe=[modifier],
        max_seq_length=TOKENS,
        num_calibration_samples=WINDOWS,
        shuffle_calibration_samples=False,
    )
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def ours(folder: Path, windows: list[Tensor], recipe: dict[str, Any]) -> dict[str, Tensor]:
    model = models.load(str(folder))
    return dict(changed_weights(model, windows, Recipe.load(recipe)))


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
def test_sparsegpt(tiny_llama: Path, windows: list[Tensor], pattern: str) -> None:
    structure = "0:0" if pattern == "unstructured" else pattern
    modifiers: Any = pytest.importorskip("llmcompressor.modifiers.pruning")
    modifier = modifiers.SparseGPTModifier(
        sparsity=0.5, mask_structure=structure, targets=["re:.*mlp.*proj$"], dampening_frac=0.01
    )
    own = {"method": "sparsegpt", "density": 0.5, "parameters": {"pattern": pattern}}
    expected = theirs(tiny_llama, windows, modifier)
    for name, weight in ours(tiny_llama, windows, {"prune": own}).items():
        same = (weight != 0) == (expected[name] != 0)
        assert same.float().mean() > 0.99, name
        apart = (weight - expected[name])[same].abs()
        assert apart.median() < 1e-5, name
        if pattern != "unstructured":  # a tie elsewhere moves the rest of the row a little
            assert same.all(), name
            assert apart.max() < 1e-5, name


def test_gptq(tiny_llama: Path, windows: list[Tensor]) -> None:
    """With act_order both take scales from the unchanged groups; theirs are not 16-bit floats, so
    that some weights round to the neighbouring point."""
    schemes: Any = pytest.importorskip("compressed_tensors.quantization")
    modifiers: Any = pytest.importorskip("llmcompressor.modifiers.quantization")
    arguments = schemes.QuantizationArgs(
        num_bits=4, type="int", symmetric=True, strategy="group", group_size=16, actorder="static"
    )
    scheme = schemes.QuantizationScheme(targets=["Linear"], weights=arguments)
    modifier = modifiers.GPTQModifier(
        config_groups={"all": scheme}, ignore=["lm_head"], dampening_frac=0.01
    )
    own = {"method": "gptq", "bits": 4, "group_size": 16, "parameters": {"act_order": True}}
    expected = theirs(tiny_llama, windows, modifier)
    for name, weight in ours(tiny_llama, windows, {"quant": own}).items():
        apart = (weight - expected[name]).abs() / weight.abs().max()
        assert apart.median() < 1e-4, name
        assert (apart > 0.01).float().mean() < 0.1, name
