"""Ways to damage the folder of a run: each takes the folder and a generator."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweep.store import journal

Harm = Callable[[Path, random.Random], object]


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done, what the next run names, and whether its hand-overs are needed again.

    `named` is empty where nothing is lost: the run says nothing, and computes nothing.
    """

    name: str
    do: Harm
    named: str = ""
    recomputed: bool = True
    needed_again: bool = False


def _bytes(name: str, change: Callable[[bytes, random.Random], bytes]) -> Harm:
    def harm(out: Path, rng: random.Random) -> None:
        (path,) = out.glob(name)
        path.write_bytes(change(path.read_bytes(), rng))

    return harm


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data) - 1)]


def _cut_last_line(data: bytes, rng: random.Random) -> bytes:
    return data[: -rng.randrange(2, 60)]


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _lines(data: bytes, rng: random.Random, change: Callable[[list[bytes]], object]) -> bytes:
    lines = data.splitlines()
    change(lines)
    return b"\n".join(lines) + b"\n"


def _wrong_json(data: bytes, rng: random.Random) -> bytes:
    body = b'{"key": "0123", "kind": '
    return data + journal.sealed(body)


def _wrong_types(data: bytes, rng: random.Random) -> bytes:
    body = b'{"key":"k","kind":"evaluate","label":"l","status":"done","payload":[],"result":3}'
    return data + journal.sealed(body)


def _lost_line(data: bytes, rng: random.Random) -> bytes:
    return _lines(data, rng, lambda lines: lines.pop(rng.randrange(len(lines))))


def _doubled(data: bytes, rng: random.Random) -> bytes:
    return data + b"".join(data.splitlines(keepends=True)[:3])


def _shuffled(data: bytes, rng: random.Random) -> bytes:
    return _lines(data, rng, rng.shuffle)


def _nul_inside(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(100, len(data) - 100)
    return data[:at] + b"\x00" * 40 + data[at + 40 :]


def _folder(name: str) -> Harm:
    def harm(out: Path, rng: random.Random) -> None:
        (path,) = list(out.glob(name)) or [out / name]
        path.unlink(missing_ok=True)
        path.mkdir()
        (path / "inside").touch()

    return harm


def _link(name: str, target: str) -> Harm:
    def harm(out: Path, rng: random.Random) -> None:
        (path,) = out.glob(name)
        path.unlink()
        path.symlink_to(path.name if target == "itself" else target)

    return harm


def _fifo(out: Path, rng: random.Random) -> None:
    (out / "journal.jsonl").unlink()
    os.mkfifo(out / "journal.jsonl")


def _gone(name: str) -> Harm:
    def harm(out: Path, rng: random.Random) -> None:
        (path,) = out.glob(name)
        path.unlink()

    return harm


def _new(name: str, content: str) -> Harm:
    return lambda out, rng: (out / name).write_text(content)


def _file_for_folder(name: str) -> Harm:
    def harm(out: Path, rng: random.Random) -> None:
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).write_text("in the way")

    return harm


def _swapped(out: Path, rng: random.Random) -> None:
    """Two traces under one another's name, both whole."""
    one, other = sorted(out.glob(TRACES))[:2]
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def _first(pattern: str, change: Callable[[bytes, random.Random], bytes]) -> Harm:
    def harm(out: Path, rng: random.Random) -> None:
        path = min(out.glob(pattern))
        path.write_bytes(change(path.read_bytes(), rng))

    return harm


JOURNAL, ORDER, TRACES = "journal.jsonl", "artefacts/*.npz", "artefacts/*.trace"
_LINE, _KEPT = "journal.jsonl line ", "artefacts/"


def _plain(data: bytes, rng: random.Random) -> bytes:
    return b"these are not the bytes that were written\n"


def _nul_at_the_end(data: bytes, rng: random.Random) -> bytes:
    return data + b"\0" * 99


def _foreign(data: bytes, rng: random.Random) -> bytes:
    return data + b"hello\n"


