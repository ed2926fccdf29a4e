"""Which weights of a gated MLP a token uses: one method a file, all over one view of the MLP.

`create`, `names` and `reachable` need no torch; `applied`, `gated_mlps` and `topk` import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from methods.base import Method, MethodError
from methods.density import MLP_SHARE, kept_units, mlp_density
from methods.registry import create, names, parameter_names, reachable, register, summary

if TYPE_CHECKING:
    from methods.apply import applied as applied
    from methods.apply import weights_replaced as weights_replaced
    from methods.mlp import GatedMLP as GatedMLP
    from methods.mlp import gated_mlps as gated_mlps
    from methods.select import topk as topk

_NEEDS_TORCH = {
    "applied": "methods.apply",
    "weights_replaced": "methods.apply",
    "GatedMLP": "methods.mlp",
    "UnsupportedModelError": "methods.mlp",
    "gated_mlps": "methods.mlp",
    "topk": "methods.select",
    "topk_mask": "methods.select",
}

__all__ = [
    "MLP_SHARE",
    "Method",
    "MethodError",
    "create",
    "kept_units",
    "mlp_density",
    "names",
    "parameter_names",
    "reachable",
    "register",
    "summary",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'methods' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_NEEDS_TORCH[name]), name)
