"""Pictures of a run: drawn from tables, saying what the data say."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from small_markets import drawn

from rimsim import measures
from rimsim.scenarios.report import charts, items, loop, prices, sentences, sweep, tables
from rimsim.scenarios.report.comparison import PICTURES
from rimsim.scenarios.report.record import Plot

DAY = 86_400.0
AGENTS = ("relevance", "relevance-frozen", "rim-dual", "rim-dual-frozen", "rim-feedback", "random", "oracle")


@pytest.fixture(scope="module", autouse=True)
def _pictures():
    """Pictures are drawn here."""
    with drawn():
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


def _market(agents=AGENTS, *, seeds=2, rounds=3, n=120, k=4, m=60) -> items.PictureTables:
    metric_rows, ledgers, arrivals, prices, curves = [], [], [], [], []
    required = {
        (seed, number): np.full(m, n * k // (2 * m)) for seed in range(seeds) for number in range(rounds)
    }
    for agent in agents:
        for seed in range(seeds):
            log = np.zeros(m)
            for number in range(rounds):
                slates, price, intensity, worth = _shown(agent, seed, number, n=n, k=k, m=m)
                counts = measures.exposure_counts(slates, m)
                log += counts
                key = {"agent": agent, "seed": seed, "round": number}
                values = {
                    "utility": measures.per_slate(worth),
                    "shortfall": measures.shortfall(counts, required[seed, number]),
                    "examined_shortfall": measures.examined_shortfall(slates, required[seed, number], 0.8),
                    "coverage": measures.coverage(counts),
                    "effective_items": measures.effective_items(counts),
                    "log_gini": measures.gini(log),
                    "perplexity": measures.perplexity(counts),
                    "calibration_first": 0.5 + 0.1 * seed,
                    "calibration_returning": 1.5,
                }
                metric_rows += [{**key, "metric": name, "value": value} for name, value in values.items()]
                arrivals.append(pd.DataFrame({**key, "arrival": np.arange(n), "ground_intensity": intensity}))
                curve = measures.reliability(1.5 * worth, worth > 0.3)
                sums = {name: getattr(curve, name) for name in ("exposures", "predicted", "consumed")}
                curves.append(pd.DataFrame({**key, "decile": np.arange(1, 11), **sums}))
                prices.append(pd.DataFrame({**key, "item": np.arange(m), "price": price, "cost": 4.0}))
                ledgers.append(
                    pd.DataFrame(
                        {
                            **key,
                            "arrival": np.repeat(np.arange(n), k),
                            "position": np.tile(np.arange(1, k + 1), n),
                            "item": slates.ravel(),
                            "price": price[slates.ravel()],
                        }
                    )
                )
    return items.PictureTables(
        rounds=pd.DataFrame(metric_rows),
        n_items=m,
        ledger=pd.concat(ledgers, ignore_index=True),
        required=required,
        arrivals=pd.concat(arrivals, ignore_index=True),
        prices=pd.concat(prices, ignore_index=True),
        reliability=pd.concat(curves, ignore_index=True),
        popularity=np.arange(m)[::-1].copy(),
        campaigns=_campaigns(),
    )


def _campaigns() -> pd.DataFrame:
    """Two campaigns: one of both rounds, which rim-feedback keeps and relevance keeps by half, one of a day."""
    rows = [
        {"agent": agent, "seed": seed, "round": number, "name": name, "due": due, "delivered": due * kept}
        | {"begin": 7 * DAY * number, "end": 7 * DAY * number + length}
        for agent, kept in (("relevance", 0.5), ("rim-feedback", 1.25))
        for seed in (0, 1)
        for name, number, due, length in (
            ("week", 0, 30.0, 7 * DAY),
            ("week", 1, 10.0, 2 * DAY),
            ("day", 1, 8.0, DAY),
        )
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def market() -> items.PictureTables:
    return _market()


def _drawn(market, folder):
    """Files of all pictures of a comparison's tables."""
    return charts.draw([Plot(name, partial(picture, market)) for name, picture in PICTURES.items()], folder)


def _texts(figure) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in figure.texts)


