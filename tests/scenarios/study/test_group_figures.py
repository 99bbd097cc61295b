"""Figures of each seller or other group in a run, and the report that shows them."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kit import said_by
from kit.shop import COLUMNS, SETTINGS

from rimsim.data.log import prices_of
from rimsim.measures import MEASURES, made_up_round
from rimsim.measures.groups import figures_of_groups
from rimsim.scenarios import load_run, sweep
from rimsim.scenarios.report import group_figures, group_sentences
from rimsim.scenarios.report.group_chart import picture
from rimsim.scenarios.report.group_figures import figures_of
from rimsim.scenarios.report.group_section import group_table
from rimsim.tracking import read_scalars

_QUICK = (
    "--rounds 2 --seeds 2 --workers 1 --no-certificate --frozen none --agents relevance,rim-feedback "
    "--set platform.model=popularity-hp --set consumer.truth=factors --set consumer.rank=4 "
    "--set arrivals.per_round=300 --set data.min_item_events=1"
)
QUICK = _QUICK.split()


@pytest.fixture(scope="module")
def run(csv, tmp_path_factory):
    """Run of the one command that answers a seller's question."""
    from rimsim.scenarios.cli.main import main

    out = tmp_path_factory.mktemp("runs") / "shop"
    words = ["compare", "--data", str(csv), "--columns", COLUMNS, "--guarantee", "seller=0.5", *QUICK]
    assert main([*words, "--groups", "category", "--out", str(out)]) == 0
    return load_run(out)


def test_each_sellers_figures_are_those_of_the_ledger(run, purchases):
    """A recount by plain pandas gives the same exposures, consumptions, revenues and bonuses."""
    price = purchases.groupby("sku")["price"].median()
    catalogue = run.catalogue.assign(price=run.catalogue["id"].map(price))
    decay = run.scenario.consumer.position_decay
    ledger = run.ledger.merge(catalogue[["item", "seller", "price"]], on="item", suffixes=("", "_of_item"))
    weight = decay ** (ledger["position"] - 1)
    ledger = ledger.assign(
        exposures=1.0,
        delivered=weight,
        consumptions=ledger["consumed"].astype(float),
        revenue=ledger["price_of_item"] * ledger["consumed"],
        bonus=weight * (-ledger["price"]).clip(lower=0),
    )
    metrics = ["exposures", "delivered", "consumptions", "revenue", "bonus"]
    keys = ["agent", "seed", "round", "seller"]
    recount = ledger.groupby(keys)[metrics].sum()
    table = run.groups[run.groups["column"] == "seller"]
    wide = table.pivot(index=["agent", "seed", "round", "group"], columns="metric", values="value")
    for metric in metrics:
        expected = recount[metric].reindex(wide.index.set_names(keys)).fillna(0.0).to_numpy()
        measured = wide[metric].to_numpy()
        has_bonus = metric != "bonus" or wide.index.get_level_values("agent") == "rim-feedback"
        np.testing.assert_allclose(measured[has_bonus], expected[has_bonus], rtol=1e-6, atol=1e-9)
    assert recount["consumptions"].sum() > 20
    assert wide["bonus"].isna().groupby("agent").all().to_dict() == {"relevance": True, "rim-feedback": False}


def test_the_guarantee_is_half_of_the_uniform_exposure(run):
    """A seller with n of M items is owed half of n/M of all positions, in whole examined exposures."""
    table = run.groups[(run.groups["column"] == "seller")]
    wide = table.pivot_table(index=["agent", "seed", "round", "group"], columns="metric", values="value")
    scenario = run.scenario
    weights = scenario.consumer.position_decay ** np.arange(scenario.slate)
    owed = 0.5 * wide["items"] / len(run.catalogue) * 300 * weights.sum()
    np.testing.assert_allclose(wide["required"], owed, atol=1.0)
    missing = (wide["required"] - wide["delivered"]).clip(lower=0)
    np.testing.assert_allclose(wide["undelivered"], missing, atol=1e-9)
    assert table["group"].nunique() == 24


