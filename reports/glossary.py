"""What each number means, one line each: printed at the foot of every report."""

from __future__ import annotations

TERMS: tuple[tuple[str, str], ...] = (
    (
        "tok/s",
        (
            "tokens per second from the memory model: bytes over bandwidth for each layer and"
            " weight group, both overlapped unless the timing says serial; no compute time."
        ),
    ),
    ("Gain", "tok/s over that of the dense model on the same device."),
    (
        "ΔPPL",
        (
            "perplexity less that of the dense model with the same weights on the same windows;"
            " lower is better."
        ),
    ),
    (
        "Interval",
        (
            "95 % interval of ΔPPL by paired bootstrap over evaluation windows; few windows make it"
            " rough."
        ),
    ),
    (
        "Budget",
        "the largest ΔPPL allowed: absolute (+0.2 PPL) or a share of the dense perplexity (+5 %).",
    ),
    (
        "Best",
        "the fastest measured point with ΔPPL within the budget; ties go to the lower ΔPPL.",
    ),
    (
        "Interpolated",
        (
            "tok/s at exactly the budget, on the straight line between the two neighbouring points"
            " of the same method's frontier; never beyond its ends."
        ),
    ),
    ("Conservative", "the fastest point whose whole ΔPPL interval lies within the budget."),
    ("Runner-up", "the fastest qualifying point of any other method."),
    (
        "Bound",
        (
            "a point no device can run, because its cache policy or mask looks ahead; shown for"
            " scale, never chosen."
        ),
    ),
    ("Frontier", "the points for which no other is at least as fast and at least as accurate."),
    (
        "Density",
        (
            "weights of the MLP that a token uses over all weights of the MLP, mean over layers and"
            " tokens."
        ),
    ),
    (
        "γ",
        (
            "how much a unit outside the cache counts when units are chosen; 1 ignores the cache,"
            " smaller prefers cached units."
        ),
    ),
    ("Policy", "what the DRAM cache evicts first; belady and min know the future."),
    ("Hit rate", "used units that were in the DRAM cache before the token, over all used units."),
    ("Flash, DRAM per token", "bytes read from each for one token, mean; 1 MB = 1e6 bytes."),
)
