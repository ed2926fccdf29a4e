"""Selection on a GPU: equal to that of the CPU, and what it adds to an evaluation.

python -m benchmarks gpu            within 10 minutes on one card
python -m benchmarks gpu --quick    within one
"""

from __future__ import annotations

import sys
import time

from benchmarks.gpu_tools import Page
from benchmarks.results import machine

NO_GPU = (
    "There is no GPU on this machine that torch can use: nothing was measured, and what RESULTS "
    "says of GPUs stays."
)


def report() -> str:
    """All parts as Markdown, nothing where there is no GPU; a part that fails is told, and the
    others run."""
    import torch

    quick = "--quick" in sys.argv
    if not torch.cuda.is_available():
        print(NO_GPU)
        return ""
    from benchmarks.gpu_compile import warm
    from benchmarks.gpu_kernels import adversarial, jobs, speeds
    from benchmarks.gpu_models import models

    page, began = Page(), time.perf_counter()
    page.say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {machine()}")
    page.attempt("versions", _versions, page)
    page.attempt("matrix product", _product, page)
    page.attempt("compile", warm, page, jobs(quick))
    parts = (adversarial, speeds, models)
    for part in [p for p in parts if not _only() or p.__name__ in _only()]:
        page.attempt(part.__name__, part, page, "cuda", quick)
    page.say(
        f"{page.differences} differences, {len(page.failures)} parts failed {page.failures}, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return "\n".join(["## GPU", "", "```", *page.lines, "```"])


def _only() -> list[str]:
    return [a.partition("=")[2] for a in sys.argv if a.startswith("--only=")]


def _versions(page: Page) -> None:
    import numba
    import transformers
    import triton

    known = (triton, numba, transformers)
    page.say(", ".join(f"{module.__name__} {module.__version__}" for module in known))


def _product(page: Page) -> None:
    import torch

    from benchmarks.gpu_tools import seconds_of

    square = torch.randn((8192, 8192), device="cuda", dtype=torch.bfloat16)
    seconds = seconds_of(lambda: square @ square)
    page.say(f"matrix product 8192^3 bfloat16: {2 * 8192**3 / seconds / 1e12:.0f} TFLOP/s")
