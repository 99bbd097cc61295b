"""A made-up shop: a CSV file of purchases with sellers and prices.

``python examples/shop.py shop.csv`` writes about 41,000 purchases of 3,000 customers from 24 sellers. The file has the
faults of real exports: times in four zones, doubled rows, prices that change, and a column that says nothing of items.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

CUSTOMERS = 3000
ITEMS = 400
SELLERS = 24
ZONES = ("+00:00", "+01:00", "+02:00", "+05:30")
CATEGORIES = ("books", "garden", "kitchen", "music", "sport", "toys")


def shop(customers: int = CUSTOMERS, items: int = ITEMS, seed: int = 0) -> pd.DataFrame:
    """Purchases of a made-up shop, a row per purchase.

    Some sellers are better known than others, so that a recommender that learns from purchases leaves these behind.
    """
    draw = np.random.default_rng(seed)
    seller = draw.choice(SELLERS, items, p=_shares(SELLERS, 0.4))
    fame = np.exp(draw.normal(0.0, 0.5, SELLERS))
    category = draw.integers(len(CATEGORIES), size=items)
    price = np.round(np.exp(draw.normal(3.0, 0.7, items)), 2)
    appeal = fame[seller] * np.exp(draw.normal(0.0, 0.6, items))
    taste = draw.dirichlet(np.full(len(CATEGORIES), 0.4), customers)
    visits = 1 + draw.poisson(3.5, customers)
    rows = []
    for customer in range(customers):
        chance = appeal * (0.02 + taste[customer][category])
        count = min(int(visits[customer]) * 3, items // 2)
        bought = draw.choice(items, count, replace=False, p=chance / chance.sum())
        start = np.sort(draw.uniform(0, 120 * 86_400, visits[customer]))
        moment = np.repeat(start, 3)[:count] + np.tile([0, 240, 600], visits[customer])[:count]
        rows += [(customer, item, second) for item, second in zip(bought, moment, strict=True)]
    customer, item, second = (np.array(column) for column in zip(*rows, strict=True))
    zone = draw.integers(len(ZONES), size=len(item))
    utc = pd.Timestamp("2024-01-08", tz="UTC") + pd.to_timedelta(second.round(), unit="s")
    table = pd.DataFrame(
        {
            "customer": [f"c{number:04d}" for number in customer],
            "sku": [f"SKU-{number:03d}" for number in item],
            "bought at": [
                when.tz_convert(f"UTC{ZONES[place]}").isoformat()
                for when, place in zip(utc, zone, strict=True)
            ],
            "price": np.round(price[item] * draw.choice([1.0, 1.0, 1.0, 0.9], len(item)), 2),
            "seller": [f"Seller {chr(65 + number)}" for number in seller[item]],
            "category": [CATEGORIES[number] for number in category[item]],
            "channel": draw.choice(["app", "web"], len(item)),
        }
    )
    doubled = table.sample(len(table) // 60, random_state=seed)
    return pd.concat([table, doubled]).sample(frac=1.0, random_state=seed)


def _shares(count: int, slope: float) -> np.ndarray:
    """Shares that fall with the rank, like those of sellers and of items."""
    weight = np.arange(1, count + 1) ** -slope
    return weight / weight.sum()


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "shop.csv")
    purchases = shop()
    purchases.to_csv(path, index=False)
    print(f"{path}: {len(purchases):,} purchases")
