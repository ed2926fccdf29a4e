"""`python -m tests.zoo` writes docs/models.md: what becomes of each decoder family."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from tests.zoo.look import Found, families, look_at_all
from tests.zoo.page import PAGE, page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep what was found here, and go on from it")
    arguments = parser.parse_args()
    found = _kept(arguments.json)
    known = {one.family for one in found}
    for one in look_at_all([kind for kind in families() if kind not in known]):
        found.append(one)
        print(one.family, one.outcome, one.reason[:100], flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(f) for f in found]), encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")


def _kept(path: Path | None) -> list[Found]:
    if path is None or not path.is_file():
        return []
    return [Found(**one) for one in json.loads(path.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    main()
