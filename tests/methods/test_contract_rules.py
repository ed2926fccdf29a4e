"""The rules of `sweep check-method`, on every built-in method, trained ones too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import methods
from methods import contract


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_keeps_every_rule(name: str) -> None:
    assert [v for v in contract.check(name) if not v.passed] == []
