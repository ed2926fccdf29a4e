"""What a method is: scores, the groups that they gate, and the density of each group."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from methods.density import group_density, reachable_density

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.attention import Attention
    from methods.mlp import GatedMLP
    from methods.training import Lesson

Select: TypeAlias = "Callable[[str, Tensor, float], Tensor]"
"""select(group, scores [..., units], share of the group) -> mask [..., units] of 0 and 1."""


GIVEN = "given"
"""The selector of methods that decide by themselves: a unit is used where its score is above 0."""


class MethodError(ValueError):
    """A method, parameter or density that does not exist; the message says what does."""


def pruned(select: Select, group: str, values: Tensor, share: float) -> Tensor:
    """`values` [..., units] with zeros where abs(values) is not selected: eq. 4 to 8 in one word.

    A selector that can do it in one pass, without a mask in between, has a function `pruned`.
    """
    in_one_pass = getattr(select, "pruned", None)
    if in_one_pass is not None:
        return in_one_pass(group, values, share)
    return values * select(group, values.abs(), share)


@dataclass(frozen=True)
class Method(ABC):
    """A dynamic sparsity method at one MLP density.

    A subclass names itself and the weight groups that it prunes, and writes `forward` as its
    equation. It calls `select` once for each group, in the order of `groups`, and knows neither
    which selector answers nor that caches exist. One with groups of attention, which come first,
    writes `attention_input` and `attention_output` too. One that no device can run, because it is
    told the future, says `oracle = True`: it is then shown as a bound and never chosen.
    """

    density: float = 1.0

    name: ClassVar[str]
    groups: ClassVar[tuple[str, ...]] = ()
    selector: ClassVar[str] = "topk"
    """The selector that is the method's own; a sweep may ask for another."""
    trained: ClassVar[Literal["", "once", "each density"]] = ""
    """Whether `train` comes before use: never, once for all densities, or for each of them."""
    oracle: ClassVar[bool] = False
    """Whether it is told the future, so that no device can run it."""
    rotates: ClassVar[bool] = False
    """Whether the weights that it is given by `weights` expect an input that it rotates."""
    reads_blocks: ClassVar[bool] = False
    """Whether it reads hidden states between decoder layers (`GatedMLP.passing`)."""
    calibrated_as: ClassVar[str] = ""
    """The method whose calibration this one shares; empty if it has its own."""

    def __post_init__(self) -> None:
        low, high = type(self).reach(self.parameters())
        inside = low < self.density <= high if low == 0 else low - 1e-9 <= self.density <= high
        if not inside:
            bound = f"above 0 and up to {high:g}" if low == 0 else f"{low:.4g} to {high:g}"
            raise MethodError(
                f"density {self.density!r} is out of reach of {self.name}: reachable is {bound}"
            )

    @classmethod
    def groups_with(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """The groups that it prunes with these parameters: the same ones, unless it says so."""
        return cls.groups

    @classmethod
    def selector_with(cls, parameters: Mapping[str, Any]) -> str:
        """The selector that is its own with these parameters."""
        return cls.selector

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        """Smallest (exclusive where it is 0) and largest MLP density of the method."""
        return reachable_density(cls.groups)

    def parameters(self) -> dict[str, Any]:
        """The method's own parameters, without the density."""
        return {name: getattr(self, name) for name in type(self).parameter_names()}

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Fields that a sweep may set; private ones, as trained state, are not among them."""
        names = (field.name for field in dataclasses.fields(cls))
        return tuple(name for name in names if name != "density" and name[0] != "_")

    def group_densities(self) -> dict[str, float]:
        """Density of each pruned group, so that the MLP as a whole has `density`."""
        (group,) = self.groups
        return {group: group_density(group, self.density)}

    def at(self, layer: int) -> Self:
        """The method as it is in one layer: itself, unless layers differ in density."""
        return self

    def announced_layers(self) -> int:
        """For how many later layers it announces a layer's masks, as those that they will use."""
        return 0

    @abstractmethod
    def forward(self, mlp: GatedMLP, x: Tensor, select: Select) -> Tensor:
        """The sparse MLP of eq. 3 for x [..., hidden]; returns [..., hidden]."""

    def attention_input(self, attention: Attention, x: Tensor, select: Select) -> Tensor:
        """What W_q, W_k and W_v of a layer get in the place of x [..., hidden]."""
        return x

    def attention_output(self, attention: Attention, x: Tensor, select: Select) -> Tensor:
        """What W_o of a layer gets in the place of x [..., heads * size of a head]."""
        return x

    # -- for methods that are trained before use ---------------------------------------------

    def overhead_weights(self, hidden: int, intermediate: int) -> int:
        """Weights beside those of the MLP that each token uses in each layer, as predictors are."""
        return 0

    def resident_numbers(self, hidden: int, intermediate: int, attention_width: int = 0) -> int:
        """Numbers of 16 bits beside the weights that each token uses in each layer, as norms."""
        return 0

    def model_weights(self, hidden: int, intermediate: int, layers: int) -> int:
        """Weights beside those of the model that each token uses once, as one predictor for all
        layers."""
        return 0

    def training_windows(self, window_tokens: int) -> int:
        """Windows of the calibration text that `train` can use."""
        return 0

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """What training found out, as JSON, and the arrays it made; the model is left as it was."""
        raise NotImplementedError(f"{self.name} is not trained")

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        """This method with what `train` made, on a torch device."""
        return self

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        """Weights of the model, by name, in the place of which `train` has put others."""
        return {}
