"""Users and items that were taken for each other."""

from __future__ import annotations

from typing import Final

import numpy as np

from rimsim.arrays import Bools, Ints, Ints32

_MOST_USERS: Final = 0.02
"""A column can describe users only if at most this share of the users has several values in it."""
_LEAST_ITEMS: Final = 0.5
"""Smallest share of items with several values for which a column does not describe items."""
_FEWEST: Final = 20
"""Fewest users and fewest items with two or more events for which a column is examined."""


class ValuesOfColumn:
    """Values of a column, by user and by item."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._users = _Values()
        self._items = _Values()

    def take(self, user: Ints32, item: Ints32, word: Ints, words: list[str]) -> None:
        """Take texts of n events, as positions in ``words``."""
        codes = np.array([self._codes.setdefault(text.strip(), len(self._codes)) for text in words], np.int64)
        value = codes[word]
        self._users.take(user, value)
        self._items.take(item, value)

    @property
    def belongs_to_users(self) -> bool:
        """True if users have one value, and most items several."""
        users_differ = self._users.several()
        items_differ = self._items.several()
        if min(len(users_differ), len(items_differ)) < _FEWEST:
            return False
        return bool(users_differ.mean() <= _MOST_USERS and items_differ.mean() >= _LEAST_ITEMS)


class _Values:
    """First value of each user or item, and its variety.

    Users or items have codes, which are positions in the arrays. A mask is true for codes with several values.
    """

    def __init__(self) -> None:
        self._first: Ints = np.empty(0, np.int64)
        self._count: Ints = np.empty(0, np.int64)
        self._differs: Bools = np.empty(0, bool)

    def take(self, code: Ints32, value: Ints) -> None:
        """Take values of n events, with their users or items."""
        n_new = int(code.max(initial=-1)) + 1 - len(self._first)
        if n_new > 0:
            self._first = np.append(self._first, np.full(n_new, -1))
            self._count = np.append(self._count, np.zeros(n_new, np.int64))
            self._differs = np.append(self._differs, np.zeros(n_new, bool))
        codes, positions = np.unique(code, return_index=True)
        is_new = self._first[codes] < 0
        self._first[codes[is_new]] = value[positions[is_new]]
        self._count += np.bincount(code, minlength=len(self._count))
        self._differs[code[value != self._first[code]]] = True

    def several(self) -> Bools:
        """Mask of several values, for each code with several events."""
        return self._differs[self._count > 1]
