"""What a model's configuration alone tells of it before anything runs: a skeleton without weights.

Methods need MLPs that are gated and nothing more (`methods.agreement`), and whether they are is
the same for every set of weights of a family. So one MLP of each kind is filled with random values
and tried. The verdict is kept in the cache folder, by configuration and version of transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sweep.errors import InputError
from sweep.files.cache import cache_dir, staged
from sweep.inputs import models
from sweep.inputs.model_ref import resolve, weight_files

_EDITION = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The attention that transformers has for the model, why methods cannot run on it (empty: they
    can), and which weights of its files its modules have no place for."""

    attention: str = ""
    methods: str = ""
    lost: tuple[str, ...] = ()


def check(ref: str, pruned: bool) -> None:
    """Raise InputError, in one sentence, for a model whose modules lack weights of its files, and
    for one that is to be `pruned` and that no method but `dense` can run on."""
    tried = verdict(ref)
    if tried.lost:
        raise InputError(
            f"model {ref}: {len(tried.lost)} weights of its files have no place in the modules of "
            f"its config.json: {', '.join(tried.lost[:3])}{' …' if tried.lost[3:] else ''}; is it "
            "that of another family?"
        )
    if pruned and tried.methods:
        raise InputError(f"model {ref}: {tried.methods}")


def verdict(ref: str) -> Verdict:
    """The verdict on a model that is on this machine, found now or kept from before."""
    path = _place(models.prepare(ref))
    tried = _read(path)
    if tried is None:
        tried = _found(ref)
        with suppress(OSError), staged(path) as target:
            target.write_text(json.dumps(asdict(tried)), encoding="utf-8")
    return tried


def kept_verdict(ref: str) -> Verdict | None:
    """The verdict if it was found before; nothing heavy is imported."""
    model = resolve(ref)
    if model.path is None or not models.present(ref):
        return None
    return _read(_place(models.prepare(ref)))


def check_positions(ref: str, window_tokens: int) -> None:
    """Raise InputError for windows that are longer than the model has positions, where it has any
    and is here: what it makes of the rest is not what it was trained for."""
    model = resolve(ref)
    if model.path is None or not models.present(ref):
        return
    config = json.loads((models.prepare(ref) / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config") or config
    have = config.get("max_position_embeddings") or config.get("n_positions")
    if isinstance(have, int) and window_tokens > have:
        raise InputError(
            f"model {ref} has {have} positions (max_position_embeddings of its config), fewer than "
            f"the {window_tokens} tokens of a window; set window_tokens to at most {have}"
        )


def note(ref: str) -> str:
    """What a reader of results should know of how the model was run; empty: nothing."""
    tried = kept_verdict(ref)
    if tried is None or tried.attention in ("", "sdpa"):
        return ""
    return f"{ref}: attention is {tried.attention}; transformers has no SDPA for this family."


def _place(folder: Path) -> Path:
    content = [_EDITION, version("transformers"), (folder / "config.json").read_text("utf-8")]
    name = hashlib.sha256(json.dumps([*content, *_names(folder)]).encode()).hexdigest()[:24]
    return cache_dir() / "verdicts" / f"{name}.json"


def _names(folder: Path) -> list[str]:
    """Names of the weights in the files."""
    from safetensors import SafetensorError, safe_open

    names: list[str] = []
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="numpy") as file:
                names += file.keys()
        except SafetensorError as error:
            raise InputError(f"{path} is damaged: {error}") from None
    return sorted(names)


def _read(path: Path) -> Verdict | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Verdict(**{**document, "lost": tuple(document["lost"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _found(ref: str) -> Verdict:
    from methods.mlp import UnsupportedModelError

    model, reason = models.skeleton(ref), ""
    names = _names(models.prepare(ref))
    lost = tuple(models.without_place(model, set(names) - set(model.state_dict())))
    try:
        _try_mlps(model)
    except UnsupportedModelError as error:
        reason = str(error)
    return Verdict(model.config._attn_implementation or "", reason, lost)


def _try_mlps(model: Any) -> None:
    """Raise UnsupportedModelError unless one MLP of each kind is gated and nothing more."""
    import torch

    from methods.agreement import check_agrees, check_sizes
    from methods.mlp import gated_mlps

    views = gated_mlps(model)
    check_sizes(views)
    tried: list[Sequence[Any]] = []
    generator = torch.Generator().manual_seed(0)
    for view in views:
        kind = _kind(view.module)
        if kind in tried or any(True for _ in view.module.buffers()):
            continue  # buffers have values of their own: the loaded model is tried
        tried.append(kind)
        view.module.to_empty(device="cpu")
        for parameter in view.module.parameters():
            values = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
            parameter.data.copy_(values)
        check_agrees(view)
        view.module.to("meta")


def _kind(module: Any) -> Sequence[Any]:
    """What tells one MLP from another: classes, shapes, and plain values that a forward may use."""
    parts = [
        (name, type(part), sorted((k, v) for k, v in vars(part).items() if _plain(v)))
        for name, part in module.named_modules()
    ]
    return [*parts, *((name, tuple(p.shape)) for name, p in module.named_parameters())]


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)
