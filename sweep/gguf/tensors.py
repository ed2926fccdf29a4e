"""Whether the model that was made of a file has the file's tensors, all of them and no other.

Each tensor is read once more by the format's own dequantiser. transformers may turn rows or
columns round, join two tensors, or undo a change that the format makes to a few; so a tensor of
the file and a weight of the model are paired by a sum over their values that no order changes,
and those that nobody turns round must then be equal in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError
from sweep.gguf.contents import Contents
from sweep.gguf.rope import TENSORS

_PLUS_ONE = re.compile(r"norm\.weight$")
_WITH_ONE = {
    "gemma2": _PLUS_ONE,
    "gemma3": _PLUS_ONE,
    "nemotron": _PLUS_ONE,
    "qwen35": re.compile(r"(?<!ssm_)norm\.weight$"),
    "qwen35moe": re.compile(r"(?<!ssm_)norm\.weight$"),
}
"""Tensors to which the format adds one."""
_OF_LOGARITHM = {"mamba": "ssm_a", "qwen35": "ssm_a", "qwen35moe": "ssm_a"}
"""Tensors that the format keeps as minus the exponential."""
_TURNED: Mapping[str, str] = {
    "llama": r"attn_[qk]\.",
    "bloom": r"attn_qkv\.",
    "gpt2": r"(attn_qkv|ffn_down|ffn_up|attn_output)\.weight",
    "qwen35": r"ssm_|attn_qkv\.|attn_gate\.",
    "qwen35moe": r"ssm_|attn_qkv\.|attn_gate\.",
}
"""Tensors whose rows or columns have another order in the model."""
_SPARE = re.compile(r"(^|\.)(attn_rot_embd|rope_freqs)\.weight$")
"""Tensors that are worked out from the keys (`rope` reads those that are not)."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


def check(file: Contents, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise InputError, naming them, for tensors without a place and weights without a source.

    `weights` are those of the model by name, one that is used in two places once.
    """
    waiting: dict[tuple[int, int], list[str]] = {}
    for name, values in weights.items():
        waiting.setdefault(_sum(values), []).append(name)
    spare = [*TENSORS, *_next_token(file)]
    without_place, sums = [], {}
    for name in file.tensors:
        if name in spare or _SPARE.search(name):
            continue
        values = _as_the_model_has_it(file, name)
        sums[name] = _sum(values)
        names = waiting.get(sums[name])
        if not names:
            without_place.append(name)
            continue
        weight_name = _in_place(file, name, values, names, weights)
        names.remove(weight_name)
    left = [name for names in waiting.values() for name in names]
    without_place, left = _joined(without_place, sums, left, weights)
    _refuse(file, without_place, left)


def _in_place(
    file: Contents,
    name: str,
    values: NDArray[np.float32],
    names: list[str],
    weights: Mapping[str, NDArray[np.float32]],
) -> str:
    """The weight, among those of the same sum, that has the values in the tensor's order."""
    turned = _TURNED.get(file.architecture)
    if turned and re.search(turned, name):
        return names[0]
    for weight_name in names:
        if np.array_equal(weights[weight_name].reshape(-1), values.reshape(-1)):
            return weight_name
    raise InputError(
        f"{file.name}: {name} has another order in the model that was made of it ({names[0]})"
    )


def _joined(
    tensors: list[str],
    sums: Mapping[str, tuple[int, int]],
    left: list[str],
    weights: Mapping[str, NDArray[np.float32]],
) -> tuple[list[str], list[str]]:
    """Without pairs of tensors, gate and up of experts, that are one weight of the model."""
    still, tensors = [], list(tensors)
    for weight_name in left:
        total = _sum(weights[weight_name])
        pair = next(
            (
                (gate, up)
                for gate in tensors
                if "_gate" in gate and (up := gate.replace("_gate", "_up")) in tensors
                if _added(sums[gate], sums[up]) == total
            ),
            None,
        )
        if pair is None:
            still.append(weight_name)
        else:
            tensors = [name for name in tensors if name not in pair]
    return tensors, still


def _refuse(file: Contents, tensors: list[str], left: list[str]) -> None:
    missing = file.blocks_without_tensors()
    if missing:
        raise InputError(f"{file.name} lacks all tensors of {', '.join(missing)}")
    if tensors:
        raise InputError(
            f"{file.name}: {len(tensors)} tensors have no place in the model that was made of it: "
            f"{_listed(tensors)}"
        )
    if left:
        raise InputError(
            f"{file.name}: {len(left)} weights of the model are not in the file: {_listed(left)}"
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _next_token(file: Contents) -> list[str]:
    """Tensors of layers behind the last that guess further tokens; no decoder has them."""
    keys = file.of_model()
    ahead = int(keys.get("nextn_predict_layers", 0))
    layers = int(keys.get("block_count", 0))
    behind = tuple(f"blk.{layer}." for layer in range(layers - ahead, layers))
    return [name for name in file.tensors if behind and name.startswith(behind)]


def _as_the_model_has_it(file: Contents, name: str) -> NDArray[np.float32]:
    values, kind = file.weight(name), file.architecture
    if kind in _WITH_ONE and _WITH_ONE[kind].search(name):
        return values - np.float32(1)
    if kind in _OF_LOGARITHM and _OF_LOGARITHM[kind] in name:
        return np.log(-values)
    return values


def _sum(values: NDArray[Any]) -> tuple[int, int]:
    """How many values there are, and a sum over their bits that does not know their order."""
    bits = np.ascontiguousarray(values, dtype=np.float32).reshape(-1).view(np.uint32)
    total = np.uint64(0)
    with np.errstate(over="ignore"):
        for start in range(0, len(bits), 1 << 22):
            part = bits[start : start + (1 << 22)].astype(np.uint64) * _MIX
            part ^= part >> np.uint64(29)
            part *= _MIX
            total += part.sum(dtype=np.uint64)
    return len(bits), int(total)


def _added(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return first[0] + second[0], (first[1] + second[1]) % (1 << 64)
