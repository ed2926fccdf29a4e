"""What an allocation is asked for: its method and cache, its targets, and its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

import methods
from methods import MethodError, shares
from methods.registry import method_class, reachable
from methods.shared import Shared
from sweep.errors import InputError
from sweep.inputs import text_files
from sweep.plan.grid import expand
from sweep.plan.point import Point
from sweep.search.allocate.targets import Target
from sweep.spec.entries import MethodEntry, Sweep
from sweep.spec.studies import TUNING_TEXTS

LADDER = (0.8, 0.6, 0.4, 0.2)
"""Shares at which each group of each layer is measured, if no others are asked for."""
STEP = 0.1
"""How far around the first solution the second round measures."""

DIGITS = 4
"""Decimals of a share in a file."""


@dataclass(frozen=True, slots=True)
class Asked:
    """An allocation as the command line asks for it. Raises InputError for what makes no sense."""

    targets: tuple[Target, ...]
    method: str = "dip-shares"
    selector: str = "topk"
    gamma: float | None = None
    """Left out: 0.2 of top-k, 1 of another selector."""
    policy: str = "lfu"
    ladder: tuple[float, ...] = LADDER
    rounds: int = 1
    text: str | None = None
    windows: int | None = None

    def __post_init__(self) -> None:
        if not issubclass(self._class(), Shared):
            raise InputError(f"method {self.method} has no shares to allocate")
        if len(self.ladder) < 2 or not all(0 < rung < 1 for rung in self.ladder):
            raise InputError("--share: two shares between 0 and 1 are needed at least")
        if not self.targets:
            raise InputError("say what to meet: --density, --missed-mb or --kl")

    def _class(self) -> Any:
        try:
            return method_class(self.method)
        except MethodError as error:
            raise InputError(str(error)) from None

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups whose shares are found."""
        return methods.create(self.method, reachable(self.method)[1]).mlp_groups  # type: ignore[attr-defined]

    @property
    def rungs(self) -> tuple[float, ...]:
        """The ladder from the largest share to the smallest."""
        return tuple(sorted(set(self.ladder), reverse=True))

    def sweep(self, sweep: Sweep) -> Sweep:
        """The sweep whose points are measured: of the calibration text, with distances."""
        text = self.text or text_of_calibration(sweep)
        if text_files.fingerprint(text) == text_files.fingerprint(sweep.text):
            raise InputError(f"{text} is the text that is reported; allocate on another (--text)")
        gamma = (0.2 if self.selector == "topk" else 1.0) if self.gamma is None else self.gamma
        entry: dict[str, Any] = {"method": self.method, "density": 1.0, "gamma": gamma}
        entry |= {"selector": self.selector, "policies": (self.policy,)}
        try:
            entries = MethodEntry.model_validate(entry)
        except ValidationError as error:
            text = error.errors()[0]["msg"]
            raise InputError(f"--selector, --gamma, --policy: {text}") from None
        changed: dict[str, Any] = {
            "text": text,
            "calibration": _another(text, sweep),
            "methods": (entries,),
            "include": (),
            "exclude": (),
            "tasks": (),
            "distances": True,
        }
        if self.windows is not None:
            changed["windows"] = self.windows
        return sweep.model_copy(update=changed)

    def settings(self, measuring: Sweep) -> list[Point]:
        """The method with nothing pruned, once for each model, weights and DRAM: how fast Flash is
        changes no share."""
        settings: dict[Any, Point] = {}
        for point in expand(measuring).points:
            key = point.variant, point.quant, point.device.dram_gb, point.kv_tokens, point.chunk
            settings.setdefault(key, point)
        return list(settings.values())


def text_of_calibration(sweep: Sweep) -> str:
    """The name under which the calibration text of a sweep is evaluated."""
    validation = f"{sweep.calibration}-validation"
    return validation if validation in TUNING_TEXTS else sweep.calibration


def _another(text: str, sweep: Sweep) -> str:
    """A calibration text that is not the one that is measured on."""
    names = (sweep.calibration, "embedded-c4", "embedded-wiki")
    measured = text_files.fingerprint(text)
    return next(n for n in names if text_files.fingerprint(n, True) != measured)


def with_shares(point: Point, groups: Sequence[str], table: Iterable[Sequence[float]]) -> Point:
    """The point with these shares by layer, rounded, and the density that they make."""
    table = [*table]
    rows = _rounded(table)
    density = sum(shares.density_of(groups, row) for row in rows) / len(rows)
    written: Mapping[str, Any] = {**dict(point.parameters), "shares": text_of(table)}
    method = methods.create(point.method, round(density, DIGITS), **written)
    parameters = tuple(sorted(method.parameters().items()))
    return replace(point, density=method.density, parameters=parameters)


def text_of(table: Iterable[Sequence[float]]) -> str:
    """Shares by layer, rounded, as a sweep file writes them."""
    return "; ".join(" ".join(f"{share:g}" for share in row) for row in _rounded(table))


def _rounded(table: Iterable[Sequence[float]]) -> list[tuple[float, ...]]:
    return [tuple(round(float(share), DIGITS) for share in row) for row in table]
