"""A line of the journal: a record as JSON after a checksum of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from sweep.tasks.task import Record

_HEAD = '{"sum":"%s","record":'
_HEAD_CHARS = len(_HEAD % ("0" * 8))


def line(record: Record) -> bytes:
    """The record as a line with its newline."""
    body = json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":"))
    return sealed(body.encode("utf-8", "backslashreplace"))  # half a character, as JSON has it


def sealed(body: bytes) -> bytes:
    """A line of this JSON, with its checksum."""
    return _head(body) + body + b"}\n"


def parse(line: bytes) -> Record | None:
    """The record of a line without its newline; None if the line is not what was written."""
    head, body = line[:_HEAD_CHARS], line[_HEAD_CHARS:-1]
    if head != _head(body) or line[-1:] != b"}":
        return None
    try:
        record = Record(**json.loads(body))
    except (ValueError, TypeError):
        return None
    return record if _sound(record) else None


def _head(body: bytes) -> bytes:
    return (_HEAD % hashlib.sha256(body).hexdigest()[:8]).encode()


def _sound(record: Record) -> bool:
    texts = (record.key, record.kind, record.label, record.error, record.log, record.worker)
    return (
        record.status in ("done", "failed")
        and all(isinstance(text, str) for text in texts)
        and isinstance(record.payload, dict)
        and isinstance(record.result, dict)
    )
