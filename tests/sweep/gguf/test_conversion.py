"""GGUF files: what they say is honoured, and what would be lost or made up is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from sweep.errors import InputError
from sweep.gguf import rope, words
from sweep.gguf.contents import Contents, contents
from sweep.gguf.parts import parts
from sweep.inputs import model_ref, models
from tests.sweep import tiny_gguf

IDS = torch.arange(1, 200).reshape(1, -1)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
    "rope_theta": 500_000.0,
}


def logits(ref: Path) -> torch.Tensor:
    with torch.no_grad():
        return models.load(str(ref))(IDS).logits


# -- tensors ---------------------------------------------------------------------------------


def test_a_file_without_a_layer_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(
        tiny_llama, tmp_path / "cut.gguf", keep=lambda name: not name.startswith("blk.1.")
    )
    with pytest.raises(InputError, match=r"cut\.gguf lacks blk\.1\.\*"):
        models.prepare(str(path))


def test_one_missing_tensor_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(
        tiny_llama, tmp_path / "hole.gguf", keep=lambda name: name != "blk.1.ffn_up.weight"
    )
    with pytest.raises(InputError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        models.prepare(str(path))


def test_a_tensor_without_a_place_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    more = {"blk.0.attn_gate.weight": np.ones((4, 4)), "blk.1.ffn_norm_2.weight": np.ones(48)}
    path = tiny_gguf.write(tiny_llama, tmp_path / "more.gguf", more=more)
    with pytest.raises(InputError, match=r"2 tensors have no place .*blk\.0\.attn_gate\.weight"):
        models.prepare(str(path))


# -- parts -----------------------------------------------------------------------------------


def split(path: Path, folder: Path, count: int = 2) -> list[Path]:
    """The file in parts, as llama.cpp's gguf-split writes them: keys in the first alone."""
    whole = gguf.GGUFReader(path)
    made = []
    for number in range(count):
        part = folder / f"model-{number + 1:05d}-of-{count:05d}.gguf"
        writer: Any = gguf.GGUFWriter(part, "llama")
        if number == 0:
            for name, field in whole.fields.items():
                if not name.startswith(("GGUF.", "general.architecture")):
                    kind = field.types[0]
                    inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
                    writer.add_key_value(name, field.contents(), kind, sub_type=inner)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        for tensor in whole.tensors[number::count]:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        made.append(part)
    return made


def test_parts_are_joined_whichever_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    whole = tiny_gguf.write(tiny_llama, tmp_path / "whole.gguf")
    folder = tmp_path / "parts"
    folder.mkdir()
    made = split(whole, folder)
    assert parts(made[1]) == tuple(made)
    assert model_ref.resolve(str(made[1])).path == made[0]
    assert model_ref.resolve(str(folder)).path == made[0]
    assert torch.equal(logits(folder), logits(tiny_llama))
    kept = models.prepare(str(folder))
    assert not list(kept.glob("*.gguf"))
    first = model_ref.fingerprint(str(folder))
    made[1].write_bytes(made[1].read_bytes()[:-4] + b"\0\0\0\1")
    assert model_ref.fingerprint(str(folder)) != first


def test_a_missing_part_is_named_with_what_it_holds(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(
        tiny_llama,
        tmp_path / "m-00001-of-00002.gguf",
        keep=lambda name: not name.startswith("blk.1."),
    )
    with pytest.raises(InputError, match=r"m-00002-of-00002\.gguf is not beside.*blk\.1\.\*"):
        model_ref.resolve(str(path))


def test_a_part_under_another_name_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "renamed.gguf", keys={"split.count": 3})
    with pytest.raises(InputError, match="is part 1 of 3"):
        models.prepare(str(path))


