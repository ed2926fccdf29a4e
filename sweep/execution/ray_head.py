"""Whether the head of a Ray cluster is still the one that a run began with.

Ray's own client waits a minute for a head that is gone and then ends the process; where the head
was started anew it waits for ever. A connection of our own notices both within seconds.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from sweep.errors import InputError, ResourceError

PATIENCE_SECONDS = 20.0
"""How long a head may be out of reach."""
_CONNECT_SECONDS = 1.0
REACH_SECONDS = 5.0
"""How long an address may take to answer before a run begins; Ray itself tries for minutes."""
_PLACE = re.compile(
    r"(?:(?P<scheme>ray|https?)://)?(?P<host>\[[^\]]+\]|[^:/\[\]]+):(?P<port>\d+)/?"
)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""How a client of gRPC begins: it ends with an empty frame of settings."""
_SETTINGS = 4
"""Kind of the frame that a server of gRPC answers with."""


def check_reachable(address: str) -> None:
    """Raise ResourceError where nothing answers at the address of a cluster, within seconds.

    `auto`, and a scheme of another's, are left to Ray. InputError for no address.
    """
    parts = _PLACE.fullmatch(address)
    if address in ("auto", "local") or (parts is None and "://" in address):
        return
    if parts is None:
        raise InputError(f"--address {address}: write HOST:PORT of the Ray head, or auto")
    try:
        where = (parts["host"].strip("[]"), int(parts["port"]))
        with socket.create_connection(where, timeout=REACH_SECONDS) as connection:
            if parts["scheme"] in ("http", "https") or os.environ.get("RAY_USE_TLS") == "1":
                return
            answered = _speaks_grpc(connection)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResourceError(f"nothing answers at {address} ({reason}){_CURE}") from None
    if not answered:
        raise ResourceError(f"what answers at {address} is no Ray head{_CURE}")


_CURE = (
    ": give the HOST:PORT that `ray start --head` printed (port 6379 unless set; 8265 is that of "
    "`sweep submit`, as http://HOST:8265), and see that the head runs and no firewall is between"
)


def _speaks_grpc(connection: socket.socket) -> bool:
    """Whether the other side answers as a server of gRPC, as Ray's head is one."""
    connection.settimeout(REACH_SECONDS)
    connection.sendall(_PREFACE)
    head = b""
    with suppress(OSError):
        while len(head) < 4 and (more := connection.recv(64)):
            head += more
    return len(head) >= 4 and head[3] == _SETTINGS


class HeadWatch:
    """Holds a connection to `host:port`; `identify` asks the head there which cluster it is."""

    def __init__(
        self, address: str, identify: Callable[[], str], patience: float = PATIENCE_SECONDS
    ) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._place = (host.strip("[]"), int(port))
        self._identify, self._identity = identify, identify()
        self._patience = patience
        self._away_since: float | None = None
        self._socket = self._connected()

    def lost(self) -> str:
        """What became of the head, in words; empty while it is there, or may come back."""
        if self._socket is not None and _open(self._socket):
            return ""
        self.close()
        self._socket = self._connected()
        if self._socket is not None and (identity := self._asked()):
            self._away_since = None
            return "" if identity == self._identity else "it was started anew"
        now = time.monotonic()
        self._away_since = self._away_since or now
        away = now - self._away_since
        return f"it has not answered for {away:.0f} s" if away >= self._patience else ""

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket | None:
        with suppress(OSError):
            connection = socket.create_connection(self._place, timeout=_CONNECT_SECONDS)
            connection.setblocking(False)
            return connection
        return None

    def _asked(self) -> str:
        try:
            return self._identify()
        except Exception:  # whatever Ray raises where a head is about to go
            self.close()
            return ""


def _open(connection: socket.socket) -> bool:
    """Whether the other side still holds the connection; what it said is of no interest."""
    try:
        while connection.recv(4096):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
