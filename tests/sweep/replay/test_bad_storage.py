"""A replay on storage that does not do: one clear error each, and nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from sweep.errors import InputError, ResourceError, SweepError
from sweep.replay import measure
from sweep.replay.points import Phases, Replayable


def point() -> Replayable:
    used = np.random.default_rng(0).random((4, 64)) < 0.5
    return Replayable("k", "a point", (Phases(used, used, 1000),))


def refused_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def refusing(path: os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)


def no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (refused_direct, ResourceError, "direct I/O is refused here"),
        (full_disk, ResourceError, "disk is full"),
        (no_rights, InputError, "no right to write here"),
    ],
)
def test_one_clear_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: object,
    error: type[SweepError],
    words: str,
    products: bool,
) -> None:
    spoil(monkeypatch)  # type: ignore[operator]
    with pytest.raises(error, match=words):
        measure.run(tmp_path, [point()], 2, 1, lambda _: None, products)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("depth", "repeats"), [(0, 1), (1, 0)])
def test_no_depth_and_no_repeats_are_refused(tmp_path: Path, depth: int, repeats: int) -> None:
    with pytest.raises(InputError, match="1 or more are expected"):
        measure.run(tmp_path, [point()], depth, repeats, lambda _: None)
    assert list(tmp_path.iterdir()) == []
