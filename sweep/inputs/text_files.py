"""Texts to evaluate and calibrate on: what a name means, and its words (SEMANTICS 6).

    name                  as `text` (evaluation)      as `calibration`
    embedded-wiki         second half                 first half         Wikipedia articles
    embedded-c4           second half                 first half         web pages
    ...-validation        first half                 first half         of the two, to tune on
    wikitext2             test split                  train split        WikiText-2, from the hub
    wikitext2-validation  validation split            validation split
    a path                the whole file              the whole file     .txt .utf8 .raw .parquet

Embedded texts are cut once, between two documents, at the place nearest to the middle counted in
characters; so no article is in both halves. Documents are joined by a blank line. A `.raw` file is
WikiText's own format and a `.parquet` file has one text column; the rows of both, blank ones too,
are joined by a blank line, which is the GPTQ protocol: the three forms of the WikiText-2 test split
give one text and one fingerprint.

Nothing here can change a result unseen: words enter keys by their hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.errors import InputError, ResourceError
from sweep.inputs import hub
from sweep.inputs import wheels as fetch
from sweep.messages import nearest

if TYPE_CHECKING:
    from rich.progress import Progress

BLANK_LINE = "\n\n"
SUFFIXES = (".txt", ".utf8", ".raw", ".parquet")

_EMBEDDED = ("embedded-wiki", "embedded-c4")
_VALIDATION = {f"{name}-validation": name for name in _EMBEDDED}
_WIKITEXT_REPO = "Salesforce/wikitext"
_WIKITEXT = {  # (name, whether for calibration) -> split
    ("wikitext2", False): "test",
    ("wikitext2", True): "train",
    ("wikitext2-validation", False): "validation",
    ("wikitext2-validation", True): "validation",
}
# sha256 of texts that are known beforehand, so that a plan needs none of them; both splits of
# WikiText-2 were compared with the published files.
_KNOWN = {
    ("embedded-wiki", False): ("caac7ff5a1b18a3fecf47f6b0e35fc6199daf0ccd75ba4af63a4d1c5be7d2228"),
    ("embedded-wiki", True): ("c8c3b0185e6403f0d62db265dc27d7eca716d20eb3af21f28d61e5f446d83114"),
    ("embedded-c4", False): ("33160d88bb5ec7e53aa57d018c18bb7fc042bf4a39e220714809a739c253e5c0"),
    ("embedded-c4", True): ("9b4f8a09466a1bb2c1a12e28cffddcfa40070eee3bd88faf409139bceb2dd0a2"),
    ("wikitext2", False): "696cca6b65a171b0a358a4be6732cdfdf2dd6164a32e20fd70e3c13fc4dfae83",
    ("wikitext2-validation", False): (
        "b44fb967f92b525731216a507d1fbc44b97446b7ef0a2b4d1a893f81f1bbc29e"
    ),
    ("wikitext2-validation", True): (
        "b44fb967f92b525731216a507d1fbc44b97446b7ef0a2b4d1a893f81f1bbc29e"
    ),
}
_ARTICLE = re.compile(r"^<doc [^\n]*>\n(.*?)^</doc>$", re.DOTALL | re.MULTILINE)


def names() -> tuple[str, ...]:
    """The texts that have a name; any other is a path."""
    return (*_EMBEDDED, *_VALIDATION, *dict.fromkeys(name for name, _ in _WIKITEXT))


def _part(text: str, calibration: bool) -> tuple[str, bool]:
    """The text, and which half of it, that a name stands for."""
    return (_VALIDATION[text], True) if text in _VALIDATION else (text, calibration)


def locate(text: str) -> str:
    """The text's name, or the absolute path of a file: the same wherever a task runs.

    Raises InputError for what is neither.
    """
    return text if text in names() else str(_usable_file(text).absolute())


def present(text: str, calibration: bool = False) -> bool:
    """Whether the text is on this machine. No network."""
    text, calibration = _part(text, calibration)
    if text in _EMBEDDED:
        return fetch.present(text)
    if text in names():
        return _wikitext_file(_WIKITEXT[text, calibration]) is not None
    return Path(text).expanduser().is_file()


def prepare(text: str, calibration: bool = False, progress: Progress | None = None) -> None:
    """Have the text on this machine: fetched if need be, or InputError for a path that is none."""
    text, calibration = _part(text, calibration)
    if text in _EMBEDDED:
        fetch.ensure(text, progress)
    elif text in names():
        _fetched_wikitext(_WIKITEXT[text, calibration])
    else:
        _usable_file(text)


def read(text: str, calibration: bool = False) -> str:
    """The text itself, fetched if need be.

    Raises InputError for a name or file that cannot be used, ResourceError if it cannot be reached.
    """
    text, calibration = _part(text, calibration)
    if text in _EMBEDDED:
        content = _half(documents(text), calibration)
    elif text in names():
        content = BLANK_LINE.join(_parquet_rows(_fetched_wikitext(_WIKITEXT[text, calibration])))
    else:
        return _read_file(_usable_file(text))
    checksum = _KNOWN.get((text, calibration))
    if checksum and _sha256(content) != checksum:
        raise ResourceError(f"text {text}: what was fetched is not the text expected")
    return content


def fingerprint(text: str, calibration: bool = False) -> str:
    """sha256 of the text in UTF-8; `unfetched:<text>` while it is neither known nor here.

    No network, and no torch.
    """
    text, calibration = _part(text, calibration)
    checksum = _KNOWN.get((text, calibration))
    if checksum:
        return checksum
    if text in names() and not present(text, calibration):
        return f"unfetched:{text}"
    return _sha256(read(text, calibration))


@lru_cache(maxsize=2)
def documents(text: str) -> tuple[str, ...]:
    """The documents of an embedded text: articles with a title and a body, or web pages."""
    content = fetch.ensure(text).read_text(encoding="utf-8")
    if text == "embedded-c4":
        return tuple(line for line in content.split("\n") if line.strip())
    articles = (article_text.strip() for article_text in _ARTICLE.findall(content))
    return tuple(article for article in articles if "\n" in article)  # more than a title


def _half(parts: Sequence[str], calibration: bool) -> str:
    """The documents before (calibration) or after (evaluation) the cut nearest to the middle."""
    ends = list(accumulate(len(document) for document in parts))
    cut = min(range(len(ends)), key=lambda index: abs(2 * ends[index] - ends[-1])) + 1
    return BLANK_LINE.join(parts[:cut] if calibration else parts[cut:])


def _usable_file(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        hint = nearest(text, names())
        raise InputError(f"text {text!r} is no file that exists and no name{hint}")
    if path.suffix not in SUFFIXES:
        raise InputError(f"text file {path}: its name must end in {', '.join(SUFFIXES)}")
    return path


def _read_file(path: Path) -> str:
    """The words of a file without a byte order mark. Raises InputError for what is no UTF-8."""
    if path.suffix == ".parquet":
        content = BLANK_LINE.join(_parquet_rows(path))
    else:
        try:
            content = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(
                f"text file {path} is not UTF-8 (byte {error.start}){_other_encoding(path)}"
            ) from None
    if "\0" in content:
        raise InputError(
            f"text file {path} has NUL characters, so it is no UTF-8 text{_other_encoding(path)}"
        )
    return BLANK_LINE.join(_raw_rows(content)) if path.suffix == ".raw" else content


def _other_encoding(path: Path) -> str:
    """A hint where every second byte of the beginning is 0, or the file says it is UTF-16."""
    with path.open("rb") as file:
        head = file.read(1024)
    marked = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    few, many = sorted((head[::2].count(0), head[1::2].count(0)))
    wide = 4 * few < many
    return ": it looks like UTF-16; save it as UTF-8" if marked or wide else ""


def _raw_rows(content: str) -> list[str]:
    """The rows that WikiText-2 has on the hub: a line with its newline, or nothing if blank."""
    lines = content.removesuffix("\n").split("\n")
    return [f"{line}\n" if line.strip() else "" for line in lines]


def _parquet_rows(path: Path) -> list[str]:
    """The rows of the column `text`, else of the only column of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        kinds = (pa.string(), pa.large_string())
        columns = [field.name for field in schema if field.type in kinds]
        column = "text" if "text" in columns else columns[0] if len(columns) == 1 else None
        if column is None:
            raise InputError(f"text file {path}: which column? It has {', '.join(schema.names)}")
        rows = pq.read_table(path, columns=[column]).column(0).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"text file {path} is no parquet file: {error}") from None
    return [row or "" for row in rows]


def _wikitext_file(split: str) -> Path | None:
    pattern = _wikitext_pattern(split)
    folder = hub.cached(_WIKITEXT_REPO, None, [pattern], kind="dataset")
    files = sorted(folder.glob(pattern)) if folder else []
    return files[0] if files else None


def _fetched_wikitext(split: str) -> Path:
    path = _wikitext_file(split)
    if path is None:
        hub.snapshot(_WIKITEXT_REPO, None, [_wikitext_pattern(split)], kind="dataset")
        path = _wikitext_file(split)
    if path is None:
        raise ResourceError(f"{_WIKITEXT_REPO} on the hub has no {_wikitext_pattern(split)}")
    return path


def _wikitext_pattern(split: str) -> str:
    return f"wikitext-2-raw-v1/{split}-*.parquet"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