def test_each_seller_may_be_guaranteed_a_part_of_an_equal_share(csv, purchases, tmp_path, capsys):
    """30% of an equal share for each of 24 sellers, whatever their articles, recounted from the ledger."""
    from rimsim.scenarios.cli.main import main

    out = tmp_path / "equal"
    words = ["compare", "--data", str(csv), "--columns", COLUMNS, "--guarantee", "seller=0.3:groups", *QUICK]
    assert main([*words, "--out", str(out)]) == 0
    assert "30% of an equal share of each seller, whatever its number of items" in capsys.readouterr().out
    equal = load_run(out)
    weights = equal.scenario.consumer.position_decay ** np.arange(equal.scenario.slate)
    articles = purchases.groupby("seller")["sku"].nunique()
    assert articles.max() > 3 * articles.min()
    # 300 visits with a slate each, shared by 24 sellers, in whole exposures at average positions.
    owed = round(0.3 * 300 * equal.scenario.slate / 24) * weights.mean()
    table = equal.groups.pivot_table(
        index=["agent", "seed", "round", "group"], columns="metric", values="value"
    )
    assert table["required"].to_numpy() == pytest.approx(owed)
    ledger = equal.ledger.merge(equal.catalogue[["item", "seller"]], on="item")
    weight = pd.Series(weights[ledger["position"] - 1], name="delivered")
    recount = weight.groupby([ledger[name] for name in ("agent", "seed", "round", "seller")]).sum()
    delivered = recount.reindex(table.index).fillna(0.0)
    assert table["delivered"].to_numpy() == pytest.approx(delivered.to_numpy())
    missing = (owed - delivered).clip(lower=0).groupby(["agent", "round"]).sum() / (24 * 2 * owed)
    assert missing["rim-feedback", 1] < 0.03
    assert missing["relevance", 1] > 0.3


def test_prices_deliver_what_relevance_withholds_from_sellers(run):
    """rim-feedback leaves next to nothing undelivered in the last round, while relevance starves sellers."""
    last = run.groups[(run.groups["column"] == "seller") & (run.groups["round"] == 1)]
    sums = last.groupby(["agent", "metric"])["value"].sum().unstack()
    undelivered = sums["undelivered"] / sums["required"]
    assert undelivered["rim-feedback"] < 0.03
    assert undelivered["relevance"] > 0.3
    wide = last[last["agent"] == "relevance"].pivot_table(index="group", columns="metric", values="value")
    assert (wide["delivered"] < 0.1 * wide["required"]).sum() >= 5


def test_groups_without_a_guarantee_are_reported_too(run):
    """--groups category adds the six categories, without required exposures."""
    table = run.groups[run.groups["column"] == "category"]
    assert table["group"].nunique() == 6
    assert set(table["metric"]) == {
        "items",
        "exposures",
        "delivered",
        "utility",
        "consumptions",
        "revenue",
        "bonus",
    }
    totals = (
        run.groups[run.groups["metric"] == "exposures"]
        .groupby(["column", "agent", "seed", "round"])["value"]
        .sum()
    )
    assert set(totals) == {totals.iloc[0]}


def test_revenue_is_a_measure_where_items_have_prices(run):
    """Revenue per slate is the sellers' revenue over the arrivals; a log without prices has no such measure."""
    table = run.groups[(run.groups["column"] == "seller") & (run.groups["metric"] == "revenue")]
    of_groups = table.groupby(["agent", "seed", "round"])["value"].sum()
    measured = run.rounds[run.rounds["metric"] == "revenue"].set_index(["agent", "seed", "round"])["value"]
    arrivals = run.arrivals.groupby(["agent", "seed", "round"]).size()
    pd.testing.assert_series_equal(measured.sort_index(), of_groups / arrivals, check_names=False)
    items = pd.DataFrame({"id": [1, 2, 3, 4], "genres": "", "cost": [1.0, 2.0, 3.0, 4.0]})
    assert MEASURES["revenue"].value(made_up_round(items, slate=2)) is None
    priced = made_up_round(items.assign(price=[10.0, 20.0, np.nan, 40.0]), slate=2)
    expected = [[10, 20, 0, 40][item] for item in priced.slates[priced.consumed]]
    assert MEASURES["revenue"].value(priced) == pytest.approx(sum(expected) / len(priced.slates))


