"""Digests of many buffers, reckoned in a thread while the caller reads or writes the next ones."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

_BATCH = 1 << 22  # Bytes: less is reckoned sooner than handed to a thread.


class Digests:
    """SHA-256 of each buffer that is added, in order. Two batches of buffers are held at most."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._batch: list[np.ndarray] = []
        self._size = 0
        self._running: Future[list[str]] | None = None
        self._known: list[str] = []

    def __enter__(self) -> "Digests":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def add(self, raw: np.ndarray) -> None:
        """Add `raw`, `u8[bytes]`, which must not change before `result` returns."""
        self._batch.append(raw)
        self._size += raw.size
        if self._size >= _BATCH:
            self._wait()
            self._running = self._pool.submit(_digests, self._batch)
            self._batch, self._size = [], 0

    def result(self) -> list[str]:
        """Return the digests of all buffers, in hexadecimal."""
        self._wait()
        self._known += _digests(self._batch)
        self._batch, self._size = [], 0
        return self._known

    def _wait(self) -> None:
        if self._running is not None:
            self._known += self._running.result()
            self._running = None


def _digests(batch: list[np.ndarray]) -> list[str]:
    return [hashlib.sha256(raw.data).hexdigest() for raw in batch]
