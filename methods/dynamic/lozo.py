"""DIP with adapters or norms that were tuned without gradients, at the memory of inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from methods.base import MethodError
from methods.dynamic.dip import DIP
from methods.dynamic.lora import Adapted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from methods.training import Lesson

_TUNES = ("adapters", "norms", "adapters+norms")
_VARIANTS = ("paper", "code")


@dataclass(frozen=True)
class DIPLozo(Adapted, DIP):
    """Dynamic Input Pruning with LoRA adapters, or norms, that LOZO tuned by forward passes alone
    (`methods.zeroth_order`)."""

    tunes: str = "adapters"
    """what zeroth-order steps tune: adapters, norms or adapters+norms"""
    perturbation: int | str = 2
    """rank of a step's direction in each matrix; full is MeZO's, of full rank"""
    keep: int = 50
    """steps for which the right factor of a direction is kept"""
    epsilon: float = 1e-2
    """how far both passes of a step lie from where it begins; masks jump as weights move, so this
    is more than the 1e-3 of the source"""
    momentum: float = 0.0
    """share of the last step's direction that the next one keeps (LOZO-M); 0 for none"""
    variant: str = "paper"
    """paper; or code, as it was released: not divided by the rank, and an unrelated direction where
    the right factor is drawn anew"""

    name: ClassVar[str] = "dip+lozo"
    adapts: ClassVar[tuple[str, ...]] = ("gate", "up", "down")
    calibrated_as: ClassVar[str] = "dip"

    @classmethod
    def reach(cls, parameters: Mapping[str, Any]) -> tuple[float, float]:
        _check_word(cls.name, parameters, "tunes", _TUNES)
        _check_word(cls.name, parameters, "variant", _VARIANTS)
        rank = parameters.get("perturbation", 2)
        if rank != "full" and not _is_count(rank):
            raise MethodError(
                f"perturbation {rank!r} of {cls.name}: a whole number above 0, or full, is expected"
            )
        if not _is_count(parameters.get("keep", 1)):
            raise MethodError(f"keep {parameters['keep']!r} of {cls.name}: 1 at least is expected")
        momentum, epsilon = parameters.get("momentum", 0.0), parameters.get("epsilon", 1e-2)
        if not isinstance(momentum, int | float) or not 0 <= momentum < 1:
            raise MethodError(f"momentum {momentum!r} of {cls.name}: 0 to below 1 is expected")
        if not isinstance(epsilon, int | float) or not 0 < epsilon <= 1:
            raise MethodError(f"epsilon {epsilon!r} of {cls.name}: above 0 and up to 1 is expected")
        return super().reach(parameters)

    def train(
        self, model: nn.Module, lesson: Lesson
    ) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        from methods.zeroth_order import recover

        return recover(model, self, lesson)

    def weights(
        self, model: nn.Module, arrays: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, Tensor]:
        import torch

        ends = (".A", ".B")
        norms = {n: torch.from_numpy(a) for n, a in arrays.items() if not n.endswith(ends)}
        return super().weights(model, arrays) | norms


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_word(
    method: str, parameters: Mapping[str, Any], name: str, known: tuple[str, ...]
) -> None:
    value = parameters.get(name, known[0])
    if value not in known:
        raise MethodError(f"unknown {name} {value!r} of {method} (known: {', '.join(known)})")
