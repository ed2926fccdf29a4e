"""LoSA: pruning in rounds, with low-rank adapters under the mask (Huang et al. 2025, arXiv
2502.14816)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.static.allotted import MOST_RANK, RELEASED_RANK, ranks
from methods.static.learnt import LearntPruning, check_amount, check_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from methods.training import Lesson

LAST = 6
"""How many times the steps of another round the last one has: 6,000 samples after 1,000 each."""
_COUNTS = ("rounds", "rank", "steps", "batch")


@dataclass(frozen=True)
class LoSA(LearntPruning):
    """The MLPs are pruned in rounds; in each, adapters BA learn under the mask and are merged.

    Round t of T, for the sparsity s = 1 - density:

        s_t   = s (1 - (1 - t/T)^3)
        rho_l = sum over j != l of CKA(X_l, X_j), with the sum 1 over layers; X_l: inputs of layer l
        s_l   : least sum of s_l exp(-rho_l) with the mean s_t and abs(s_l - s_t) <= delta(s_t)
        M_l   : of each row of W, the largest abs(W_ij) ||x_j||, a share of 1 - s_l of them (Wanda)
        r_l   : in proportion to the error of layer l's output, with the mean `rank` + t - 1
        W    <- (W + 2 B A) * M, trained

    so no bytes are added. The loss is KL(dense || sparse) of the logits on the calibration text, in
    place of a text of instructions: Adam, a linear warm-up over 0.3 of a round and a linear decay,
    gradients of at most the norm 0.3, no dropout. All windows of `calibration_windows` give the CKA
    and the norms.

    Where the source leaves something open: ranks are at most 16, and adapters have what is allotted
    to them; a round starts with W merged and adapters anew. `code` is as released: adapters have
    rank 8, of which r_l rows are used, and go on from round to round; what rounding leaves of ranks
    is handed out once to each layer at most.
    """

    calibration_windows: int = 16
    """Windows of the calibration text that statistics are taken from, if there are as many."""
    rounds: int = 5
    """rounds of pruning and training"""
    rank: int = 6
    """mean rank of the adapters of the first round; each round adds 1"""
    steps: int = 20
    """steps of a round; the last has six times as many"""
    batch: int = 1
    """windows of a step"""
    learning_rate: float = 2e-4
    """highest learning rate of a round"""

    name: ClassVar[str] = "losa"
    updates: ClassVar[bool] = True

    @classmethod
    def parameter_names(cls) -> tuple[str, ...]:
        """Without `pattern`: layers of different sparsity have no n:m."""
        return tuple(name for name in super().parameter_names() if name != "pattern")

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        for name in _COUNTS:
            check_count(cls.name, name, parameters.get(name, 1))
        check_amount(cls.name, "learning_rate", parameters.get("learning_rate", 0))
        return super().reach(parameters)

    def training_windows(self, window_tokens: int) -> int:
        """All that the steps can use, and a tenth as many to validate on."""
        used = max(self.calibration_windows, self.batch * self.steps * (self.rounds - 1 + LAST))
        return max(3, -(-used * 10 // 9))

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        from methods.static.losa_rounds import train

        return train(self, model, lesson)

    def sparsity(self, t: int) -> float:
        """s_t, for t from 1 on."""
        return (1 - self.density) * (1 - (1 - t / self.rounds) ** 3)

    def steps_of(self, t: int) -> int:
        """Steps of round t."""
        return self.steps * (LAST if t == self.rounds else 1)

    def ranks(self, errors: Sequence[float], t: int) -> list[int]:
        """r_l, from the errors of the layers' outputs in round t."""
        allotted = ranks(errors, self.rank + t - 1, once=self.variant == "code")
        most = RELEASED_RANK if self.variant == "code" else MOST_RANK
        return [min(rank, most) for rank in allotted]
