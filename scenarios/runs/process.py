"""Requests to stop this process."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# True after a signal asked this process to stop. It is global, because a signal is for the process as a whole.
_asked = False


@contextmanager
def stopping_on_request() -> Iterator[None]:
    """Context manager in which SIGTERM acts like a keyboard interrupt.

    Raises:
        KeyboardInterrupt: If a signal came; raised at the latest at the end of the work.
    """
    global _asked  # noqa: PLW0603
    _asked = False

    def interrupt(*_: object) -> NoReturn:
        global _asked  # noqa: PLW0603
        _asked = True
        raise KeyboardInterrupt

    handlers_before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with errors_of_interrupts():
            yield
        stop_if_asked()
    finally:
        _asked = False
        for number, handler in handlers_before.items():
            signal.signal(number, handler)


@contextmanager
def errors_of_interrupts() -> Iterator[None]:
    """Context manager that turns errors after interrupts into KeyboardInterrupt.

    If a signal comes while a compiled function returns an array, Python raises a SystemError. Other libraries and
    users' code may also replace the interrupt by another error.

    Raises:
        KeyboardInterrupt: If a signal came and the work failed.
    """
    try:
        yield
    except Exception:
        stop_if_asked()
        raise


def stop_if_asked() -> None:
    """Raise an interrupt that Python dropped.

    Raises:
        KeyboardInterrupt: If a signal came during the work.
    """
    if _asked:
        raise KeyboardInterrupt
