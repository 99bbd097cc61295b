"""Notes on groups before a run: lost groups, items without a group, guarantees of nothing."""

import pandas as pd
import pytest
from kit.shop import SETTINGS

from rimsim.scenarios.study.checks import LogArguments, resolved
from rimsim.scenarios.study.notes import notes_of


@pytest.fixture
def notes(purchases, tmp_path):
    """Function that gives the notes on guarantees of sellers, with other settings."""
    table = purchases.copy()
    items = sorted(table["sku"].unique())
    table.loc[table["sku"].isin(items[:5]), "seller"] = ""
    rare = table.head(3).assign(sku=["X1", "X2", "X3"], seller=["Rare A", "Rare B", "Rare B"])
    path = tmp_path / "shop.csv"
    pd.concat([table, rare]).to_csv(path, index=False)

    def text(**settings):
        config = resolved(
            "closed-loop",
            log=LogArguments(data=path),
            settings=SETTINGS | settings,
            guarantee={"seller": 0.3},
        )
        return "\n".join(notes_of(config))

    return text


def test_groups_that_a_run_loses_are_said_before_it(notes):
    """Groups without enough events, items without a group, and guarantees that round to 0 are counted once each."""
    text = notes()
    assert "5 of the 123 items have no seller, so they belong to no group and have no guarantee" in text
    assert "the selection of events" not in text
    text = notes(**{"data.min_item_events": 3})
    assert "the selection of events leaves 24 of the 26 sellers" in text
    assert "rounds to 0" not in text
    text = notes(**{"arrivals.per_round": 6})
    assert "of the 26 sellers are guaranteed no exposure" in text
