"""Papers of other methods whose values stand in `field.csv`: where, and under which protocol."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where values come from, and how they were measured."""

    title: str
    where: str
    mark: str
    """`verified`: read in the source; `abstract`: in its abstract, README or notes of it."""
    protocol: str
    dense_part: float = 0.0
    """Of a window's tokens, from the first on, the part that is left dense."""
    scope: str = "model"
    """What the sparsity is of: `model`, all linear layers of the decoder, or the `mlp`; `static`,
    all of them in the source and the MLPs here; `ppl`, by what the perplexity may grow."""
    ours: bool = False
    """Whether the protocol is that of this tool, so that a difference says something."""


SOURCES = {
    "was": Origin(
        "WAS, Table 1",
        "EMNLP 2025",
        "verified",
        "WikiText-2; which tokens are sparse is not said, here all are; the dense value of"
        " Mistral-7B is misprinted there and left out",
        ours=True,
    ),
    "wina": Origin(
        "WINA, tables of accuracy",
        "arXiv 2505.19427",
        "verified",
        "the last 99 % of the tokens of a prompt are sparse; MMLU and GSM8K are of its first"
        " version",
        dense_part=0.01,
    ),
    "active-flow": Origin(
        "ActiveFlow, tables of Llama-3-8B in fp16",
        "arXiv 2504.08378v2",
        "verified",
        "perplexity is lm-eval's of WikiText-2, over whole documents; distilled rows are of a"
        " self-distillation that is not among the methods here",
    ),
    "active-flow-4bit": Origin(
        "ActiveFlow, tables of Llama-3-8B in 4 bits",
        "arXiv 2504.08378v2",
        "verified",
        "as in fp16, on weights that were quantised before, which the perplexities here are not of",
    ),
    "sparsing-law": Origin(
        "Sparsing Law, PPL-p %",
        "arXiv 2411.02335",
        "verified",
        "rows say by how many per cent perplexity may grow; ratios are read off its figures, the"
        " least and the most of its models; tasks are points lost against the dense model",
        scope="ppl",
    ),
    "dsnot": Origin(
        "DSnoT",
        "arXiv 2310.08915",
        "abstract",
        "WikiText-2, masks that begin as Wanda's",
        scope="static",
    ),
    "losa": Origin(
        "LoSA",
        "arXiv 2502.14816",
        "abstract",
        "WikiText-2 in windows of 4,096 tokens, masks by Wanda",
        scope="static",
    ),
    "dfloat11": Origin(
        "DFloat11",
        "arXiv 2504.11651",
        "abstract",
        "bytes of all weights in its code over those of bfloat16",
        scope="mlp",
        ours=True,
    ),
    "turbosparse": Origin(
        "TurboSparse, Table 3",
        "TurboSparse, models of 300M parameters",
        "verified",
        "WikiText-2 after 5 billion tokens of training; the largest abs(z) of each token are kept",
        scope="mlp",
    ),
    "la-rosa": Origin(
        "La RoSA",
        "arXiv 2507.01299",
        "abstract",
        "WikiText-2, all tokens sparse, the tail of the text dropped",
    ),
    "teal": Origin(
        "TEAL",
        "arXiv 2408.14690",
        "abstract",
        "WikiText-2; of a prompt the second half of the tokens is sparse",
        dense_part=0.5,
    ),
    "ffn-skip": Origin(
        "FFN-SkipLLM",
        "arXiv 2404.03865",
        "abstract",
        "share of MLPs that are skipped; the first tokens of an answer are dense",
        scope="mlp",
    ),
}
