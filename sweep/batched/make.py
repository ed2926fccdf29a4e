"""Which evaluations run in batches, and the selectors of those that do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from methods.base import GIVEN
from methods.select import Given
from methods.thresholds import SELECTORS as THRESHOLDS
from methods.thresholds import Quantiles, ThresholdSelect
from sweep.batched.selectors import POLICIES, BatchedCacheAware, BatchedThreshold, BatchedTopK

Batched = BatchedTopK | BatchedCacheAware | BatchedThreshold


def in_batches(payload: Mapping[str, Any]) -> bool:
    """Whether the evaluation has masks that a device makes, and no distances to the dense model."""
    selector = payload["selector"]
    if "distances" in payload or payload["method"] == "dense":
        return False
    if selector.get("name") == "cache-aware":
        return selector["policy"] in POLICIES
    return selector.get("name") in ("topk", GIVEN, *THRESHOLDS)


def make_batched(payload: Mapping[str, Any], inputs: Mapping[str, Any]) -> Batched:
    """The selector that `selector` of such a payload describes (`sweep.make_selector`)."""
    chunk = payload.get("chunk", 1)
    if payload["name"] == "topk":
        return BatchedTopK(chunk)
    if payload["name"] == GIVEN:
        return BatchedThreshold(Given())
    if payload["name"] in THRESHOLDS:
        quantiles = Quantiles.of(inputs["calibration"])
        return BatchedThreshold(ThresholdSelect(quantiles, payload["name"]))
    cache = (payload["slots"], payload["gamma"], payload["policy"], payload["scope"])
    options = {"chunk": chunk, "traced": payload.get("traced", False)}
    return BatchedCacheAware(*cache, inputs.get("start"), **options)
