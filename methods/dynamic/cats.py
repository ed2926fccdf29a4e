"""CATS: contextually aware thresholding (Lee et al. 2024; paper, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from methods.dynamic.gate import Gate


@dataclass(frozen=True)
class CATS(Gate):
    """Gate pruning with a threshold: units whose abs(act(W_gate x)) is below that of their layer.

    The threshold is the quantile of the layer's scores on the calibration text at which the mean
    over tokens is the density asked for; what a text really uses varies and is reported.
    """

    name: ClassVar[str] = "cats"
    selector: ClassVar[str] = "layer-threshold"
