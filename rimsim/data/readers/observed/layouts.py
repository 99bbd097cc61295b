"""Layouts of published tables in which it is known what users say of items that they did not choose.

* KuaiRec (Gao et al., CIKM 2022, doi 10.1145/3511808.3557220): ``small_matrix.csv`` has a row for nearly every pair of
  1,411 users and 3,327 videos, with the share of the video that was watched (``watch_ratio``) and, not in all rows, a
  ``timestamp`` in seconds. ``big_matrix.csv`` has the same columns and is an ordinary log.
* KuaiRand (Gao et al., CIKM 2022, doi 10.1145/3511808.3557624): ``log_random_….csv`` has videos that were put into
  feeds at random, with ``is_click`` and other answers of 0 or 1, and ``time_ms``; ``log_standard_….csv`` has what was
  recommended.
* Coat (Schnabel et al., ICML 2016, arXiv 1602.05352): ``test.ascii`` is a matrix with a row for each of 290 users and a
  column for each of 300 coats, ratings 1 to 5 of 16 random coats from each user and 0 elsewhere; ``train.ascii`` has
  what they chose to rate.
* Yahoo! R3 (Marlin and Zemel, RecSys 2009): ``ydata-ymusic-rating-study-v1_0-test.txt`` has ratings 1 to 5 of ten
  random songs from each of 5,400 users, as user, song and rating between tabs; ``…-train.txt`` has songs that they
  chose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from rimsim.data.readers.rows import LARGEST_VALUE
from rimsim.errors import DataError, nearest

if TYPE_CHECKING:
    from rimsim.data.readers.rows import Unit


_PACKED: Final = r"(\.gz|\.bz2|\.xz)?"
_TABLES: Final = re.compile(rf".+\.(csv|tsv|txt|dat|data|inter|parquet|pq|ascii){_PACKED}", re.IGNORECASE)
_NO_TABLE: Final = re.compile(r"(\.|readme|license|notice).*", re.IGNORECASE)


@dataclass(frozen=True)
class ObservedLayout:
    """How a table of answers is written."""

    name: str
    files: str
    """Regular expression of the file's name."""
    columns: tuple[str | int, str | int, str | int] | None = None
    """Columns of user, item and value: names, or positions from 1; None: a header with usual names."""
    time: str | None = None
    """Column of times."""
    unit: Unit | None = None
    """Of times; None: the one that most of them fit."""
    separator: str | None = None
    """Between fields; None: found by itself."""
    matrix: bool = False
    """Whether the file is a matrix of users by items, with 0 where nothing is observed."""
    largest: float = LARGEST_VALUE
    """No value is larger."""
    at_random: bool | None = False
    """Whether who was shown what did not depend on what they like; None: unknown."""

    def fits(self, member: str) -> bool:
        """Whether a file has the name of this layout."""
        name = PurePosixPath(member).name
        return re.fullmatch(rf"{self.files}{_PACKED}", name, re.IGNORECASE) is not None


_KUAIREC: Final = ("user_id", "video_id", "watch_ratio")
_KUAIRAND: Final = ("user_id", "video_id", "is_click")
_R3: Final = r"ydata-ymusic-rating-study-v1_0-"

PLAIN: Final = ObservedLayout("table", ".*", at_random=None)
"""A table of no known layout."""

LAYOUTS: Final = (
    ObservedLayout(
        "KuaiRec small matrix", r"small_matrix\.csv", _KUAIREC, "timestamp", "s", ",", at_random=True
    ),
    ObservedLayout("KuaiRec big matrix", r"big_matrix\.csv", _KUAIREC, "timestamp", "s", ","),
    ObservedLayout(
        "KuaiRand random", r"log_random_.+\.csv", _KUAIRAND, "time_ms", "ms", ",", largest=1, at_random=True
    ),
    ObservedLayout("KuaiRand standard", r"log_standard_.+\.csv", _KUAIRAND, "time_ms", "ms", ",", largest=1),
    ObservedLayout("Coat random", r"test\.ascii", matrix=True, largest=5, at_random=True),
    ObservedLayout("Coat chosen", r"train\.ascii", matrix=True, largest=5),
    ObservedLayout(
        "Yahoo! R3 random", rf"{_R3}test\.txt", (1, 2, 3), separator="\t", largest=5, at_random=True
    ),
    ObservedLayout("Yahoo! R3 chosen", rf"{_R3}train\.txt", (1, 2, 3), separator="\t", largest=5),
)


def find_observed(members: Iterable[str], name: str, only: str | None = None) -> tuple[str, ObservedLayout]:
    """The table in a container, and its layout.

    Of a folder with a known layout, the file with answers to what was not chosen is taken.

    Args:
        members: Names of the container's files.
        name: How messages call it.
        only: The one file that was asked for, if it was one.

    Raises:
        DataError: If there is no table, or more than one.
    """
    known = sorted(set(members))
    if only is not None:
        if only not in known:
            raise DataError(f"{name}: no member {only!r}.{nearest(only, known)}")
        return only, _layout_of(only)
    found = [(member, layout) for member in known if (layout := _layout_of(member)).at_random]
    if not found:
        found = [
            (member, _layout_of(member))
            for member in known
            if _TABLES.fullmatch(base := PurePosixPath(member).name) and not _NO_TABLE.fullmatch(base)
        ]
    if not found:
        seen = ", ".join(known[:8]) or "nothing"
        raise DataError(
            f"{name}: no observed table in it; found {seen}; allowed: small_matrix.csv, log_random_….csv, "
            f"test.ascii, ydata-ymusic-rating-study-v1_0-test.txt, or one table of users, items and values"
        )
    if len(found) > 1:
        names = ", ".join(member for member, _ in found[:8])
        raise DataError(
            f"{name}: more than one observed table in it ({names}); say which, such as {name}/{found[0][0]}"
        )
    return found[0]


def _layout_of(member: str) -> ObservedLayout:
    return next((layout for layout in LAYOUTS if layout.fits(member)), PLAIN)
