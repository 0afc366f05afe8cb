"""Threads that stop together: bounded queues between them, and the first failure is the one that counts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

_WAIT_S = 0.1

Item = TypeVar("Item")


class StoppedError(Exception):
    """Unwinds a thread, because another stage failed or the caller gave up. Never leaves this package."""


class Stages:
    """The threads of one run."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Run ``work`` on a thread of its own; what it raises stops all."""

        def run() -> None:
            try:
                work()
            except StoppedError:
                return
            except BaseException as failure:  # noqa: BLE001 (handed to the caller, whatever it is)
                self.fail(failure)

        thread = threading.Thread(target=run, name=f"stillframe-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def fail(self, failure: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or failure
        self._stop.set()

    def stop(self) -> None:
        """End all threads as soon as they look, and wait for them."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def put(self, where: queue.Queue[Item], item: Item) -> None:
        while True:
            self._look()
            try:
                return where.put(item, timeout=_WAIT_S)
            except queue.Full:
                continue

    def get(self, where: queue.Queue[Item]) -> Item:
        while True:
            self._look()
            try:
                return where.get(timeout=_WAIT_S)
            except queue.Empty:
                continue

    def _look(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    @property
    def failure(self) -> BaseException | None:
        """What stopped the run, if anything did."""
        return self._failure

    def raise_failure(self) -> None:
        """Raise what stopped the run, if anything did."""
        if self._failure is not None:
            raise self._failure
