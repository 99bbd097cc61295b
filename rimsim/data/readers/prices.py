"""Written prices, with decimal commas and currency signs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from rimsim.arrays import Floats
from rimsim.data.readers.columns import PRICES, first_of, plain_name
from rimsim.data.readers.values import LARGEST_VALUE, RowProblemError, number, short

_CURRENCY_NAMES: Final = (
    "eur euro usd gbp chf sek nok dkk pln czk huf ron bgn try jpy cny inr cad aud nzd brl mxn zar kr zł zl kč kc ft "
    "lei fr rs r us ca au"
)
_CURRENCIES: Final = frozenset(_CURRENCY_NAMES.split())
"""Codes and short names of currencies, in small letters."""
_PRICE_WORDS: Final = ("price", "preis", "prijs", "prix", "precio", "prezzo", "preco")
"""Parts of names of columns that hold prices."""
_GROUPED: Final = {
    ".": re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d*)?", re.ASCII),
    ",": re.compile(r"\d{1,3}(?:\.\d{3})+(?:,\d*)?", re.ASCII),
}
"""Decimal mark → numbers whose thousands are separated by the other mark."""
_SWAPPED: Final = str.maketrans(".,", ",.")
_NO_CENTS: Final = re.compile(r"[.,](?:-{1,2}|–|—)$")
"""End of a price without cents, such as ``12,-``."""


class _Price(NamedTuple):
    """Parts of a written price."""

    figures: str
    """Digits and marks, without spaces and apostrophes."""
    currency: str
    """Sign or code of the currency, in small letters; empty: none."""


def looks_like_price(name: str, texts: Sequence[str]) -> bool:
    """True if a name or all texts suggest prices."""
    plain = plain_name(name)
    if first_of(PRICES, [name]) is not None or any(word in plain for word in _PRICE_WORDS):
        return True
    prices = [_price(text) for text in texts]
    return bool(prices) and all(price is not None and price.currency for price in prices)


def numbers_of_prices(texts: Sequence[str]) -> tuple[Floats, str | None]:
    """Numbers of distinct texts, and a problem or None.

    The problem names a text that is not a price. All texts have one decimal mark: the comma if more texts need a comma
    than a point. So ``1.234`` is 1,234 next to ``11,37``, and 1.234 next to ``11.37``.
    """
    numbers = np.full(len(texts), np.nan)
    prices = [_price(text) for text in texts]
    mark = _decimal_mark([price.figures for price in prices if price is not None])
    text_of_currency: dict[str, str] = {}
    wrong_texts = []
    for place, (text, price) in enumerate(zip(texts, prices, strict=True)):
        try:
            numbers[place] = number(
                text if price is None else _plain(price.figures, mark), "price", LARGEST_VALUE
            )
        except RowProblemError:
            wrong_texts.append(text)
        if price is not None and price.currency:
            text_of_currency[price.currency] = min(text, text_of_currency.get(price.currency, text))
    if wrong_texts:
        return numbers, f"{short(min(wrong_texts))} is not a number of at least 0"
    if len(text_of_currency) > 1:
        first, second = sorted(text_of_currency.values())[:2]
        return numbers, f"{short(first)} and {short(second)} have different currencies"
    return numbers, None


def _price(text: str) -> _Price | None:
    """Parts of a text; None without a price."""
    body = "".join(sign for sign in text if not sign.isspace() and sign not in "'’")
    body = _NO_CENTS.sub("", body)
    start = next((place for place, sign in enumerate(body) if sign in "+-.," or sign.isdecimal()), None)
    if start is None:
        return None
    stop = len(body)
    while body[stop - 1] != "." and not body[stop - 1].isdecimal():
        stop -= 1
        if stop == start:
            return None
    currency = (body[:start] + body[stop:]).casefold().strip(".")
    is_sign = all(unicodedata.category(sign) == "Sc" for sign in currency)
    letters = "".join(sign for sign in currency if unicodedata.category(sign) != "Sc")
    if not is_sign and letters not in _CURRENCIES:
        return None
    return _Price(body[start:stop], currency)


def _decimal_mark(figures: Sequence[str]) -> str:
    """Decimal mark that most of the figures need."""
    n_commas = sum(map(_needs_comma, figures))
    n_points = sum(_needs_comma(text.translate(_SWAPPED)) for text in figures)
    return "," if n_commas > n_points else "."


def _needs_comma(figures: str) -> bool:
    """True if only a decimal comma explains the figures."""
    comma = figures.rfind(",")
    if comma < 0:
        return figures.count(".") > 1
    # Three digits after a single mark may be thousands.
    return (
        figures.count(",") == 1
        and comma > figures.rfind(".")
        and ("." in figures or len(figures) - comma != 4)
    )


def _plain(figures: str, mark: str) -> str:
    """Figures with a decimal point and without marks of thousands."""
    if _GROUPED[mark].fullmatch(figures):
        figures = figures.replace("," if mark == "." else ".", "")
    elif mark == "," and "." in figures:
        return ""  # a decimal point among decimal commas is not a number
    return figures.replace(",", ".") if mark == "," else figures
