"""Pairs of users and items as a sparse graph, in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rimsim.matching._compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Graph"]


@compiled
def _by_item(
    uptr: NDArray[np.int64], uitem: NDArray[np.int32], iptr: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Transpose: the user and the index of each pair, item by item."""
    at = iptr[:-1].copy()
    iuser = np.empty(len(uitem), np.int32)
    ipair = np.empty(len(uitem), np.int64)
    for user in range(len(uptr) - 1):
        for pair in range(uptr[user], uptr[user + 1]):
            item = uitem[pair]
            place = at[item]
            iuser[place] = user
            ipair[place] = pair
            at[item] = place + 1
    return iuser, ipair


@dataclass(frozen=True, eq=False)
class Graph:
    """E pairs, by user and by item."""

    uptr: NDArray[np.int64]
    """(n+1,) where the pairs of each user begin."""
    uitem: NDArray[np.int32]
    """(E,) the item of each pair, ascending within a user."""
    uval: NDArray[np.float64]
    """(E,) its score."""
    iptr: NDArray[np.int64]
    """(M+1,) where the pairs of each item begin, in the order by item."""
    iuser: NDArray[np.int32]
    """(E,) the user of each pair, by item."""
    ipair: NDArray[np.int64]
    """(E,) its index in the order by user."""

    @classmethod
    def of(cls, scores: NDArray[np.floating], kept: NDArray[np.bool_] | None) -> Graph:
        """The graph of the kept pairs of a matrix (all of them if None)."""
        n, m = scores.shape
        if kept is None:
            uptr = np.arange(n + 1, dtype=np.int64) * m
            uitem = np.tile(np.arange(m, dtype=np.int32), n)
            uval = scores.astype(np.float64).ravel()
        else:
            rows, columns = np.nonzero(kept)
            uptr = np.zeros(n + 1, np.int64)
            np.cumsum(kept.sum(axis=1), out=uptr[1:])
            uitem = columns.astype(np.int32)
            uval = scores[rows, columns].astype(np.float64)
        iptr = np.zeros(m + 1, np.int64)
        np.cumsum(np.bincount(uitem, minlength=m), out=iptr[1:])
        iuser, ipair = _by_item(uptr, uitem, iptr)
        return cls(uptr, uitem, uval, iptr, iuser, ipair)
