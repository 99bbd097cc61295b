"""What is told of work that is done once and kept: fits, on first use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def telling(listener: Callable[[str], None]) -> Iterator[None]:
    """Within this context, call a listener with each line that :func:`tell` is given."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(line: str) -> None:
    """Tell whoever listens what is being done; nobody does unless :func:`telling` says so."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(line)
