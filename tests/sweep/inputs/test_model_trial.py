"""What is said of a model before anything runs, and what loading knows of its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweep.errors import InputError
from sweep.inputs import model_files, model_trial, models, ready

MAMBA = {
    "mamba_d_ssm": 96,
    "mamba_n_heads": 6,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def change(folder: Path, **values: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    return folder


# -- before anything runs --------------------------------------------------------------------


def test_a_family_that_methods_cannot_run_on_is_said_before(
    save_tiny_model: Callable[..., Path], tiny_llama: Path, tiny_ungated: Path
) -> None:
    scaled = save_tiny_model("FalconH1", mlp_multipliers=[0.88, 0.58], **MAMBA)
    with pytest.raises(InputError, match=r"feed_forward .*computes more than a gated MLP"):
        ready.ensure(str(scaled), pruned=True)
    ready.ensure(str(scaled))  # dense runs
    with pytest.raises(InputError, match="not a gated MLP"):
        ready.ensure(str(tiny_ungated), pruned=True)
    ready.ensure(str(tiny_llama), pruned=True)
    assert model_trial.kept_verdict(str(tiny_llama)) == model_trial.Verdict("sdpa", "")
    assert model_trial.note(str(tiny_llama)) == ""


def test_a_verdict_is_kept_by_configuration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = model_trial.verdict(str(folder))
    monkeypatch.setattr(models, "skeleton", lambda ref: pytest.fail("made again"))
    assert model_trial.verdict(str(folder)) == first
    assert model_trial.kept_verdict(str(change(folder, rms_norm_eps=0.5))) is None


def test_windows_longer_than_the_positions_are_refused(folder: Path) -> None:
    model_trial.check_positions(str(folder), 512)
    with pytest.raises(InputError, match=r"has 512 positions .* window_tokens to at most 512"):
        model_trial.check_positions(str(folder), 513)


# -- files that cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["fp8", "gptq", "compressed-tensors"])
def test_packed_weights_are_one_sentence(folder: Path, method: str) -> None:
    change(folder, quantization_config={"quant_method": method})
    with pytest.raises(InputError, match=f"packed as {method}.*a GGUF file"):
        models.prepare(str(folder))


def test_sentencepiece_alone_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    monkeypatch.setattr(model_files, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tokenizer\.model alone, which needs .*sentencepiece"):
        ready.ensure(str(folder))
    monkeypatch.setattr(model_files, "find_spec", lambda name: name == "sentencepiece")
    assert models.prepare(str(folder)) == folder


def test_added_tokens_beyond_the_embedding_are_named(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    extra = {"id": 257, "content": "<new>", "single_word": False, "lstrip": False}
    extra |= {"rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"].append(extra)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert len(models.encode(str(folder), "a text")) == 6
    with pytest.raises(InputError, match=r"'<new>', number 257 .* embedding has 257 rows"):
        models.encode(str(folder), "a <new> text")


# -- weights ---------------------------------------------------------------------------------


def add(folder: Path, **weights: torch.Tensor) -> None:
    saved = load_file(folder / "model.safetensors")
    saved |= {name.replace("__", "."): weight for name, weight in weights.items()}
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_weight_that_a_module_has_no_place_for_is_refused(folder: Path) -> None:
    add(folder, model__layers__0__self_attn__q_proj__bias=torch.ones(48))
    with pytest.raises(InputError, match=r"1 weights .* no place in LlamaForCausalLM: .*q_proj"):
        models.load(str(folder))
    with pytest.raises(InputError, match=r"1 weights .* no place in the modules .*q_proj\.bias"):
        ready.ensure(str(folder))


def test_weights_of_other_modules_are_a_note(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(folder, score__weight=torch.ones(2, 48), rotary__inv_freq=torch.ones(2))
    ready.ensure(str(folder))
    models.load(str(folder))
    assert "1 weights of its files are not used: score.weight" in capsys.readouterr().out


def test_attention_is_eager_where_there_is_no_sdpa(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(transformers.LlamaForCausalLM, "_supports_sdpa", False)
    monkeypatch.setattr(transformers.LlamaModel, "_supports_sdpa", False, raising=False)
    model = models.load(str(folder))
    assert model.config._attn_implementation == "eager"
    assert model_trial.verdict(str(change(folder, rms_norm_eps=0.25))).attention == "eager"
    assert "attention is eager" in model_trial.note(str(folder))
