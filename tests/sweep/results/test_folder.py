"""What a run folder says of its trainings, one sentence for each kind of result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweep.errors import InputError
from sweep.results.folder import MadeOf, _training_note
from sweep.spec import file as spec

PREDICTORS = (
    "its predictors find 80% of the units that they are to find (recall), and 50% of those they "
    "name are right (precision); of as many largest logits as are wanted, 90% are"
)
CANDIDATES = (
    "it finds 45%, 60% of the units that matter (recall), where 10%, 20% of all are looked for"
)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"recall": 0.8, "precision": 0.5, "recall_of_largest": 0.9}, PREDICTORS),
        ({"recall": 0.75}, "it finds 75% of the units that matter (recall)"),
        ({"recall": [0.45, 0.6], "kept": [0.1, 0.2]}, CANDIDATES),
        ({"threshold": 0.9}, ""),
    ],
)
def test_a_training_is_told_in_a_sentence(result: dict[str, Any], said: str) -> None:
    assert _training_note(result) == said


def test_a_run_of_a_release_with_fewer_keys_is_of_the_same_sweep() -> None:
    body = {
        "models": "smollm2-135m",
        "methods": [{"method": "dip", "density": 0.5}],
        "devices": [{"device": "apple-a18", "dram_gb": 0.075}],
    }
    sweep = spec.from_mapping({"sweeps": {"s": body}}).sweeps["s"]
    recorded = sweep.model_dump(mode="json")
    del recorded["methods"][0]["cache_shares"]
    MadeOf(Path("run"), "s", "", None, recorded).check_same(sweep)
    recorded["methods"][0]["density"] = [0.6]
    with pytest.raises(InputError, match="run with another methods than"):
        MadeOf(Path("run"), "s", "", None, recorded).check_same(sweep)
