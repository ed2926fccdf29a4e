"""KL and flips against a plain double loop, and what is kept of the dense model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sweep.files import cache
from sweep.measures import distances
from sweep.measures.distances import Distance, dense
from sweep.measures.losses import ROWS, Watch

TOKENS, WORDS = ROWS + 45, 97


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path))
    return tmp_path


def logits(seed: int, noise: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(TOKENS - 1, WORDS, generator=generator) * 3
    return base + noise * torch.randn(base.shape, generator=generator.manual_seed(seed))


class Runs:
    """A model that is run, and how often it was."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.count = values, 0

    def __call__(self, watch: Watch) -> None:
        self.count += 1
        show(self.values, watch)


def show(values: Tensor, watch: Watch) -> None:
    for begin in range(0, len(values), ROWS):
        watch(begin, values[begin : begin + ROWS].log_softmax(dim=-1))


def apart(own: Tensor, base: Runs, identity: str = "run") -> Distance:
    distance = Distance()
    show(own, dense(identity, 3, TOKENS, base).watch(distance))
    return distance


def test_the_sums_are_those_of_a_plain_loop_in_float64() -> None:
    base, own = logits(1), logits(2, noise=0.4)
    found = apart(own, Runs(base))
    kl, flips = 0.0, 0
    for p_row, q_row in zip(base.double(), own.double(), strict=True):
        p, q = p_row.softmax(0), q_row.softmax(0)
        kl += sum(float(a * (a.log() - b.log())) for a, b in zip(p, q, strict=True))
        flips += int(p_row.argmax() != q_row.argmax())
    assert found.kl == pytest.approx(kl, rel=1e-4)
    assert 0 < found.flips == flips


def test_an_equal_model_is_at_0() -> None:
    found = apart(logits(1), Runs(logits(1)))
    assert abs(found.kl) / TOKENS < 1e-6
    assert found.flips == 0


def test_the_dense_model_runs_once_for_a_window(own_cache: Path) -> None:
    base = Runs(logits(1))
    first = apart(logits(2, 0.4), base)
    assert apart(logits(2, 0.4), base) == first
    assert base.count == 1
    apart(logits(2, 0.4), base, "another")
    assert base.count == 2
    assert len(list((own_cache / "expectations").glob("*.npy"))) == 2


def test_what_is_not_whole_or_cannot_be_kept_is_computed_again(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Runs(logits(1))
    first = apart(logits(2, 0.4), base)
    (path,) = (own_cache / "expectations").glob("*.npy")
    path.write_bytes(path.read_bytes()[:-100])
    assert apart(logits(2, 0.4), base) == first
    assert base.count == 2
    path.unlink()
    monkeypatch.setattr(distances, "KEPT_BYTES", 10.0)
    assert apart(logits(2, 0.4), base) == first
    assert not list((own_cache / "expectations").glob("*.npy"))
    monkeypatch.setattr(cache, "cache_dir", lambda: Path("/proc/none"))
    assert apart(logits(2, 0.4), base) == first


def test_the_oldest_make_room(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Runs(logits(1))
    for name in ("a", "b"):
        apart(logits(2, 0.4), base, name)
    folder = own_cache / "expectations"
    size = next(folder.glob("*.npy")).stat().st_size
    monkeypatch.setattr(distances, "KEPT_BYTES", 2.5 * size)
    past = (folder / "b-3.npy").stat().st_mtime - 100
    np.testing.assert_array_less(past, (folder / "a-3.npy").stat().st_mtime)
    apart(logits(2, 0.4), base, "a")  # used again, so newer than b
    apart(logits(2, 0.4), base, "c")
    assert {path.name for path in folder.glob("*.npy")} == {"a-3.npy", "c-3.npy"}
