"""Loading, on tiny models; and, marked slow, the embedded one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sweep.errors import InputError
from sweep.inputs import model_sizes, models
from sweep.inputs import wheels as fetch
from tests.sweep import tiny_gguf

IDS = torch.arange(1, 41).reshape(1, 40)


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_ready_to_evaluate(tiny_llama: Path, dtype: str) -> None:
    model = models.load(str(tiny_llama), dtype)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert model.config.use_cache is False
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("name", ["tiny_phi3", "tiny_gelu", "tiny_bias"])
def test_other_families_load(name: str, request: pytest.FixtureRequest) -> None:
    assert logits(models.load(str(request.getfixturevalue(name)))).isfinite().all()


def test_the_last_model_is_kept_and_only_that(tiny_llama: Path, tiny_phi3: Path) -> None:
    first = models.loaded(str(tiny_llama))
    assert models.loaded(str(tiny_llama)) is first
    other = models.loaded(str(tiny_phi3))
    assert models.loaded(str(tiny_phi3)) is other
    assert models.loaded(str(tiny_llama)) is not first


def test_a_model_altered_on_disk_is_loaded_again(folder: Path) -> None:
    first = models.loaded(str(folder))
    saved = load_file(folder / "model.safetensors")
    saved["lm_head.weight"] = saved["lm_head.weight"] * 2
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(logits(models.loaded(str(folder))), logits(first) * 2)


def test_nothing_is_written_to_the_terminal(
    tiny_llama: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "quiet.gguf")
    capfd.readouterr()
    models.load(str(path))
    models.encode(str(path), "words " * 500)
    said = capfd.readouterr()
    assert said.out + said.err == ""


def test_a_gguf_file_gives_the_model_it_was_made_from(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "tiny.gguf")
    assert not models.present(str(path))
    made = models.load(str(path))
    assert models.present(str(path))
    assert torch.equal(logits(made), logits(models.load(str(tiny_llama))))
    text = "The cache of a token: 12 units."
    assert models.encode(str(path), text) == models.encode(str(tiny_llama), text)


def test_a_missing_weight_is_not_made_up(folder: Path) -> None:
    saved = load_file(folder / "model.safetensors")
    del saved["model.layers.1.mlp.up_proj.weight"]
    save_file(saved, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights are not in its files: .*mlp\.up_proj"):
        models.load(str(folder))


def test_a_weight_of_another_size_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(InputError, match="cannot be loaded"):
        models.load(str(folder))


def test_a_damaged_tokenizer_is_one_sentence(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(InputError, match="cannot be loaded"):
        models.tokenizer(str(folder))


def test_a_damaged_file_is_one_sentence(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        models.load(str(folder))


def test_an_architecture_that_needs_its_own_code_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {
        "AutoConfig": "modeling_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnModel",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text("raise SystemExit('code of the model was run')")
    with pytest.raises(InputError, match="cannot be loaded"):
        models.load(str(folder))


def test_an_unknown_dtype_is_refused(tiny_llama: Path) -> None:
    with pytest.raises(InputError, match="did you mean float32"):
        models.load(str(tiny_llama), "float23")


@pytest.mark.slow
def test_the_embedded_model_is_its_gguf_file() -> None:
    """The converted model gives the logits of the GGUF file as transformers reads it."""
    from transformers import AutoModelForCausalLM

    path = fetch.ensure("smollm2-135m")
    direct = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    model = models.load("smollm2-135m")
    assert torch.equal(logits(model), logits(direct))
    shared = dict(model.named_parameters(remove_duplicate=False))
    assert shared["lm_head.weight"] is shared["model.embed_tokens.weight"]
    assert model.config.tie_word_embeddings
    assert model_sizes.geometry(str(path)).layers == model.config.num_hidden_layers == 30
