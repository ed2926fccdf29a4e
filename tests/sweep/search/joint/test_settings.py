"""What a joint search answers for, and what it refuses before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from reports.findings.budgets import KL, Budget
from sweep.errors import InputError
from sweep.plan.sweep_plan import SweepPlan, plan_sweep
from sweep.search.joint.settings import JointSetting, settings_of, waves
from sweep.spec import file as spec
from tests.sweep import made_up

PLAIN = [{"method": "dip", "density": [0.6, 0.8]}]
WITHIN = (Budget(0.05, relative=True),)


@pytest.fixture(autouse=True)
def _made_up_evaluations(monkeypatch: pytest.MonkeyPatch):
    made_up.install(monkeypatch)


def planned(**changes: Any) -> SweepPlan:
    file = made_up.sweep_file(**{"methods": ["dense", *PLAIN], **changes})
    return plan_sweep(spec.select(spec.from_mapping(file, "f"), "a"))


def made(**changes: Any) -> list[JointSetting]:
    return settings_of(planned(**changes), WITHIN)


def test_each_device_is_a_setting_and_bandwidths_wait_for_each_other():
    devices = [{"device": "apple-a18", "dram_gb": [0.06, 0.075], "flash_gbps": [0.5, 1]}]
    methods = [{"method": "dip", "density": [0.6, 0.8], "gamma": 0.2}]
    settings = made(devices=devices, methods=methods)
    assert len(settings) == 4
    assert all(s.dense.device == s.points[0].point.device for s in settings)
    assert all(s.dense.method == "dense" and len(s.points) == 2 for s in settings)
    drams = [[s.dense.device.dram_gb for s in wave] for wave in waves(settings)]
    assert drams == [[0.06, 0.075], [0.06, 0.075]]


def test_what_needs_the_future_is_left_out():
    (setting,) = made(policies=["lfu", "belady"])
    assert {p.point.policy for p in setting.points} == {"lfu"}


def test_entries_of_a_model_or_device_of_their_own_are_searched_with_it():
    other = {"method": "up", "density": [0.7, 0.8], "devices": [{"device": "apple-a18",
             "dram_gb": 0.075, "flash_gbps": 1}]}  # fmt: skip
    settings = made(methods=[*PLAIN, other])
    assert [(s.dense.device.dram_gb, s.points[0].point.method) for s in settings] == [
        (0.064, "dip"), (0.075, "up")]  # fmt: skip


def test_rounded_weights_are_searched_together_and_held_against_those_as_they_are():
    (setting,) = made(quant=[{"method": "rtn", "bits": [3, 4]}])
    assert setting.weights_differ
    assert setting.dense.quant.method == "none"
    methods = [p.point.method for p in setting.points]
    assert sorted(methods) == ["dense", "dense", "dip", "dip", "dip", "dip"]
    (plain,) = made()
    assert not plain.weights_differ
    assert {p.point.method for p in plain.points} == {"dip"}


def test_bits_that_round_nothing_are_settings_of_their_own():
    settings = made(quant=[{"method": "none", "bits": [3, 4]}])
    assert [s.dense.quant.bits for s in settings] == [3, 4]
    assert not any(s.weights_differ for s in settings)


def test_each_way_of_a_cache_is_a_setting_with_what_caches_nothing():
    settings = made(cache={"start": ["empty", "hot"]}, policies=["lfu", "none"])
    assert [s.cache for s in settings] == ["cache empty, window", "cache hot, window"]
    for setting in settings:
        assert {p.point.policy for p in setting.points} == {"lfu", "none"}
        assert len(setting.points) == 4


def test_kl_of_what_it_is_not_measured_for_is_refused():
    within = (Budget(0.02, of=KL),)
    with pytest.raises(InputError, match=r"^f: sweeps\.a: .*cannot tell which quant to choose"):
        settings_of(planned(quant=[{"method": "rtn", "bits": [3, 4]}]), within)
    priced = [{"method": "dip", "lam": [1, 10], "selector": "read-aware"}]
    devices = [{"device": "oneplus-15r", "dram_gb": 0.064}]
    plan = planned(methods=priced, devices=devices)
    with pytest.raises(InputError, match=r"^f: sweeps\.a: KL is not .*leave out lam"):
        settings_of(plan, within)
    assert len(settings_of(plan, WITHIN)) == 1


def test_one_point_is_nothing_to_choose_among():
    with pytest.raises(InputError, match=r"f: sweeps\.a: no setting has two points"):
        made(methods=["dense", {"method": "dip", "density": 0.6}])
