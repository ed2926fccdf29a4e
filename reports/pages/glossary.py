"""What each number means, one line each: printed at the foot of every report."""

from __future__ import annotations

TERMS: tuple[tuple[str, str], ...] = (
    (
        "tok/s",
        (
            "tokens per second, simulated by the memory model: bytes over bandwidth for each layer"
            " and weight group, both overlapped unless the timing says serial; no compute time."
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
            "95 % interval of ΔPPL from the paired differences of windows; few windows make it"
            " rough."
        ),
    ),
    (
        "Budget",
        (
            "the largest ΔPPL allowed, absolute (+0.2 PPL) or a share of the dense perplexity"
            " (+5 %), or the largest KL (KL ≤ 0.02 nat), which then stands in the place of ΔPPL."
        ),
    ),
    (
        "KL",
        (
            "how far the probabilities of the next token are from the dense model's: KL(dense ‖"
            " this model) in nats, mean over tokens; 0 is the same model, and it shows damage that"
            " benchmarks hide."
        ),
    ),
    ("Flips", "share of tokens whose most likely next token is another than the dense model's."),
    (
        "Best",
        (
            "the fastest measured point with ΔPPL within the budget, dense among them; what is not"
            " faster than dense is not chosen. Ties go to the lower ΔPPL, then to the simplest."
        ),
    ),
    (
        "Interpolated",
        (
            "tok/s at exactly the budget, on the straight line between the two neighbouring points"
            " of the same method's frontier; never beyond its ends."
        ),
    ),
    (
        "Fastest sure",
        "the fastest point whose whole ΔPPL interval lies within the budget; dense always does.",
    ),
    (
        "Certain",
        (
            "true with all other choices of the run together, at the level that is named; decided"
            " is a choice that is within and has no faster candidate that may be."
        ),
    ),
    (
        "Reads",
        (
            "units that a token misses, each counted as one read of Flash, and their mean size. A"
            " bandwidth is meant for reads of 64 KiB and more; smaller ones are slower than here."
        ),
    ),
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
        "Linear density",
        (
            "the same of attention and MLP together: where attention is pruned, this is how much of"
            " the model is left."
        ),
    ),
    (
        "First tokens dense",
        (
            "tokens at the start of each window that every method left alone, as protocols of some"
            " papers have it; such figures are better than those of whole windows."
        ),
    ),
    (
        "γ",
        (
            "how much a unit outside the cache counts when units are chosen; 1 ignores the cache,"
            " smaller prefers cached units."
        ),
    ),
    (
        "Policy",
        (
            "what the DRAM cache evicts first: lru the unit not used for longest, lfu the one used"
            " least often; static never changes, none caches nothing. window-5 also drops what 5"
            " tokens did not use, lfu-admit admits only what was used more, lfru weighs uses by"
            " age, slru protects what was used again, hot-set pins what most tokens of the"
            " calibration use. belady and min know the future and are bounds: belady admits every"
            " unit that is used, min may refuse. Where"
            " no unit fits in the cache there is none, and no policy."
        ),
    ),
    (
        "Unit",
        (
            "what is chosen, cached and read as one: an input column of W_up and W_gate (group"
            " input), a neuron's column of W_down (intermediate), or its row of W_up or W_gate."
        ),
    ),
    ("Hit rate", "used units that were in the DRAM cache before the token, over all used units."),
    (
        "Flash, DRAM per token",
        (
            "bytes read from each for one token, mean; 1 MB = 1e6 bytes. A unit that misses is read"
            " from Flash and, as all that is used, from DRAM; static weights that do not fit in"
            " DRAM are read from Flash alone."
        ),
    ),
    (
        "4 bit, no method of quantisation",
        (
            "the simulator counts weights of so many bits; perplexity is of the weights as they"
            " are. With rtn, gptq or gptvq the weights themselves are changed."
        ),
    ),
    (
        "Methods",
        (
            "glu prunes W_down by its inputs, glu-oracle all three matrices as if these were known;"
            " gate and up choose neurons by the gate's or the up projection's output, cats by the"
            " gate's with a threshold, dejavu by a trained predictor; dip prunes the inputs of W_up"
            " and W_gate and those of W_down, dip-ca the same with γ < 1; sparsegpt, wanda and"
            " magnitude remove weights once; +lora adds adapters trained with the pruning."
        ),
    ),
    (
        "The paper",
        (
            "Federici et al. 2025, Efficient LLM Inference using Dynamic Input Pruning and"
            " Cache-Aware Masking, arXiv 2412.01380."
        ),
    ),
)
