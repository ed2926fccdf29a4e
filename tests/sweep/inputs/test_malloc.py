"""Freed memory is kept, where the C library can be told to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from sweep.inputs import malloc as heap
assert heap.keep() is {kept}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
seen = [faults() for _ in range(9)]
assert (min(seen) < max(seen) / 10) is {kept}, seen
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
@pytest.mark.parametrize("asked", [None, "1000000"])
def test_pages_are_asked_for_once_unless_the_user_says_otherwise(asked: str | None) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    if asked:
        variables |= {"MALLOC_TRIM_THRESHOLD_": asked}
    code = FAULTS.format(kept=asked is None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
