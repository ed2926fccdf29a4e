"""`python -m tests.golden.code` writes code.json: the fingerprint of the code of each kind of task
and method. A commit that only moves code leaves it alone; what one changes in it, it makes new in
every store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from methods.experts.rules import Rule
from methods.names import BUILT_IN
from methods.registry import create, method_class
from methods.static import quantiser
from methods.static.pruning import StaticPruning
from sweep.plan.task_code import (
    CLASSES,
    READS,
    code_of_bundles,
    code_of_coactive,
    code_of_method,
    code_of_policy,
    code_of_priced,
    code_of_rule,
    code_of_transform,
    code_of_uses,
)

FILE = Path(__file__).with_name("code.json")


def fingerprints() -> dict[str, dict[str, str]]:
    """By kind of task, and by the method that it runs."""
    static = [name for name in BUILT_IN if issubclass(method_class(name), StaticPruning)]
    trained = [name for name in BUILT_IN if method_class(name).trained]
    learnt = [name for name in static if name in trained]
    rules = [name for name in BUILT_IN if issubclass(method_class(name), Rule)]
    dynamic = [name for name in BUILT_IN if name not in (*static, *rules)]
    chosen = {
        "calibrate": dynamic,
        "train": trained,
        "evaluate": [*dynamic, *learnt],
        "score": [*dynamic, *learnt],
    }
    codes = {
        kind: {name: code_of_method(kind, name) for name in names} for kind, names in chosen.items()
    }
    changes = {name: method_class(name).__module__ for name in static if name not in learnt}
    changes |= {name: quantiser.quantiser_class(name).__module__ for name in quantiser.names()}
    codes["transform"] = {
        name: code_of_transform("dense", (module,)) for name, module in changes.items()
    }
    uses = {"uses of dip": code_of_uses("dip"), "coactive": code_of_coactive("dip")}
    policies = {"any policy": code_of_policy("lru"), "engines": code_of_policy("slru")}
    policies["pool"] = code_of_policy("lru", pool=True)
    policies |= {"reads": code_of_policy("lru", READS), "classes": code_of_policy("lru", CLASSES)}
    policies["bundles over layers"] = code_of_bundles()
    uses["uses of experts"] = code_of_uses("stock")
    codes["evaluate"]["dip at a price of reads"] = code_of_priced("dip", "lfu")
    codes["evaluate"]["experts"] = code_of_rule(cast("Rule", create("cache-prior")))
    return codes | {"calibrate": codes["calibrate"] | uses, "simulate": policies}


def main() -> None:
    FILE.write_text(json.dumps(fingerprints(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
