"""Generation as transformers does it: LongRoPE's positions, and what the settings ask for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from methods.apply import applied
from methods.registry import create
from sweep.downstream import generation, packed
from sweep.downstream.requests import Prompt, RequestRunner
from sweep.inputs import model_ref, models
from sweep.selectors import CacheAwareSelector, TopKSelector

PROMPTS = [Prompt(tuple(range(3, 3 + n))) for n in (20, 30, 45)]
MOST = [12, 12, 12]


@pytest.fixture
def longrope(save_tiny_model: Callable[..., Path]) -> Path:
    rope = {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [4.0] * 6}
    more = {"rope_scaling": rope, "original_max_position_embeddings": 32}
    return save_tiny_model("Phi3", **more)


def made(runner: RequestRunner) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    with torch.inference_mode(), runner.open():
        runner.generate(PROMPTS, MOST, lambda *_: False, found.__setitem__)
    return [found[i] for i in range(len(PROMPTS))]


def theirs(model: Any) -> list[list[int]]:
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt.tokens])
        with torch.inference_mode():
            options = {"do_sample": False, "max_new_tokens": 12, "use_cache": True}
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), eos_token_id=-1, **options
            )
        answers.append(out[0, len(prompt.tokens) :].tolist())
    return answers


def never_ending(model: Any) -> Any:
    model.generation_config.eos_token_id = None
    return model


def test_longrope_is_generated_as_transformers_does(longrope: Path) -> None:
    """The prompt of 30 tokens grows past 32, where all of its past is computed anew."""
    model = never_ending(models.load(str(longrope)))
    runner = RequestRunner(model, None)
    assert made(runner) == theirs(model)
    assert runner.prefill.tokens == 20 + 30 + 45 + 33
    assert runner.decode.tokens == 3 * 11 - 1


def test_attention_that_names_its_mask_is_generated_as_transformers_does(
    save_tiny_model: Callable[..., Path],
) -> None:
    """Doge's layers give the mask by its name."""
    model = never_ending(models.load(str(save_tiny_model("Doge"))))
    packed.prove(model)
    assert made(RequestRunner(model, None)) == theirs(model)


@pytest.mark.parametrize("aware", [False, True])
def test_a_sparse_longrope_model_reads_what_it_decodes(longrope: Path, aware: bool) -> None:
    model, method = never_ending(models.load(str(longrope))), create("dip", 0.5)
    slots = {"input": 20, "intermediate": 30}
    selector = CacheAwareSelector(slots, 0.5, "lfu") if aware else TopKSelector()
    with applied(model, method, selector):
        runner = RequestRunner(model, selector)
        answers = made(runner)
    assert all(len(answer) == 12 for answer in answers)
    assert 0.4 < runner.decode.mlp_density() < 0.6
    assert runner.decode.places["input"] == runner.decode.tokens * 2 * 48


def test_a_penalty_of_the_models_settings_counts(tiny_llama: Path) -> None:
    model = never_ending(models.load(str(tiny_llama)))
    plain = made(RequestRunner(model, None))
    assert generation.asked(model) == {}
    model.generation_config.repetition_penalty = 1.8
    assert generation.asked(model) == {"repetition_penalty": 1.8}
    penalised = made(RequestRunner(model, None))
    assert penalised == theirs(model)
    assert penalised != plain


def test_more_than_one_beam_is_refused(tiny_llama: Path) -> None:
    model = never_ending(models.load(str(tiny_llama)))
    model.generation_config.num_beams = 3
    with pytest.raises(Exception, match="asks for num_beams 3"):
        made(RequestRunner(model, None))


def test_a_model_whose_attention_is_told_more_is_not_packed(tiny_llama: Path) -> None:
    """As where a family hands its kernel something that the packed attention does not know."""
    model = models.load(str(tiny_llama))
    packed.prove(model)
    assert packed.packs(model)
    other = models.load(str(tiny_llama))
    for layer in other.model.layers:
        layer.self_attn.register_forward_hook(_mixing)
    packed.prove(other)
    assert not packed.packs(other)


def _mixing(_module: Any, _args: Any, output: Any) -> Any:
    """Something beside attention that mixes tokens: each sees a share of the one before it."""
    states = output[0]
    return (states + 2 * states.roll(1, dims=1).cumsum(dim=1), *output[1:])


def test_settings_of_generation_are_known_by_content(tiny_llama: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama, folder)
    (folder / model_ref.GENERATION_FILE).unlink(missing_ok=True)
    assert model_ref.generation_fingerprint(str(folder)) == ""
    weights = model_ref.fingerprint(str(folder))
    first = models.loaded(str(folder))
    (folder / model_ref.GENERATION_FILE).write_text(json.dumps({"eos_token_id": [0, 5]}))
    assert model_ref.generation_fingerprint(str(folder))
    assert model_ref.fingerprint(str(folder)) == weights
    again = models.loaded(str(folder))
    assert again is not first
    assert again.generation_config.eos_token_id == [0, 5]
