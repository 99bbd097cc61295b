"""The question of a marketplace on a messy export: one command, whose answer is counted again from the ledger."""

import re

import numpy as np
import pandas as pd
import pytest
from kit import said_by

from rimsim.scenarios import load_run

COLUMNS = "user=Kunde,item=Artikelnr,time=Zeitpunkt,price=Betrag"
_MARKET = (
    "--rounds 2 --seeds 2 --workers 1 --no-certificate --frozen none --agents relevance,rim-feedback "
    "--set platform.model=popularity-hp --set consumer.truth=factors --set consumer.rank=4 "
    "--set arrivals.per_round=300 --min-item-events 1"
)
ZONES = ("+01:00", "+05:30")


@pytest.fixture(scope="module")
def export(purchases):
    """Rows as a shop exports them: decimal commas, euro signs, two time zones, and returns of a twentieth."""
    chance = np.random.default_rng(1)
    bought_at = pd.to_datetime(purchases["bought at"], utc=True, format="ISO8601")
    zones = chance.integers(2, size=len(purchases))
    table = pd.DataFrame(
        {
            "Kunde": purchases["customer"],
            "Artikelnr": purchases["sku"],
            "Zeitpunkt": [
                at.tz_convert(f"UTC{ZONES[zone]}").isoformat()
                for at, zone in zip(bought_at, zones, strict=True)
            ],
            "Betrag": [_german(100 * price) for price in purchases["price"]],
            "Verkäufer": purchases["seller"],
            "Menge": chance.integers(1, 4, len(purchases)),
        }
    )
    returned = table.sample(len(table) // 20, random_state=2)
    return pd.concat([table, returned.assign(Menge=-returned["Menge"])], ignore_index=True)


def _german(price):
    """Price such as ``1.234,50 €``."""
    return f"{price:,.2f} €".translate(str.maketrans(",.", ".,"))


def test_one_command_says_what_an_equal_share_of_each_seller_costs_and_who_gains(
    export, purchases, tmp_path, capsys
):
    """Exposures, guarantees, revenue and their change are those of the export and the ledger, by plain pandas."""
    path = tmp_path / "Verkäufe.csv"
    export.to_csv(path, index=False, sep=";", encoding="cp1252")
    words = f"compare --data {path} --columns {COLUMNS} --encoding cp1252 --drop-returns"
    words += f" --guarantee Verkäufer=0.3:groups {_MARKET} --out {tmp_path / 'run'}"
    output = said_by(capsys, words).out
    assert f"{len(export) - len(purchases):,} returns left out (rows with a negative Menge)" in output
    run = load_run(tmp_path / "run")

    price = purchases.groupby("sku")["price"].median() * 100
    assert price.max() > 1000 > price.min()
    ledger = run.ledger.rename(columns={"price": "bonus"}).merge(run.catalogue, on="item")
    weights = run.scenario.consumer.position_decay ** np.arange(run.scenario.slate)
    ledger["delivered"] = weights[ledger["position"] - 1]
    ledger["revenue"] = ledger["id"].map(price) * ledger["consumed"]
    keys = ["agent", "seed", "round", "Verkäufer"]
    recount = ledger.groupby(keys)[["delivered", "revenue"]].sum()
    table = run.groups.pivot_table(
        index=["agent", "seed", "round", "group"], columns="metric", values="value"
    )
    assert len(table) == 2 * 2 * 2 * 24
    recount = recount.reindex(table.index.set_names(keys)).fillna(0.0)
    for metric in ("delivered", "revenue"):
        np.testing.assert_allclose(table[metric], recount[metric], rtol=1e-5)
    # Each of 24 sellers is owed 30% of a 24th of all positions, in whole exposures.
    owed = round(0.3 * 300 * len(weights) / 24) * weights.mean()
    np.testing.assert_allclose(table["required"], owed, rtol=1e-5)

    # The answer is about the last round.
    late = recount.xs(1, level="round")
    missing = (owed - late["delivered"]).clip(lower=0).groupby("agent").sum() / (2 * 24 * owed)
    assert f"relevance leaves {missing['relevance']:.0%} (" in output
    ratio = late["delivered"].groupby(["agent", "Verkäufer"]).mean().unstack("agent") / owed
    n_short = int((ratio["relevance"] < 0.995).sum())
    assert 0 < n_short < 24
    assert f"relevance gives {n_short} of the 24 Verkäufer less than the guarantee" in output
    assert ratio["rim-feedback"].min() > 0.97
    revenue = late["revenue"].groupby("agent").sum() / (2 * 300)
    cost = re.search(r"revenue per slate .*?(?:difference −?|is )([\d.,]+)", output)
    assert cost is not None
    change = revenue["rim-feedback"] - revenue["relevance"]
    assert float(cost[1].replace(",", "")) == pytest.approx(abs(change), rel=0.01)

    # The table begins with the seller that gains most exposures.
    first_row = re.search(r"^Verkäufer .*\n─+\n(Seller \w) ", output, re.MULTILINE)
    assert first_row is not None
    exposures = ledger[ledger["round"] == 1].groupby(["Verkäufer", "agent"]).size().unstack(fill_value=0)
    gains = exposures["rim-feedback"] - exposures["relevance"]
    assert gains[first_row[1]] == gains.max()
    assert gains.max() > owed
