"""`python -m tests.golden.release` says that the code of today computes what release 0.1.0 did.

It writes the marks of today into `sweep/store/release_0_1_0.json`, so that stores of that release
can be adopted. Run it only where the golden counts, and a sweep that was run with that release,
give equal results; leave the marks of a module alone whose results are others.
"""

from __future__ import annotations

import json

from sweep.plan import code
from sweep.store.adopt import FILE

OTHERS = ("sweep.harness", "methods.static.gptvq")
"""Modules whose results are others today, or were not compared: what they made is left."""


def main() -> None:
    release = json.loads(FILE.read_text(encoding="utf-8"))
    today = release["today"]
    marks = {old: [now, code.mark(now)] for old, (now, _) in today.items() if old not in OTHERS}
    release["today"] = today | marks
    FILE.write_text(json.dumps(release, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
