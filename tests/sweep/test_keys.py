"""Keys: equal content has an equal key, and what can change a result changes the key."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep import keys
from sweep.keys import canonical, code_fingerprint, digest

ROOT = '''"""What it does."""

from typing import TYPE_CHECKING

from keyed import plain
from keyed.deep import inner

if TYPE_CHECKING:
    from keyed.hints import Hint


def work(x: "Hint") -> float:
    """Twice, and what others add."""
    from keyed.late import more

    return 2 * x + plain.ONE + inner.TWO + more(x)  # a sum
'''

FILES = {
    "__init__.py": "",
    "root.py": ROOT,
    "plain.py": "ONE = 1\n",
    "deep/__init__.py": "",
    "deep/inner.py": "from keyed.deep.inmost import THREE\nTWO = 2 + THREE\n",
    "deep/inmost.py": "THREE = 3\n",
    "late.py": "def more(x):\n    return x\n",
    "hints.py": "Hint = float\n",
    "stranger.py": "raise SystemExit('never imported')\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `keyed` whose fingerprint a test may change by writing its files."""
    for name, content in FILES.items():
        path = tmp_path / "keyed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(keys, "PACKAGES", (*keys.PACKAGES, "keyed"))
    yield tmp_path / "keyed"
    for name in [name for name in sys.modules if name.split(".")[0] == "keyed"]:
        del sys.modules[name]
    forget()


def forget() -> None:
    keys._imports.cache_clear()
    keys._tree.cache_clear()
    keys._tree_hash.cache_clear()


def fingerprint() -> str:
    forget()
    return code_fingerprint("keyed.root")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # a sum", "  # another remark"),
        ('"""What it does."""', '"""Something else,\n\nin more words."""'),
        ('    """Twice, and what others add."""\n', ""),
        ("2 * x + plain.ONE", "(2*x\n            + plain.ONE)"),
        ("\n\n\ndef work", "\n# a line of its own\n\n\n\n\ndef work"),
        ('"Hint"', "'Hint'"),
    ],
)
def test_what_does_not_run_does_not_count(package: Path, old: str, new: str) -> None:
    before = fingerprint()
    assert old in ROOT
    (package / "root.py").write_text(ROOT.replace(old, new))
    assert fingerprint() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("root.py", "2 * x", "3 * x"),
        ("root.py", "x + plain", "x - plain"),
        ("plain.py", "1", "1.0"),
        ("deep/inner.py", "2 +", "3 +"),
        ("deep/inmost.py", "3", "4"),
        ("late.py", "return x", "return -x"),
    ],
)
def test_code_counts_wherever_it_is_imported(package: Path, name: str, old: str, new: str) -> None:
    before = fingerprint()
    (package / name).write_text(FILES[name].replace(old, new))
    assert fingerprint() != before
    (package / name).write_text(FILES[name])
    assert fingerprint() == before


@pytest.mark.parametrize("name", ["stranger.py", "hints.py"])
def test_what_is_not_imported_does_not_count(package: Path, name: str) -> None:
    before = fingerprint()
    (package / name).write_text("Hint = int\n")
    assert fingerprint() == before


def test_nothing_is_imported_to_be_fingerprinted(package: Path) -> None:
    (package / "root.py").write_text(ROOT + "\nraise SystemExit('imported')\n")
    assert len(fingerprint()) == 16
    assert not {"keyed.root", "keyed.plain", "keyed.deep.inner"} & set(sys.modules)


def test_a_plug_in_counts_by_its_code(package: Path) -> None:
    source = "from keyed.plain import ONE\n\n\ndef f():\n    return ONE\n"
    forget()
    before = code_fingerprint("keyed.late", plugin=source)
    assert code_fingerprint("keyed.late", plugin="# mine\n" + source) == before
    assert (
        code_fingerprint("keyed.late", plugin=source.replace("ONE\n\n", "ONE as ONE\n")) != before
    )
    (package / "plain.py").write_text("ONE = 11\n")
    forget()
    assert code_fingerprint("keyed.late", plugin=source) != before


EVALUATES = {
    "methods.apply",
    "methods.mlp",
    "methods.select",
    "simulator.selection",
    "simulator.state",
    "simulator.kernels.select",
    "sweep.evaluate",
    "sweep.models",
    "sweep.selectors",
    "sweep.texts",
}
SIMULATES = {
    "simulator.caching",
    "simulator.kernels.recency",
    "simulator.kernels.scans",
    "simulator.packing",
    "simulator.simulation",
    "sweep.simulate",
}
NEVER = {
    "sweep.api",
    "sweep.options",
    "sweep.planned",
    "sweep.cli",
    "sweep.driver",
    "sweep.executor",
    "sweep.plan",
    "sweep.progress",
    "sweep.ray_executor",
    "sweep.stats",
    "sweep.store",
    "sweep.table",
    "simulator.footprint",
    "simulator.throughput",
}


@pytest.mark.parametrize(
    ("root", "inside"), [("sweep.evaluate", EVALUATES), ("sweep.simulate", SIMULATES)]
)
def test_a_task_counts_the_code_that_computes_it(root: str, inside: set[str]) -> None:
    closure = keys._closure([root])
    assert inside <= closure
    assert not NEVER & closure


LOADED = """
import json, sys
from sweep.evaluate import evaluate
from sweep.simulate import simulate
for method, density, selector in json.loads(sys.argv[2]):
    payload = json.loads(sys.argv[1])
    result, trace = evaluate({**payload, "method": method, "density": density,
                              "selector": selector}, {}, "cpu")
    for policy in ("lru", "lfu", "belady", "min", "none") if trace is not None else ():
        slots = {group: 9 for group in trace.units}
        simulate({"policy": policy, "slots": slots, "scope": "window"}, {"trace": trace}, "cpu")
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in %r)))
"""


def test_no_code_that_runs_is_left_out(tiny_llama: Path, tiny_text_file: Path) -> None:
    """Every module that a worker has loaded after some tasks is in the fingerprint of one."""
    payload = {
        "model": str(tiny_llama),
        "text_name": str(tiny_text_file),
        "window_tokens": 16,
        "windows": [0],
        "dtype": "float32",
        "threads": 1,
        "parameters": {},
    }
    aware = {"name": "cache-aware", "gamma": 0.2, "policy": "lfu", "scope": "window"}
    aware["slots"] = {"input": 9, "intermediate": 9}
    jobs = [("up", 0.5, {"name": "topk"}), ("dip", 0.5, aware)]
    script = LOADED % (keys.PACKAGES,)
    command = [sys.executable, "-c", script, json.dumps(payload), json.dumps(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(done.stdout) if "." in name}
    roots = ["sweep.evaluate", "sweep.simulate", "methods.up", "methods.dip"]
    by_packages = {name for p in keys.PACKAGES for name in keys._imports(p)}
    assert "simulator.kernels.select" in loaded
    assert loaded <= keys._closure(roots) | by_packages


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": [1, 2.5], "a": {"y": None, "x": "γ"}}) == (
        '{"a":{"x":"γ","y":null},"b":[1,2.5]}'
    )


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False)))
def test_a_digest_is_that_of_the_content(value: dict[str, object]) -> None:
    backwards = dict(reversed(value.items()))
    assert digest(value) == digest(backwards)
    assert len(digest(value)) == 16
    assert digest({**value, "more": 1}) != digest({**value, "more": 2})
