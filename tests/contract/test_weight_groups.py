"""The table of weight groups stands in two packages that may not import each other."""

from __future__ import annotations

import pytest

from methods import density
from simulator.footprint import COVERS, GROUPS, footprint
from simulator.geometry import Geometry, Storage

GEOMETRY = Geometry("made up", 2, 24, 40, 4, 2, 6, 100)
BYTES = Storage(bits=8, group_size=0)  # a byte a weight


def test_both_have_the_same_table() -> None:
    assert list(density.COVERS.items()) == list(COVERS.items())
    assert tuple(density.MLP_SHARE) == GROUPS


@pytest.mark.parametrize("group", GROUPS)
def test_the_share_of_a_group_is_its_share_of_the_bytes(group: str) -> None:
    size = footprint(GEOMETRY, [group], BYTES).groups[group]
    weights = size.total_bytes / size.layers
    assert weights / GEOMETRY.mlp_weights == pytest.approx(density.MLP_SHARE[group], abs=1e-15)
