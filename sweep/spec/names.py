"""Names and kinds of value that several entries of the sweep file take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic_core import core_schema

import simulator
from methods.names import ACTIVATIONS
from methods.static import quantiser
from simulator import cache_shares
from simulator.device import TIMINGS
from simulator.geometry import Geometry
from simulator.policies import FAMILIES, policy_class
from sweep.messages import show
from sweep.spec import values as fields
from sweep.spec.values import Axis, Name, Number, Words

SELECTORS = ("topk", "layer-threshold", "global-threshold", "read-aware", "resident-threshold")
LAYOUTS = ("natural", "hot", "coactive")
MAPPINGS = ("allocation", "shares")
"""Parameters of methods that may be a mapping: a fit of one's own, {slope, intercept}."""
LAM = "lam"
"""Key of an entry: the price of a second of reads, unless it is a parameter of its methods."""
TEXTS = ("embedded-wiki", "embedded-c4", "wikitext2")
BUDGETS = ("0.1", "0.2", "0.5", "1%", "5%", "10%")


def _model_names() -> tuple[str, ...]:
    """Models that are built in: those whose sizes are known, and those whose hub id is."""
    from sweep.inputs.model_ref import HUB_IDS

    return tuple(sorted({*Geometry.names(), *HUB_IDS}))


def _policy_names() -> tuple[str, ...]:
    return tuple(simulator.POLICIES)


def _policy_reason(text: str) -> str:
    """Why text is no policy: it is not one of a family with its number either. Empty if it is."""
    try:
        policy_class(text)
    except simulator.SimulatorError:
        return "unknown policy"
    return ""


def _policy_pattern() -> str:
    return f"^({'|'.join(FAMILIES)})-[1-9][0-9]*$"


def _quant_names() -> tuple[str, ...]:
    return ("none", *quantiser.names())


def _dtypes() -> tuple[str, ...]:
    return ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class Budget:
    """Annotation: a number (+0.2 perplexity), text such as 5% (of the dense perplexity), or where
    `others` says so text such as kl=0.02, joule=0.4 or acc_mmlu=0.02."""

    others: bool = False

    _NUMBER: ClassVar = Number(at_least=0, at_most=1e6)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(self._check)

    def _check(self, value: Any) -> str:
        if isinstance(value, str) and "=" in value:
            return self._check_named(value)
        if not isinstance(value, str) or not value.strip().endswith("%"):
            return f"{self._NUMBER.check(value):.12g}"
        try:
            share = self._NUMBER.check(float(value.strip()[:-1]))
        except ValueError:
            expected = "a budget is a number, or a share written as 5%"
            raise fields.wrong(f"{show(value)} is given; {expected}") from None
        return f"{share:.12g}%"

    def _check_named(self, value: str) -> str:
        name, _, amount = value.partition("=")
        if not self.others:
            raise fields.wrong(f"{show(value)} is given; a budget here is one of perplexity")
        from reports.findings.budgets import named  # with pyarrow, which few files need

        of = named(name)
        try:
            if of:
                return f"{of}={self._NUMBER.check(float(amount)):.12g}"
        except ValueError:
            pass
        expected = "such a budget is written as kl=0.02, joule=0.4 or acc_TASK=0.02"
        if of == "kl":
            expected = "a budget of KL is written as kl=0.02"
        raise fields.wrong(f"{show(value)} is given; {expected}")

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        named = [r"^(kl|joule|acc_[A-Za-z0-9_.-]+)=[0-9.]+$"] if self.others else []
        of_text = [
            {"type": "string", "pattern": pattern} for pattern in [r"^[0-9]+(\.[0-9]+)?%$", *named]
        ]
        return {"anyOf": [{"type": "number", "minimum": 0}, *of_text]}


@dataclass(frozen=True, slots=True)
class CacheShare:
    """Annotation of one way to share a cache's bytes between groups: a word, a number that is the
    share of inputs, or a share by group. Whether a method has the groups is asked later."""

    _SHARE: ClassVar = Number(at_least=0, at_most=1)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> Any:
        """The word, number or mapping; raises PydanticCustomError in plain words."""
        if isinstance(value, str):
            return Name("way to share a cache", lambda: cache_shares.WORDS).check(value)
        if not isinstance(value, Mapping):
            return self._SHARE.check(value)
        if not value:
            raise fields.wrong("{} is given; a share for a group is expected, as {input: 0.3}")
        known = Name("group", lambda: simulator.GROUPS)
        return {known.check(group): self._SHARE.check(share) for group, share in value.items()}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        share = {"type": "number", "minimum": 0, "maximum": 1}
        names = {"propertyNames": {"enum": list(simulator.GROUPS)}, "minProperties": 1}
        mapping = {"type": "object", "additionalProperties": share, **names}
        return {"anyOf": [share, {"enum": list(cache_shares.WORDS)}, mapping]}


CacheShares = Annotated[tuple[Annotated[Any, CacheShare()], ...], Axis(ranges=True, mappings=True)]
LayoutName = Annotated[str, Name("layout", lambda: LAYOUTS)]
SelectorName = Annotated[str, Name("selector", lambda: SELECTORS)]
PolicyName = Annotated[str, Name("policy", _policy_names, _policy_reason, _policy_pattern)]
TimingName = Annotated[str, Name("timing", lambda: TIMINGS)]
ModelName = Annotated[str, Name("model", _model_names, fields.model_reason)]
TextName = Annotated[str, Name("text", lambda: TEXTS, fields.text_reason)]
Policies = Annotated[tuple[PolicyName, ...], Axis()]
Timings = Annotated[tuple[TimingName, ...], Axis()]
ModelNames = Annotated[tuple[Words, ...], Axis()]
DEFAULT_BITS = (4.0,)
"""Where the sweep file says nothing, and the model's files have none of their own."""
FILE_BITS = 0.0
"""Stands for the bits that the model's files have."""
Bits = Annotated[float, Number(above=0, at_most=32, words={"file": FILE_BITS})]
QuantName = Annotated[str, Name("quantisation", _quant_names)]
ActivationName = Annotated[str, Name("activation", lambda: ("none", *ACTIVATIONS))]
Budgets = Annotated[tuple[Annotated[str, Budget(others=True)], ...], Axis(or_none=True)]
Windows = Annotated[int | None, Number(at_least=1, at_most=1e9, whole=True, words={"all": None})]
Batch = Annotated[int | None, Number(at_least=1, at_most=1e4, whole=True, words={"auto": None})]
BosName = Annotated[str, Name("bos", lambda: ("each-window", "first-window", "none"))]
DtypeName = Annotated[str, Name("dtype", _dtypes)]
