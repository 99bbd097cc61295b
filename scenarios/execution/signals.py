"""A request to stop: SIGINT and SIGTERM as KeyboardInterrupt, which is never lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_asked = False  # a signal is for the whole process, and so is this


@contextmanager
def stopping_on_request() -> Iterator[None]:
    """Let SIGTERM end the work within as the keyboard does, so that workers end with it.

    Raises:
        KeyboardInterrupt: If a signal came, at the latest when the work is over.
    """
    global _asked  # noqa: PLW0603
    _asked = False

    def interrupt(*_: object) -> NoReturn:
        global _asked  # noqa: PLW0603
        _asked = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with errors_of_interrupts():
            yield
        stop_if_asked()
    finally:
        _asked = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def errors_of_interrupts() -> Iterator[None]:
    """Let an error that an interrupt became be the interrupt.

    Where a signal falls into a compiled function as it hands over an array, Python makes a SystemError of it; other
    libraries, and users' own code, may do the like.

    Raises:
        KeyboardInterrupt: If a signal has come and the work within has failed.
    """
    try:
        yield
    except Exception:
        stop_if_asked()
        raise


def stop_if_asked() -> None:
    """Stop if it was asked for. Python drops an interrupt that falls into a finaliser; this finds it again.

    Raises:
        KeyboardInterrupt: If a signal has come and work is still going on.
    """
    if _asked:
        raise KeyboardInterrupt
