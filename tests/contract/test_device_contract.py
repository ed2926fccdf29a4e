"""What every shipped device keeps: the rules of `simulator.device_contract`, and a source."""

from __future__ import annotations

from typing import Any

import pytest

from simulator import Device, SimulatorError, device_contract

OWN = {"device": "my-phone", "dram_gb": 4, "flash_gbps": 2, "dram_gbps": 50}


@pytest.mark.parametrize("rule", device_contract.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", Device.names())
def test_every_device_keeps_every_rule(name: str, rule: device_contract.Rule) -> None:
    rule(name)


@pytest.mark.parametrize("name", Device.names())
def test_a_shipped_device_has_a_title_and_says_where_its_numbers_are_from(name: str) -> None:
    device = Device.load(name)
    assert device.title
    assert len(device.source) > 20


@pytest.mark.parametrize("own", [OWN, {**OWN, "timing": "serial"}, {"device": "apple-a18"}])
def test_a_device_of_ones_own_is_tried_by_the_same_rules(own: dict[str, Any]) -> None:
    assert [verdict for verdict in device_contract.check(own) if not verdict.passed] == []


def test_what_is_wrong_is_said() -> None:
    exchanged = {**OWN, "flash_gbps": 50, "dram_gbps": 2}
    (wrong,) = [verdict for verdict in device_contract.check(exchanged) if not verdict.passed][:1]
    assert wrong.reason == "Flash 50 GB/s, DRAM 2 GB/s"
    unknown = device_contract.check("aple-a18")
    assert not any(verdict.passed for verdict in unknown)
    assert "did you mean 'apple-a18'" in unknown[0].reason
    with pytest.raises(SimulatorError):
        device_contract.it_loads_and_comes_back({**OWN, "dram_gb": 0})
