"""A small made-up log of items that end, written to a folder."""

import numpy as np
import pandas as pd

from rimsim import config as records

START = 1_700_000_000.0
HOUR = 3_600.0


def news_tables(n_items=48, n_users=30, seed=0):
    """Events and items: one item released an hour, which lives for 8 to 16 hours, and clicks on items on offer."""
    draw = np.random.default_rng(seed)
    release = START + HOUR * np.arange(n_items)
    end = release + HOUR * draw.integers(8, 17, n_items)
    rows = []
    for user in range(n_users):
        read = set()
        for begin in np.sort(draw.uniform(START + HOUR, START + HOUR * n_items, 10)).tolist():
            on_offer = np.flatnonzero((release <= begin) & (begin + 60 < end))
            for place, item in enumerate(draw.permutation(on_offer)[:2].tolist()):
                if item not in read:
                    rows.append((user, item, np.floor(begin + 20.0 * place)))
                    read.add(item)
    events = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    items = pd.DataFrame({"id": np.arange(n_items), "release": release, "end": end})
    return events, items


def news_source(folder):
    """Folder with the tables, as a log's source."""
    path = folder / "log"
    path.mkdir(exist_ok=True)
    for name, table in zip(("events", "items"), news_tables(), strict=True):
        table.to_parquet(path / f"{name}.parquet", index=False)
    return str(path)


def news_scenario(folder, **changes):
    """Replay of the later sessions of the log, with clicks by popularity by age."""
    fields = {
        "name": "small-news",
        "rounds": 2,
        "slate": 3,
        "data": records.DataConfig(source=news_source(folder)),
    }
    fields["arrivals"] = records.ArrivalsConfig(kind="replay", per_round=None, warmup_share=0.4)
    fields["consumer"] = records.ConsumerConfig(truth="fresh")
    fields["platform"] = records.PlatformConfig(model="fresh-hp")
    return records.ScenarioConfig(**(fields | changes))