# -- keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"llama.logit_scale": 0.5}, r"llama\.logit_scale is 0\.5.*no place"),
        ({"llama.expert_count": 8}, r"llama\.expert_count is 8.*no place"),
        ({"llama.attention.temperature_scale": 0.1}, r"attention\.temperature_scale"),
        ({"llama.attention.scale": 0.5}, r"attention\.scale is 0\.5"),
        ({"llama.attention.value_length": 8}, r"attention\.value_length is 8, but 12"),
        ({"llama.rope.scaling.type": "dynamic"}, r"rope\.scaling\.type is 'dynamic'"),
        ({"tokenizer.ggml.add_sep_token": True}, r"tokenizer\.ggml\.add_sep_token"),
        ({"general.type": "adapter"}, r"holds no model: general\.type is 'adapter'"),
    ],
)
def test_a_key_that_is_not_honoured_is_refused_by_name(
    tiny_llama: Path, tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "keys.gguf", keys=keys)
    with pytest.raises(InputError, match=message):
        models.prepare(str(path))


def test_keys_that_change_nothing_pass(tiny_llama: Path, tmp_path: Path) -> None:
    keys = {
        "llama.expert_count": 0,
        "llama.attention.key_length": 12,
        "llama.rope.scaling.type": "none",
        "llama.attention.causal": True,
        "quantize.imatrix.file": "x.dat",
        "tokenizer.ggml.eot_token_id": 0,
    }
    path = tiny_gguf.write(tiny_llama, tmp_path / "more.gguf", keys=keys)
    assert torch.equal(logits(path), logits(tiny_llama))


# -- positions -------------------------------------------------------------------------------


SCALINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": (
        {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0},
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
    ),
    "yarn": (
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "rope_theta": 10_000.0,
        },
        {
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 4.0,
            "llama.rope.scaling.original_context_length": 128,
        },
    ),
}


@pytest.mark.parametrize("kind", SCALINGS)
def test_scaling_is_the_models(
    save_tiny_model: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    parameters, keys = SCALINGS[kind]
    folder = save_tiny_model("Llama", rope_parameters=parameters)
    made = logits(tiny_gguf.write(folder, tmp_path / f"{kind}.gguf", keys=keys))
    assert torch.equal(made, logits(folder))


def inverse_frequencies(folder: Path) -> np.ndarray:
    model: Any = models.load(str(folder))
    return model.model.rotary_emb.inv_freq.double().numpy()


def test_factors_of_frequencies_are_llama_3s(
    save_tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save_tiny_model("Llama", rope_parameters=LLAMA3)
    plain = 500_000.0 ** (-np.arange(0, 12, 2) / 12)
    more = {"rope_freqs.weight": plain / inverse_frequencies(folder)}
    path = tiny_gguf.write(folder, tmp_path / "llama3.gguf", more=more)
    assert torch.equal(logits(path), logits(folder))
    made = models.load(str(path)).config.rope_parameters
    assert {name: made[name] for name in LLAMA3} == LLAMA3


def test_other_factors_are_taken_as_they_are(tiny_llama: Path, tmp_path: Path) -> None:
    factors = np.array([1.0, 3.0, 1.5, 2.0, 7.0, 1.0])
    path = tiny_gguf.write(tiny_llama, tmp_path / "own.gguf", more={"rope_freqs.weight": factors})
    made = inverse_frequencies(path)
    assert np.allclose(made, 10_000.0 ** (-np.arange(0, 12, 2) / 12) / factors, rtol=1e-6)
    assert not torch.equal(logits(path), logits(tiny_llama))


def test_llama_3_2_s_own_factors_are_found_again() -> None:
    """Those of the 1B and 3B models: base 500,000, heads of 64, factor 32 over 8,192 positions."""
    lengths = 2 * np.pi * 500_000.0 ** (np.arange(32) / 32)
    factors = rope.llama3_factors(lengths, 32.0, 8192).astype(np.float32).astype(np.float64)
    assert rope._llama3(factors, 500_000.0) == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


# -- words -----------------------------------------------------------------------------------


def vocabulary(tokens: list[str], merges: list[str], **keys: Any) -> Contents:
    values = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2"}
    values |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}
    return Contents("t.gguf", values | {f"tokenizer.ggml.{k}": v for k, v in keys.items()}, {})


def encoded(file: Contents, text: str) -> list[str]:
    import json

    from tokenizers import Tokenizer

    made = Tokenizer.from_str(json.dumps(words.specification(file)))
    return made.encode(text).tokens


def alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["x", "Ċ", "Ċ", "198", "4"]),
        ("smollm", ["x", "ĊĊ", "1", "9", "8", "4"]),
        ("llama-bpe", ["x", "ĊĊ", "198", "4"]),
        ("qwen2", ["x", "ĊĊ", "1", "9", "8", "4"]),
        ("default", ["x", "Ċ", "Ċ", "198", "4"]),
    ],
)
def test_text_is_cut_as_the_file_says(pre: str, expected: list[str]) -> None:
    tokens = [*alphabet(), "ĊĊ", "19", "198"]
    file = vocabulary(tokens, ["Ċ Ċ", "1 9", "19 8"], pre=pre)
    assert encoded(file, "x\n\n1984") == expected


