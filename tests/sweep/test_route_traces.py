"""Route traces on the command line: in, out, and tried event by event."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweep.cli.app import app
from sweep.errors import InputError
from sweep.traces import convert_routes, import_routes, try_events
from tests import moe

pytestmark = pytest.mark.usefixtures("one_thread")


def call(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_in_and_out(tmp_path: Path) -> None:
    lines = [{"token": t, "layer": 0, "experts": [t % 3, 3]} for t in range(6)]
    source = tmp_path / "routes.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = call("trace", "import", "jsonl", source, tmp_path / "routes.trace", "--experts", 8)
    assert "6 tokens, 1 layers, experts of 8 units" in said
    call("trace", "convert", tmp_path / "routes.trace", "jsonl", tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").open()] == [
        {"window": 0} | line | {"experts": sorted(line["experts"])} for line in lines
    ]
    shown = call("trace", "events", tmp_path / "routes.trace", "--fraction", 0.5, "-p", "lru")
    assert "Event by event" in shown
    (lru, best) = try_events(tmp_path / "routes.trace", ["lru", "min"], [0.25])
    assert lru.counts.misses >= best.counts.misses
    assert lru.gap == (lru.counts.misses - best.counts.misses) / lru.counts.misses


def test_faults_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        import_routes("jsonl", tmp_path / "none.jsonl", tmp_path / "out")
    with pytest.raises(InputError, match="unknown form of route traces 'csv'"):
        import_routes("csv", tmp_path, tmp_path / "out")


def test_export_of_ours(tmp_path: Path, tiny_text: str) -> None:
    """The experts of a model as moe-cache-eval has them."""
    model = moe.save("mixtral", tmp_path / "mixtral")
    text = tmp_path / "text.txt"
    text.write_text(tiny_text)
    other = tmp_path / "other.txt"
    other.write_text(tiny_text[::-1])
    path = tmp_path / "ours.trace"
    options = ("--model", model, "--method", "stock", "--density", 1, "--text", text)
    call("trace", "export", path, *options, "--calibration", other, "--window-tokens", 32)
    convert_routes(path, "moe-cache-eval", tmp_path / "events")
    manifest = json.loads((tmp_path / "events" / "manifest.json").read_text())
    assert manifest["model"] == {"num_layers": 4, "num_experts": 4, "top_k": 2}
    assert manifest["counts"] == {"events": 128, "expert_accesses": 256}
