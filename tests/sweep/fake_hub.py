"""A model hub on the loopback interface: as much of its protocol as a download of files takes.

It serves one repository of models and one of data sets, each a folder, at one revision. The names
`some-one/gated` and any other answer as the real hub does for gated and for unknown repositories.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@contextmanager
def serve(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Its address and the paths it was asked for; `repositories`: {"models/org/name": folder}."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, repositories, asked))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, repositories: dict[str, Path], asked: list[str], *rest: Any) -> None:
        self.repositories = repositories
        self.asked = asked
        super().__init__(*rest)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.asked.append(path)
        if "some-one/gated" in path:
            return self._send(403, {"X-Error-Code": "GatedRepo"})
        for name, folder in self.repositories.items():
            plain = name.removeprefix("models/")
            if path.startswith(f"api/{name}/tree/"):
                return self._send_json([_listed(folder, file) for file in _files(folder)])
            if path.startswith(f"api/{name}"):
                return self._send_json({"id": plain, "sha": COMMIT, "siblings": []})
            if path.startswith(f"{plain}/resolve/"):
                return self._send_file(folder / path.split("/resolve/")[1].partition("/")[2])
        return self._send(404, {"X-Error-Code": "RepoNotFound"})

    def _send_json(self, value: Any) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send_file(self, path: Path) -> None:
        if not path.is_file():
            return self._send(404, {"X-Error-Code": "EntryNotFound"})
        content = path.read_bytes()
        tag = hashlib.sha1(content).hexdigest()
        return self._send(200, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, content)

    def _send(self, status: int, head: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**head, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _listed(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
