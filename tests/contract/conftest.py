"""One small Ray cluster for the contract suites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local_ray import local_ray


@pytest.fixture(scope="package")
def ray_of_two() -> Iterator[None]:
    """Two CPUs."""
    with local_ray(cpus=2):
        yield
