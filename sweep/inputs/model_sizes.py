"""How large a model is: from the built-in table, its config.json, or its GGUF header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simulator.geometry import Geometry
from sweep.errors import InputError
from sweep.inputs import gguf_header, hub
from sweep.inputs.model_ref import ModelRef, resolve


def geometry(ref: str) -> Geometry:
    """Sizes of the model: from the built-in table, its config.json, or its GGUF header.

    For a model of the hub that is not on this machine, config.json alone is downloaded.
    """
    if ref in Geometry.names():
        return Geometry.load(ref)
    model = resolve(ref)
    if model.path is not None and model.is_gguf:
        config = gguf_header.config_of(model.path)
    else:
        config = read_config(model)
    try:
        name = Path(ref).name if model.source == "local" else ref
        return Geometry.from_config(config, name)
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
    own = gguf_header.name_of(model.path) if model.is_gguf else ""
    return own or (model.path.stem if model.is_gguf else model.path.name)


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
