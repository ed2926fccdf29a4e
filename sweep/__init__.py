"""Sweeps of sparsity methods, densities and caches: what is run, where, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def run(
    spec: str | Path | Mapping[str, Any],
    name: str,
    out: str | Path | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Run sweep `name` of a sweep file (a path, or a mapping of its shape); returns its table.

    `options` are the fields of `sweep.options.Options`: store, address, workers, retry_failed,
    fail_fast, report. Raises InputError or ResourceError for what cannot be run; tasks that fail
    are rows with status `failed`.
    """
    from rich.console import Console

    from sweep import api
    from sweep.options import Options
    from sweep.spec.file import from_mapping, load, select

    file = from_mapping(spec) if isinstance(spec, Mapping) else load(spec)
    folder = Path(out) if out is not None else Path("runs") / name
    if options.get("store") is not None:
        options["store"] = Path(options["store"])
    done = api.run(select(file, name), Options(out=folder, **options), Console(quiet=True))
    return done.table.to_pandas()


_FORMER_PLACES = {
    "gguf_header": "sweep.inputs.gguf_header",
    "models": "sweep.inputs.models",
    "weights": "sweep.inputs.model_sizes",
}
"""Modules that scripts took from here in release 0.1.0."""


def __getattr__(name: str) -> Any:
    if name not in _FORMER_PLACES:
        raise AttributeError(f"module 'sweep' has no attribute {name!r}")
    from importlib import import_module

    return import_module(_FORMER_PLACES[name])
