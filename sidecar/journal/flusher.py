"""The thread that does what the thread of the checks must not wait for."""

import threading
from collections.abc import Callable


class Flusher:
    """Runs `flush` once for all the requests that came in while it gathered or ran.

    Args:
        flush: Called in a thread of its own, never twice at a time. It must not raise.
        gather_seconds: How long after a request it waits for more.
        name: Of the thread.
        tick_seconds: After which time without a request it runs `flush` all the same; None for never.
    """

    def __init__(
        self, flush: Callable[[], None], gather_seconds: float, name: str, tick_seconds: float | None = None
    ) -> None:
        self._flush = flush
        self._tick_seconds = tick_seconds
        self._gather_seconds = gather_seconds
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._is_requested = False
        self._barriers: list[threading.Event] = []
        self._barriers_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether requests are still served."""
        return self._thread.is_alive()

    def request(self) -> None:
        """Have everything written before this call flushed soon. Cheap where that has been asked for already."""
        if not self._is_requested:
            self._is_requested = True
            self._wake.set()

    def wait(self) -> None:
        """Come back when everything written before this call has been flushed."""
        barrier = threading.Event()
        with self._barriers_lock:
            self._barriers.append(barrier)
        self.request()
        while self.is_running and not barrier.wait(1):
            continue

    def stop(self, timeout_seconds: float | None = None) -> None:
        """Flush once more, and come back when the thread has ended, or when the time is up."""
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            if self._wake.wait(self._tick_seconds):
                self._stopping.wait(self._gather_seconds)
            # Cleared before the flush: a request that still sees True was written before the flush and is part of it.
            self._wake.clear()
            self._is_requested = False
            is_last = self._stopping.is_set()
            with self._barriers_lock:
                barriers, self._barriers = self._barriers, []
            self._flush()
            for barrier in barriers:
                barrier.set()
            if is_last:
                return