def test_figures_of_overlapping_groups_count_an_item_in_each():
    """Two groups that share item 1 both have its exposures; a group with a guarantee has what is missing."""
    facts = made_up_round(pd.DataFrame({"id": range(6), "genres": ""}), slate=3)
    rows = figures_of_groups(facts, {"a": np.array([0, 1]), "b": np.array([1])}, {"b": (7.5, 5.0)})
    values = {(group, metric): value for group, metric, value in rows}
    assert values["a", "exposures"] == facts.exposure[:2].sum()
    assert values["b", "exposures"] == facts.exposure[1]
    assert (values["b", "required"], values["b", "undelivered"]) == (7.5, 2.5)
    assert ("a", "required") not in values
    assert ("a", "revenue") not in values


def test_prices_are_numbers_under_a_usual_name():
    """A price is read by its name and only if it is a number; an unknown price is 0."""
    items = pd.DataFrame({"id": [1, 2], "Unit Price": [2.5, np.nan], "price": ["a", "b"]})
    assert prices_of(items).tolist() == [2.5, 0.0]
    assert prices_of(items[["id", "price"]]) is None


def test_the_report_answers_the_sellers_question(run, capsys):
    """The answer has delivery, starved sellers, cost and revenue; a table has a row per seller and one of all."""
    said = said_by(capsys, ["report", str(run.folder), "--markdown"]).out
    assert "of the exposure guaranteed to sellers undelivered, `rim-feedback` " in said
    assert "of the 24 sellers less than the guarantee" in said
    assert "cost users at most" in said
    assert "revenue per slate" in said
    table = next(table for table in run.report().tables if table.title.startswith("Sellers"))
    assert len(table.rows) == 25
    assert [row[0] for row in table.rows][-1] == "all"
    assert {"required", "delivered, relevance", "revenue, change", "bonus paid"} <= set(table.columns)
    changes = [
        float(row[table.columns.index("exposures, change")].split(" ")[0].rstrip("=").replace("−", "-"))
        for row in table.rows[:-1]
    ]
    assert changes == sorted(changes, reverse=True)


def test_all_of_a_row_of_sums_is_what_sellers_add_up_to(run):
    """The last row has the sums of all sellers, and the delivered share of all guarantees."""
    figures = figures_of(run, "seller")
    rows = {
        row[0]: dict(zip(group_table(figures, 2).columns, row, strict=True))
        for row in group_table(figures, 2).rows
    }
    late = run.groups[(run.groups["round"] == 1) & (run.groups["column"] == "seller")]
    sums = late.groupby(["agent", "metric"])["value"].sum() / 2
    assert rows["all"]["items"] == "120"
    assert float(rows["all"]["required"]) == pytest.approx(sums["relevance", "required"], rel=0.01)
    share = 1 - sums["relevance", "undelivered"] / sums["relevance", "required"]
    assert rows["all"]["delivered, relevance"] == f"{100 * share:.0f}%"


def test_groups_that_share_items_have_no_row_of_all(run):
    """With a cell A|B in the catalogue, a sum over groups would count an item twice."""
    figures = figures_of(run, "seller")
    shared = replace(figures, memberships=("Seller A|Seller B", *figures.memberships[1:]))
    for table, n_rows in ((group_table(figures, 2), 25), (group_table(shared, 2), 24)):
        assert len(table.rows) == n_rows
        assert ("all" in {row[0] for row in table.rows}) == (n_rows == 25)


