"""Which selector the payload of a task describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods.base import GIVEN
from methods.select import Given
from methods.thresholds import SELECTORS as THRESHOLDS
from methods.thresholds import Quantiles, ThresholdSelect
from sweep.read_aware import ReadAwareSelector
from sweep.resident_selector import ResidentSelector
from sweep.selectors import CacheAwareSelector, Selector, ThresholdSelector, TopKSelector


def make_selector(payload: Mapping[str, Any], inputs: Mapping[str, Any]) -> Selector:
    """The selector that `selector` of a payload describes, with what other tasks handed over."""
    chunk = payload.get("chunk", 1)
    if payload["name"] == "topk":
        return TopKSelector(chunk)
    if payload["name"] == GIVEN:
        return ThresholdSelector(Given())
    if payload["name"] in THRESHOLDS:
        quantiles = Quantiles.of(inputs["calibration"])
        return ThresholdSelector(ThresholdSelect(quantiles, payload["name"]))
    start, scope, slots = inputs.get("start"), payload["scope"], payload["slots"]
    if payload["name"] == "resident-threshold":
        threshold = ThresholdSelect(Quantiles.of(inputs["calibration"]), "layer-threshold")
        return ResidentSelector(threshold, slots, payload["policy"], scope, start)
    if payload["name"] == "read-aware":
        reads, options = payload["reads"], {"order": inputs.get("order"), "chunk": chunk}
        return ReadAwareSelector(slots, payload["policy"], scope, start, reads, **options)
    options = {"chunk": chunk, "traced": payload.get("traced", False)}
    cache = (slots, payload["gamma"], payload["policy"], scope)
    return CacheAwareSelector(*cache, start, **options)
