"""Pictures of a run: drawn from tables, saying what the data say."""

import itertools
import re
import warnings
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from kit import cases
from kit.logs import rounds_of
from kit.markets import drawn
from matplotlib.image import imread

from rimsim import house_style, measures
from rimsim.agents.registry import ENTRIES, agent_styles
from rimsim.scenarios.report import charts, comparison, items, loop, numbers, prices, sweep, titles
from rimsim.scenarios.report.comparison import PICTURES
from rimsim.scenarios.report.happenings import RoundHours
from rimsim.scenarios.report.picture_tables import PictureTables
from rimsim.scenarios.report.record import Plot
from rimsim.scenarios.report.tables import last_round

DAY = 86_400.0
AGENTS = ("relevance", "relevance-frozen", "rim-dual", "rim-dual-frozen", "rim-feedback", "random", "oracle")


@pytest.fixture(scope="module", autouse=True)
def _pictures():
    """Pictures are drawn here, in the house style."""
    with drawn(), charts.style():
        yield


def _shown(agent: str, seed: int, number: int, *, n: int, k: int, m: int):
    """Slates, prices and true worth of a made-up market: heads deepen by retraining, prices lift the tail."""
    rows = np.random.default_rng([seed, number])
    taste = rows.gumbel(size=(n, m))
    intensity = rows.lognormal(0, 0.8, n)
    slope = 0.9 + (0 if agent.endswith("-frozen") else 0.09 * number)
    kind = agent.removesuffix("-frozen")
    worth = np.exp(1.2 * taste - 0.7 * np.log1p(np.arange(m)))
    worth = 0.9 * worth / worth.max(axis=1, keepdims=True)
    noise = np.random.default_rng([seed, number, len(agent)]).gumbel(size=(n, m))
    score = 0.9 * taste - slope * np.log1p(np.arange(m)) + 0.8 * noise
    price = np.zeros(m)
    if kind.startswith("rim"):
        price = -np.linspace(0, 2.2 if kind == "rim-dual" else 2.6, m)
        score = score - price * (1.6 - 0.4 * np.log(intensity))[:, None]
    elif kind == "random":
        score = noise
    elif kind == "oracle":
        score = worth
    slates = np.argsort(-score, axis=1)[:, :k]
    return slates, price, intensity, np.take_along_axis(worth, slates, axis=1) * 0.85 ** np.arange(k)


