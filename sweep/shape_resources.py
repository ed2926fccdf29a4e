"""`resources:` of the sweep file: what each kind of task asks for."""

from __future__ import annotations

from typing import Annotated

from pydantic import field_validator

from sweep import fields
from sweep.fields import Number
from sweep.part import Part


class EvaluateResources(Part):
    """What an accuracy task asks for; `cpu` is also its number of threads."""

    gpu: Annotated[float | None, Number(at_least=0, at_most=16, words={"auto": None})] = None
    """GPUs, possibly a fraction; None (`auto`) is one where there is one, else none."""
    cpu: Annotated[int, Number(at_least=1, at_most=4096, whole=True)] = 1

    @field_validator("gpu")
    @classmethod
    def _share_or_whole(cls, value: float | None) -> float | None:
        if value and value > 1 and value != int(value):
            raise fields.wrong(f"{value:g} is given; a fraction is of one GPU: up to 1, or whole")
        return value


class SimulateResources(Part):
    """What a simulation task asks for."""

    cpu: Annotated[float, Number(above=0, at_most=4096)] = 1.0


class Resources(Part):
    """Needs of each kind of task."""

    evaluate: EvaluateResources = EvaluateResources()
    simulate: SimulateResources = SimulateResources()
