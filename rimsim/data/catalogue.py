"""Logs that rimsim knows by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rimsim.errors import ConfigError, nearest

_BASE: Final = "https://files.grouplens.org/datasets/movielens"
_TERMS: Final = (
    "GroupLens Research: research use, no redistribution without permission, no commercial use; cite Harper "
    "and Konstan 2015"
)


@dataclass(frozen=True)
class Entry:
    """A log that is embedded or can be fetched."""

    name: str
    """What :func:`rimsim.data.load` and :func:`rimsim.data.download` call it."""
    title: str
    """Its full name."""
    users: int
    """Users with events."""
    items: int
    """Items with events."""
    events: int
    """Events."""
    url: str | None
    """Where it is fetched from; None: it ships with rimsim."""
    size: int
    """Bytes to fetch."""
    checksum: str
    """``md5:`` or ``sha256:`` and the digest of the file, as its publisher states it."""
    terms: str
    """Conditions of use in short."""

    @property
    def file(self) -> str:
        """Name of the fetched file."""
        return f"{self.name}.zip"

    def text(self) -> str:
        """One line for a person."""
        how = "embedded" if self.url is None else f"{self.size / 1e6:,.0f} MB to fetch"
        counts = f"{self.users:,} users, {self.items:,} items, {self.events:,} events"
        return f"{self.name:<16} {self.title}: {counts} ({how})"


def _movielens(edition: str, title: str, counts: tuple[int, int, int], size: int, md5: str) -> Entry:
    name, url = f"ml-{edition}", f"{_BASE}/ml-{edition}.zip"
    return Entry(name, f"MovieLens {title}", *counts, url, size, f"md5:{md5}", _TERMS)


# Checksums are those that GroupLens publishes beside its files; "latest" has none because it changes.
_KNOWN: Final = (
    Entry(
        "ml-latest-small",
        "MovieLens latest-small, October 2016",
        671,
        9_066,
        100_004,
        None,
        0,
        "",
        "GroupLens Research: redistribution under the same terms, no commercial use; cite Harper and Konstan "
        "2015",
    ),
    _movielens("100k", "100K, 1998", (943, 1_682, 100_000), 4_924_029, "0e33842e24a9c977be4e0107933c0723"),
    _movielens("1m", "1M, 2003", (6_040, 3_706, 1_000_209), 5_917_549, "c4d9eecfca2ab87c1945afe126590906"),
    _movielens(
        "10m", "10M, 2009", (69_878, 10_677, 10_000_054), 65_566_137, "ce571fd55effeba0271552578f2648bd"
    ),
    _movielens(
        "20m", "20M, 2015", (138_493, 26_744, 20_000_263), 198_702_078, "cd245b17a1ae2cc31bb14903e1204af3"
    ),
    _movielens(
        "25m", "25M, 2019", (162_541, 59_047, 25_000_095), 261_978_986, "6b51fb2759a8657d3bfcbfc42b592ada"
    ),
    _movielens(
        "32m", "32M, 2023", (200_948, 84_432, 32_000_204), 238_950_008, "d472be332d4daa821edc399621853b57"
    ),
)


def catalogue() -> tuple[Entry, ...]:
    """The logs that rimsim knows by name; only the first is there without being fetched."""
    return _KNOWN


def entry(name: str) -> Entry:
    """One of them.

    Raises:
        ConfigError: If there is none of this name; the message offers the nearest.
    """
    for known in _KNOWN:
        if known.name == name:
            return known
    raise ConfigError(f"no log is known as {name!r}.{nearest(name, [known.name for known in _KNOWN])}")
