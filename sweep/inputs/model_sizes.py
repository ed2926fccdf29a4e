"""How large a model is: by the heads of its files, its config.json, or the built-in table.

    geometry(ref)       layers, units, heads, KV cache
    stored(ref)         bits of each kind of weight as its files have them, and all their bytes
    comes_quantised(ref)

No weights are read, and neither torch nor transformers is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from simulator.geometry import FileBits, Geometry
from sweep.errors import InputError
from sweep.inputs import gguf_header, hub
from sweep.inputs.model_ref import ModelRef, resolve, weight_files
from sweep.sizes import decoder, experts, safetensors
from sweep.sizes.defaults import completed
from sweep.sizes.parts import Parts, parts_of
from sweep.sizes.tensor import SizesError


@dataclass(frozen=True, slots=True)
class Files:
    """What the heads of a model's files say: its matrices, its config, and whether the embedding
    is the head."""

    config: Mapping[str, Any]
    parts: Parts
    tied: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """The weights of a model as its files have them: bits by kind, and the bytes of all."""

    bits: FileBits
    bytes: float


def geometry(ref: str) -> Geometry:
    """Sizes of the model: from the built-in table, or as its files and its config.json say.

    For a model of the hub that is not on this machine, config.json alone is downloaded. Raises
    InputError where the sizes are not those of a decoder with gated MLPs of one width, or cannot be
    told.
    """
    if ref in Geometry.names():
        return Geometry.load(ref)
    model = resolve(ref)
    name = Path(ref).name if model.source == "local" else ref
    try:
        config = _config(model)
        if not model.is_gguf and experts.family_of(config):
            return experts.of_config(config, name)
        if model.path is None:
            return decoder.of_config(config, name)
        files = files_of(model)
        if files is None:  # a head alone, without tensors
            return decoder.of_config(config, name)
        return decoder.of_parts(files.parts, files.config, name, files.tied)
    except SizesError as error:
        raise InputError(f"model {ref}: {error}") from None
    except ValueError as error:
        raise InputError(
            f"model {ref}: {error}; say its sizes in the sweep file: {{model: {ref}, geometry: …}}"
        ) from None


def title(ref: str) -> str:
    """The model's name for a reader: of a GGUF file the one that it gives itself, of another local
    model the last part of its path, else its name in the sweep file."""
    model = resolve(ref)
    if model.source != "local" or model.path is None:
        return ref
    name = gguf_header.name_of(model.path) if model.is_gguf else ""
    return name or (model.path.stem if model.is_gguf else model.path.name)


def stored(ref: str) -> Stored | None:
    """Bits and bytes of the model's files; None while they are not on this machine.

    Raises InputError where they cannot be told.
    """
    model = resolve(ref)
    if model.path is None:
        return None
    try:
        files = files_of(model)
    except SizesError as error:
        raise InputError(f"model {ref}: {error}") from None
    if files is None:
        return None
    parts = files.parts
    layers = [tensor for layer in parts.layers for tensor in layer.mlp.values()]
    layers += [tensor for layer in parts.layers for of in layer.mixers.values() for tensor in of]
    head = [] if parts.head is None or files.tied else [parts.head]
    every = [*layers, parts.embedding, *head, *parts.others]
    return Stored(decoder.bits_of(parts, files.tied), sum(tensor.bytes for tensor in every))


def comes_quantised(ref: str) -> bool:
    """Whether the model's files hold quantised weights: a GGUF file, or packed safetensors.

    False of a built-in model, which is counted as the paper counts it, of one that is not on this
    machine, and of what is no model.
    """
    if ref in Geometry.names():
        return False
    try:
        model = resolve(ref)
        if model.path is None or model.source == "built-in":
            return False
        return model.is_gguf or bool(_quantisation(read_config(model)))
    except InputError:  # said where the model is asked for
        return False


def read_config(model: ModelRef) -> dict[str, Any]:
    """The content of the model's config.json, downloaded alone if the model is not here."""
    folder = model.path or hub.snapshot(str(model.hub_id), model.revision, ["config.json"])
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"model {model.name}: it has no config.json") from None
    except ValueError:
        raise InputError(f"{path} is no JSON") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no mapping")
    return config


def _quantisation(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    entry = config.get("quantization_config") or (config.get("text_config") or {}).get(
        "quantization_config"
    )
    return entry if isinstance(entry, Mapping) else None


def _config(model: ModelRef) -> dict[str, Any]:
    return (
        gguf_header.config_of(model.path)
        if model.path is not None and model.is_gguf
        else read_config(model)
    )


def files_of(model: ModelRef) -> Files | None:
    """What the heads of the files say; None for a GGUF file that has no tensors."""
    assert model.path is not None
    paths = (model.path,) if model.is_gguf else (*weight_files(model.path), _config_path(model))
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    return _read_files(model, stamps)


def _config_path(model: ModelRef) -> Path:
    assert model.path is not None
    return model.path / "config.json"


@lru_cache(maxsize=16)
def _read_files(model: ModelRef, stamps: tuple[Any, ...]) -> Files | None:
    """`stamps` are those of the files, so that a changed one is read again."""
    assert model.path is not None
    if model.is_gguf:
        head = gguf_header.head_of(model.path)
        if not head.tensors:
            return None
        config = gguf_header.config_from(head)
        parts = parts_of(head.tensors)
        return Files(config, parts, parts.head is None)
    config = read_config(model)
    entries = safetensors.entries(weight_files(model.path))
    parts = parts_of(safetensors.tensors(entries, _quantisation(config)))
    return Files(config, parts, _is_tied(config, parts, entries))


def _is_tied(
    config: Mapping[str, Any], parts: Parts, entries: Mapping[str, safetensors.Entry]
) -> bool:
    """Whether the head is the embedding: the files have none of its own, or a copy."""
    if parts.head is None:
        return True
    if not completed(config).get("tie_word_embeddings"):
        return False
    names = (parts.head.name, parts.embedding.name)
    if not all(name in entries for name in names):  # packed
        return False
    return safetensors.same_content(*(entries[name] for name in names))
