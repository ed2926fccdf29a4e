"""The built-in methods, quantisers and activations by name: where each class is, and what a reader
calls it. Nothing is imported for them."""

from __future__ import annotations

from dataclasses import dataclass

BUILT_IN: dict[str, str] = {
    "dense": "methods.dynamic.dense:Dense",
    "glu": "methods.dynamic.glu:GLU",
    "glu-oracle": "methods.dynamic.glu_oracle:GLUOracle",
    "gate": "methods.dynamic.gate:Gate",
    "up": "methods.dynamic.up:Up",
    "cats": "methods.dynamic.cats:CATS",
    "dejavu": "methods.dynamic.dejavu:DejaVu",
    "dip": "methods.dynamic.dip:DIP",
    "dip-split": "methods.dynamic.dip_split:DIPSplit",
    "teal": "methods.dynamic.teal:TEAL",
    "wina": "methods.dynamic.wina:WINA",
    "was": "methods.dynamic.was:WAS",
    "cett": "methods.dynamic.cett:CETT",
    "scap": "methods.dynamic.scap:SCAP",
    "r-sparse": "methods.dynamic.r_sparse:RSparse",
    "hire": "methods.dynamic.hire:HiRE",
    "la-rosa": "methods.dynamic.la_rosa:LaRoSA",
    "shadow-llm": "methods.dynamic.shadow_llm:ShadowLLM",
    "ffn-skip": "methods.dynamic.ffn_skip:FFNSkip",
    "active-flow": "methods.dynamic.active_flow:ActiveFlow",
    "sparsegpt": "methods.static.sparsegpt:SparseGPT",
    "wanda": "methods.static.wanda:Wanda",
    "magnitude": "methods.static.magnitude:Magnitude",
    "cats+lora": "methods.dynamic.lora:CATSLoRA",
    "dip+lora": "methods.dynamic.lora:DIPLoRA",
    "dsnot": "methods.static.dsnot:DSnoT",
    "losa": "methods.static.losa:LoSA",
    "packed": "methods.static.packed:Packed",
    "dfloat11": "methods.static.dfloat11:DFloat11",
    "dip+lozo": "methods.dynamic.lozo:DIPLozo",
    "stock": "methods.experts.rules:Stock",
    "cache-prior": "methods.experts.rules:CachePrior",
    "max-rank": "methods.experts.rules:MaxRank",
    "drop-if-miss": "methods.experts.rules:DropIfMiss",
    "score-gap": "methods.experts.rules:ScoreGap",
    "dip-shares": "methods.dynamic.dip_shares:DIPShares",
}

QUANTISERS: dict[str, str] = {
    "rtn": "methods.static.rtn:RTN",
    "gptq": "methods.static.gptq:GPTQ",
    "gptvq": "methods.static.gptvq:GPTVQ",
}

ACTIVATIONS: dict[str, str] = {"relu": "ReLU", "drelu": "dReLU", "relu2": "ReLU²"}


@dataclass(frozen=True, slots=True)
class Swap:
    """Another activation in a model's MLPs (`methods.activations`), and the tokens on which these
    learn it (`methods.activation_training`); 0 trains nothing."""

    activation: str
    tokens: int = 0

    def __str__(self) -> str:
        return f"{self.activation} {self.tokens}" if self.tokens else self.activation

    @property
    def title(self) -> str:
        """Of a model with it, after the model's name in reports."""
        learnt = f", {self.tokens:,} tokens" if self.tokens else ""
        return f"({ACTIVATIONS[self.activation]}{learnt})"