def _curves(ax, linestyle="-") -> dict[str, np.ndarray]:
    return {
        line.get_color(): np.asarray(line.get_ydata(), float)
        for line in ax.lines
        if len(line.get_xdata()) and line.get_linestyle() == linestyle
    }


@pytest.fixture(scope="module")
def drawing(market, tmp_path_factory):
    """The files of all pictures, drawn without warning; Matplotlib's settings before and after."""
    folder, before = tmp_path_factory.mktemp("drawing") / "new" / "pictures", dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = _drawn(market, folder)
    return paths, before, dict(mpl.rcParams)


def test_all_pictures_are_drawn_1200_pixels_wide(drawing):
    """Every picture becomes a PNG of 1,200 pixels width, and no warning is raised on the way."""
    paths, _, _ = drawing
    assert [path.stem for path in paths] == list(PICTURES)
    for path in paths:
        height, width = imread(path).shape[:2]
        assert width == 1200
        assert 400 < height < 1600


def test_the_same_tables_give_the_same_bytes(market, tmp_path):
    """Drawing twice gives identical files."""
    few = market.rounds[market.rounds["metric"].isin(["utility", "perplexity"])]
    rounds = replace(market, rounds=few[~few["agent"].str.endswith("-frozen")], ledger=None)
    first, second = (_drawn(rounds, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_drawing_leaves_the_callers_settings_alone(drawing):
    """Matplotlib's settings are what they were."""
    _, before, after = drawing
    assert after == before


def test_pictures_without_data_are_left_out(market, tmp_path):
    """Without ledger, requirement and frozen arms, only pictures of the table of rounds remain."""
    rounds = market.rounds[~market.rounds["agent"].str.endswith("-frozen")]
    bare = items.PictureTables(rounds=rounds, n_items=market.n_items)
    assert [path.stem for path in _drawn(bare, tmp_path)] == ["rounds", "front", "calibration"]
    nothing = items.PictureTables(rounds=rounds[rounds["metric"] == "perplexity"], n_items=market.n_items)
    assert _drawn(nothing, tmp_path) == []


def test_one_seed_has_no_bands_and_says_so(tmp_path):
    """With one seed every picture is drawn, without warning, and none promises an interval."""
    tables = _market(agents=("relevance", "relevance-frozen", "rim-dual"), seeds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(_drawn(tables, tmp_path)) == len(PICTURES)
    for draw in (loop.over_rounds, loop.front, prices.who_pays):
        assert "One seed: no b" in _texts(draw(tables))
    assert "one seed: no interval" in _texts(loop.decomposed(tables))


def test_panels_show_the_means_over_seeds_and_the_t_interval(market):
    """The line of an agent is the mean of its seeds; its band is the interval of mean_interval."""
    more = market.rounds.assign(seed=market.rounds["seed"] + 3, value=0.9 * market.rounds["value"])
    rounds = pd.concat([market.rounds, more], ignore_index=True)
    figure = loop.over_rounds(replace(market, rounds=rounds))
    (panel,) = [ax for ax in figure.axes if ax.get_title(loc="left") == "Undelivered, as examined"]
    rows = rounds.query("agent == 'rim-dual' and metric == 'examined_shortfall'")
    wanted = [measures.mean_interval(group) for _, group in rows.groupby("round")["value"]]
    colour = charts.styles(AGENTS)["rim-dual"].colour
    assert _curves(panel, "-")[colour] == pytest.approx([interval.mean for interval in wanted])
    shown = rounds.query("agent == 'rim-dual' and metric == 'shortfall'").groupby("round")["value"].mean()
    assert _curves(panel, ":")[colour] == pytest.approx(shown.to_numpy())
    names = list(charts.styles(AGENTS))
    band = panel.collections[names.index("rim-dual")].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(max(interval.high for interval in wanted))
    assert band.min() == pytest.approx(min(interval.low for interval in wanted))


def test_the_dotted_shortfall_lies_within_its_panel(market):
    """Where all that is drawn as lines is nearly kept, the panel still reaches up to what is missing as shown."""
    rounds = market.rounds[market.rounds["agent"] == "rim-dual"].copy()
    rounds.loc[rounds["metric"] == "examined_shortfall", "value"] = 0.001
    rounds.loc[rounds["metric"] == "shortfall", "value"] = 0.2
    figure = loop.over_rounds(replace(market, rounds=rounds))
    (panel,) = [ax for ax in figure.axes if ax.get_title(loc="left") == "Undelivered, as examined"]
    assert panel.get_ylim()[1] >= 0.2


def test_lorenz_curves_and_gini_come_from_the_ledger(market):
    """The curve of an agent is the mean of its seeds' Lorenz curves; the legend tells their Gini."""
    number = items.last_round(market.rounds)
    rows = market.ledger[market.ledger["agent"].eq("relevance") & market.ledger["round"].eq(number)]
    counts = [np.bincount(items, minlength=market.n_items) for _, items in rows.groupby("seed")["item"]]
    figure = loop.lorenz_curves(market)
    colour = charts.styles(AGENTS)["relevance"].colour
    expected = np.mean([measures.lorenz(count) for count in counts], axis=0)
    assert _curves(figure.axes[0])[colour] == pytest.approx(expected)
    gini = np.mean([measures.gini(count) for count in counts])
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert f"relevance  (Gini {gini:.2f})" in labels


def test_guarantees_by_decile_count_what_relevance_left_short():
    """Two arrivals a decile, three items: only the item that relevance leaves below b counts."""
    arrivals = np.arange(20)
    key = {"seed": 0, "round": 0}

    def ledger(agent, items):
        rows = {"agent": agent, **key, "arrival": arrivals, "position": 1, "item": items, "price": 0.0}
        return pd.DataFrame(rows)

    low_first = pd.concat(
        [ledger("relevance", np.arange(20) % 2), ledger("mine", np.where(arrivals < 10, 2, 0))]
    )
    intensity = [
        pd.DataFrame({"agent": agent, **key, "arrival": arrivals, "ground_intensity": arrivals + 1.0})
        for agent in ("relevance", "mine")
    ]
    tables = items.PictureTables(
        rounds=pd.DataFrame(columns=["agent", "seed", "round", "metric", "value"]),
        n_items=3,
        ledger=low_first.sample(frac=1, random_state=1),
        required={(0, 0): np.array([5, 5, 5])},
        arrivals=pd.concat(intensity),
    )
    paid = items.guaranteed_by_decile(tables).set_index(["agent", "decile"])["value"]
    assert paid["mine"].tolist() == [1] * 5 + [0] * 5
    assert paid["relevance"].tolist() == [0] * 10


def test_the_title_over_requirements_is_the_tables_delivery(market):
    """Title and panels say what is delivered of the last round's guarantees, and how many items have theirs in full."""
    number = items.last_round(market.rounds)
    figure = prices.requirement(market)
    panels = " ".join(text.get_text() for ax in figure.axes for text in ax.texts)
    text = " ".join(f"{_texts(figure)} {figure.get_suptitle()} {panels}".split())
    of_round = market.rounds[(market.rounds["round"] == number) & (market.rounds["metric"] == "shortfall")]
    given = 1 - of_round.groupby("agent")["value"].mean()
    ratios = items.delivery_ratios(market, number)
    assert f"rim-feedback delivers {sentences.per_cent(given['rim-feedback'])} of what is guaranteed" in text
    for name, seeds in ratios.items():
        full = np.mean([(ratio >= 1).mean() for ratio in seeds])
        assert (
            f"{sentences.per_cent(given[name])} delivered {sentences.per_cent(full)} of items in full" in text
        )


def test_who_pays_is_of_the_late_rounds_that_other_titles_are_of(market):
    """What earlier rounds hold changes nothing, and the caption names the rounds."""
    late = market.arrivals["round"].isin(measures.late_rounds(items.last_round(market.rounds) + 1))
    paid = items.guaranteed_by_decile(market)
    alone = items.guaranteed_by_decile(replace(market, arrivals=market.arrivals[late]))
    pd.testing.assert_frame_equal(paid, alone)
    assert 0 < late.mean() < 1
    assert f"{measures.late_words(3)}. " in _texts(prices.who_pays(market))


def test_without_relevance_a_negative_price_marks_the_guaranteed_items(market):
    """All agents are measured on the items that any of them showed with a bonus."""
    keep = ["rim-dual", "random"]
    tables = replace(
        market,
        ledger=market.ledger[market.ledger["agent"].isin(keep)],
        arrivals=market.arrivals[market.arrivals["agent"].isin(keep)],
    )
    paid = items.guaranteed_by_decile(tables)
    assert set(paid["agent"]) == set(keep)
    assert (paid["value"] > 0).all()
    assert "with a bonus" in _texts(prices.who_pays(tables))


def test_bonuses_by_decile_are_means_of_prices_over_costs(market):
    """Decile by decile of popularity, −v/c as the table of prices has it; agents without bonuses are left out."""
    found = prices.price_deciles(market)
    assert set(found["agent"]) == {"rim-dual", "rim-feedback"}
    price = np.linspace(0, 2.2, 60)[::-1]  # item 59 is the least popular and has the largest bonus
    for row in found[(found["agent"] == "rim-dual") & (found["seed"] == 1)].itertuples():
        mine = price[6 * (row.decile - 1) : 6 * row.decile]
        assert row.value == pytest.approx(mine.mean() / 4.0)


def test_reliability_is_what_was_predicted_against_what_came(market):
    """Decile by decile over late rounds and seeds, an exposure; the title's ratio is that of the sums."""
    found = prices.reliability_deciles(market)
    mine = market.reliability[
        (market.reliability["agent"] == "rim-dual") & (market.reliability["round"] == 2)
    ]
    for row in found[found["agent"] == "rim-dual"].itertuples():
        cells = mine[mine["decile"] == row.decile]
        assert row.predicted == pytest.approx(cells["predicted"].sum() / cells["exposures"].sum())
        assert row.actual == pytest.approx(cells["consumed"].sum() / cells["exposures"].sum())
    assert not any(found["agent"].str.endswith("-frozen"))
    last = market.reliability[
        (market.reliability["agent"] == "relevance") & (market.reliability["round"] == 2)
    ]
    ratio = last["predicted"].sum() / last["consumed"].sum()
    assert f"{ratio:.2f} with relevance" in _texts(prices.reliability(market))
    assert prices.reliability(replace(market, reliability=None)) is None


def test_calibration_is_drawn_for_both_types_of_visit(market):
    """A panel per type, and the late means in the title; a run without either has no picture."""
    assert "predicts 0.55 on first and 1.5 on returning visits" in _texts(loop.calibration(market))
    one = market.rounds[market.rounds["metric"] != "calibration_first"]
    assert loop.calibration(replace(market, rounds=one)) is None


def test_delivery_counts_exposures_over_the_arrivals(market):
    """The curve of an item ends at its exposures of the last round, next to its requirement."""
    figure = prices.delivery(market)
    item = 58  # two in a hundred of the 60 are less popular
    mine = market.ledger[(market.ledger["round"] == 2) & (market.ledger["seed"] == 0)]
    counts = mine[mine["item"] == item].groupby("agent").size()
    curves = _curves(figure.axes[0])
    look = charts.styles(AGENTS)["rim-feedback"]
    assert curves[look.colour][-1] == counts["rim-feedback"]
    assert curves["#999999"][-1] == market.required[0, 2][item]


def test_delivery_names_its_items(market):
    """Where items have names, a panel's title has its item's, shortened to the panel's width."""
    names = [f"Item number {n}, of a name that is long" for n in range(market.n_items)]
    titles = [ax.get_title(loc="left") for ax in prices.delivery(replace(market, names=names)).axes[:3]]
    assert [title.splitlines()[0] for title in titles] == ["least popular", "lower quarter", "most popular"]
    assert all(re.fullmatch(r"Item number \d+, of a name…", title.splitlines()[1]) for title in titles)


def test_few_seeds_are_drawn_as_thin_lines(market):
    """With three seeds each is a thin line of its own, the frozen control dashed, and there are no bands."""
    panel = loop.over_rounds(market).axes[0]
    rounds = market.rounds[market.rounds["metric"] == "utility"]
    thin = [line for line in panel.lines if line.get_linewidth() == 1]
    of_dual = rounds[rounds["agent"] == "rim-dual"].pivot(index="seed", columns="round", values="value")
    colour = charts.styles(["rim-dual"])["rim-dual"].colour
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


def test_titles_say_what_the_data_say():
    """The sentence about the cost of guarantees has the agent's figures, and turns with them."""
    rows = [("relevance", 0.72, 0.4), ("rim-feedback", 0.01, 0.376), ("random", 0.0, 0.07)]
    rounds = pd.DataFrame(
        [
            {"agent": agent, "seed": seed, "round": 0, "metric": metric, "value": value}
            for agent, short, utility in rows
            for seed in range(2)
            for metric, value in (("shortfall", short), ("utility", utility))
        ]
    )
    said = sentences.cost_of_guarantees(tables.late_figures(rounds), "shown")
    assert said == (
        "rim-feedback leaves 1.0 % of the guaranteed positions undelivered, relevance 72 %; "
        "its utility is 6.0 % lower"
    )
    rounds.loc[rounds["agent"].eq("rim-feedback") & rounds["metric"].eq("utility"), "value"] = 0.44
    assert sentences.cost_of_guarantees(tables.late_figures(rounds), "shown").endswith("10 % higher")
    rounds.loc[rounds["agent"].eq("rim-feedback") & rounds["metric"].eq("utility"), "value"] = 0.4001
    assert sentences.cost_of_guarantees(tables.late_figures(rounds), "shown").endswith("is the same")
    assert sentences.cost_of_guarantees(
        tables.late_figures(rounds[rounds["agent"] == "random"]), "shown"
    ).startswith("random leaves 0 %")


@pytest.mark.parametrize(
    ("course", "said"),
    [
        (
            [2.8, 4.0, 5.4, 0.2],
            "most positions a slate, 5.4, in decile 3 of λ(x), and fewest, 0.2, in decile 4",
        ),
        (
            [0.2, 1.0, 2.0, 4.0],
            "most positions a slate, 4.0, in decile 4 of λ(x), and fewest, 0.2, in decile 1",
        ),
        ([1.0, 1.01, 0.99, 1.0], "1.0 positions a slate in every decile of λ(x)"),
    ],
)
def test_the_title_of_who_pays_names_the_peak_wherever_it_is(course, said):
    """It speaks of the deciles with most and fewest positions, which need not be the highest and the lowest."""
    by_decile = pd.Series(course, index=range(1, 5))
    assert sentences.who_carries("rim-dual", by_decile).endswith(said)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        ([-0.30, -0.40], "no clear effect on the catalogue coverage of relevance (mean of rounds 2–3)"),
        (
            [-0.36, -0.37, -0.38],
            "costs relevance 37 points of catalogue coverage (mean of rounds 2–3; 95 % interval 35 to 39)",
        ),
        ([0.36, 0.37, 0.38], "gives relevance 37 points of catalogue coverage"),
    ],
)
def test_the_title_claims_an_effect_only_where_the_interval_leaves_out_zero(differences, said):
    """A wide interval is reported as no clear effect, a narrow one with its size, sign and bounds, of late rounds."""
    rounds = pd.DataFrame(
        [
            {"agent": agent, "seed": seed, "round": number, "metric": "coverage", "value": value}
            for seed, difference in enumerate(differences)
            for number, share in enumerate((0.0, -2.0, 0.5, 1.5))  # a mean of 1 over rounds 2 and 3
            for agent, value in (("relevance", 0.5 + share * difference), ("relevance-frozen", 0.5))
        ]
    )
    late = measures.late_means(rounds)
    parts = loop.decomposition(late, ["relevance", "relevance-frozen"], ["coverage"])
    assert said in loop.effect_of_retraining(parts, measures.late_words(4))


def test_agents_keep_their_colour_whoever_else_takes_part():
    """Known agents have fixed, distinct looks; others get distinct ones; frozen arms share theirs."""
    alone, together = (
        charts.styles(["rim-dual"]),
        charts.styles([*AGENTS, "mine", "yours", "theirs"]),
    )
    assert alone["rim-dual"] == together["rim-dual"]
    assert "rim-dual-frozen" not in together
    assert len({look.colour for look in together.values()}) == len(together)
    assert charts.styles(["mine"])["mine"] == charts.styles(["mine", "relevance"])["mine"]


def _contrast(first: str, second: str) -> float:
    def luminance(colour):
        channel = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_look_stands_out_from_white():
    """Lines and labels of all agents have enough contrast to be seen on white."""
    every = charts.styles([*AGENTS, "rim-resolve", "entropic-dual", "epsilon-greedy", "popularity", "ppo"])
    assert min(_contrast(look.colour, "white") for look in every.values()) > 2.0


def test_labels_of_the_front_do_not_overlap(market):
    """Names beside points keep off each other, off all points, and inside the axes."""
    figure = loop.front(market)
    figure.draw_without_rendering()
    ax = figure.axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 5
    frame = ax.get_window_extent()
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1


def test_legends_never_cover_data(market):
    """A legend stands in axes of its own, which hold no line."""
    for draw in PICTURES.values():
        for ax in draw(market).axes:
            if ax.get_legend() is not None:
                assert not ax.lines
                assert not ax.axison


def test_names_of_a_crowd_stay_apart(market):
    """Ten agents, five of them almost at one point: no two names overlap, and far ones are led to their points."""
    at = {"relevance": (30, 0.9), "popularity": (31, 0.9), "random": (800, 0.2), "oracle": (170, 1.4)}
    names = ("rim-dual", "rim-feedback", "rim-resolve", "entropic-dual", "epsilon-greedy", "hindsight")
    at |= {name: (220 + 4 * place, 0.66) for place, name in enumerate(names)}
    rows = [
        {"agent": agent, "seed": seed, "round": 0, "metric": metric, "value": value * (1 + 0.02 * seed)}
        for agent, point in at.items()
        for seed in range(2)
        for metric, value in zip(("perplexity", "utility"), point, strict=True)
    ]
    figure = loop.front(items.PictureTables(rounds=pd.DataFrame(rows), n_items=market.n_items))
    ax = figure.axes[0]
    assert ax.get_xscale() == "log"
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert len(boxes) == len(at)
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])


