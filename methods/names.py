"""The built-in methods and quantisers by name: where each class is. Strings and nothing else."""

from __future__ import annotations

BUILT_IN: dict[str, str] = {
    "dense": "methods.dense:Dense",
    "glu": "methods.glu:GLU",
    "glu-oracle": "methods.glu_oracle:GLUOracle",
    "gate": "methods.gate:Gate",
    "up": "methods.up:Up",
    "cats": "methods.cats:CATS",
    "dejavu": "methods.dejavu:DejaVu",
    "dip": "methods.dip:DIP",
    "dip-split": "methods.dip_split:DIPSplit",
    "sparsegpt": "methods.static.sparsegpt:SparseGPT",
    "wanda": "methods.static.wanda:Wanda",
    "magnitude": "methods.static.magnitude:Magnitude",
    "cats+lora": "methods.lora:CATSLoRA",
    "dip+lora": "methods.lora:DIPLoRA",
}

QUANTISERS: dict[str, str] = {
    "rtn": "methods.static.rtn:RTN",
    "gptq": "methods.static.gptq:GPTQ",
    "gptvq": "methods.static.gptvq:GPTVQ",
}
