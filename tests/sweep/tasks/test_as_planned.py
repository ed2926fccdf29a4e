"""A loaded model must be of the sizes that were planned with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import InputError
from sweep.inputs import model_sizes, models
from sweep.plan.sizes import planned_sizes
from sweep.tasks import as_planned


@pytest.fixture
def sizes(tiny_llama: Path) -> dict[str, Any]:
    return json.loads(planned_sizes(model_sizes.geometry(str(tiny_llama))))


def test_the_model_that_was_planned_passes(tiny_llama: Path, sizes: dict[str, Any]) -> None:
    as_planned.check(models.load(str(tiny_llama)), json.dumps(sizes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 9}, "has 3 layers, but was planned with 9 layers"),
        ({"intermediate": 7}, "units of an MLP, but was planned with 7 units of an MLP"),
        ({"hidden": 7}, "planned with 7 inputs of an MLP"),
        ({"tied_embeddings": True}, "has a head of its own, but was planned with one embedding"),
    ],
)
def test_another_model_is_refused_with_both_sizes(
    tiny_llama: Path, sizes: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    if "layers" in change:
        message = message.replace("3", str(sizes["layers"]))
    with pytest.raises(InputError, match=message):
        as_planned.check(models.load(str(tiny_llama)), json.dumps(sizes | change))


def test_of_a_model_without_gates_the_embeddings_are_compared(
    tiny_ungated: Path, sizes: dict[str, Any]
) -> None:
    model: Any = models.load(str(tiny_ungated))
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    as_planned.check(model, json.dumps(sizes | {"tied_embeddings": tied}))
    with pytest.raises(InputError):
        as_planned.check(model, json.dumps(sizes | {"tied_embeddings": not tied}))