def test_a_panel_of_counts_far_apart_has_a_log_axis(market):
    """Where one agent's items are a hundred times another's, both can be read; markers at an edge are whole."""
    rounds = market.rounds.copy()
    wide = rounds["agent"].eq("random") & rounds["metric"].eq("effective_items")
    rounds.loc[wide, "value"] *= 100
    panels = {ax.get_title(loc="left"): ax for ax in loop.over_rounds(replace(market, rounds=rounds)).axes}
    assert panels["Effective consumed items"].get_yscale() == "log"
    assert panels["Undelivered, as examined"].get_ylim()[1] <= 1
    assert not any(line.get_clip_on() for line in panels["Undelivered, as examined"].lines)


def test_delivery_says_who_never_showed_an_item(market):
    """The agents without an exposure of an item stand above its panel, and the title counts what was delivered."""
    item = 58
    without = market.ledger[~(market.ledger["agent"].eq("random") & market.ledger["item"].eq(item))]
    figure = prices.delivery(replace(market, ledger=without))
    assert "random" in " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "guaranteed exposures of 3 items in round 2, relevance" in _texts(figure)


def test_an_agent_that_a_sweep_does_not_move_is_a_ring():
    """Relevance stands at one point whatever β; it is drawn around the points that would hide it."""
    rows = [
        {"agent": agent, "seed": seed, "beta": beta, "metric": metric, "value": value}
        for agent, slope in (("relevance", 0.0), ("rim-dual", 1.0))
        for seed in range(2)
        for beta in (0.0, 0.5, 1.0)
        for metric, value in (
            ("utility", 0.9 - 0.2 * slope * beta),
            ("perplexity", 30 + 100 * slope * beta),
            ("examined_shortfall", beta * (1 - 0.5 * slope)),
        )
    ]
    figure = sweep.front_figure(pd.DataFrame(rows), "beta")
    assert "β does not move relevance" in _texts(figure)
    colour = charts.styles(["relevance"])["relevance"].colour
    left, right = figure.axes[:2]
    (ring,) = [line for line in left.lines if line.get_color() == colour and line.get_markersize() > 10]
    assert ring.get_markerfacecolor() == "none"
    assert all(0 not in line.get_xdata() for line in right.lines)
    assert (
        "With rim-dual, β from 0 to 1 makes exposure 4.3 times as wide and lowers utility by 22 %"
        in _texts(figure)
    )


