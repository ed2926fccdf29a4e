"""Read the sizes of a model from the head of a GGUF file, in plain Python (format versions 2, 3).

A GGUF file starts with `GGUF`, version (u32), number of tensors (u64), number of entries (u64),
then the entries (name, type, value) and the tensors' names, shapes, types and places; all
little-endian, text as length (u64) and UTF-8. Arrays of texts, the vocabulary among them, and those
with more numbers than a model has layers, are skipped over and given as their length.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sweep.errors import InputError
from sweep.sizes import gguf_names
from sweep.sizes.tensor import Tensor

_NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_TEXT, _ARRAY = 8, 9


_MOST_NUMBERS = 4096
"""Of an array that is kept: as many as layers, say."""
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")

_MODEL_TYPES = {
    "command-r": "cohere",
    "falcon-h1": "falcon_h1",
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "chatglm": "glm",
    "hunyuan-dense": "hunyuan_v1_dense",
}
"""Architectures of llama.cpp that transformers calls otherwise."""


class Length(int):
    """Stands for an array: only its length is kept."""


@dataclass(frozen=True, slots=True)
class Head:
    """The entries of a GGUF file by name, and its tensors under names of transformers."""

    entries: dict[str, Any]
    tensors: tuple[Tensor, ...]


def head_of(path: Path) -> Head:
    """The head of a GGUF file; of the first part of a split one, with the tensors of all parts.

    Raises InputError if a file is no GGUF file or is cut off.
    """
    heads = [_head(part) for part in _parts(path)]
    tensors = gguf_names.fused(tensor for head in heads for tensor in head.tensors)
    return Head(heads[0].entries, tuple(tensors))


def _parts(path: Path) -> list[Path]:
    match = _PART.search(path.name)
    if match is None:
        return [path]
    stem = path.name[: match.start()]
    every = [
        path.with_name(f"{stem}-{i:05d}-of-{match[2]}.gguf") for i in range(1, int(match[2]) + 1)
    ]
    return [part for part in every if part.is_file()]


def _head(path: Path) -> Head:
    try:
        with path.open("rb") as file:
            entries, tensors = _read(file)
    except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError):
        raise InputError(f"{path} is cut off or is no GGUF file of version 2 or 3") from None
    return Head(entries, tuple(tensors))


def config_of(path: Path) -> dict[str, Any]:
    """The model's sizes under the names of a transformers `config.json`.

    Where the file has a size for each layer, the largest stands for all, as of the layers that
    have none it is 0. Raises InputError if the file is no GGUF file or is cut off.
    """
    return config_from(head_of(path))


def config_from(head: Head) -> dict[str, Any]:
    """The model's sizes in a head under the names of a transformers `config.json`."""
    entries = head.entries
    kind = entries.get("general.architecture", "llama")

    def value(name: str) -> Any:
        entry = entries.get(f"{kind}.{name}")
        return max(entry, default=None) if isinstance(entry, list) else entry

    vocabulary = value("vocab_size") or entries.get("tokenizer.ggml.tokens")
    names = {tensor.name for tensor in head.tensors}
    config = {
        "model_type": _MODEL_TYPES.get(kind, str(kind)),
        "num_hidden_layers": value("block_count"),
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": value("attention.key_length"),
        "vocab_size": int(vocabulary) if vocabulary else None,
        "tie_word_embeddings": "lm_head.weight" not in names,
        "kv_lora_rank": value("attention.kv_lora_rank"),
        "num_kv_shared_layers": value("attention.shared_kv_layers"),
        "sliding_window": value("attention.sliding_window") or 0,
        "use_sliding_window": bool(value("attention.sliding_window")),
        "layer_types": _layer_types(entries, kind),
    }
    return {name: size for name, size in config.items() if size is not None}


def name_of(path: Path) -> str:
    """What the file calls its model (`general.name`); empty where it says nothing usable."""
    try:
        with path.open("rb") as file:
            entry = _read(file)[0].get("general.name")
    except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError):
        return ""
    name = " ".join(entry.split()) if isinstance(entry, str) else ""
    return "" if "/" in name or "\\" in name else name


def _layer_types(entries: dict[str, Any], kind: str) -> list[str] | None:
    """Which layers have a window, and which no KV cache at all, where the file says it of each."""
    pattern = entries.get(f"{kind}.attention.sliding_window_pattern")
    heads = entries.get(f"{kind}.attention.head_count_kv")
    if isinstance(pattern, list):
        return ["sliding_attention" if slides else "full_attention" for slides in pattern]
    if isinstance(heads, list):
        return ["full_attention" if count else "conv" for count in heads]
    return None


def _read(file: BinaryIO) -> tuple[dict[str, Any], list[Tensor]]:
    if file.read(4) != b"GGUF" or _number(file, "<I") not in (2, 3):
        raise KeyError
    tensors, entries = _number(file, "<Q"), _number(file, "<Q")
    values = {}
    for _ in range(entries):
        name = _text(file)
        values[name] = _value(file, _number(file, "<I"))
    return values, [_tensor(file) for _ in range(tensors)]


def _tensor(file: BinaryIO) -> Tensor:
    name = _text(file)
    dimensions = [_number(file, "<Q") for _ in range(_number(file, "<I"))]
    kind = _number(file, "<I")
    _number(file, "<Q")  # its place
    return gguf_names.tensor(name, dimensions, kind)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _ARRAY:
        return _array(file)
    return _number(file, _NUMBERS[kind])


def _array(file: BinaryIO) -> list[Any] | Length:
    """Its numbers, or of a long array, and of one of texts or arrays, its length."""
    kind, length = _number(file, "<I"), _number(file, "<Q")
    if kind in _NUMBERS and length <= _MOST_NUMBERS:
        return [_number(file, _NUMBERS[kind]) for _ in range(length)]
    if kind in _NUMBERS:
        file.seek(length * struct.calcsize(_NUMBERS[kind]), 1)
    else:
        for _ in range(length):
            _array(file) if kind == _ARRAY else file.seek(_number(file, "<Q"), 1)
    return Length(length)


def _text(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > 1 << 24:
        raise KeyError
    return file.read(length).decode("utf-8")


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
