"""Texts as windows of token ids (SEMANTICS 6).

Special tokens, too, follow the GPTQ protocol: the text is tokenised once as a whole, with what
the tokenizer adds by itself. A model that wants a BOS token (Llama, Mistral) thus has it at the
start of the first window only; a window is any stretch of running text.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError
from sweep.files.cache import cache_dir, staged
from sweep.inputs import model_ref as weights
from sweep.inputs import models, text_files


def windows(
    text: str, ref: str, window_tokens: int, calibration: bool = False
) -> NDArray[np.int64]:
    """Token ids [windows, window_tokens]: non-overlapping windows in order, the rest dropped.

    The tokens of a text are kept in the cache folder, by text and tokenizer. Raises InputError if
    the text is shorter than one window.
    """
    ids = tokens(text, ref, calibration)
    count = _whole_windows(len(ids), text, ref, window_tokens)
    return ids[: count * window_tokens].reshape(count, window_tokens).astype(np.int64)


def count(
    text: str, ref: str, window_tokens: int, calibration: bool = False, make: bool = False
) -> int | None:
    """How many windows there are; None where that needs a fetch or a tokenizer and not `make`.

    Without `make` there is no network and no transformers. Raises InputError if the text is known
    to be shorter than one window.
    """
    if make:
        length = len(tokens(text, ref, calibration))
    else:
        kept = _kept_tokens(_tokens_place(text, ref, calibration))
        if kept is None:
            return None
        length = len(kept)
    return _whole_windows(length, text, ref, window_tokens)


def tokens(text: str, ref: str, calibration: bool = False) -> NDArray[np.int32]:
    """Token ids [tokens] of the whole text, from the cache where they are there."""
    text_files.prepare(text, calibration)
    if weights.tokenizer_fingerprint(ref).startswith("unfetched:"):
        models.prepare(ref)
    place = _tokens_place(text, ref, calibration)
    ids = _kept_tokens(place)
    if ids is None:
        ids = np.asarray(models.encode(ref, text_files.read(text, calibration)), dtype=np.int32)
        with staged(place) as target:
            np.save(target, ids, allow_pickle=False)
    return ids


def _tokens_place(text: str, ref: str, calibration: bool) -> Path:
    key = f"{text_files.fingerprint(text, calibration)} {weights.tokenizer_fingerprint(ref)}"
    return cache_dir() / "tokens" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"


def _kept_tokens(place: Path) -> NDArray[np.int32] | None:
    try:
        return np.load(place, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):  # not there, or not whole
        return None


def _whole_windows(length: int, text: str, ref: str, window_tokens: int) -> int:
    if window_tokens < 2:
        raise InputError(f"window_tokens is {window_tokens}; a window has at least 2 tokens")
    if length < window_tokens:
        raise InputError(
            f"text {text} has {length} tokens for {ref}, fewer than one window of {window_tokens}"
        )
    return length // window_tokens
