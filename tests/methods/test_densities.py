"""From densities to numbers of units: exact, in reach, and back to the density asked for."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import methods
from methods import MLP_SHARE, MethodError, kept_units, mlp_density
from tests.methods.reference import dip_densities, kept

SIZES = {"smollm2-135m": (576, 1536), "phi-3-medium": (5120, 17920), "tiny": (48, 96)}
LOWEST = {"glu": Fraction(2, 3), "gate": Fraction(1, 3), "up": Fraction(1, 3)}
PRUNING = ("glu", "glu-oracle", "gate", "up", "dip")
HUNDREDTHS = [n / 100 for n in range(1, 101)]


def units_of(group: str, size: str) -> int:
    hidden, intermediate = SIZES[size]
    return hidden if group == "input" else intermediate


def reached(name: str) -> list[float]:
    low, _ = methods.reachable(name)
    return [d for d in HUNDREDTHS if d >= low and d > 0]


@pytest.mark.parametrize("units", [1, 2, 3, 48, 96, 576, 1536, 17920])
def test_kept_units_is_the_floor_in_exact_arithmetic(units: int) -> None:
    for hundredths in range(1, 101):
        exact = Fraction(hundredths, 100) * units
        assert kept_units(hundredths / 100, units) == max(1, math.floor(exact))


@given(st.floats(0, 1), st.integers(1, 20000))
def test_kept_units_stays_within_the_group(density: float, units: int) -> None:
    k = kept_units(density, units)
    assert 1 <= k <= units
    assert k == min(units, kept(density, units))


@pytest.mark.parametrize("name", PRUNING)
@pytest.mark.parametrize("size", SIZES)
def test_the_realised_density_is_within_one_unit(name: str, size: str) -> None:
    for density in reached(name):
        groups = methods.create(name, density=density).group_densities()
        realised = {
            g: kept_units(d, units_of(g, size)) / units_of(g, size) for g, d in groups.items()
        }
        one_unit = sum(MLP_SHARE[g] / units_of(g, size) for g in groups)
        assert abs(mlp_density(realised) - density) <= one_unit + 1e-9


@pytest.mark.parametrize("name", PRUNING)
def test_groups_make_up_the_density(name: str) -> None:
    for density in reached(name):
        groups = methods.create(name, density=density).group_densities()
        assert tuple(groups) == methods.create(name, density=density).groups
        assert all(0 <= d <= 1 for d in groups.values())
        assert mlp_density(groups) == pytest.approx(density, abs=1e-12)


@pytest.mark.parametrize(("name", "low"), LOWEST.items())
def test_k_is_that_of_the_table(name: str, low: Fraction) -> None:
    """3D-2 of m for glu, (3D-1)/2 of m for gate and up."""
    for hundredths in range(math.ceil(low * 100), 101):
        exact = Fraction(hundredths, 100)
        share = 3 * exact - 2 if name == "glu" else (3 * exact - 1) / 2
        ((_, density),) = methods.create(name, density=hundredths / 100).group_densities().items()
        assert kept_units(density, 1536) == max(1, math.floor(share * 1536))


def test_dip_follows_the_published_fit() -> None:
    groups = methods.create("dip", density=0.5).group_densities()
    assert groups["input"] == pytest.approx(0.574, abs=5e-4)
    assert groups["intermediate"] == pytest.approx(0.351, abs=5e-4)
    for density in HUNDREDTHS:
        d_in, d_mid = dip_densities(density, "paper")
        own = methods.create("dip", density=density).group_densities()
        if d_mid >= 0 and d_in <= 1:
            assert own["input"] == pytest.approx(d_in, abs=1e-12)
            assert own["intermediate"] == pytest.approx(d_mid, abs=1e-12)


def test_uniform_dip_is_uniform() -> None:
    groups = methods.create("dip", density=0.37, allocation="uniform").group_densities()
    assert groups == pytest.approx({"input": 0.37, "intermediate": 0.37})


@pytest.mark.parametrize(
    ("name", "density", "range_"),
    [
        ("glu", 0.6, "0.6667 to 1"),
        ("gate", 0.3, "0.3333 to 1"),
        ("up", 0.33, "0.3333 to 1"),
        ("dip", 0.0, "above 0 and up to 1"),
        ("dip", 1.01, "above 0 and up to 1"),
        ("glu-oracle", -0.1, "above 0 and up to 1"),
        ("dense", 0.5, "1 to 1"),
        ("glu", math.nan, "0.6667 to 1"),
    ],
)
def test_a_density_out_of_reach_names_the_reach(name: str, density: float, range_: str) -> None:
    with pytest.raises(MethodError) as caught:
        methods.create(name, density=density)
    assert repr(density) in str(caught.value)
    assert name in str(caught.value)
    assert range_ in str(caught.value)


@pytest.mark.parametrize(("name", "low"), LOWEST.items())
def test_the_lowest_density_is_reached(name: str, low: Fraction) -> None:
    method = methods.create(name, density=float(low))
    assert all(kept_units(d, 96) == 1 for d in method.group_densities().values())
    with pytest.raises(MethodError):
        methods.create(name, density=float(low) - 1e-6)


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(
        MethodError, match=r"unknown method 'gluu'; did you mean 'glu'\?.*known: .*dip"
    ):
        methods.create("gluu", density=0.8)


def test_an_unknown_parameter_names_what_there_is() -> None:
    with pytest.raises(
        MethodError, match=r"method dip has no parameter 'gama' \(it has: .*allocation"
    ):
        methods.create("dip", density=0.8, gama=0.2)
    with pytest.raises(MethodError, match=r"unknown allocation 'papr' of dip \(known: .*paper"):
        methods.create("dip", density=0.8, allocation="papr")


@pytest.mark.parametrize("name", PRUNING)
def test_every_method_has_a_summary(name: str) -> None:
    assert len(methods.summary(name)) > 20
