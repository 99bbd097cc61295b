"""Columns of events that describe the items: sellers, brands, prices.

A column with the same text in all rows of an item is an attribute of the item. A price may differ from row to row; then
the item has the median of its prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from rimsim.arrays import Ints, Ints32
from rimsim.data.read_report import ColumnUse
from rimsim.data.readers import values
from rimsim.data.readers.columns import ATTRIBUTES, PRICES, first_of
from rimsim.data.readers.prices import looks_like_price, numbers_of_prices
from rimsim.errors import DataError, many

TAKEN: Final = frozenset({"id", "title", "genres", "year", "release", "released", "end"})
"""Column names that the item table reserves."""
_TOO_MANY: Final = 1000
"""Number of items with several texts from which on a column is no longer read."""


@dataclass(eq=False)
class ItemColumn:
    """Column of events whose texts are collected item by item."""

    is_price: bool = False
    """True for a price column; each item gets the median of its prices."""
    must_agree: bool = True
    """True if the column is an attribute only where all texts of an item are equal."""
    smallest: dict[int, str] = field(default_factory=dict)
    """Item code → the item's first text in alphabetical order."""
    largest: dict[int, str] = field(default_factory=dict)
    """Item code → the item's last text in alphabetical order."""
    differing: set[int] = field(default_factory=set)
    """Codes of items with several different texts."""
    is_closed: bool = False
    """True if the column is no longer read, because too many items have several texts."""
    name: str = ""
    """Name of the column."""
    placeholders: set[str] = field(default_factory=set)
    """Texts of missing values that occur, except the empty text."""
    looks_like_price: bool = False
    """True if a column that is no longer read looked like a price."""

    def __post_init__(self) -> None:
        self._price_codes: dict[str, int] = {}
        self._prices: list[
            tuple[Ints32, Ints32]
        ] = []  # per block of rows: codes of items, and of texts of prices

    def take(self, item: Ints32, word: Ints, words: Sequence[str]) -> None:
        """Collect texts about items, given as positions in ``words``."""
        # The first and the last text in alphabetical order show whether all texts are equal, whatever the order of
        # rows.
        places = np.unique(word).tolist()
        self.placeholders |= {words[place] for place in places if words[place] in values.MISSING} - {""}
        used = [place for place in places if words[place] not in values.MISSING]
        order = np.array(sorted(used, key=lambda place: words[place]), np.int64)
        rank = np.full(len(words), -1, np.int64)  # alphabetical rank of each text; −1: missing or not used
        rank[order] = np.arange(len(order))
        is_known = rank[word] >= 0
        if not is_known.any():
            return
        item = item[is_known]
        rank_of_row = rank[word[is_known]]
        codes, code_index = np.unique(item, return_inverse=True)
        lowest_rank = np.full(len(codes), len(order), np.int64)
        highest_rank = np.full(len(codes), -1, np.int64)
        np.minimum.at(lowest_rank, code_index, rank_of_row)
        np.maximum.at(highest_rank, code_index, rank_of_row)
        first_words = order[lowest_rank].tolist()
        last_words = order[highest_rank].tolist()
        for code, first, last in zip(codes.tolist(), first_words, last_words, strict=True):
            smallest = min(self.smallest.get(code, words[first]), words[first])
            largest = max(self.largest.get(code, words[last]), words[last])
            self.smallest[code] = smallest
            self.largest[code] = largest
            if smallest != largest:
                self.differing.add(code)
        if self.is_price:
            self._take_prices(item, rank_of_row, [words[place] for place in order.tolist()])
        elif self.must_agree and len(self.differing) >= _TOO_MANY:
            self.is_closed = True
            self.looks_like_price = looks_like_price(self.name, list(self.smallest.values()))
            self.smallest.clear()
            self.largest.clear()

    def _take_prices(self, item: Ints32, word: Ints, words: Sequence[str]) -> None:
        """Collect the price in each row."""
        codes = self._price_codes
        code_of_word = np.array([codes.setdefault(text, len(codes)) for text in words], np.int32)
        self._prices.append((item, code_of_word[word]))

    def medians(self) -> tuple[dict[int, float], str | None]:
        """Median price by item code, and a problem or None."""
        # Whether 1.234 has a decimal point depends on all texts, so numbers are read only here.
        numbers, problem = numbers_of_prices(list(self._price_codes))
        # Without rows there is nothing to join, so empty arrays stand in.
        item = np.concatenate([codes for codes, _ in self._prices] or [np.zeros(0, np.int32)])
        text = np.concatenate([codes for _, codes in self._prices] or [np.zeros(0, np.int32)])
        medians = pd.Series(numbers[text]).groupby(item).median().items()
        return dict(medians), problem  # type: ignore[arg-type]  # codes are whole numbers


def item_column(name: str, price: str | None = None) -> ItemColumn:
    """Collector of a column, by its name.

    ``price`` is the column with the role of the price.
    """
    # A title, genre or year describes the item, even if an item has several.
    describes_item = any(first_of(usual, [name]) is not None for usual in ATTRIBUTES.values())
    is_price = name == price or first_of(PRICES, [name]) is not None
    return ItemColumn(is_price=is_price, must_agree=not describes_item, name=name)


