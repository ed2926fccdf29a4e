"""The method entry of a trial: what a study fixes, and over it what was chosen for the trial.

A trial leaves out what its method or its selector does not have, so that one search goes over
methods with different parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from methods import allocation
from methods.layers import spread
from methods.registry import method_class, parameter_names
from methods.share_tables import density_of
from simulator.cache_shares import INPUTS
from sweep.search.allocate import curve_files
from sweep.spec.entries import ALIASES
from sweep.spec.spaces import CACHE_SHARES, CHUNK, LAM, Choices, Space, is_layer

Parameters = Mapping[str, Any]

GROUPS = ("input", "intermediate")
"""Densities of dip's two groups, which make a density and an allocation (appendix B.1)."""
_LOGITS = "logits of layers"


def entry_of(
    fixed: Mapping[str, Any],
    parameters: Parameters,
    search: Mapping[str, Space],
    quant: Mapping[str, Any],
) -> dict[str, Any]:
    """An entry like those of `methods` of a sweep. `quant` is what searched names and bits are put
    over. Raises InputError for a file of shares that cannot be used."""
    entry = _of_its_method({**fixed, **split(parameters)}, search)
    entry = _quantised(_with_shares(_of_its_selector(entry, search)), search, quant)
    logits = entry.pop(_LOGITS, None)
    if logits:
        density = entry["density"]
        entry["layers"] = spread(logits, density[0] if isinstance(density, tuple) else density)
    policy = entry.pop("policy", None)
    return entry | {"policies": (policy,)} if policy else entry


def _of_its_method(entry: Mapping[str, Any], search: Mapping[str, Space]) -> dict[str, Any]:
    """An entry without what is searched for other methods alone; a chunk as a whole number. Where
    methods are searched, a cache is shared only by those with inputs."""
    kept = dict(entry)
    methods_ = search.get("method")
    if isinstance(methods_, Choices):
        own = _parameters(str(kept["method"]))
        others = {name for other in methods_.values for name in _parameters(str(other))} - own
        kept = {key: value for key, value in kept.items() if key not in others or key not in search}
        if CACHE_SHARES in search and not _has_inputs(str(kept["method"])):
            del kept[CACHE_SHARES]
    return kept | ({CHUNK: int(kept[CHUNK])} if CHUNK in search else {})


def _has_inputs(method: str) -> bool:
    """Whether a number can share the method's cache between inputs and other groups."""
    return any(group in INPUTS for group in method_class(registered(method)).groups)


def _parameters(method: str) -> frozenset[str]:
    """A method's own parameters, that of an alias too."""
    return frozenset(parameter_names(registered(method)))


def registered(method: str) -> str:
    """The method that a name of a sweep file stands for."""
    return ALIASES.get(method, (method, 1.0))[0]


def _of_its_selector(entry: Mapping[str, Any], search: Mapping[str, Space]) -> dict[str, Any]:
    """An entry without what is for other selectors alone, where selectors are searched."""
    if "selector" not in search:
        return dict(entry)
    selector = str(entry["selector"])
    others = {"density" if LAM in entry else ""} if selector == "read-aware" else {LAM}
    if selector != "topk":
        others.add("gamma")
    if selector.endswith("-threshold"):
        others.add(CHUNK)
    return {key: value for key, value in entry.items() if key not in others}


def _with_shares(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose shares, where they are a table, say the density; curves of sensitivities
    become the table for its density."""
    given, method = entry.get("shares"), str(_one(entry["method"]))
    if not isinstance(given, str):
        return dict(entry)
    groups = tuple(method_class(registered(method)).groups)
    if curve_files.is_curves(given):
        given = curve_files.shares_at(given, groups, float(_one(entry["density"])))
    elif density_of(given, groups) is None:
        return dict(entry)
    return {k: v for k, v in entry.items() if k != "density"} | {"shares": given}


def _quantised(
    entry: Mapping[str, Any], search: Mapping[str, Space], quant: Mapping[str, Any]
) -> dict[str, Any]:
    """An entry with the quantisation that is searched, if one is."""
    kept, chosen = dict(entry), dict[str, Any]()
    if "quant" in search:
        chosen["method"] = (kept.pop("quant"),)
    if "bits" in search:
        chosen["bits"] = (kept.pop("bits"),)
    return kept | ({"quant": ({**quant, **chosen},)} if chosen else {})


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def split(parameters: Parameters) -> dict[str, Any]:
    """Densities of dip's two groups as a density and an allocation; other parameters as they are.

    D = (2 d_in + d_mid)/3, and the allocation is the line of slope 1 through logit D and
    logit d_in. Logits of layers become densities whose mean is D.
    """
    rest = dict(parameters)
    logits = [rest.pop(key) for key in list(rest) if is_layer(key)]
    if any(logits):
        return split(rest) | {_LOGITS: tuple(logits)}
    if not all(key in rest for key in GROUPS):
        return rest
    d_in, d_mid = (rest.pop(key) for key in GROUPS)
    density = (2 * d_in + d_mid) / 3
    line = allocation.Allocation(1.0, _logit(d_in) - _logit(density))
    return rest | {"density": density, "allocation": str(line)}


def _logit(share: float) -> float:
    return math.log(share / (1 - share))