def _round(key, required, *, n, k, m):
    """Metrics, arrivals, sums of deciles, prices and exposures of an arm's round, and how often each item is shown."""
    slates, price, intensity, worth = _shown(*key.values(), n=n, k=k, m=m)
    counts = measures.exposure_counts(slates, m)
    values = {
        "utility": measures.per_slate(worth),
        "shortfall": measures.shortfall(counts, required),
        "examined_shortfall": measures.examined_shortfall(slates, required, 0.8),
        "coverage": measures.coverage(counts),
        "effective_items": measures.effective_items(counts),
        "perplexity": measures.perplexity(counts),
        "calibration_first": 0.5 + 0.1 * key["seed"],
        "calibration_returning": 1.5,
    }
    curve = measures.reliability(1.5 * worth, worth > 0.3)
    place = np.arange(n * k)
    sums = {name: getattr(curve, name) for name in ("exposures", "predicted", "consumed")}
    shown = {"arrival": place // k, "position": place % k + 1, "item": slates.ravel()}
    columns = {
        "rounds": {"metric": list(values), "value": list(values.values())},
        "arrivals": {"arrival": np.arange(n), "ground_intensity": intensity},
        "reliability": {"decile": np.arange(1, 11), **sums},
        "prices": {"item": np.arange(m), "price": price, "cost": 4.0},
        "ledger": {**shown, "price": price[slates.ravel()]},
    }
    return {name: pd.DataFrame({**key, **part}) for name, part in columns.items()}, counts


def _market(agents=AGENTS, *, seeds=2, rounds=3, n=120, k=4, m=60) -> PictureTables:
    required = {(s, t): np.full(m, n * k // (2 * m)) for s in range(seeds) for t in range(rounds)}
    parts = []
    for agent, seed in itertools.product(agents, range(seeds)):
        log = np.zeros(m)
        for number in range(rounds):
            key = {"agent": agent, "seed": seed, "round": number}
            tables, counts = _round(key, required[seed, number], n=n, k=k, m=m)
            log += counts
            gini = pd.DataFrame({**key, "metric": ["log_gini"], "value": measures.gini(log)})
            parts += [tables, {"rounds": gini}]
    tables_of_market = {
        name: pd.concat([p[name] for p in parts if name in p], ignore_index=True) for name in parts[0]
    }
    items = {"popularity": np.arange(m)[::-1].copy(), "campaigns": _campaigns()}
    return PictureTables(**tables_of_market, n_items=m, required=required, **items, hours=_hours())


def _hours() -> RoundHours:
    """A day with a visit per hour, on which the model is stopped, and an item ends."""
    times = 3600.0 * np.arange(24)
    changes = pd.DataFrame(
        {"time": times[5:8], "process": "night", "what": ["stop_model", "end", "start_model"], "items": 1}
    )
    return RoundHours("rim-feedback", 0, 1, changes, times, np.ones(24), ((times[5], times[7]),))


def _campaigns() -> pd.DataFrame:
    """Two campaigns: one of both rounds, which rim-feedback keeps and relevance keeps by half, one of a day."""
    parts = (("week", 0, 30.0, 7 * DAY), ("week", 1, 10.0, 2 * DAY), ("day", 1, 8.0, DAY))
    table = pd.DataFrame(parts, columns=["name", "round", "due", "length"])
    table = table.assign(begin=7 * DAY * table["round"], end=7 * DAY * table["round"] + table["length"])
    arms = itertools.product((("relevance", 0.5), ("rim-feedback", 1.25)), (0, 1))
    return pd.concat(
        [
            table.assign(agent=agent, seed=seed, delivered=share * table["due"])
            for (agent, share), seed in arms
        ],
        ignore_index=True,
    )


@pytest.fixture(scope="module")
def market() -> PictureTables:
    return _market()


def _drawn(market, folder):
    """Files of all pictures of a comparison's tables."""
    return charts.draw([Plot(name, partial(picture, market)) for name, picture in PICTURES.items()], folder)


def _texts(figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def _curves(ax, linestyle="-") -> dict[str, np.ndarray]:
    drawn = [line for line in ax.lines if len(line.get_xdata()) and line.get_linestyle() == linestyle]
    return {line.get_color(): np.asarray(line.get_ydata(), float) for line in drawn}


def _panel(figure, title="Undelivered (examined)"):
    """The axes of a figure that have a title."""
    (panel,) = [ax for ax in figure.axes if ax.get_title(loc="left") == title]
    return panel


def _colour(agent):
    return charts.styles(AGENTS)[agent].colour


def _apart(boxes):
    """Whether no two boxes overlap."""
    return not any(box.overlaps(second_box) for box, second_box in itertools.combinations(boxes, 2))


def test_letters_that_no_font_has_are_told_once_and_plainly(tmp_path, monkeypatch):
    """A title in Japanese brings one line with the path, a page none; another installed font is used (F14)."""

    def plot(name, title):
        return Plot(name, lambda: charts.frame(title, "A caption.\nTwo lines.", 1.0))

    monkeypatch.setattr(house_style, "FALLBACK_FONTS", ())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        charts.draw([plot("titled", "本と本 and more"), plot("plain", "No such letter")], tmp_path)
        assert charts.page_chart(plot("titled", "本と本 and more")).title == "本と本 and more"
    (warning,) = caught
    assert str(warning.message).startswith("no installed font has 'と本'; such letters are boxes. Install")
    assert warning.filename == str(tmp_path / "titled.png")
    monkeypatch.setattr(house_style, "FALLBACK_FONTS", ("No Such Font", "STIXGeneral"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts.draw([plot("other", "ᶁ is in STIX alone")], tmp_path)


@pytest.fixture(scope="module")
def figures(market):
    """Figures of the market by the functions that draw them."""
    return {picture: picture(market) for picture in PICTURES.values()}


@pytest.mark.filterwarnings("error")
def test_all_pictures_are_drawn_1200_pixels_wide(market, tmp_path):
    """Every picture is a PNG of 1,200 pixels width, without a warning; Matplotlib's settings are as before."""
    before = dict(mpl.rcParams)
    paths = _drawn(market, tmp_path / "new" / "pictures")
    assert dict(mpl.rcParams) == before
    assert [path.stem for path in paths] == list(PICTURES)
    for path in paths:
        height, width = imread(path).shape[:2]
        assert width == 1200
        assert 400 < height < 1600


def test_pictures_without_data_are_left_out_and_others_have_the_same_bytes(market, tmp_path):
    """Without ledger, requirement and frozen arms only those of rounds remain; drawing twice gives identical files."""
    rounds = market.rounds[~market.rounds["agent"].str.endswith("-frozen")]
    bare = PictureTables(rounds=rounds, n_items=market.n_items)
    first, second = (_drawn(bare, tmp_path / name) for name in ("a", "b"))
    assert [path.stem for path in first] == ["rounds", "front", "calibration"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    nothing = PictureTables(rounds=rounds[rounds["metric"] == "perplexity"], n_items=market.n_items)
    assert _drawn(nothing, tmp_path) == []


@pytest.mark.filterwarnings("error")
def test_one_seed_has_no_bands_and_says_so():
    """With one seed every picture is drawn, without warning, and none promises an interval."""
    tables = _market(agents=("relevance", "relevance-frozen", "rim-dual"), seeds=1)
    with charts.style():
        figures = {picture: picture(tables) for picture in PICTURES.values()}
        for figure in figures.values():
            figure.draw_without_rendering()
    for draw in (comparison.over_rounds, loop.front, prices.who_pays):
        assert "One seed: no b" in _texts(figures[draw])
    assert "one seed cannot tell if this is chance" in _texts(figures[loop.decomposed])


def test_panels_show_the_means_over_seeds_and_the_t_interval(market):
    """The line of an agent is the mean of its seeds; its band is the interval of mean_interval."""
    later_seeds = market.rounds.assign(seed=market.rounds["seed"] + 3, value=0.9 * market.rounds["value"])
    rounds = pd.concat([market.rounds, later_seeds], ignore_index=True)
    panel = _panel(comparison.over_rounds(replace(market, rounds=rounds)))
    rows = rounds.query("agent == 'rim-dual' and metric == 'examined_shortfall'")
    wanted = [measures.mean_interval(group) for _, group in rows.groupby("round")["value"]]
    assert _curves(panel)[_colour("rim-dual")] == pytest.approx([interval.mean for interval in wanted])
    shown = rounds.query("agent == 'rim-dual' and metric == 'shortfall'").groupby("round")["value"].mean()
    assert _curves(panel, ":")[_colour("rim-dual")] == pytest.approx(shown.to_numpy())
    names = list(charts.styles(AGENTS))
    band = panel.collections[names.index("rim-dual")].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(max(interval.high for interval in wanted))
    assert band.min() == pytest.approx(min(interval.low for interval in wanted))


def test_panels_reach_what_they_hold(market):
    """Up to what is missing as shown, dotted; over counts far apart by a log axis; markers at an edge are whole."""
    rounds = market.rounds[market.rounds["agent"] == "rim-dual"].copy()
    rounds.loc[rounds["metric"] == "examined_shortfall", "value"] = 0.001
    rounds.loc[rounds["metric"] == "shortfall", "value"] = 0.2
    assert _panel(comparison.over_rounds(replace(market, rounds=rounds))).get_ylim()[1] >= 0.2
    rounds = market.rounds.copy()
    wide = rounds["agent"].eq("random") & rounds["metric"].eq("effective_items")
    rounds.loc[wide, "value"] *= 100
    figure = comparison.over_rounds(replace(market, rounds=rounds))
    assert _panel(figure, "Effective consumed items").get_yscale() == "log"
    assert _panel(figure).get_ylim()[1] <= 1
    assert not any(line.get_clip_on() for line in _panel(figure).lines)


def test_lorenz_curves_and_gini_come_from_the_ledger(market, figures):
    """The curve of an agent is the mean of its seeds' Lorenz curves; the legend tells their Gini."""
    number = last_round(market.rounds)
    rows = market.ledger[market.ledger["agent"].eq("relevance") & market.ledger["round"].eq(number)]
    counts = [np.bincount(items, minlength=market.n_items) for _, items in rows.groupby("seed")["item"]]
    figure = figures[loop.lorenz_curves]
    expected = np.mean([measures.lorenz(count) for count in counts], axis=0)
    assert _curves(figure.axes[0])[_colour("relevance")] == pytest.approx(expected)
    gini = np.mean([measures.gini(count) for count in counts])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"relevance  (Gini {gini:.2f})" in labels


def test_guarantees_by_decile_count_what_relevance_left_short():
    """Two arrivals a decile, three items: only the item that relevance leaves below b counts."""
    arrivals = np.arange(20)
    shown = {"relevance": arrivals % 2, "mine": np.where(arrivals < 10, 2, 0)}
    each = pd.DataFrame({"seed": 0, "round": 0, "arrival": arrivals})
    constants = {"position": 1, "price": 0.0, "ground_intensity": arrivals + 1.0}
    exposures = pd.concat([each.assign(agent=name, item=item, **constants) for name, item in shown.items()])
    parts = {"rounds": pd.DataFrame(columns=["agent", "seed", "round", "metric", "value"])}
    parts["ledger"] = exposures.drop(columns="ground_intensity").sample(frac=1, random_state=1)
    parts["arrivals"] = exposures[["agent", "seed", "round", "arrival", "ground_intensity"]]
    tables = PictureTables(**parts, n_items=3, required={(0, 0): np.array([5, 5, 5])})
    paid = items.guaranteed_by_decile(tables).set_index(["agent", "decile"])["value"]
    assert paid["mine"].tolist() == [1] * 5 + [0] * 5
    assert paid["relevance"].tolist() == [0] * 10


def test_the_title_over_requirements_is_the_tables_delivery(market, figures):
    """Title and panels say what is delivered of the last round's guarantees, and how many items have theirs in full."""
    number = last_round(market.rounds)
    figure = figures[prices.requirement]
    panels = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    text = " ".join(f"{_texts(figure)} {figure.get_suptitle()} {panels}".split())
    of_round = market.rounds[(market.rounds["round"] == number) & (market.rounds["metric"] == "shortfall")]
    delivered = 1 - of_round.groupby("agent")["value"].mean()
    ratios = items.delivery_ratios(market, number)
    assert (
        f"rim-feedback delivers {numbers.per_cent(delivered['rim-feedback'])} of what is guaranteed" in text
    )
    for name, seeds in ratios.items():
        full = numbers.per_cent(np.mean([(ratio >= 1).mean() for ratio in seeds]))
        assert f"{numbers.per_cent(delivered[name])} delivered {full} of items in full" in text


def test_who_pays_is_of_late_rounds_and_without_relevance_of_bonuses(market, figures):
    """What earlier rounds hold changes nothing; agents are measured on items that any of them showed with a bonus."""
    late = market.arrivals["round"].isin(measures.late_rounds(last_round(market.rounds) + 1))
    paid = items.guaranteed_by_decile(market)
    alone = items.guaranteed_by_decile(replace(market, arrivals=market.arrivals[late]))
    pd.testing.assert_frame_equal(paid, alone)
    assert 0 < late.mean() < 1
    assert f"{measures.late_words(3)}. " in _texts(figures[prices.who_pays])
    keep = ["rim-dual", "random"]
    ledger, arrivals = (table[table["agent"].isin(keep)] for table in (market.ledger, market.arrivals))
    tables = replace(market, ledger=ledger, arrivals=arrivals)
    paid = items.guaranteed_by_decile(tables)
    assert set(paid["agent"]) == set(keep)
    assert (paid["value"] > 0).all()
    assert "with a bonus" in _texts(prices.who_pays(tables))


def test_bonuses_by_decile_are_means_over_exposures(market):
    """A decile has the mean of −v/c over its exposures in the last round; agents without bonuses are left out."""
    table = prices.bonus_deciles(market)
    assert set(table["agent"]) == {"rim-dual", "rim-feedback"}
    shown = market.ledger.query("agent == 'rim-dual' and seed == 1 and round == 2")
    decile = 10 - shown["item"] // 6  # item 59 of 60 is the least popular
    for row in table[(table["agent"] == "rim-dual") & (table["seed"] == 1)].itertuples():
        paid = shown.loc[decile == row.decile, "price"]
        assert row.value == pytest.approx(-paid.mean() / 4.0)
    last = market.prices["round"] == last_round(market.rounds)
    later = replace(market, prices=market.prices.assign(price=np.where(last, -4.0, 0.0)))
    pd.testing.assert_frame_equal(
        prices.bonus_deciles(later), table
    )  # prices at the end of a round do not count


def test_reliability_is_what_was_predicted_against_what_came(market, figures):
    """Decile by decile over late rounds and seeds, an exposure; the title's ratio is that of the sums."""
    deciles = prices.reliability_deciles(market)
    last = market.reliability[market.reliability["round"] == 2]
    cells = last.groupby(["agent", "decile"])[["exposures", "predicted", "consumed"]].sum()
    for row in deciles[deciles["agent"] == "rim-dual"].itertuples():
        mine = cells.loc["rim-dual", row.decile]
        assert row.predicted == pytest.approx(mine["predicted"] / mine["exposures"])
        assert row.actual == pytest.approx(mine["consumed"] / mine["exposures"])
    assert not any(deciles["agent"].str.endswith("-frozen"))
    sums = deciles.groupby("agent")[["predicted", "actual"]].sum()
    ratios = sums["predicted"] / sums["actual"]
    figure = figures[prices.reliability]
    assert titles.reliability(ratios.to_dict()) in _texts(figure)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"relevance  ({ratios['relevance']:.2f})" in labels
    curve = deciles[deciles["agent"] == "rim-dual"].query("actual > 0")
    assert _curves(figure.axes[0])[_colour("rim-dual")] == pytest.approx(curve["predicted"] / curve["actual"])
    assert prices.reliability(replace(market, reliability=None)) is None


def test_calibration_is_drawn_for_both_types_of_visit(market, figures):
    """A panel per type, and the late means in the title; without late visits of either there is no picture."""
    said = "predicts 45% too few consumptions on first visits, 50% too many on returning visits"
    assert said in _texts(figures[comparison.calibration])
    assert len({ax.get_ylim() for ax in figures[comparison.calibration].axes[:2]}) == 1
    first = market.rounds["metric"] == "calibration_first"
    for dropped in (first, first & (market.rounds["round"] > 0)):
        assert comparison.calibration(replace(market, rounds=market.rounds[~dropped])) is None


def test_delivery_counts_in_the_unit_of_the_guarantee(market):
    """Examined exposures are weighted and divided by the weight of an average position; the title adds up two items."""
    weights = measures.position_weights(0.8, 4)
    examined = replace(market, weights=weights)
    item = 58  # two in a hundred of the 60 items are less popular
    shown = market.ledger.query("round == 2 and seed == 0 and item == @item and agent == 'rim-feedback'")
    total = weights[shown["position"] - 1].sum() / weights.mean()
    courses = prices.item_courses(examined).query("agent == 'rim-feedback'")
    first = courses[courses["place"] == "least popular"]
    assert first["value"].iloc[-1] == pytest.approx(total)
    assert len(first) == 2 + len(shown)
    assert first["required"].unique().tolist() == [market.required[0, 2][item]]
    ends = courses.groupby("place")["value"].last()
    due = market.required[0, 2][item]
    figure = prices.delivery(examined)
    total = numbers.count_of(ends.clip(upper=due).sum(), 2 * due)
    said = f"rim-feedback delivers {total} guaranteed exposures of 2 items in round 2"
    assert said in _texts(figure)
    assert figure.axes[0].get_ylabel() == "exposures so far, as examined"
    assert prices.delivery(market).axes[0].get_ylabel() == "exposures so far, as shown"


def test_delivery_names_its_items_and_what_they_get(market):
    """An item's curve ends at its exposures of the last round; long names are cut, and each has its delivery below."""
    figure = prices.delivery(market)
    mine = market.ledger.query("round == 2 and seed == 0 and item == 58 and agent == 'rim-feedback'")
    assert _curves(figure.axes[0])[_colour("rim-feedback")][-1] == len(mine)
    names = [f"Item number {n}, of a name that is too long" for n in range(market.n_items)]
    first, second = (
        ax.get_title(loc="left") for ax in prices.delivery(replace(market, names=names)).axes[:2]
    )
    assert re.fullmatch(r"Item number \d+, of a name that is…\n\d+ of 4 with rim-feedback", first)
    assert first.splitlines()[0] != second.splitlines()[0]


def test_few_seeds_are_drawn_as_thin_lines(market, figures):
    """With three seeds each is a thin line of its own, the frozen control dashed, and there are no bands."""
    panel = figures[comparison.over_rounds].axes[0]
    rounds = market.rounds[market.rounds["metric"] == "utility"]
    thin = [line for line in panel.lines if line.get_linewidth() == 1]
    of_dual = rounds[rounds["agent"] == "rim-dual"].pivot(index="seed", columns="round", values="value")
    colour = _colour("rim-dual")
    drawn = [line.get_ydata() for line in thin if line.get_color() == colour]
    np.testing.assert_array_equal(drawn, of_dual)
    assert not panel.collections
    frozen = rounds[rounds["agent"] == "rim-dual-frozen"].groupby("round")["value"].mean()
    np.testing.assert_allclose(_curves(panel, "--")[colour], frozen)


def test_slates_of_pictures_are_those_of_the_ledger(market):
    """A row an arrival, in the order asked for, and a column a position: no column is left empty."""
    of_round = market.ledger[market.ledger["round"] == 0].query("agent == 'random' and seed == 0")
    arrivals = of_round["arrival"].unique()[::-1]
    slates = items.slates_of(of_round, arrivals)
    ordered = of_round.sort_values("position").groupby("arrival")["item"].agg(list)
    assert slates.tolist() == ordered[arrivals].tolist()


@cases(
    "utilities said",
    ([0.376], "one seed cannot tell if utility differs"),
    ([0.37, 0.38], "two seeds cannot tell if utility differs"),
    ([0.44, 0.441, 0.439], "utility is 10% above that of relevance"),
    ([0.4001], "utility is that of relevance"),
    ([0.375, 0.376, 0.377], "utility is 6.0% below that of relevance"),
    ([0.376, 0.376, 0.376], "utility does not differ significantly"),  # the same in all seeds
    ([0.30, 0.42, 0.408], "utility does not differ significantly"),
)
def test_titles_say_what_the_data_say(utilities, said):
    """Titles about guarantees and diversity have the agent's figures, and no difference whose interval includes 0."""
    rows = {
        "relevance": (0.72, [0.4], 10.0),
        "rim-feedback": (0.01, utilities, 20.0),
        "random": (0.0, [0.07], 40.0),
    }
    rounds = pd.concat(
        rounds_of({(agent, 0): np.resize(row[n], len(utilities)) for agent, row in rows.items()}, metric)
        for n, metric in enumerate(("shortfall", "utility", "perplexity"))
    )
    title = titles.cost_of_guarantees(rounds, "shown")
    beginning = "rim-feedback leaves 1.0% of the guaranteed positions undelivered, relevance 72%; "
    assert title.startswith(beginning)
    assert title.endswith(said)
    wide = f"rim-feedback spreads exposure 2.0 times as wide as relevance; {said}"
    assert titles.diversity(rounds) == wide
    random = rounds[rounds["agent"] == "random"]
    assert titles.cost_of_guarantees(random, "shown").startswith("random leaves 0%")


@cases(
    "course said",
    (
        [9.7, 8.7, 8.6, 6.9, 4.8, 3.1, 1.8, 0.8, 0.0, 0.0],
        "Visitors who want little carry the guarantee of rim-dual",
    ),
    (
        [0.1, 0.2, 0.3, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0],
        "Visitors who want much carry the guarantee of rim-dual",
    ),
    (
        [1.0, 1.0, 1.0, 3.0, 4.0, 4.0, 3.0, 1.0, 1.0, 1.0],
        "Visitors who want neither little nor much carry the",
    ),
    ([1.0, 1.1, 0.9, 1.0, 1.0, 1.0, 1.0, 1.1, 0.9, 1.0], "All visitors carry the guarantee about alike"),
)
def test_the_title_of_who_pays_names_those_who_carry(course, said):
    """It compares the lowest three deciles, the middle and the highest three; figures are in the caption."""
    by_decile = pd.Series(course, index=range(1, 11))
    assert titles.who_carries("rim-dual", by_decile).startswith(said)
    ends = f"rim-dual: {numbers.figure(course[0])} per slate in the lowest decile, {numbers.figure(course[-1])} in the"
    assert titles.carried_positions("rim-dual", by_decile).startswith(ends)


@cases(
    "ratios said",
    ({"rim-dual": 0.65}, "The platform of rim-dual predicts 35% too few consumptions"),
    ({"rim-dual": 0.65, "relevance": 1.2}, "35% too few consumptions, that of relevance 20% too many"),
    ({"rim-dual": 0.65, "relevance": 1.01}, "35% too few consumptions, that of relevance about right"),
    (
        {"rim-dual": 1.01, "relevance": 0.99},
        "rim-dual and relevance predict about as many consumptions as occur",
    ),
    ({}, "Nothing was consumed"),
)
def test_the_title_of_reliability_says_how_far_off_predictions_are(ratios, said):
    """Ratios of predicted to actual consumptions are errors in percent; within 3% they count as right."""
    assert titles.reliability(ratios).endswith(said)


@cases(
    "share said",
    (0.0, "0%"),
    (1e-9, "<0.1%"),
    (0.0004, "<0.1%"),
    (0.0005, "0.1%"),
    (0.004, "0.4%"),
    (0.0994, "9.9%"),
    (0.0996, "10%"),
    (0.7, "70%"),
    (0.994, "99%"),
    (0.996, "99.6%"),
    (0.9994, "99.9%"),
    (0.9996, ">99.9%"),
    (1.0 - 1e-12, ">99.9%"),
    (1.0, "100%"),
    (1.5, "150%"),
    (-0.05, "−5.0%"),
)
def test_a_share_below_1_is_never_written_as_all_nor_one_above_0_as_none(share, said):
    """Near 0 and near 1 a share has a decimal or a bound; 0% and 100% are written only where they are exact."""
    assert numbers.per_cent(share) == said


HOSTILE = ("A$AP 100% $ale", "$5_off_$6", "$ave #318 $tuff")


@pytest.mark.filterwarnings("error")
def test_signs_of_formulas_in_names_are_letters(market, tmp_path):
    """Titles of items, agents and campaigns with dollar signs are drawn as they are written, in files and on pages."""
    named = market.rounds.replace({"agent": {"random": HOSTILE[2]}})
    parts = {
        name: getattr(market, name).replace({"agent": {"random": HOSTILE[2]}})
        for name in ("ledger", "arrivals")
    }
    titled = replace(
        market,
        **parts,
        rounds=named,
        names=[HOSTILE[number % 2] for number in range(market.n_items)],
        campaigns=market.campaigns.assign(name=HOSTILE[1]),
    )
    assert len(_drawn(titled, tmp_path)) == len(PICTURES)
    page = charts.page_chart(Plot("delivery", partial(prices.delivery, titled)))
    assert all(HOSTILE[0] in drawing or HOSTILE[1] in drawing for drawing in (page.wide, page.narrow))
    assert all(HOSTILE[2] in drawing for drawing in (page.wide, page.narrow))
    page = charts.page_chart(Plot("campaigns", partial(prices.campaigns, titled)))
    assert HOSTILE[1] in page.narrow


@cases(
    "differences said",
    (
        [-0.30, -0.40],
        "Two seeds cannot tell if retraining changes the catalogue coverage of relevance (mean of",
    ),
    ([-0.1, -0.4, 0.2], "no significant effect on the catalogue coverage of relevance (mean of rounds 2–3)"),
    (
        [0.003, 0.003, 0.003],
        "of relevance (mean of rounds 2–3; +0.30 points, the same in all 3 seeds, which allows no test)",
    ),
    ([0.0, 0.0], "coverage of relevance (mean of rounds 2–3; 0 points)"),
    ([-0.36, -0.37, -0.38], "costs relevance 37 points of catalogue coverage (mean of rounds 2–3; 95% int"),
    ([0.36, 0.37, 0.38], "gives relevance 37 points of catalogue coverage"),
)
def test_the_title_claims_an_effect_only_where_the_interval_leaves_out_zero(differences, said):
    """A wide interval is no significant effect, a narrow one has size, sign and bounds; equal effects claim nothing."""
    values = {}
    for number, share in enumerate((0.0, -2.0, 0.5, 1.5)):  # a mean of 1 over rounds 2 and 3
        values["relevance", number] = 0.5 + share * np.array(differences)
        values["relevance-frozen", number] = np.full(len(differences), 0.5)
    late = measures.late_means(rounds_of(values, "coverage"))
    parts = loop.decomposition(late, ["relevance", "relevance-frozen"], ["coverage"])
    assert said in loop.effect_of_retraining(parts, measures.late_words(4))


def test_texts_name_only_lines_and_arms_that_exist(market):
    """Without guarantees no line is dotted and the title has no figures; words on arms name those of the run."""
    rounds = market.rounds[~market.rounds["metric"].isin(["shortfall", "examined_shortfall"])]
    texts = _texts(comparison.over_rounds(replace(market, rounds=rounds)))
    assert "Dotted" not in texts
    assert "title's figures" not in texts
    assert "Dotted" in _texts(comparison.over_rounds(market))
    words = loop.words_of_arms(["relevance", "relevance-frozen"])
    assert words.startswith("`frozen` is never retrained. `self` is retrained")
    assert "organic" not in words
    assert "`self` minus `random`" in loop.words_of_arms(
        ["relevance", "relevance-frozen", "relevance-random"]
    )


def test_agents_keep_their_colour_whoever_else_takes_part():
    """Known agents have fixed, distinct looks; others get distinct ones; frozen arms share theirs; all can be seen."""
    alone = charts.styles(["rim-dual"])
    together = charts.styles([*AGENTS, "mine", "yours", "theirs"])
    assert alone["rim-dual"] == together["rim-dual"]
    assert "rim-dual-frozen" not in together
    assert len({look.colour for look in together.values()}) == len(together)
    assert charts.styles(["mine"])["mine"] == charts.styles(["mine", "relevance"])["mine"]
    assert set(charts.styles(ENTRIES)) == set(ENTRIES)
    for look in charts.styles(ENTRIES).values():
        assert 1.05 / (_linear(look.colour) @ [0.2126, 0.7152, 0.0722] + 0.05) > 2.0  # contrast with white


# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as seen without medium or without long cones.
BLINDNESS = {
    "none": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
TO_XYZ = [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.072175],
    [0.0193339, 0.119192, 0.9503041],
]


def _linear(colour):
    """Linear RGB of a colour."""
    channel = np.array(mpl.colors.to_rgb(colour))
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def _lab(colour, blindness):
    """CIELAB of a colour as a reader with a colour blindness sees it."""
    seen = np.clip(np.array(BLINDNESS[blindness]) @ _linear(colour), 0, 1)
    ratio = np.array(TO_XYZ) @ seen / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _difference(colour, second_colour):
    """Least distance of two colours in CIELAB (CIE76) over all sights."""
    return min(float(np.linalg.norm(_lab(colour, sight) - _lab(second_colour, sight))) for sight in BLINDNESS)


def test_agents_can_be_told_apart_by_colour_blind_readers():
    """Each two colours of built-in agents, or of parts, differ by 15 in CIELAB at any sight, main agents' by 25."""
    assert _difference("#ffffff", "#000000") == pytest.approx(100, abs=0.01)
    colours = {name: style[0] for name, style in agent_styles().items()} | {
        "flat-budget": house_style.PALETTE[4]
    }
    distances = {
        pair: _difference(*(colours[name] for name in pair)) for pair in itertools.combinations(colours, 2)
    }
    assert {pair: value for pair, value in distances.items() if value < 15} == {}
    main = {"relevance", "rim-dual", "rim-feedback", "random", "oracle"}
    assert {pair: value for pair, value in distances.items() if main.issuperset(pair) and value < 25} == {}
    parts = {look.colour for look in loop.PART_LOOKS.values()}
    assert min(_difference(*pair) for pair in itertools.combinations(parts, 2)) > 15
    assert min(_difference(*pair) for pair in itertools.combinations(house_style.PALETTE, 2)) > 15


def test_legends_never_cover_data(figures):
    """A legend stands in axes of its own, which hold no line, or outside of all axes."""
    for figure in figures.values():
        for ax in (ax for ax in figure.axes if ax.get_legend() is not None):
            assert not ax.lines
            assert not ax.axison
        figure.draw_without_rendering()
        boxes = [legend.get_window_extent() for legend in figure.legends]
        assert not any(box.overlaps(ax.get_window_extent()) for box in boxes for ax in figure.axes)


def test_names_of_a_crowd_stay_apart(market):
    """Ten agents, five of them almost at one point: no two names overlap, and far ones are led to their points."""
    at = {"relevance": (30, 0.9), "popularity": (31, 0.9), "random": (800, 0.2), "oracle": (170, 1.4)}
    names = ("rim-dual", "rim-feedback", "rim-resolve", "entropic-dual", "epsilon-greedy", "hindsight")
    at |= {name: (220 + 4 * place, 0.66) for place, name in enumerate(names)}
    rounds = [
        rounds_of({(agent, 0): [point[n], 1.02 * point[n]] for agent, point in at.items()}, metric)
        for n, metric in enumerate(("perplexity", "utility"))
    ]
    figure = loop.front(PictureTables(rounds=pd.concat(rounds), n_items=1000))
    ax = figure.axes[0]
    assert ax.get_xscale() == "log"
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    frame = ax.get_window_extent()
    assert len(boxes) == len(at)
    assert _apart(boxes)
    assert all(frame.x0 <= box.x0 < box.x1 <= frame.x1 for box in boxes)


def _swept(values):
    """The table of a sweep over β: two seeds of each agent and value, with the same values of metrics."""
    rows = [
        {"agent": agent, "seed": seed, "beta": beta, "metric": metric, "value": value}
        for (agent, beta), metrics in values.items()
        for metric, value in zip(("utility", "perplexity", "examined_shortfall"), metrics, strict=True)
        for seed in range(2)
    ]
    return pd.DataFrame(rows)


def test_an_agent_that_a_sweep_does_not_move_is_a_ring():
    """Relevance stands at one point whatever β; it is drawn around the points that would hide it."""
    values = {
        (agent, beta): (0.9 - 0.2 * slope * beta, 30 + 100 * slope * beta, beta * (1 - 0.5 * slope))
        for agent, slope in (("relevance", 0.0), ("rim-dual", 1.0))
        for beta in (0.0, 0.5, 1.0)
    }
    figure = sweep.front_figure(_swept(values), "beta")
    assert "β does not move relevance" in _texts(figure)
    front, undelivered = figure.axes[:2]
    lines = [line for line in front.lines if line.get_color() == _colour("relevance")]
    (ring,) = [line for line in lines if line.get_markersize() > 10]
    assert ring.get_markerfacecolor() == "none"
    assert all(0 not in line.get_xdata() for line in undelivered.lines)
    sentence = "With rim-dual, β from 0 to 1 makes exposure 4.3 times as wide; two seeds cannot tell if utility changes"
    assert sentence in _texts(figure)


def test_a_front_is_of_agents_and_not_of_their_controls():
    """With one agent and its controls, the title says what the field does to the agent."""
    values = {
        (agent, beta): (0.9 - 0.2 * beta, 30 + slope * beta, beta)
        for agent, slope in (("relevance", 60), ("relevance-frozen", 0), ("relevance-static", 9))
        for beta in (0.0, 1.0)
    }
    figure = sweep.front_figure(_swept(values), "beta")
    assert "With relevance, β from 0 to 1 makes exposure 3.0 times as wide" in _texts(figure)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("betas", [(0.0,), (0.0, 0.5), (0.5,)])
def test_a_sweep_of_few_points_has_a_front(betas):
    """One or two values of β, 0 alone too, are drawn without a warning."""
    table = _swept({("relevance", beta): (0.5,) * 3 for beta in betas}).query("seed == 0")
    with charts.style():
        figure = sweep.front_figure(table, "beta")
        figure.draw_without_rendering()
    assert ("β from 0 to 0.5: nothing moves" in _texts(figure)) == (len(betas) > 1)


def _titles(figure):
    return [title for title in (ax.get_title(loc="left") for ax in figure.axes) if title]


def test_a_measure_of_ones_own_has_a_panel_of_its_own(market, figures):
    """By round and as an effect of retraining, with its title and unit; built-in panels and the legend stay."""
    freshness = market.rounds[market.rounds["metric"] == "perplexity"].assign(metric="freshness")
    mine = measures.Measure("freshness", "days", "x", lambda _: None, title="Age of shown items")
    rounds = pd.concat([market.rounds, freshness], ignore_index=True)
    tables = replace(market, rounds=rounds, measures={**measures.MEASURES, "freshness": mine})
    figure = comparison.over_rounds(tables)
    assert _titles(figure) == [*_titles(figures[comparison.over_rounds]), "Age of shown items"]
    assert figure.legends  # the last row of panels is full, so that the legend stands below
    assert not figures[comparison.over_rounds].legends
    added = set(_titles(loop.decomposed(tables))) - set(_titles(figures[loop.decomposed]))
    assert added == {f"{agent}\nAge of shown items" for agent in ("relevance", "rim-dual")}
    panel = _panel(figure, "Age of shown items")
    assert panel.get_ylabel() == "days"
    value = freshness[(freshness["agent"] == "random")].groupby("round")["value"].mean()
    assert _curves(panel)[_colour("random")] == pytest.approx(value.to_numpy())


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_campaigns_are_drawn_against_what_was_due(market, figures):
    """Each campaign has a panel from its beginning on, and the title leaves out what was delivered beyond."""
    figure = figures[prices.campaigns]
    assert "rim-feedback delivers 100% of what campaigns are promised, relevance 50%" in _texts(figure)
    week, day = figure.axes[:2]
    assert [ax.get_title(loc="left") for ax in (week, day)] == ["week", "day"]
    due = week.lines[0]
    assert due.get_xdata().tolist() == [0.0, 7.0, 9.0]
    assert due.get_ydata().tolist() == [0.0, 30.0, 40.0]
    assert day.lines[0].get_ydata().tolist() == [0.0, 8.0]
    assert prices.campaigns(PictureTables(rounds=market.rounds, n_items=market.n_items)) is None
    # Where nothing was promised, such as to an audience of nobody, all of it is delivered.
    nobody = replace(market, campaigns=_campaigns().assign(due=0.0, delivered=0.0))
    assert "rim-feedback delivers 100% of what campaigns are promised" in _texts(prices.campaigns(nobody))


def test_surplus_of_a_campaign_does_not_cover_the_deficit_of_another():
    """An agent that delivers one campaign twice and another not at all delivers the share of the first alone."""
    table = _campaigns()
    table["delivered"] = np.where(table["name"] == "week", 2 * table["due"], 0.0)
    assert prices._delivered_share(prices._so_far(table), "rim-feedback") == pytest.approx(40 / 48)
