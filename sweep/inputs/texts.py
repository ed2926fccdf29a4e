"""Texts as windows of token ids (SEMANTICS 6).

The text is tokenised once as a whole, as in the GPTQ protocol, with what the tokenizer adds by
itself. Where it puts tokens before a text (Llama, Mistral and Gemma: one BOS), `bos` says which
windows begin with them:

    each-window    every window: it starts as the model expects a text to start
    first-window   the first window only, as the whole text has them: the GPTQ protocol
    none           no window

They count among a window's tokens. Of a tokenizer that puts nothing before a text, all three are
the same windows. What it puts after a text (an EOS) stands after the last token of the text.

A long text is tokenised in pieces that overlap, so that memory does not grow with its length. Two
pieces are joined in a run of tokens that both have in the same places, away from their ends. That
is exact for BPE: its result is right if each token and each pair of neighbours is, and what a
regular expression splits after a common place depends on what follows alone. A tokenizer of another
kind reads the text whole, or refuses one that is too long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.errors import InputError
from sweep.files.cache import cache_dir, staged
from sweep.inputs import model_ref as weights
from sweep.inputs import models, text_files

BOS = ("each-window", "first-window", "none")
FIRST_WINDOW = "first-window"

PIECE = 1 << 20
"""Characters of a piece: some 0.3 GB while it is tokenised. Twice as many are read whole."""
OVERLAP = 1 << 12
"""Characters that two pieces share; more where they do not meet in these."""
MEETING = 16
"""Tokens in a row that two pieces must have alike where they are joined."""
WHOLE_AT_MOST = 16 << 20
"""Characters of a text that has to be tokenised whole: some 4 GB of memory."""

Ids = NDArray[np.int32]


def windows(
    text: str,
    ref: str,
    window_tokens: int,
    calibration: bool = False,
    bos: str = FIRST_WINDOW,
    chosen: Sequence[int] | slice = slice(None),
) -> NDArray[np.int64]:
    """Token ids [windows, window_tokens]: non-overlapping windows in order, the rest dropped; or
    the `chosen` ones of these.

    The tokens of a text are kept in the cache folder, by text and tokenizer. Raises InputError if
    the text is shorter than one window.
    """
    ids = tokens(text, ref, calibration)
    before = _no_tokens() if bos == FIRST_WINDOW else before_text(ref)
    of_text = ids[len(before) :]
    before = before if bos == "each-window" else before[:0]
    count = _whole_windows(len(of_text), text, ref, window_tokens, len(before))
    room = window_tokens - len(before)
    rows = of_text[: count * room].reshape(count, room)[chosen].astype(np.int64)
    return np.hstack([np.tile(before.astype(np.int64), (len(rows), 1)), rows])


def count(
    text: str,
    ref: str,
    window_tokens: int,
    calibration: bool = False,
    make: bool = False,
    bos: str = FIRST_WINDOW,
) -> int | None:
    """How many windows there are; None where that needs a fetch or a tokenizer and not `make`.

    Without `make` there is no network and no transformers. Raises InputError if the text is known
    to be shorter than one window.
    """
    if make:
        ids, before = tokens(text, ref, calibration), before_text(ref)
    else:
        ids, before = _kept(_tokens_place(text, ref, calibration)), kept_before_text(ref)
    if ids is None or (before is None and bos != FIRST_WINDOW):
        return None
    before = before if before is not None and bos != FIRST_WINDOW else _no_tokens()
    added = len(before) if bos == "each-window" else 0
    return _whole_windows(len(ids) - len(before), text, ref, window_tokens, added)


def tokens(text: str, ref: str, calibration: bool = False) -> Ids:
    """Token ids [tokens] of the whole text, from the cache where they are there."""
    text_files.prepare(text, calibration)
    _have(ref)
    path = _tokens_place(text, ref, calibration)
    ids = _kept(path)
    if ids is None:
        ids = encoded(ref, text_files.read(text, calibration), text)
        _keep(path, ids)
    return ids


def before_text(ref: str) -> Ids:
    """Token ids that the tokenizer puts before a text, from the cache where they are there."""
    _have(ref)
    before = kept_before_text(ref)
    if before is None:
        before = np.asarray(_around(models.tokenizer(ref))[0], dtype=np.int32)
        _keep(_before_place(ref), before)
    return before


def kept_before_text(ref: str) -> Ids | None:
    """As `before_text`; None where that needs a fetch or a tokenizer."""
    return _kept(_before_place(ref))


def _have(ref: str) -> None:
    if weights.tokenizer_fingerprint(ref).startswith("unfetched:"):
        models.prepare(ref)


def _no_tokens() -> Ids:
    return np.zeros(0, dtype=np.int32)


def _whole_windows(length: int, text: str, ref: str, window_tokens: int, added: int) -> int:
    if window_tokens < 2 + added:
        some = f", {added} of them the tokenizer's own" if added else ""
        raise InputError(
            f"window_tokens is {window_tokens}; a window has at least {2 + added} tokens{some}"
        )
    if length < window_tokens - added:
        raise InputError(
            f"text {text} has {length} tokens for {ref}, fewer than one window of {window_tokens}"
        )
    return length // (window_tokens - added)


# -- kept in the cache -----------------------------------------------------------------------


def _tokens_place(text: str, ref: str, calibration: bool) -> Path:
    key = f"{text_files.fingerprint(text, calibration)} {weights.tokenizer_fingerprint(ref)}"
    return _place(key)


def _before_place(ref: str) -> Path:
    return _place(f"before a text {weights.tokenizer_fingerprint(ref)}")


def _place(key: str) -> Path:
    return cache_dir() / "tokens" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"


def _kept(path: Path) -> Ids | None:
    try:
        return np.load(path, mmap_mode="r" if path.stat().st_size > 4096 else None)
    except (OSError, ValueError, EOFError):  # not there, or not whole
        return None


def _keep(path: Path, ids: Ids) -> None:
    with staged(path) as target:
        np.save(target, ids, allow_pickle=False)


# -- tokenising ------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """Tokens of a piece without special ones, and the characters of the text that they start at."""

    ids: Ids
    starts: NDArray[np.int64]


def encoded(ref: str, content: str, text: str = "") -> Ids:
    """Token ids of a whole text, special tokens as the tokenizer itself adds them, once.

    `text` is its name. Raises InputError if it is too long for a tokenizer that has to read it
    whole.
    """
    if len(content) > 2 * PIECE:
        words = models.tokenizer(ref)
        parts = _joined(words, content) if _can_be_cut(words) else None
        if parts is not None:
            before, after = _around(words)
            return np.concatenate([before, *parts, after]).astype(np.int32)
        if len(content) > WHOLE_AT_MOST:
            raise InputError(
                f"text {text} has {len(content):,} characters, and the tokenizer of {ref} can only "
                f"read it whole: give it a text of at most {WHOLE_AT_MOST:,}"
            )
    return np.asarray(models.encode(ref, content), dtype=np.int32)


def _around(words: Any) -> tuple[list[int], list[int]]:
    """Token ids that a tokenizer puts before and after a text."""
    with_all: list[int] = list(words("a", verbose=False)["input_ids"])
    bare: list[int] = list(words("a", verbose=False, add_special_tokens=False)["input_ids"])
    for begin in range(len(with_all) - len(bare) + 1):
        end = begin + len(bare)
        if with_all[begin:end] == bare:
            return with_all[:begin], with_all[end:]
    return [], []


def _can_be_cut(words: Any) -> bool:
    """Whether pieces of a text join to the tokens of the whole: of BPE alone that is known."""
    backend = getattr(words, "backend_tokenizer", None)
    return type(getattr(backend, "model", None)).__name__ == "BPE"


def _joined(words: Any, content: str) -> list[Ids] | None:
    """Token ids of the text, piece by piece; None if two pieces do not meet."""
    overlap = OVERLAP
    while overlap <= PIECE:
        try:
            return list(_pieces(words, content, overlap))
        except _ApartError:
            overlap *= 8
    return None


class _ApartError(Exception):
    """Two pieces have no run of tokens in common."""


def _pieces(words: Any, content: str, overlap: int) -> Iterator[Ids]:
    left = _piece(words, content, 0, overlap)
    for start in range(PIECE, len(content), PIECE):
        right = _piece(words, content, start, overlap)
        end, begin = _meeting(left, right, start + overlap // 4, start + 3 * overlap // 4)
        yield left.ids[:end]
        left = _Piece(right.ids[begin:], right.starts[begin:])
    yield left.ids


def _piece(words: Any, content: str, start: int, overlap: int) -> _Piece:
    encoding = words(
        content[start : start + PIECE + overlap],
        verbose=False,
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    starts = np.asarray([begin for begin, _ in encoding["offset_mapping"]], dtype=np.int64)
    return _Piece(np.asarray(encoding["input_ids"], dtype=np.int32), starts + start)


def _meeting(left: _Piece, right: _Piece, low: int, high: int) -> tuple[int, int]:
    """Where to leave the one and enter the other: the middle of the first run of `MEETING` tokens
    that both have, between two characters of the text. Raises _ApartError if there is none."""
    begin, end = np.searchsorted(left.starts, [low, high])
    for first in range(int(begin), int(end) - MEETING):
        other = int(np.searchsorted(right.starts, left.starts[first]))
        ours, theirs = slice(first, first + MEETING), slice(other, other + MEETING)
        same = np.array_equal(left.ids[ours], right.ids[theirs])
        if same and np.array_equal(left.starts[ours], right.starts[theirs]):
            return first + MEETING // 2, other + MEETING // 2
    raise _ApartError
