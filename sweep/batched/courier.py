"""What a GPU has made comes to the host while it goes on.

A copy goes to pinned memory, which the GPU fills by itself; a thread then puts it where memory may
be kept, and the pinned memory is used again. Pinned memory is dear: to ask for some takes longer
than to fill it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_IN_FLIGHT = 8
"""Copies on their way at once; whoever sends one more waits for the first."""


class Courier:
    """Copies of tensors, in the order of sending, each promised until it has come."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._room = BoundedSemaphore(_IN_FLIGHT)

    def send(self, tensor: Tensor) -> Future[NDArray[Any]]:
        """A copy of it as it is at this point of the device's stream."""
        if not tensor.is_cuda:
            done: Future[NDArray[Any]] = Future()
            done.set_result(tensor.numpy())
            return done
        self._room.acquire()
        pinned = tensor.to("cpu", non_blocking=True)
        filled = torch.cuda.Event()
        filled.record(torch.cuda.current_stream(tensor.device))
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "courier")
        return self._thread.submit(self._deliver, pinned, filled)

    def _deliver(self, pinned: Tensor, filled: torch.cuda.Event) -> NDArray[Any]:
        try:
            filled.synchronize()
            return pinned.numpy().copy()
        finally:
            self._room.release()
