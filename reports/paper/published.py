"""The values printed in the paper's tables (Federici et al. 2025, arXiv 2412.01380) as data."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

MODELS = {
    "phi-3-medium": "Phi3Med",
    "phi-3-mini": "Phi3Mini",
    "llama-3-8b": "Llama8B",
    "mistral-7b": "Mistral7B",
}
"""The paper's models by our name, in its order."""

METHODS = {
    "dense": "Dense",
    "glu-oracle": "GLU Pruning (oracle)",
    "sparsegpt unstructured": "SparseGPT (unstructured)",
    "sparsegpt 2:4": "SparseGPT (2:4)",
    "sparsegpt 4:8": "SparseGPT (4:8)",
    "gate": "Gate Pruning",
    "glu": "GLU Pruning",
    "up": "Up Pruning",
    "dejavu": "DejaVu",
    "cats": "CATS",
    "cats+lora": "CATS+LoRA",
    "dip": "DIP",
    "dip+lora": "DIP+LoRA",
    "dip-ca": "DIP-CA",
}
"""The paper's rows by our name of the method, with the pattern where it has one."""


@dataclass(frozen=True, slots=True)
class Published:
    """One printed value. `budget` is the increase of perplexity at which a speed is read; what does
    not apply is None. `bound` is `>` where the paper prints only that it is above `value`."""

    exhibit: str
    model: str
    method: str
    metric: str
    density: float | None
    budget: float | None
    dram_gb: float | None
    flash_gbps: float | None
    value: float
    text: str
    bound: str


@cache
def published() -> tuple[Published, ...]:
    """Every value of Tables 1 to 7, in their order."""
    lines = (files("reports") / "paper" / "published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(_published(row) for row in csv.DictReader(lines))


def _published(row: dict[str, str]) -> Published:
    numbers = ("density", "budget", "dram_gb", "flash_gbps")
    return Published(
        exhibit=row["exhibit"],
        model=row["model"],
        method=f"{row['method']} {row['pattern']}".strip(),
        metric=row["metric"],
        value=float(row["value"]),
        text=row["bound"] + row["value"],
        bound=row["bound"],
        **{name: float(row[name]) if row[name] else None for name in numbers},
    )


def printed(exhibit: str) -> dict[tuple[str, str, str, float | None, float | None], Published]:
    """The values of a table by (model, method, metric, budget, DRAM or Flash that varies)."""
    varied = "flash_gbps" if exhibit == "table7" else "dram_gb"
    values = (p for p in published() if p.exhibit == exhibit)
    return {(p.model, p.method, p.metric, p.budget, getattr(p, varied)): p for p in values}
