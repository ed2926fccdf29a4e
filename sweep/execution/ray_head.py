"""Whether the head of a Ray cluster is still the one that a run began with.

Ray's own client waits a minute for a head that is gone and then ends the process; where the head
was started anew it waits for ever. A connection of our own notices both within seconds.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE_SECONDS = 20.0
"""How long a head may be out of reach."""
_CONNECT_SECONDS = 1.0


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
            made = socket.create_connection(self._place, timeout=_CONNECT_SECONDS)
            made.setblocking(False)
            return made
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
