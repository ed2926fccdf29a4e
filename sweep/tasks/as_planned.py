"""Whether a loaded model is the one that was planned with: its layers, units and embeddings.

Bytes and slots come from the heads of files or from the sweep file, before anything is loaded. A
model that turns out to be another would get the speed of something else.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from methods.attention import attentions
from methods.mlp import UnsupportedModelError, gated_mlps
from sweep.errors import InputError

if TYPE_CHECKING:
    from torch import nn

Sizes = dict[str, int | bool]
_NOUNS = {
    "hidden": "inputs of an MLP",
    "intermediate": "units of an MLP",
    "attention_width": "inputs of W_o",
    "attention_weights": "weights of an attention",
}


def check(model: nn.Module, planned: str) -> None:
    """Raise InputError, naming both, where the model is not of the sizes `planned`, as JSON.

    Of a model whose MLPs are not gated only what can be told is compared.
    """
    wanted: Sizes = json.loads(planned)
    have = _sizes(model)
    other = [name for name in have if have[name] != wanted.get(name, have[name])]
    if other:
        raise InputError(
            f"the loaded model has {_words(have, other)}, but was planned with "
            f"{_words(wanted, other)}: its speed would be that of another"
        )


def _sizes(model: nn.Module) -> Sizes:
    sizes: Sizes = {}
    try:
        views = gated_mlps(model)
    except UnsupportedModelError:
        views = []
    if views:
        sizes["layers"] = len(views)
        for name in ("hidden", "intermediate"):
            values = {getattr(view, name) for view in views}
            sizes[name] = values.pop() if len(values) == 1 else -1
    with suppress(UnsupportedModelError):
        attention = attentions(model)[0]
        sizes["attention_width"] = attention.width
        sizes["attention_weights"] = sum(attention.weights.values())
    tied = _is_tied(model)
    return sizes if tied is None else sizes | {"tied_embeddings": tied}


def _is_tied(model: Any) -> bool | None:
    """Whether embedding and head are one; None where a model does not say what they are."""
    if not hasattr(model, "get_output_embeddings"):
        return None
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or embedding is None:
        return None
    return head.weight is embedding.weight


def _words(sizes: Sizes, names: list[str]) -> str:
    parts = []
    for name in names:
        if name == "tied_embeddings":
            parts.append("one embedding for both ends" if sizes[name] else "a head of its own")
        else:
            noun = _NOUNS.get(name, name)
            size = "differing numbers of" if sizes[name] == -1 else f"{sizes[name]}"
            parts.append(f"{size} {noun}")
    return ", ".join(parts)
