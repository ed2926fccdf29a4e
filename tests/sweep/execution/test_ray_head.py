"""The watch on a cluster's head: it is there, out of reach for a while, gone, or another one."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from sweep.errors import InputError, ResourceError
from sweep.execution import ray_job
from sweep.execution.ray_head import HeadWatch, check_reachable


class Head:
    """Takes connections on one port, and can go away and come back."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self.accepted = threading.Event()
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                connection.sendall(b"hello")
                self._open.append(connection)
                self.accepted.set()

    def hang_up(self) -> None:
        """End all connections, as a server does with those that say nothing."""
        for connection in self._open:
            with suppress(OSError):  # the other side may have gone first
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def stop(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.hang_up()


@pytest.fixture
def head() -> Iterator[Head]:
    made = Head()
    yield made
    made.stop()


def watch(head: Head, names: list[str], patience: float = 60.0) -> HeadWatch:
    """A watch that is told these identities, one after another; the last one stays."""
    made = HeadWatch(
        f"127.0.0.1:{head.port}", lambda: names.pop(0) if len(names) > 1 else names[0], patience
    )
    assert head.accepted.wait(10)
    assert made.lost() == ""
    return made


def until_closed(watched: HeadWatch) -> None:
    """The other side's end of a connection arrives a moment later."""
    assert watched._socket is not None
    watched._socket.settimeout(10)
    with suppress(OSError):
        while watched._socket.recv(100):
            pass
    watched._socket.setblocking(False)


def test_a_head_that_hangs_up_is_asked_who_it_is(head: Head) -> None:
    watched = watch(head, ["a"])
    head.hang_up()
    until_closed(watched)
    assert watched.lost() == ""
    assert watched.lost() == ""


def test_a_head_that_was_started_anew_is_lost(head: Head) -> None:
    watched = watch(head, ["a", "b"])
    head.stop()
    until_closed(watched)
    head.start()
    assert watched.lost() == "it was started anew"


def test_a_head_may_be_out_of_reach_for_a_while(head: Head) -> None:
    watched = watch(head, ["a"])
    head.stop()
    until_closed(watched)
    assert watched.lost() == ""
    head.start()
    assert watched.lost() == ""
    assert watched._away_since is None


def test_a_head_that_stays_away_is_lost(head: Head) -> None:
    watched = watch(head, ["a"], patience=0.0)
    head.stop()
    until_closed(watched)
    assert watched.lost() == "it has not answered for 0 s"
    watched.close()


# -- an address before a run begins -----------------------------------------------------------


def listening(answer: bytes) -> tuple[str, socket.socket]:
    """An address where something listens and answers everybody the same."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            connection.recv(1024)
            connection.sendall(answer)
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}", server


def test_where_nothing_listens_is_said_within_seconds() -> None:
    began = time.monotonic()
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "http://127.0.0.1:1"):
        with pytest.raises(ResourceError, match="nothing answers at"):
            check_reachable(address)
    assert time.monotonic() - began < 10


def test_what_listens_must_be_a_head_of_ray() -> None:
    address, server = listening(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with server, pytest.raises(ResourceError, match="is no Ray head"):
        check_reachable(address)
    address, server = listening(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # settings, as of gRPC
    with server:
        check_reachable(address)


@pytest.mark.parametrize("address", ["head", "head:port", "", "6379"])
def test_what_is_no_address_is_an_input_error(address: str) -> None:
    with pytest.raises(InputError, match="write HOST:PORT"):
        check_reachable(address)


def test_what_ray_knows_itself_is_left_to_it() -> None:
    check_reachable("auto")
    check_reachable("vendor://cluster")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("No available agent to submit job, please try again later.", "52365"),
        ("/bin/sh: 1: python: not found", "has the PATH"),
        ("ModuleNotFoundError: No module named 'torch'", "lacks a package"),
    ],
)
def test_known_faults_of_jobs_are_said_in_a_sentence(
    said: str, advice: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script = f"import sys; print({said!r}); sys.exit(3)"
    assert ray_job._followed([sys.executable, "-c", script]) == 3
    captured = capfd.readouterr()
    assert said in captured.out
    assert advice in captured.err