def test_a_whole_word_is_taken_before_merges_where_the_kind_does() -> None:
    tokens = [*alphabet(), "ab", "abc"]
    assert encoded(vocabulary(tokens, ["a b"], pre="llama-bpe"), "abc") == ["abc"]
    assert encoded(vocabulary(tokens, ["a b"], pre="gpt-2"), "abc") == ["ab", "c"]


@pytest.mark.parametrize(
    ("keys", "bos"),
    [
        ({"pre": "gpt-2"}, False),
        ({"pre": "gpt-2", "add_bos_token": True}, True),
        ({"pre": "llama-bpe"}, True),
        ({"pre": "llama-bpe", "add_bos_token": False}, False),
    ],
)
def test_bos_is_added_where_the_file_or_its_kind_says(keys: dict[str, Any], bos: bool) -> None:
    file = vocabulary(["<s>", *alphabet()], [], bos_token_id=0, token_type=[3] + [1] * 256, **keys)
    assert encoded(file, "ab") == [*["<s>"] * bos, "a", "b"]


def test_control_tokens_outside_the_alphabet_keep_their_number() -> None:
    tokens = [*alphabet(), "<｜User｜>"]
    file = vocabulary(tokens, [], pre="qwen2", token_type=[1] * 256 + [3], bos_token_id=256)
    assert encoded(file, "a<｜User｜>b") == ["a", "<｜User｜>", "b"]
    assert words.special_tokens(file) == {"bos_token": "<｜User｜>"}


@pytest.mark.parametrize(
    ("pre", "message"),
    [("smolm", r"tokenizer\.ggml\.pre 'smolm' is not known.*smollm"), (None, "without tokenizer")],
)
def test_an_unknown_way_to_cut_text_is_refused(
    tiny_llama: Path, tmp_path: Path, pre: str | None, message: str
) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "words.gguf", pre=pre)
    with pytest.raises(InputError, match=message):
        models.prepare(str(path))


@pytest.mark.slow
def test_the_embedded_model_cuts_words_as_its_maker_does() -> None:
    """Ids that others print for SmolLM2's own tokenizer; digits stand alone."""
    expected = {
        "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
        "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
        "  multiple   spaces": [216, 2701, 256, 5600],
        "The capital of France is": [504, 3575, 282, 4649, 314],
    }
    assert {text: models.encode("smollm2-135m", text) for text in expected} == expected
    tokenizer = models.tokenizer("smollm2-135m")
    ids = models.encode("smollm2-135m", "x\n\n1984")
    assert tokenizer.convert_ids_to_tokens(ids) == ["x", "ĊĊ", "1", "9", "8", "4"]


@pytest.mark.slow
def test_every_tensor_of_the_embedded_model_arrived() -> None:
    """Read once more by the library of the format: nothing but the order of rotary rows differs."""
    path = model_ref.resolve("smollm2-135m").path
    assert path is not None
    file, model = contents((path,)), models.load("smollm2-135m")
    own: Any = dict(model.named_parameters())
    for layer in (0, 29):
        for theirs, ours in (("ffn_down", "mlp.down_proj"), ("attn_v", "self_attn.v_proj")):
            expected = file.weight(f"blk.{layer}.{theirs}.weight")
            made = own[f"model.layers.{layer}.{ours}.weight"].numpy()
            assert np.array_equal(made, expected)
