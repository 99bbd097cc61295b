"""Made-up log ``news``: articles that live for about a day.

The law of the log:

1. For 12 days, 96 articles a day are released, more by day than by night. Each has one of eight categories, a quality
   (log-normal, σ = 1) and a life (log-normal, median 20 hours, σ = 0.2).
2. Each of 1,500 users comes 1.2 times a day on average (exponential over users), more by day than by night. A session
   has 1 to 8 clicks, 2.5 on average.
3. A click goes to an article on offer that the user has not read, in proportion to quality × 2^(−age / 5 hours) ×
   taste. A user's taste for a category is log-normal (σ = 1.2).
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from scipy.special import ndtri

from rimsim.arrays import Floats
from rimsim.data.readers.containers import Container, Stream

NEWS: Final = "news"
"""Name of the made-up log of news."""
_SEED: Final = 20_261_201
_START: Final = 1_764_547_200.0  # 1 December 2025
_DAY: Final = 86_400.0
_DAYS: Final = 12
_PER_DAY: Final = 96
_USERS: Final = 1_500
_VISITS_PER_DAY: Final = 1.2
_LIFE_HOURS: Final = 20.0
HALF_LIFE_HOURS: Final = 5.0
"""Hours in which the appeal of an article halves."""
_CATEGORIES: Final = ("Business", "Culture", "Health", "Local", "Politics", "Science", "Sport", "World")
_MOST_CLICKS: Final = 8


def _normal(draw: np.random.Generator, *shape: int) -> Floats:
    """Standard normal numbers, by inversion of uniform numbers."""
    # Versions of NumPy may change the method of standard_normal, but not the stream of uniform numbers.
    return np.asarray(ndtri(draw.random(shape)), np.float64)


def _times(draw: np.random.Generator, count: int) -> Floats:
    """Sorted times within the days, with a daily rhythm."""
    # The density within a day is 1 − 0.8·cos(2π·share): lowest at midnight, highest at noon.
    share = np.linspace(0.0, 1.0, 1441)
    cumulative = share - 0.8 * np.sin(2 * np.pi * share) / (2 * np.pi)
    day = np.floor(draw.random(count) * _DAYS)
    share_of_day = np.interp(draw.random(count), cumulative, share)
    return np.sort(_START + _DAY * (day + share_of_day))


def _articles(draw: np.random.Generator) -> pd.DataFrame:
    """Table of articles, with their quality."""
    n = _DAYS * _PER_DAY
    release = np.floor(_times(draw, n))
    life = _LIFE_HOURS * 3600.0 * np.exp(0.2 * _normal(draw, n))
    category = np.floor(draw.random(n) * len(_CATEGORIES)).astype(np.int64)
    return pd.DataFrame(
        {
            "id": np.arange(1, n + 1),
            "title": [f"Article {number}" for number in range(1, n + 1)],
            "genres": np.array(_CATEGORIES, object)[category],
            "release": release,
            "end": np.floor(release + life),
            "quality": np.exp(_normal(draw, n)),
            "category": category,
        }
    )


def _clicks(draw: np.random.Generator, articles: pd.DataFrame) -> pd.DataFrame:
    """Clicks of all sessions."""
    activity = -np.log1p(-draw.random(_USERS))
    taste = np.exp(1.2 * _normal(draw, _USERS, len(_CATEGORIES)))
    n_sessions = round(_USERS * _DAYS * _VISITS_PER_DAY)
    start = _times(draw, n_sessions)
    share = np.cumsum(activity) / activity.sum()
    user = np.minimum(np.searchsorted(share, draw.random(n_sessions), "right"), _USERS - 1)
    # Geometric number of clicks, at least 1.
    n_clicks = np.minimum(1 + np.floor(np.log1p(-draw.random(n_sessions)) / np.log(0.6)), _MOST_CLICKS)
    release = articles["release"].to_numpy()
    end = articles["end"].to_numpy()
    appeal = articles["quality"].to_numpy()
    category = articles["category"].to_numpy()
    is_read = np.zeros((_USERS, len(articles)), bool)
    parts: list[tuple[int, int, float]] = []
    for session in range(n_sessions):
        reader = int(user[session])
        now = start[session]
        items = np.flatnonzero((release <= now) & (now < end) & ~is_read[reader])
        noise = -np.log(-np.log(draw.random(len(items)) + 1e-300))
        fade = np.log(2.0) * (now - release[items]) / (3600.0 * HALF_LIFE_HOURS)
        # The largest sums of a log weight and a Gumbel number are a draw without replacement by the weights.
        key = np.log(appeal[items] * taste[reader, category[items]]) - fade + noise
        chosen = items[np.argsort(-key, kind="stable")[: int(n_clicks[session])]]
        is_read[reader, chosen] = True
        parts += [(reader + 1, int(item) + 1, now + 60.0 * place) for place, item in enumerate(chosen)]
    events = pd.DataFrame(parts, columns=["user", "item", "timestamp"])
    events["timestamp"] = np.floor(events["timestamp"])
    # A session can outlast an article, whose page then no longer takes clicks.
    is_on_offer = events["timestamp"].to_numpy() < end[events["item"].to_numpy() - 1]
    clicks: pd.DataFrame = events.loc[is_on_offer].sort_values(
        ["timestamp", "user", "item"], ignore_index=True
    )
    return clicks


@lru_cache(maxsize=1)
def _files() -> dict[str, bytes]:
    """Parquet files of the log, by name."""
    draw = np.random.default_rng(_SEED)
    articles = _articles(draw)
    tables = {
        "events.parquet": _clicks(draw, articles),
        "items.parquet": articles.drop(columns=["quality", "category"]),
    }
    files = {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        files[name] = buffer.getvalue()
    return files


def made_up_container(name: str) -> Container:
    """Container of the made-up log."""
    files = _files()

    def opened(member: str) -> Stream:
        return Stream(f"{name}/{member}", io.BytesIO(files[member]), len(files[member]))

    return Container(name=name, members=tuple(files), open=opened)
