"""The split of DIP's density: published, equal, or fitted (appendix B.1)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import methods
from methods import MethodError
from methods.allocation import PAPER, Allocation, fit, pareto, parse


def groups(density: float, allocation: object) -> tuple[float, float]:
    found = methods.create("dip", density, allocation=allocation).group_densities()
    return found["input"], found["intermediate"]


def test_the_published_curve() -> None:
    assert groups(0.5, "paper") == pytest.approx((0.574, 0.351), abs=6e-4)


def test_a_line_of_ones_own_is_used_as_it_is_written(tmp_path: Path) -> None:
    line = {"slope": PAPER.slope, "intercept": PAPER.intercept}
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({**line, "points": 12}))
    for given in (line, str(path), str(PAPER)):
        assert groups(0.37, given) == groups(0.37, "paper")
    method = methods.create("dip", 0.4, allocation={"slope": 1.1, "intercept": -0.2})
    expected = 1 / (1 + math.exp(-(1.1 * math.log(0.4 / 0.6) - 0.2)))
    assert method.group_densities()["input"] == pytest.approx(expected)
    assert methods.create("dip", 0.4, **method.parameters()) == method
    assert hash(method)


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("line", [(1, 0), (0.2, 3), (3, -4), (1, 8), (1, -8)])
def test_any_line_makes_the_density(line: tuple[float, float], density: float) -> None:
    d_in, d_mid = groups(density, {"slope": line[0], "intercept": line[1]})
    assert 0 <= d_in <= 1
    assert 0 <= d_mid <= 1 + 1e-12
    assert (2 * d_in + d_mid) / 3 == pytest.approx(density)


def test_the_fit_finds_the_line_that_made_the_points() -> None:
    line = Allocation(0.9, 0.25)
    points = [(d / 20, line.input_density(d / 20)) for d in range(4, 20)]
    found = fit([*points, (1.0, 1.0), (0.5, 0.0)])
    assert (found.slope, found.intercept) == pytest.approx((0.9, 0.25))


def test_a_fit_needs_two_densities() -> None:
    with pytest.raises(ValueError, match="two densities"):
        fit([(0.5, 0.6), (0.5, 0.4)])


def test_only_points_that_no_other_beats_are_fitted() -> None:
    points = [(0.5, 0.6, 9.0), (0.5, 0.4, 8.0), (0.6, 0.5, 8.5), (0.7, 0.7, 7.0), (0.8, 0.8, 7.0)]
    assert pareto(points) == [(0.5, 0.4), (0.7, 0.7)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("papr", "unknown allocation 'papr'"),
        (3, "unknown allocation 3"),
        ({"slope": 1}, "has slope and intercept, not slope"),
        ({"slope": 0, "intercept": 1}, "slope must be above 0"),
        ({"slope": "steep", "intercept": 1}, "slope must be above 0"),
        ("none.json", "allocation file none.json cannot be read"),
    ],
)
def test_what_is_no_allocation_is_an_error(given: object, said: str) -> None:
    with pytest.raises(MethodError, match=said):
        parse(given)
    with pytest.raises(MethodError, match=said):
        methods.create("dip", 0.5, allocation=given)