@pytest.mark.parametrize(("of_base", "of_agent", "per_cent"), [(100.0, 80.0, "20%"), (80.0, 100.0, "25%")])
def test_a_change_of_revenue_is_relative_to_the_baseline(monkeypatch, of_base, of_agent, per_cent):
    """The sentence has per cent of the baseline's revenue, and an interval whose first end is the smaller one."""
    draw = np.random.default_rng(0)
    rows = [
        (agent, seed, number, "revenue", mean + draw.normal())
        for agent, mean in (("relevance", of_base), ("rim-feedback", of_agent))
        for seed in range(6)
        for number in range(2)
    ]
    rounds = pd.DataFrame(rows, columns=["agent", "seed", "round", "metric", "value"])
    monkeypatch.setattr(group_sentences, "shown_rounds", lambda run: rounds)
    finished = SimpleNamespace(agents=["relevance", "rim-feedback"], own_measures={})
    text = group_sentences._revenue(finished, SimpleNamespace(agent="rim-feedback", base="relevance"))
    assert per_cent in text
    assert f" {'lower' if of_agent < of_base else 'higher'} with `rim-feedback`" in text
    numbers = re.search(r"is ([\d.]+) \(([\d.]+) to ([\d.]+)\)", text)
    assert numbers, text
    amount, low, high = map(float, numbers.groups())
    assert low < amount < high


def test_more_groups_than_fit_are_cut_to_gainers_and_losers(run, monkeypatch):
    """With many groups the table has those that gained most and those that lost most, and says of how many."""
    monkeypatch.setattr(group_figures, "MAX_GROUPS", 6)
    table = group_table(figures_of(run, "seller"), 2)
    assert "the 3 that gained most and the 3 that lost most of 24" in table.title
    assert len(table.rows) == 7


def test_the_picture_draws_names_with_dollar_signs(run):
    """Names of sellers come from a log, so no text of the picture is read as a formula."""
    figures = figures_of(run, "seller")
    named = figures.late.assign(group="$x_" + figures.late["group"] + "$")
    drawn = picture(replace(figures, late=named))
    drawn.canvas.draw()
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert len(labels) == 24
    assert labels[0].startswith("$x_Seller ")
    assert "relevance" in drawn.texts[0].get_text().replace("\n", " ")


def test_tensorboard_has_a_tag_per_group_and_figure(run):
    """A point per round, with the value of the table."""
    scalars = read_scalars(run.folder / "events" / "relevance" / "seed-0")
    points = scalars["groups/seller Seller A/exposures"]
    table = run.groups
    mine = table[(table["agent"] == "relevance") & (table["seed"] == 0) & (table["group"] == "Seller A")]
    expected = mine[mine["metric"] == "exposures"].sort_values("round")["value"].tolist()
    assert [value for _, value in points] == pytest.approx(expected)
    assert not [name for name in scalars if name.startswith("zz_by_arrivals/groups/")]


def test_a_sweep_varies_a_guarantee(csv, tmp_path):
    """Several shares of a column are points of a sweep, each with its groups."""
    swept = sweep(
        "closed-loop",
        agents="random",
        rounds=1,
        seeds=1,
        data=csv,
        settings=SETTINGS,
        guarantee={"seller": (0.2, 0.5)},
        certify=False,
        workers=1,
        out=tmp_path / "sweep",
    )
    points = [load_run(path) for path in sorted((tmp_path / "sweep" / "points").iterdir())]
    owed = [point.groups.query("metric == 'required'")["value"].sum() for point in points]
    assert owed[1] == pytest.approx(2.5 * owed[0], rel=0.05)  # in whole exposures
    assert set(swept.sweep["beta"]) == {0.2, 0.5}


def test_a_surplus_of_earlier_rounds_is_not_undelivered():
    """A group that has its exposures from earlier rounds is due some, but owes none."""
    keys = {"agent": "a", "seed": 0, "round": 3}
    late = pd.DataFrame(
        [keys | {"group": "x", "metric": metric, "value": 9.0} for metric in ("required", "undelivered")]
    )
    rows = pd.DataFrame([keys | {"name": "seller x", "due": 10.0, "least": 4.0, "delivered": 3.0}])
    figures = group_figures._without_carry_over(late, rows, "seller").set_index("metric")["value"]
    assert figures.to_dict() == {"required": 10.0, "undelivered": 1.0}
