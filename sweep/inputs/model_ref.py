"""Which model a name in the sweep file means, where its weights lie, and what they are.

    smollm2-135m                  built in: fetched by `sweep fetch`
    phi-3-medium, llama-3-8b …    built in: the hub's id is known
    org/name, org/name@revision   on the model hub
    ./folder, file.gguf           on this machine: safetensors with config.json, or one GGUF file

Nothing here imports torch or transformers. Pickled weights are never read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweep.errors import InputError
from sweep.files.cache import remembered_sha256
from sweep.inputs import hub
from sweep.inputs import wheels as fetch
from sweep.messages import nearest

EMBEDDED = "smollm2-135m"
HUB_IDS = {
    "llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "phi-3-medium": "microsoft/Phi-3-medium-4k-instruct",
    "phi-3-mini": "microsoft/Phi-3-mini-4k-instruct",
    "relu-llama-7b": "SparseLLM/ReluLLaMA-7B",
    "turbosparse-mistral-7b": "PowerInfer/TurboSparse-Mistral-Instruct",
}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

GENERATION_FILE = "generation_config.json"
"""Where a generation ends, and what it penalises; no perplexity depends on it."""

_HUB_ID = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model by its name in the sweep file; `path` is None while it is not on this machine.

    `path` is a folder with safetensors and `config.json`, or a GGUF file.
    """

    name: str
    source: Literal["built-in", "hub", "local"]
    path: Path | None
    revision: str | None = None
    hub_id: str | None = None

    @property
    def is_gguf(self) -> bool:
        return self.path is not None and self.path.suffix == ".gguf"


def names() -> tuple[str, ...]:
    """The built-in models."""
    return (EMBEDDED, *HUB_IDS)


def resolve(ref: str) -> ModelRef:
    """What `ref` means. No network.

    Raises InputError for a name that is none, and for a local folder that cannot be used: without
    weights, without `config.json` or tokenizer, with a shard missing, or with pickles only.
    """
    if ref == EMBEDDED:
        path = fetch.artefact(EMBEDDED).path
        return ModelRef(ref, "built-in", path if path.is_file() else None)
    if ref in HUB_IDS:
        return _on_hub(ref, HUB_IDS[ref], None)
    if _looks_local(ref) or Path(ref).exists():
        return ModelRef(ref, "local", usable_path(Path(ref).expanduser().absolute()))
    match = _HUB_ID.fullmatch(ref)
    if match:
        return _on_hub(ref, match["id"], match["revision"])
    raise InputError(
        f"no model is called {ref!r}{nearest(ref, names())}; "
        "a hub id is written org/name or org/name@revision, a folder or file as a path that exists"
    )


def locate(ref: str) -> str:
    """The name itself, or the absolute path of a local model: the same wherever a task runs."""
    model = resolve(ref)
    return str(model.path) if model.source == "local" else ref


def usable_path(path: Path) -> Path:
    """`path` itself if it is a GGUF file or a complete folder, or the GGUF file in the folder."""
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not path.is_dir():
        state = "is neither a folder nor a GGUF file" if path.exists() else "does not exist"
        raise InputError(f"model {path}: {state}")
    if weight_files(path)[0].suffix == ".gguf":
        return weight_files(path)[0]
    if not (path / "config.json").is_file():
        raise InputError(f"model folder {path}: config.json is missing")
    if not tokenizer_files(path):
        raise InputError(f"model folder {path}: no tokenizer ({', '.join(TOKENIZER_FILES[:3])})")
    return path


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that make up the model, or its one GGUF file; InputError if none."""
    if (folder / _SINGLE).is_file():
        return (folder / _SINGLE,)
    if (folder / _INDEX).is_file():
        return _shards(folder)
    gguf = sorted(folder.glob("*.gguf"))
    if len(gguf) > 1:
        raise InputError(
            f"model folder {folder} has {len(gguf)} GGUF files: name the one that is meant "
            f"({', '.join(path.name for path in gguf)})"
        )
    if gguf:
        return (gguf[0],)
    raise InputError(f"model folder {folder} has no weights: {_what_instead(folder)}")


def tokenizer_files(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())


def fingerprint(ref: str) -> str:
    """sha256 over weights, config and tokenizer: the same for the same content anywhere.

    `unfetched:<ref>` while a model of the hub is not on this machine. The embedded model's is known
    beforehand. Large files are hashed once and remembered by path, size and time.
    """
    model = resolve(ref)
    if model.source == "built-in":
        return fetch.artefact(EMBEDDED).sha256
    if model.path is None:
        return f"unfetched:{ref}"
    if model.is_gguf:
        return remembered_sha256(model.path)
    files = (*weight_files(model.path), model.path / "config.json", *tokenizer_files(model.path))
    return _combined(files)


def tokenizer_fingerprint(ref: str) -> str:
    """As `fingerprint`, of the tokenizer alone (a GGUF file holds its own)."""
    model = resolve(ref)
    if model.source == "built-in" or model.path is None or model.is_gguf:
        return fingerprint(ref)
    return _combined(tokenizer_files(model.path))


def generation_fingerprint(ref: str) -> str:
    """sha256 of the model's generation settings; empty where it has no file of them."""
    folder = resolve(ref).path
    file = None if folder is None else folder / GENERATION_FILE
    return remembered_sha256(file) if file is not None and file.is_file() else ""


def _on_hub(ref: str, hub_id: str, revision: str | None) -> ModelRef:
    folder = hub.cached(hub_id, revision, hub.MODEL_FILES)
    if folder is not None:
        try:
            folder = usable_path(folder)
        except InputError:  # only some of its files are in the cache
            folder = None
    return ModelRef(ref, "hub", folder, revision, hub_id)


def _looks_local(ref: str) -> bool:
    return ref.startswith(("/", "./", "../", "~")) or ref.endswith(".gguf")


def _shards(folder: Path) -> tuple[Path, ...]:
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / _INDEX} is no index of safetensors files") from None
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing or not shards:
        raise InputError(
            f"model folder {folder} lacks {len(missing)} of its {len(shards)} weight files: "
            f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        )
    return tuple(folder / name for name in shards)


def _what_instead(folder: Path) -> str:
    pickles = [path.name for pattern in _PICKLES for path in sorted(folder.glob(pattern))]
    if pickles:
        return (
            f"{pickles[0]} is a pickle, which can run code and is never read; "
            "convert it to safetensors"
        )
    return f"expected {_SINGLE}, {_INDEX} with its shards, or one GGUF file"


def _combined(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name} {remembered_sha256(path)}\n".encode())
    return digest.hexdigest()
