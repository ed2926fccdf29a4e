"""Methods whose groups and layers may have shares of their own, given or calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from methods import shares
from methods.base import Method, MethodError
from methods.density import ATTENTION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from methods.training import Arrays, Lesson


@dataclass(frozen=True)
class Shared(Method):
    """A method with a share for each of its groups in each layer; their mean is `density`.

    What calibration finds is good for every density, so it is found once; trials (`tpe`) are of one
    density.
    """

    shares: str = shares.UNIFORM
    """how the density is split over groups and layers: uniform; greedy, in each layer by the error
    of its output; sensitivity, over layers by the loss that each causes; sensitivity+greedy; tpe,
    over layers by trials and greedy inside; or shares of your own, as {group: share or a list by
    layer}, or in a JSON file"""
    trials: int = 50
    """trials of shares: tpe, each of which is one loss of the whole model"""
    _table: shares.Table = ()

    trained: ClassVar[Literal["", "once", "each density"]] = "once"
    """Of the class, whether it can be; of a method, whether it has anything to learn."""
    own_shares: ClassVar[tuple[str, ...]] = ()
    """Names of shares that the method alone knows; what `learn` makes says what they are."""
    not_scoring: ClassVar[tuple[str, ...]] = ()
    """Parameters of the method that decide how much is kept, and change no score."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = (*shares.NAMES, *self.own_shares)
        text = shares.canonical(self.shares, self.mlp_groups, self.density, names)
        object.__setattr__(self, "shares", text)
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise MethodError(f"trials {self.trials!r} of {self.name}: a whole number is expected")
        often = "each density" if self.shares == shares.TPE else "once"
        object.__setattr__(self, "trained", often if self.learns() else "")

    @classmethod
    def rotates_with(cls, parameters: Mapping[str, Any]) -> bool:
        """Whether it puts rotated weights in the model's place with these parameters."""
        return cls.rotates

    @property
    def mlp_groups(self) -> tuple[str, ...]:
        """Its groups that are the MLP's, over which `shares` split the density."""
        return tuple(group for group in self.groups if group not in ATTENTION)

    def learns(self) -> bool:
        """Whether calibration comes before use."""
        return self._found_by_calibration()

    def _found_by_calibration(self) -> bool:
        return self.shares in (*shares.CALIBRATED, *self.own_shares)

    def table(self) -> shares.Table:
        """Shares by layer, or one row for all layers."""
        given = self._table or shares.parse(self.shares)
        return given or (shares.uniform(self.mlp_groups, self.density),)

    def group_densities(self) -> dict[str, float]:
        """Of one layer; of the method as a whole, means over its layers."""
        table = self.table()
        means = (sum(column) / len(table) for column in zip(*table, strict=True))
        return dict(zip(self.mlp_groups, means, strict=True))

    def at(self, layer: int) -> Self:
        if self._found_by_calibration() and not self._table:
            raise MethodError(f"{self.name} has no {self.shares} shares yet: calibrate it first")
        table = self.table()
        if len(table) == 1:
            return self.with_shares(table[0])
        if layer >= len(table):
            raise MethodError(f"shares of {len(table)} layers are given; layer {layer} has none")
        return self.with_shares(table[layer])

    def with_shares(self, row: tuple[float, ...]) -> Self:
        """The method with these shares of its groups in every layer."""
        return replace(self, _table=(row,))

    # -- calibration -------------------------------------------------------------------------

    def training_parameters(self) -> dict[str, Any]:
        """Parameters that what it learns depends on: shares count where they are learnt."""
        parameters = self.parameters()
        if not self._found_by_calibration():
            parameters["shares"] = shares.UNIFORM
        if self.shares != shares.TPE:
            del parameters["trials"]
        return parameters

    def training_windows(self, window_tokens: int) -> int:
        from methods.share_search import TOKENS

        return max(2, -(-TOKENS // window_tokens))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        from methods import block_search, share_search

        if self.shares == shares.TPE:
            return block_search.train(model, self, lesson)
        own, wanted = self.learn(model, lesson), self.shares
        if wanted not in shares.CALIBRATED:
            return self.summary(own), own
        ready = self.with_learnt(own, model)
        found, arrays = share_search.train(model, ready, lesson, own, wanted)
        return self.summary(own) | found, arrays

    def learn(self, model: nn.Module, lesson: Lesson) -> Arrays:
        """What the method needs beside shares; nothing unless a method says otherwise."""
        return {}

    def summary(self, learnt: Arrays) -> dict[str, Any]:
        """What `learn` found out, as JSON."""
        return {}

    def with_learnt(self, arrays: Mapping[str, NDArray[np.generic]], model: nn.Module) -> Self:
        """This method with what `learn` made."""
        device = str(next(model.parameters()).device)
        return replace(self, shares=shares.UNIFORM).with_state(arrays, device)

    def with_state(self, arrays: Mapping[str, NDArray[np.generic]], device: str) -> Self:
        if self.shares not in shares.CALIBRATED:
            return self
        from methods.share_search import table

        return replace(self, _table=table(self.shares, self.mlp_groups, self.density, arrays))


def scoring_parameters(cls: type[Method]) -> frozenset[str]:
    """Parameters of a method that can change its scores with nothing pruned, and so its
    calibration: none that only splits the density over layers and groups."""
    split = {"shares", "trials", *cls.not_scoring} if issubclass(cls, Shared) else set[str]()
    return frozenset(cls.parameter_names()) - split - {"layers"}


def training_parameters(method: Method) -> dict[str, Any]:
    """Parameters of a method that its training depends on."""
    return method.training_parameters() if isinstance(method, Shared) else method.parameters()


def asks_trials(method: Method) -> bool:
    """Whether the training of a method needs a study that it asks for trials."""
    return isinstance(method, Shared) and method.shares == shares.TPE
