"""The one door to Numba: compiled once, cached on disk, typed for readers and checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compiled"]

F = TypeVar("F", bound="Callable[..., object]")


def compiled(function: F) -> F:
    """Compile a function on its first call; the machine code is cached on disk."""
    return cast("F", numba.njit(cache=True)(function))
