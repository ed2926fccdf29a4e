"""Rotary positions as a GGUF file states them, for the `rope_parameters` of transformers.

A file has a base, a kind of scaling with its numbers, and, where the frequencies are none of the
common kinds, the factor of each in the tensor `rope_freqs.weight` (Llama 3.1 and later) or in
`rope_factors_short.weight` and `rope_factors_long.weight` (Phi-3's LongRoPE).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError
from sweep.gguf.contents import Contents

THETA = 10_000.0
"""The base where a file names none."""
FACTORS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
TENSORS = (FACTORS, SHORT, LONG)
KEYS = frozenset(
    {
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.dimension_count",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.attn_factor",
        "rope.scaling.finetuned",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "rope.scale_linear",
    }
)
"""Keys that `parameters` reads; `rope.scaling.finetuned` only says how a model came about."""
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_CLOSE = 1e-5


def parameters(file: Contents, before: Mapping[str, Any], head_dim: int) -> dict[str, Any]:
    """`rope_parameters` with what the file states; layers with a window keep a base of their own.

    `before` are those that transformers read. Raises InputError for what it cannot express.
    """
    keys, read = file.of_model(), dict(before.get("full_attention") or before)
    entry: dict[str, Any] = {k: v for k, v in read.items() if k.startswith(("partial_", "mrope_"))}
    entry |= {"rope_theta": float(keys.get("rope.freq_base", THETA)), **_scaling(file)}
    rotated = int(keys.get("rope.dimension_count", 0))
    if rotated and rotated != int(head_dim * entry.get("partial_rotary_factor", 1.0)):
        entry["partial_rotary_factor"] = rotated / head_dim
    if FACTORS in file.tensors:
        entry |= _factors(file, entry)
    if "full_attention" not in before:
        return entry
    local: dict[str, Any] = dict(before.get("sliding_attention") or {"rope_type": "default"})
    local["rope_theta"] = float(keys.get("rope.freq_base_swa", THETA))
    return {**before, "full_attention": entry, "sliding_attention": local}


def check(file: Contents, entry: Mapping[str, Any], buffers: Iterable[NDArray[Any]]) -> None:
    """Raise InputError unless the model has rotary frequencies as the file's numbers give them.

    They are worked out here once more, from the file alone; YaRN and LongRoPE are passed over.
    """
    if entry.get("rope_type") not in ("default", "linear", "llama3"):
        return
    keys, frequencies = file.of_model(), list(buffers)
    if not frequencies:
        raise InputError(f"{file.name}: the model that was made of it has no rotary frequencies")
    count = int(keys.get("rope.dimension_count", 2 * len(frequencies[0])))
    base = float(keys.get("rope.freq_base", THETA))
    expected = base ** (-np.arange(0, count, 2) / count)
    if entry.get("rope_type") == "linear":
        expected = expected / float(entry["factor"])
    if FACTORS in file.tensors:
        expected = expected / file.weight(FACTORS).reshape(-1)
    if not any(_equal(expected, buffer) for buffer in frequencies):
        raise InputError(
            f"{file.name}: the rotary frequencies that its keys {file.architecture}.rope.* and "
            f"{FACTORS} give are not those of the model that was made of it"
        )


def _equal(expected: NDArray[Any], buffer: NDArray[Any]) -> bool:
    return expected.shape == buffer.shape and bool(
        np.allclose(expected, buffer, rtol=_CLOSE, atol=0)
    )


def _scaling(file: Contents) -> dict[str, Any]:
    keys = file.of_model()
    factor = float(keys.get("rope.scaling.factor", keys.get("rope.scale_linear", 0)) or 1.0)
    kind = str(keys.get("rope.scaling.type", "linear"))
    magnitude = float(keys.get("rope.scaling.attn_factor", 1.0))
    if SHORT in file.tensors or LONG in file.tensors:
        return _longrope(file, magnitude)
    if kind == "yarn":
        return _yarn(file, factor, magnitude)
    if kind == "linear" and factor != 1:
        return {"rope_type": "linear", "factor": factor}
    if kind in ("none", "linear", "longrope"):
        return {"rope_type": "default"}
    raise _unknown(file, "rope.scaling.type", kind)


def _yarn(file: Contents, factor: float, magnitude: float) -> dict[str, Any]:
    keys = file.of_model()
    context = keys.get("rope.scaling.original_context_length") or keys["context_length"]
    scaling = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": int(context),
        "beta_fast": float(keys.get("rope.scaling.yarn_beta_fast", 32)),
        "beta_slow": float(keys.get("rope.scaling.yarn_beta_slow", 1)),
    }
    if magnitude != 1:  # the format multiplies YaRN's own magnitude by it
        scaling["attention_factor"] = magnitude * (1 + 0.1 * math.log(factor))
    return scaling


def _longrope(file: Contents, magnitude: float) -> dict[str, Any]:
    keys = file.of_model()
    missing = [name for name in (SHORT, LONG) if name not in file.tensors]
    context = keys.get("rope.scaling.original_context_length")
    if missing or context is None:
        what = (
            missing[0] if missing else f"{file.architecture}.rope.scaling.original_context_length"
        )
        raise InputError(f"{file.name} has factors of LongRoPE, but no {what}")
    return {
        "rope_type": "longrope",
        "short_factor": [float(x) for x in file.weight(SHORT).reshape(-1)],
        "long_factor": [float(x) for x in file.weight(LONG).reshape(-1)],
        "original_max_position_embeddings": int(context),
        "attention_factor": magnitude,
    }


def _factors(file: Contents, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The scaling whose frequencies are the base's over these factors."""
    factors = file.weight(FACTORS).reshape(-1).astype(np.float64)
    if np.all(factors == 1):
        return {}
    if entry.get("rope_type") != "default":
        raise InputError(f"{file.name} has {FACTORS} and a rope.scaling.type of its own")
    fitted = _llama3(factors, float(entry["rope_theta"]))
    if fitted is not None:
        return fitted
    listed = [float(x) for x in factors]  # as they are: LongRoPE with one list for every length
    return {
        "rope_type": "longrope",
        "short_factor": listed,
        "long_factor": listed,
        "original_max_position_embeddings": int(file.of_model()["context_length"]),
        "attention_factor": 1.0,
    }


def _llama3(factors: NDArray[np.float64], theta: float) -> dict[str, Any] | None:
    """Llama 3's parameters that give these factors; None if none do."""
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    lengths = 2 * math.pi * theta ** (np.arange(len(factors)) / len(factors))  # of each wave
    factor = float(np.round(factors.max(), 4))
    between = (factors > 1 + _CLOSE) & (factors < factor * (1 - _CLOSE))
    if factor <= 1 or not between.any():
        return None
    smooth = (1 / factors[between] - 1 / factor) / (1 - 1 / factor)
    contexts = (smooth * (high - low) + low) * lengths[between]
    context = round(float(np.median(contexts)))
    if not np.allclose(llama3_factors(lengths, factor, context), factors, rtol=_CLOSE, atol=0):
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        **_LLAMA3,
        "original_max_position_embeddings": context,
    }


def llama3_factors(
    lengths: NDArray[np.float64], factor: float, context: int
) -> NDArray[np.float64]:
    """By how much each wave of these lengths is stretched."""
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    smooth = np.clip((context / lengths - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def _unknown(file: Contents, key: str, value: object) -> InputError:
    return InputError(f"{file.name}: {file.architecture}.{key} is {value!r}, which is not known")
