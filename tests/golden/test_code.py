"""What a change of code throws away: the fingerprint of each kind of task and method is known.

Where this fails, every stored result of what differs is made again. If that is meant,
`python -m tests.golden.code` writes the new ones, and CHANGELOG.md says why.
"""

from __future__ import annotations

import json

from sweep.plan.task_code import MODULES
from tests.golden.code import FILE, fingerprints


def test_code_that_computes_is_what_it_was() -> None:
    known, now = json.loads(FILE.read_text(encoding="utf-8")), fingerprints()
    assert set(now) == set(MODULES)
    assert now == known