@pytest.mark.parametrize("betas", [(0.0,), (0.0, 0.5), (0.5,)])
def test_a_sweep_of_few_points_has_a_front(betas):
    """One or two values of β, 0 alone too, are drawn without a warning."""
    rows = [
        {"agent": "relevance", "seed": 0, "beta": beta, "metric": metric, "value": 0.5}
        for beta in betas
        for metric in ("utility", "perplexity", "examined_shortfall")
    ]
    with warnings.catch_warnings(), charts.style():
        warnings.simplefilter("error")
        figure = sweep.front_figure(pd.DataFrame(rows), "beta")
        figure.draw_without_rendering()
    assert ("β from 0 to 0.5: nothing moves" in _texts(figure)) == (len(betas) > 1)


def _titles(figure):
    return [title for title in (ax.get_title(loc="left") for ax in figure.axes) if title]


def test_a_measure_of_ones_own_has_a_panel_of_its_own(market):
    """By round and as an effect of retraining, with its title and unit; built-in panels and the legend stay."""
    own = market.rounds[market.rounds["metric"] == "perplexity"].assign(metric="freshness")
    mine = measures.Measure("freshness", "days", "x", lambda _: None, title="Age of shown items")
    tables = replace(
        market,
        rounds=pd.concat([market.rounds, own], ignore_index=True),
        measures={**measures.MEASURES, "freshness": mine},
    )
    before, after = (_titles(loop.over_rounds(each)) for each in (market, tables))
    assert after == [*before, "Age of shown items"]
    assert len(loop.over_rounds(tables).axes) == 9
    before, after = (_titles(loop.decomposed(each)) for each in (market, tables))
    assert set(after) - set(before) == {f"{agent}\nAge of shown items" for agent in ("relevance", "rim-dual")}
    (panel,) = [
        ax for ax in loop.over_rounds(tables).axes if ax.get_title(loc="left") == "Age of shown items"
    ]
    assert panel.get_ylabel() == "days"
    value = own[(own["agent"] == "random")].groupby("round")["value"].mean()
    assert _curves(panel)[charts.styles(AGENTS)["random"].colour] == pytest.approx(value.to_numpy())


def test_campaigns_are_drawn_against_what_was_due(market):
    """Each campaign has a panel from its beginning on, and the title leaves out what was delivered beyond."""
    figure = prices.campaigns(market)
    assert "rim-feedback delivers 100 % of what campaigns are promised, relevance 50 %" in _texts(figure)
    week, day = figure.axes[:2]
    assert [ax.get_title(loc="left") for ax in (week, day)] == ["week", "day"]
    due = week.lines[0]
    assert due.get_xdata().tolist() == [0.0, 7.0, 9.0]
    assert due.get_ydata().tolist() == [0.0, 30.0, 40.0]
    assert day.lines[0].get_ydata().tolist() == [0.0, 8.0]
    assert prices.campaigns(items.PictureTables(rounds=market.rounds, n_items=market.n_items)) is None


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_campaign_that_was_due_nothing_is_kept(market):
    """Where nothing was promised, such as to an audience of nobody, all of it is delivered."""
    nobody = replace(market, campaigns=_campaigns().assign(due=0.0, delivered=0.0))
    assert "rim-feedback delivers 100 % of what campaigns are promised" in _texts(prices.campaigns(nobody))
