"""Methods that prune attention as they prune the MLP: columns of W_q, W_k, W_v, and of W_o."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from methods import shares
from methods.base import MethodError
from methods.density import ATTENTION
from methods.shared import Shared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.attention import Attention
    from methods.base import Select
    from methods.training import Arrays, Lesson

NONE, SAME = "none", "same"


@dataclass(frozen=True)
class Attending(Shared):
    """A method with two more groups, if `attention` asks for them; `density` stays the MLP's.

    All that is split by `shares` is split in attention too: by layer, and over its two groups.
    """

    attention: float | str = NONE
    """share of the weights of attention that a token uses: none leaves attention dense, same is the
    MLP's density, or a number"""
    _attention_table: shares.Table = ()
    """By layer, the shares of both groups; one row is for all layers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", _canonical(self.attention, self.name))
        object.__setattr__(self, "groups", type(self).groups_with({"attention": self.attention}))
        super().__post_init__()

    @classmethod
    def groups_with(cls, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        dense = parameters.get("attention", NONE) == NONE
        return cls.groups if dense else (*ATTENTION, *cls.groups)

    def attention_share(self) -> float:
        """Share of the weights of attention that a token uses, the mean over layers."""
        if isinstance(self.attention, str):
            return self.density if self.attention == SAME else 1.0
        return self.attention

    def group_densities(self) -> dict[str, float]:
        mlp = super().group_densities()
        if self.attention == NONE:
            return mlp
        share = self.attention_share()
        table = self._attention_table or ((share, share),)
        means = (sum(column) / len(table) for column in zip(*table, strict=True))
        return dict(zip(ATTENTION, means, strict=True)) | mlp

    def at(self, layer: int) -> Self:
        table = self._attention_table
        here = replace(self, _attention_table=(table[layer],)) if len(table) > 1 else self
        return super(Attending, here).at(layer)

    def with_attention(self, row: tuple[float, ...]) -> Self:
        """The method with these shares of the groups of attention in every layer."""
        return replace(self, _attention_table=(row,))

    # -- scores ------------------------------------------------------------------------------

    def attention_input(self, attention: Attention, x: Tensor, select: Select) -> Tensor:
        if self.attention == NONE:
            return x
        return self.pruned_attention(attention, "attn-input", x, select)

    def attention_output(self, attention: Attention, x: Tensor, select: Select) -> Tensor:
        if self.attention == NONE:
            return x
        return self.pruned_attention(attention, "attn-output", x, select)

    @abstractmethod
    def pruned_attention(
        self, attention: Attention, group: str, x: Tensor, select: Select
    ) -> Tensor:
        """x [..., units of the group] with zeros where a unit is left out."""

    # -- calibration -------------------------------------------------------------------------

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        if self.attention == NONE or self.shares == shares.TPE:
            return super().train(model, lesson)
        summary, arrays = replace(self, attention=NONE).train(model, lesson)
        if self.shares not in shares.CALIBRATED:
            return summary, arrays
        from methods import attention_search

        ready = self.with_learnt(self._own(arrays), model)
        found, arrays = attention_search.train(model, ready, lesson, arrays, self.shares)
        return summary | found, arrays

    def _own(self, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
        """What the method itself has learnt, without what was found of shares."""
        return {name: array for name, array in arrays.items() if not name.startswith("shares.")}

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        ready = super().with_state(arrays, device)
        if self.attention == NONE or self.shares not in shares.CALIBRATED:
            return ready
        from methods import attention_search

        table = attention_search.table(self.shares, self.attention_share(), arrays)
        return replace(ready, _attention_table=table)


def _canonical(attention: Any, name: str) -> float | str:
    """`none`, `same`, or a share above 0 and at most 1."""
    if attention in (NONE, SAME):
        return attention
    number = isinstance(attention, int | float) and not isinstance(attention, bool)
    if not number or not 0 < attention <= 1:
        raise MethodError(
            f"attention {attention!r} of {name}: none, same, or a share above 0 and up to 1 is "
            "expected"
        )
    return float(attention)
