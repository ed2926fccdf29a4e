"""Bits and bytes of the files themselves: GGUF, float and packed safetensors, tied or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from simulator import Storage, weight_bytes
from sweep.errors import InputError
from sweep.inputs import gguf_header, model_sizes
from sweep.sizes import gguf_names, safetensors
from sweep.sizes.tensor import SizesError, Tensor
from tests.sweep import tiny_gguf

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16}


@pytest.fixture
def folder(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder: Path, **tensors: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    saved = load_file(path) | {name: t for name, t in tensors.items() if t is not None}
    for name, tensor in tensors.items():
        if tensor is None:
            saved.pop(name, None)
    save_file({n: t.contiguous().clone() for n, t in saved.items()}, path, {"format": "pt"})


def matrices(folder: Path) -> int:
    """Bytes of the matrices in the file."""
    saved = load_file(folder / "model.safetensors")
    return sum(t.numel() * t.element_size() for t in saved.values() if t.dim() == 2)


def test_blocks_are_those_of_ggml() -> None:
    for kind, size in gguf.GGML_QUANT_SIZES.items():
        assert gguf_names.BLOCKS[int(kind)] == size, kind


def test_a_type_that_is_not_known_is_refused() -> None:
    with pytest.raises(SizesError, match="type 99 of ggml"):
        gguf_names.tensor("blk.0.ffn_up.weight", (64, 160), 99)


def test_bytes_of_a_gguf_file_are_its_own(tiny_llama: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tiny_llama, tmp_path / "tiny.gguf")
    sizes, stored = model_sizes.geometry(str(path)), model_sizes.stored(str(path))
    assert model_sizes.comes_quantised(str(path))
    assert stored is not None
    reader = gguf.GGUFReader(path)
    bytes_of = sum(int(t.n_bytes) for t in reader.tensors if len(t.shape) == 2)
    assert stored.bytes == bytes_of
    counted = weight_bytes(sizes, Storage(file=stored.bits))
    assert sum(counted.values()) == pytest.approx(bytes_of)
    assert stored.bits.down == 32


def test_an_array_is_read_as_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "lfm2.gguf"
    writer = gguf.GGUFWriter(str(path), "lfm2")
    writer.add_embedding_length(64)
    writer.add_block_count(3)
    writer.add_feed_forward_length(112)
    writer.add_head_count(4)
    writer.add_head_count_kv([0, 2, 0])
    writer.add_vocab_size(264)
    writer.add_token_list(["a"] * 264)
    for i in range(3):
        for name, shape in (("gate", (112, 64)), ("up", (112, 64)), ("down", (64, 112))):
            writer.add_tensor(f"blk.{i}.ffn_{name}.weight", np.zeros(shape, np.float32))
    for name, rows in (("q", 64), ("k", 32), ("v", 32), ("output", 64)):
        writer.add_tensor(f"blk.1.attn_{name}.weight", np.zeros((rows, 64), np.float32))
    for i in (0, 2):
        writer.add_tensor(f"blk.{i}.shortconv.in_proj.weight", np.zeros((192, 64), np.float32))
        writer.add_tensor(f"blk.{i}.shortconv.out_proj.weight", np.zeros((64, 64), np.float32))
    writer.add_tensor("token_embd.weight", np.zeros((264, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = gguf_header.config_of(path)
    assert config["num_key_value_heads"] == 2
    assert config["layer_types"] == ["conv", "full_attention", "conv"]
    assert config["vocab_size"] == 264
    sizes = model_sizes.geometry(str(path))
    assert [(one.layers, one.values) for one in sizes.kv or ()] == [(1, 64)]
    assert sizes.mixer_weights == 2 * (192 + 64) * 64 + (64 + 32 + 32 + 64) * 64


def test_an_up_projection_that_holds_the_gate_too() -> None:
    one = gguf_names.tensor("blk.0.ffn_up.weight", (64, 320), 0)
    assert gguf_names.fused([one])[0].name == "layers.0.mlp.gate_up_proj.weight"
    gate = gguf_names.tensor("blk.0.ffn_gate.weight", (64, 160), 0)
    assert gguf_names.fused([one, gate]) == [one, gate]
    assert one.shape == (320, 64)


def test_bits_of_float_files(folder: Path) -> None:
    stored = model_sizes.stored(str(folder))
    assert stored is not None
    assert stored.bytes == matrices(folder)
    assert stored.bits.mixers == stored.bits.embedding == 32
    assert not model_sizes.comes_quantised(str(folder))


def test_a_head_of_its_own_counts_whatever_the_flag_says(folder: Path) -> None:
    assert not model_sizes.geometry(str(folder)).tied_embeddings
    edit(folder, tie_word_embeddings=True)
    assert not model_sizes.geometry(str(folder)).tied_embeddings
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(folder, **{"lm_head.weight": embedding})  # a copy, as older files have
    assert model_sizes.geometry(str(folder)).tied_embeddings
    rewrite(folder, **{"lm_head.weight": None})
    assert model_sizes.geometry(str(folder)).tied_embeddings


def test_a_changed_file_is_read_again(folder: Path) -> None:
    before = model_sizes.geometry(str(folder))
    saved = load_file(folder / "model.safetensors")
    wide = {n: torch.zeros(200, t.shape[1]) for n, t in saved.items() if "gate" in n or "up_" in n}
    wide |= {n: torch.zeros(t.shape[0], 200) for n, t in saved.items() if "down" in n}
    rewrite(folder, **wide)
    assert model_sizes.geometry(str(folder)).intermediate == 200 != before.intermediate


def test_weights_packed_by_gptq_are_counted_unpacked(folder: Path) -> None:
    plain = model_sizes.geometry(str(folder))
    packed: dict[str, torch.Tensor | None] = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "proj" in name:
            module, (rows, length) = name.removesuffix(".weight"), tensor.shape
            packed |= {
                name: None,
                f"{module}.qweight": torch.zeros(length // 8, rows, dtype=torch.int32),
                f"{module}.scales": torch.zeros(length // 16, rows, dtype=torch.float16),
                f"{module}.qzeros": torch.zeros(length // 16, rows // 8, dtype=torch.int32),
                f"{module}.g_idx": torch.zeros(length, dtype=torch.int32),
            }
    rewrite(folder, **packed)
    edit(folder, quantization_config=GPTQ)
    assert model_sizes.comes_quantised(str(folder))
    assert model_sizes.geometry(str(folder)) == plain
    stored = model_sizes.stored(str(folder))
    assert stored is not None
    down = plain.hidden * plain.intermediate
    extra = plain.intermediate // 16 * (plain.hidden * 2 + plain.hidden // 8 * 4)
    per_layer = down / 2 + extra + 4 * plain.intermediate
    assert stored.bits.down == pytest.approx(8 * per_layer / down)
    assert stored.bits.embedding == 32


@pytest.mark.parametrize(
    ("kind", "dtype", "shape", "config", "expected"),
    [
        ("qweight", "I32", (64, 40), {"quant_method": "awq", "bits": 4}, (320, 64)),
        ("qweight", "I32", (8, 320), {"quant_method": "gptq", "bits": 4}, (320, 64)),
        ("qweight", "I32", (16, 320), {"quant_method": "gptq", "bits": 8}, (320, 64)),
        (
            *("weight_packed", "I32", (320, 8)),
            {"config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
            (320, 64),
        ),
        ("weight", "F8_E4M3", (320, 64), {"quant_method": "fp8"}, (320, 64)),
    ],
)
def test_shapes_of_packed_weights(
    kind: str, dtype: str, shape: tuple[int, ...], config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    entry = safetensors.Entry(Path("x"), dtype, shape, 0, 1000)
    (made,) = safetensors.tensors({f"a.{kind}": entry}, config)
    assert made == Tensor("a.weight", expected, 1000)


def test_weights_packed_without_a_shape_are_refused() -> None:
    entry = safetensors.Entry(Path("x"), "U8", (10240, 1), 0, 10240)
    with pytest.raises(SizesError, match="packed in a way"):
        safetensors.tensors({"a.weight": entry}, {"quant_method": "bitsandbytes"})
    packed = safetensors.Entry(Path("x"), "I32", (8, 320), 0, 10240)
    with pytest.raises(SizesError, match="how many bits"):
        safetensors.tensors({"a.qweight": packed}, {"quant_method": "gptq"})


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 40, b"\x04\0\0\0\0\0\0\0[1]]"])
def test_a_file_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="no safetensors file"):
        model_sizes.geometry(str(folder))
