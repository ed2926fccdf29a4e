"""Published rows of mixtures of experts on phones, from geometry alone."""

from __future__ import annotations

import pytest

from benchmarks import phones

OFF = [row for row in phones.ROWS if row.hit_rate is None]


@pytest.mark.parametrize("row", OFF, ids=lambda row: f"{row.model}-{row.chosen}")
def test_bytes_without_a_cache_are_met(row: phones.Row) -> None:
    assert abs(phones.error(row)) < phones.WITHIN


def test_figures_beside_them() -> None:
    """What a token uses of Qwen3-30B-A3B at Q4_0, and which share of its experts 5 GB hold."""
    model = phones.MODELS["Qwen3-30B-A3B Q4_0"]
    assert phones.active_megabytes(model) == pytest.approx(1840, rel=0.01)
    assert 5e9 / phones._all_experts(model) == pytest.approx(0.307, rel=0.005)


def test_more_bits_are_in_half_of_the_layers() -> None:
    assert phones.more_bits(48) == 0.5


def test_the_page_is_as_it_is_written() -> None:
    assert phones.PAGE.read_text(encoding="utf-8") == phones.report() + "\n"