def roles_of(names: Sequence[str]) -> dict[str, str]:
    """Column → its role: title, genres or year of the item."""
    places = {role: first_of(usual, names) for role, usual in ATTRIBUTES.items()}
    return {names[place]: role for role, place in places.items() if place is not None}


def attributes_of(
    columns: Mapping[str, ItemColumn], ids: Sequence[str], price: str | None = None
) -> tuple[dict[str, pd.Series], tuple[ColumnUse, ...]]:
    """Attributes of items from columns of events, and their uses.

    Args:
        columns: Name of a column → its collected texts.
        ids: Id of each item, by code.
        price: Name of the column with the role of the price; None: the caller named none.

    Returns:
        Name of an attribute → a value per item; then a record per column.

    Raises:
        DataError: If the column with the role of the price has a text that is not a number.
    """
    roles = roles_of(tuple(columns))
    attributes: dict[str, pd.Series] = {}
    uses = []
    for name, column in columns.items():
        if name in roles:
            attributes |= _described(name, roles[name], column, len(ids))
            uses.append(_use_of_role(name, roles[name], column, ids))
            continue
        attribute = "price" if name == price else name
        if name == "price" and price not in (None, name):
            uses.append(ColumnUse(name, None, "the price is read from another column"))
            continue
        series, note = _attribute(name, column, len(ids), is_required=name == price)
        if series is not None and column.placeholders and not column.is_price:
            texts = " and ".join(map(values.short, sorted(column.placeholders)))
            missing = f"items whose value is {texts} have no {name}"
            note = f"{note}; {missing}" if note else missing
        if series is not None:
            attributes[attribute] = series
        example = _example(column, ids) if "differs" in note else ""
        used_as = None if series is None else attribute
        uses.append(ColumnUse(column=name, attribute=used_as, note=note, example=example))
    return attributes, tuple(uses)


def _described(name: str, role: str, column: ItemColumn, n_items: int) -> dict[str, pd.Series]:
    """Titles, genres or years of items, by column name."""
    texts = texts_of_items(column.smallest, n_items)
    # A user who asks for groups of a category names the column as the file does. So the column is kept under both
    # names.
    is_group = role == "genres" and not column.differing and name not in TAKEN
    return {role: texts, name: texts} if is_group else {role: texts}


def _use_of_role(name: str, role: str, column: ItemColumn, ids: Sequence[str]) -> ColumnUse:
    """Use of a column with titles, genres or years."""
    if role == "genres" and not column.differing and name not in TAKEN:
        return ColumnUse(name, name, "also the genres of items")
    difference = _difference(column, len(ids))
    note = f"of several, the first in the alphabet counts, because {difference}" if difference else ""
    return ColumnUse(column=name, attribute=role, note=note, example=_example(column, ids))


def _attribute(
    name: str, column: ItemColumn, n_items: int, *, is_required: bool
) -> tuple[pd.Series | None, str]:
    """Value of a column per item, and a note.

    A price that is required must consist of numbers.
    """
    difference = _difference(column, n_items)
    if name in TAKEN:
        return None, "the item table has its own column of this name. Rename the column to keep it"
    if not column.smallest and not column.is_closed:
        return None, "it is empty"
    if column.is_price:
        medians, problem = column.medians()
        if problem is not None:
            return _no_price(name, column, n_items, problem, is_required=is_required)
        prices = pd.Series([medians.get(code, np.nan) for code in range(n_items)], dtype=np.float64)
        note = f"the median of an item's prices, because {difference}" if difference else ""
        return prices, note
    if difference:
        if column.looks_like_price or looks_like_price(name, list(column.smallest.values())):
            difference = (
                f"it looks like a price (to read it, add price={name} to --columns), but {difference}"
            )
        return None, difference
    return texts_of_items(column.smallest, n_items), ""


def _no_price(
    name: str, column: ItemColumn, n_items: int, problem: str, *, is_required: bool
) -> tuple[pd.Series | None, str]:
    """Texts of a price without numbers, and a note."""
    if is_required:
        raise DataError(
            f"price (column {name!r}): {problem}. Expected numbers such as 11.37, '11,37 €' or '1.234,50'; leave the "
            "field empty if the price is unknown"
        )
    note = f"it looks like a price, but {problem}, so there is no revenue"
    return (None if column.differing else texts_of_items(column.smallest, n_items)), note


def texts_of_items(texts: Mapping[int, str], n_items: int) -> pd.Series:
    """Text per item code; empty where there is none."""
    return pd.Series([texts.get(code, "") for code in range(n_items)], dtype="str")


def _difference(column: ItemColumn, n_items: int) -> str:
    """Clause about items in which a column differs; empty: none."""
    count = len(column.differing)
    if column.is_closed:
        return f"it differs within {count:,} items or more"
    return f"it differs within {count:,} of {many(n_items, 'item')}" if count else ""


def _example(column: ItemColumn, ids: Sequence[str]) -> str:
    """Two texts of an item in which a column differs."""
    if column.is_closed or not column.differing:
        return ""
    code = min(column.differing, key=lambda differing: ids[differing])
    first_text = values.short(column.smallest[code])
    last_text = values.short(column.largest[code])
    return f"{first_text} and {last_text} of item {ids[code]}"


def plain_text(value: object) -> str:
    """Text of a Parquet value, as text files write it."""
    if value is None or value != value:  # noqa: PLR0124  # only NaN differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
