"""What training a method needs and gives; `sweep.tasks.train` runs it as a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from methods.apply import weights_replaced
from methods.base import Method
from methods.select import topk

if TYPE_CHECKING:
    from methods.apply import LayerSelect

Arrays = dict[str, NDArray[Any]]


class Checkpoint(Protocol):
    """Keeps the state of a training, so that one that was killed goes on where it was."""

    def load(self) -> Arrays | None:
        """What was saved last, whole; None if there is nothing, or nothing that can be trusted."""

    def save(self, arrays: Arrays) -> None: ...


class Unkept:
    """A checkpoint that keeps nothing."""

    def load(self) -> None:
        return None

    def save(self, arrays: Arrays) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a method is trained on: the same lesson gives the same arrays."""

    windows: NDArray[np.int64]
    """Token ids [windows, tokens] of the calibration text."""
    seed: int = 0
    select: LayerSelect = topk
    """The masks, where the method is active while it is trained."""
    checkpoint: Checkpoint = field(default_factory=Unkept)
    log: Callable[[str], None] = print

    def split(self, share: float = 0.1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Windows to learn from and, the last of the text, windows to validate on."""
        held = max(1, round(len(self.windows) * share))
        if len(self.windows) <= held:
            raise ValueError(
                f"the calibration text gives {len(self.windows)} windows; "
                "training needs 2 at least, one of them to validate on"
            )
        return self.windows[:-held], self.windows[-held:]


@contextmanager
def fitted(
    model: nn.Module, method: Method, arrays: Mapping[str, NDArray[Any]] | None
) -> Iterator[Method]:
    """The method as its training left it; weights that it trained are the model's until the end.

    Raises ValueError if the method must be trained and was not.
    """
    if not method.trained:
        yield method
    elif arrays is None:
        raise ValueError(f"{method.name} must be trained before it is used")
    else:
        device = str(next(model.parameters()).device)
        with weights_replaced(model, method.weights(model, arrays)):
            yield method.with_state(arrays, device)
