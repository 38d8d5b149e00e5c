"""Stops on request: the first SIGTERM or SIGINT ends the work in order, the second at once.

Synopsis:

  with StopRequest() as stop:
      prepare()                        # A signal raises Stopped.
      with stop.deferred():
          while not stop.signal:       # A signal is only recorded.
              step()
              with stop.at_once():     # A signal raises Stopped.
                  evaluate()
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

from alp_jax.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Handles SIGTERM and SIGINT as a context manager; does nothing outside the main thread.

    Python delivers signals to the main thread only.

    Attributes:
      signal: first signal received, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._is_deferred = False
        self._previous: dict[signal.Signals, Callable[..., Any] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            # None: a handler that was not installed from Python; it cannot be restored.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Defers signals: inside, a signal is recorded in `signal` and raises nothing."""
        with self._deferring(True):
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Raises Stopped for a signal inside, and on entry for one that was deferred."""
        with self._deferring(False):
            self._raise_if_stopped()
            yield

    @contextlib.contextmanager
    def _deferring(self, value: bool) -> Iterator[None]:
        before, self._is_deferred = self._is_deferred, value
        try:
            yield
        finally:
            self._is_deferred = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = signal.Signals(number)
        if not self._is_deferred:
            self._raise_if_stopped()
        # Not logging: the signal may have interrupted a log call.
        os.write(2, b"Finishing this step and saving it; the next signal exits at once.\n")

    def _raise_if_stopped(self) -> None:
        if self.signal is not None:
            raise Stopped(f"Stopped by {self.signal.name}; the same command continues.")


def follow_main_process(*_: int) -> None:
    """Makes a worker process ignore Ctrl-C, and end when the main process ends in any way.

    Ctrl-C reaches all processes of a terminal, but the main process finishes its step first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main_process = multiprocessing.parent_process()
    assert main_process is not None

    def end() -> None:
        main_process.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
