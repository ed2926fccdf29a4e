"""Read the sizes of a model from the head of a GGUF file, in plain Python (format versions 2, 3).

A GGUF file starts with `GGUF`, version (u32), number of tensors (u64), number of entries (u64),
then the entries (name, type, value) and the tensors' names, shapes, types and places; all
little-endian, text as length (u64) and UTF-8. Long arrays, the vocabulary among them, are skipped
over and given as their length.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from sweep.errors import InputError

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


class Length(int):
    """Stands for an array: only its length is kept."""


def config_of(path: Path) -> dict[str, Any]:
    """The model's sizes under the names of a transformers `config.json`.

    Raises InputError if the file is no GGUF file, is cut off, or lacks a size.
    """
    try:
        with path.open("rb") as file:
            entries, tensors = _read(file)
    except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError):
        raise InputError(f"{path} is cut off or is no GGUF file of version 2 or 3") from None
    kind = entries.get("general.architecture", "llama")

    def value(name: str) -> Any:
        return entries.get(f"{kind}.{name}")

    vocabulary = value("vocab_size") or entries.get("tokenizer.ggml.tokens")
    config = {
        "num_hidden_layers": value("block_count"),
        "hidden_size": value("embedding_length"),
        "intermediate_size": value("feed_forward_length"),
        "num_attention_heads": value("attention.head_count"),
        "num_key_value_heads": value("attention.head_count_kv"),
        "head_dim": value("attention.key_length"),
        "vocab_size": int(vocabulary) if vocabulary else None,
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    return {name: size for name, size in config.items() if size is not None}


def name_of(path: Path) -> str:
    """What the file calls its model (`general.name`); empty where it says nothing usable."""
    try:
        with path.open("rb") as file:
            given = _read(file)[0].get("general.name")
    except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError):
        return ""
    name = " ".join(given.split()) if isinstance(given, str) else ""
    return "" if "/" in name or "\\" in name else name


def _read(file: BinaryIO) -> tuple[dict[str, Any], set[str]]:
    if file.read(4) != b"GGUF" or _number(file, "<I") not in (2, 3):
        raise KeyError
    tensors, entries = _number(file, "<Q"), _number(file, "<Q")
    values = {}
    for _ in range(entries):
        name = _text(file)
        values[name] = _value(file, _number(file, "<I"))
    return values, {_tensor_name(file) for _ in range(tensors)}


def _tensor_name(file: BinaryIO) -> str:
    name = _text(file)
    dimensions = _number(file, "<I")
    file.read(8 * dimensions + 4 + 8)  # shape, type, offset
    return name


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _TEXT:
        return _text(file)
    if kind == _ARRAY:
        return _skip_array(file)
    return _number(file, _NUMBERS[kind])


def _skip_array(file: BinaryIO) -> Length:
    kind, length = _number(file, "<I"), _number(file, "<Q")
    if kind in _NUMBERS:
        file.seek(length * struct.calcsize(_NUMBERS[kind]), 1)
    else:
        for _ in range(length):
            _skip_array(file) if kind == _ARRAY else file.seek(_number(file, "<Q"), 1)
    return Length(length)


def _text(file: BinaryIO) -> str:
    length = _number(file, "<Q")
    if length > 1 << 24:
        raise KeyError
    return file.read(length).decode("utf-8")


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