def _of_windows(data: bytes, rng: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def _utf_16(data: bytes, rng: random.Random) -> bytes:
    return data.decode().encode("utf-16")


def _random(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(3000)


def _empty(data: bytes, rng: random.Random) -> bytes:
    return b""


def _artefact(name: str, do: Harm, named: str = _KEPT) -> Damage:
    return Damage(name, do, named, needed_again=True)


DAMAGES: tuple[Damage, ...] = (
    Damage("journal cut in its last line", _bytes(JOURNAL, _cut_last_line), _LINE),
    Damage("journal cut at a random byte", _bytes(JOURNAL, _cut), _LINE),
    Damage("a bit flipped in the journal", _bytes(JOURNAL, _flip), _LINE),
    Damage(
        "NUL bytes at the end of the journal",
        _bytes(JOURNAL, _nul_at_the_end),
        _LINE,
        False,
    ),
    Damage("NUL bytes inside the journal", _bytes(JOURNAL, _nul_inside), _LINE),
    Damage("a line that is no JSON", _bytes(JOURNAL, _wrong_json), _LINE, False),
    Damage("a line with fields of wrong types", _bytes(JOURNAL, _wrong_types), _LINE, False),
    Damage("foreign text in the journal", _bytes(JOURNAL, _foreign), _LINE, False),
    Damage(
        "journal with the line ends of Windows",
        _bytes(JOURNAL, _of_windows),
        _LINE,
    ),
    Damage("journal in UTF-16", _bytes(JOURNAL, _utf_16), _LINE),
    Damage("journal of random bytes", _bytes(JOURNAL, _random), _LINE),
    Damage("a line lost from the journal", _bytes(JOURNAL, _lost_line)),
    Damage("lines twice in the journal", _bytes(JOURNAL, _doubled), "", False),
    Damage("lines of the journal in another order", _bytes(JOURNAL, _shuffled), "", False),
    Damage("journal empty", _bytes(JOURNAL, _empty)),
    Damage("journal gone", _gone(JOURNAL)),
    Damage("journal is a folder", _folder(JOURNAL), "journal.jsonl is a folder"),
    Damage("journal is a link to itself", _link(JOURNAL, "itself"), "journal.jsonl is a link to"),
    Damage("journal is a link to nothing", _link(JOURNAL, "nowhere"), "journal.jsonl is a link to"),
    Damage("journal is a named pipe", _fifo, "journal.jsonl is no plain file"),
    _artefact("an order cut at a random byte", _bytes(ORDER, _cut)),
    _artefact("a bit flipped in an order", _bytes(ORDER, _flip)),
    _artefact("an order empty", _bytes(ORDER, _empty)),
    _artefact("text in the place of an order", _bytes(ORDER, _plain)),
    _artefact("an order gone", _gone(ORDER), ""),
    _artefact("an order is a folder", _folder(ORDER)),
    _artefact("an order is a link to itself", _link(ORDER, "itself")),
    _artefact("a trace cut at a random byte", _first(TRACES, _cut)),
    _artefact("a bit flipped in a trace", _first(TRACES, _flip)),
    _artefact("a trace empty", _first(TRACES, _empty)),
    _artefact("two traces swapped", _swapped),
    _artefact("the artefacts are a file", _file_for_folder("artefacts"), "artefacts is no folder"),
    Damage("a foreign file among the artefacts", _new("artefacts/notes.txt", "mine"), "", False),
    Damage("leftovers of a killed write", _new(".journal.jsonl.1.tmp", '{"sum'), "", False),
    Damage("the lock of a dead process", _new(".holder", "process 1 on nowhere"), "", False),
    Damage("the lock is a folder", _folder(".lock"), ".lock is a folder", False),
    Damage("the note of who writes is a folder", _folder(".holder"), ".holder is a folder", False),
    Damage("plan.json is no JSON", _bytes("plan.json", _plain), "", False),
    Damage("plan.json is a folder", _folder("plan.json"), "plan.json is a folder", False),
    Damage("the table cut", _bytes("results.parquet", _cut), "", False),
    Damage("the table is a folder", _folder("results.parquet"), "results.parquet is a f", False),
    Damage("the table gone", _gone("results.parquet"), "", False),
    Damage("the provenance empty", _bytes("provenance.json", _empty), "", False),
    Damage("the state of a dead driver", _new(".live.json", '{"line'), "", False),
    Damage("the logs are a file", _file_for_folder("logs"), "logs is no folder", False),
)
