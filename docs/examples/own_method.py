"""A method of your own: DIP without its second half. own_plugins.yaml has a sweep with it.

`sweep check-method docs/examples/own_method.py` tries every rule that a method must keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import methods
from methods.base import Select, pruned
from methods.mlp import GatedMLP


@methods.register
@dataclass(frozen=True)
class InputOnly(methods.Method):
    """Columns of W_up and W_gate where abs(x) is small; W_down stays dense."""

    name: ClassVar[str] = "input-only"
    groups: ClassVar[tuple[str, ...]] = ("input",)

    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        density = self.group_densities()["input"]  # so that the MLP as a whole has self.density
        return mlp.down(mlp.glu(pruned(select, "input", x, density)))
