"""Sentences, notes and warnings about a comparison: each says what its table says."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from kit import cases
from kit.commands import printed_report
from kit.logs import rounds_of
from kit.markets import small_run, small_scenario
from scipy import stats

from rimsim import measures
from rimsim.config import ExposureConfig
from rimsim.measures import mean_interval, paired_difference
from rimsim.scenarios.report import comparison, numbers, sentences, tables
from rimsim.scenarios.report.tables import cell, two_seeds_note
from rimsim.scenarios.study.play import AT_OPENING


def _rounds(values, metrics=("utility",), number=0):
    """A table of one round: values by agent of each metric at each seed."""
    parts = (
        rounds_of({(agent, number): each[place] for agent, each in values.items()}, metric)
        for place, metric in enumerate(metrics)
    )
    return pd.concat(parts, ignore_index=True)


def test_sentences_say_the_tables_figures():
    """Late means and paired differences with their intervals; where one holds 0 the two cannot be told apart."""
    rng = np.random.default_rng(0)
    values = {name: [rng.normal(mean, 0.01, 4) for mean in means]
              for name, means in (("relevance", (0.5, 0.8)), ("mine", (0.4, 0.05)))}  # fmt: skip
    late = [_rounds(values, ("utility", "examined_shortfall"), number) for number in (2, 3)]
    early = [late[0].assign(round=number, value=9 + late[0]["value"]) for number in (0, 1)]  # do not count
    first, second = sentences.comparison_sentences(pd.concat(early + late), ["relevance", "mine"], "examined")
    shortfall = mean_interval(values["relevance"][1])
    figure = numbers.figure
    assert f"`relevance` leaves {figure(100 * shortfall.mean)}% ({figure(100 * shortfall.low)} to" in first
    paired = paired_difference(values["relevance"][0], values["mine"][0])
    interval = f"{figure(paired.mean)} ({figure(paired.low)} to {figure(paired.high)})"
    assert f"brings {interval} consumptions" in second
    assert "less than `relevance`" in second
    rounds = _rounds({"relevance": [[0.5] * 4], "mine": [[0.6, 0.4] * 2]})
    said = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")[0]
    assert "does not differ significantly from" in said


@cases(
    "values said",
    (
        [0.40, 0.45],
        "brings 0.075 (−0.24 to 0.39) consumptions per slate less than `relevance` (15.0%), but two seeds",
    ),
    ([0.4], "brings 0.10 consumptions per slate less than `relevance` (20.0%), but one seed"),
    ([0.5, 0.5], "brings as many consumptions per slate as `relevance`, but two seeds"),
)
def test_one_or_two_seeds_cannot_tell(values, said):
    """So few seeds test nothing: the sentence has the size of a difference, but denies and claims nothing."""
    rounds = _rounds({"relevance": [[0.5] * len(values)], "mine": [values]})
    (text,) = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")
    assert text == f"`mine` {said} cannot tell if this is chance."
    stars = _rounds({"relevance": [[0.5, 0.5001]], "mine": [[0.4, 0.4002]]})
    (text,) = sentences.comparison_sentences(stars, ["relevance", "mine"], "examined")
    assert "cannot tell" not in text


def test_a_difference_in_percent_is_of_the_baseline():
    """With 0.5 for the baseline and 0.4 for the other agent, 0.1 less is 20%, and not a quarter."""
    rounds = _rounds({"relevance": [[0.5, 0.501, 0.499]], "mine": [[0.4, 0.402, 0.398]]})
    (said,) = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")
    assert "less than `relevance` (20.0%)" in said


def test_an_equal_difference_is_told_without_a_claim():
    """The same difference in all seeds has no interval, no direction and no star; the sentence says why."""
    rounds = _rounds({"relevance": [[0.11, 0.12, 0.10]], "mine": [[0.107, 0.117, 0.097]]})
    (said,) = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")
    assert "does not differ significantly from that of `relevance` (difference −0.0030 consumptions" in said
    assert "the same in all 3 seeds, which allows no test)" in said
    assert " to " not in said
    differences = tables.reported_differences(rounds, ["relevance", "mine"])
    text = tables.pivoted("T", differences, ["agent"], ("utility",))
    assert text.rows == (("mine", "−0.003="),)
    assert text.title == "T (= the same in all 3 seeds)"


@cases("seeds announced", (1, False), (2, True))
def test_intervals_are_announced_only_where_there_are_some(seeds, announced):
    """With one seed the answer has no brackets, and so does not explain them."""
    draws = np.random.default_rng(0).normal(0, 0.01, (4, seeds))
    values = {"relevance": [0.5 + draws[0], 0.8 + draws[1]], "mine": [0.4 + draws[2], 0.1 + draws[3]]}
    said = sentences.comparison_sentences(
        _rounds(values, ("utility", "examined_shortfall")), ["relevance", "mine"], "examined"
    )
    assert ("in brackets: 95% intervals" in said[0]) == announced
    assert (" to " in " ".join(said)) == announced


def test_prices_at_their_limit_are_told_since_their_first_round(monkeypatch):
    """Prices that reach the limit in rounds 2, 3 and 4 do so since round 2."""
    values = {
        ("rim-feedback", number): [share] for number, share in enumerate((0.0, 0.0, 0.2, 0.3, 0.3, 0.0))
    }
    rounds = pd.concat(
        [
            rounds_of(values, "prices_at_bound"),
            rounds_of({key: [0.4] for key in values}, "examined_shortfall"),
        ]
    )
    monkeypatch.setattr(sentences, "shown_rounds", lambda run: rounds)
    exposure = SimpleNamespace(unit="examined", hard=False, beta=0.3, each=None)
    run = SimpleNamespace(
        scenario=SimpleNamespace(exposure=exposure), undeliverable=None, agents=["rim-feedback"]
    )
    (note,) = sentences.undelivered_notes(run)
    assert "some since round 2)" in note


@cases("examined unit", (0.25, "in positions"), (0.5, "as examined"))
def test_where_positions_count_alike_guarantees_are_told_in_positions(examined, unit):
    """Equal shortfalls, as in a replay, are told as positions, whatever the scenario's unit."""
    shortfalls = [[0.25] * 2, [examined] * 2]
    rounds = _rounds({"relevance": shortfalls, "mine": shortfalls}, ("shortfall", "examined_shortfall"))
    assert f"counted {unit}" in sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")[0]


def test_figures_are_short_and_two_seeds_bring_a_note():
    """Two significant digits, shares in per cent within 0 and 100; widths are quantiles of Student's t."""
    figures = [numbers.figure(value) for value in (0, 0.01234, -0.5, 7.26, 34.56, 1234.5)]
    assert figures == ["0", "0.012", "−0.50", "7.3", "34.6", "1234"]
    assert sentences.with_interval("coverage", 0.97, 0.9, 1.04) == "97.0% (90.0 to 100)"
    assert sentences.with_interval("coverage", 0.5, None, None) == "50.0%"
    difference = sentences.with_interval("coverage", -0.1, -0.2, 0.0, difference=True)
    assert difference == "−10.0 points (−20.0 to 0)"
    wide, narrow = (float(stats.t.ppf(0.975, n - 1)) for n in (2, 5))
    assert f"t = {wide:.1f}, with 5 seeds {narrow:.1f}" in two_seeds_note(2)
    assert [two_seeds_note(n) for n in (1, 3, 5)] == [None] * 3


@cases(
    "ends text",
    ((17.93, 15.51, 20.35), "17.9 ±2.4"),
    ((818.2, 817.44, 818.96), "818 ±1"),
    ((818.2, 818.0, 818.4), "818.2 ±0.2"),
    ((-0.0284, -0.0304, -0.0264), "−0.028 ±0.002"),
    ((0.25, 0.25, 0.25), "0.250 ±0.000"),
    ((0.5, None, None), "0.500"),
    ((float("nan"), None, None), "–"),
)
def test_a_mean_and_its_interval_have_equal_decimals(ends, text):
    """Half-widths are rounded like their means, unless they would be 0; negative numbers have one kind of minus."""
    assert cell(*ends) == text


@cases("model warns", (0.9, False), (0.5, True))
def test_a_run_says_when_bestsellers_beat_its_model(model, warns):
    """The note is a warning where bestsellers are ahead at some seed, and names the share of the oracle."""
    values = pd.DataFrame({"agent": AT_OPENING, "utility": (model, 0.8, 1.0)})
    note = sentences.opening_note(pd.concat([values.assign(seed=seed) for seed in (0, 1)]))
    assert note.startswith("warning") == warns
    assert f"{100 * model:.0f}% of the oracle's 1.000" in note
    assert "bestsellers have 0.800" in note


def test_prices_at_the_bound_are_counted_over_guaranteed_items():
    """Items with a guarantee whose v = −c; where hardly any is, a larger c is not advised, nor for hard ones."""
    price = np.array([-2.0, -1.9, 0.0, -2.0])
    required = np.array([1.0, 1.0, 2.0, 0.0])
    assert measures.prices_at_bound(price, required, 2.0) == pytest.approx(1 / 3)
    assert measures.prices_at_bound(price, np.zeros(4), 2.0) == 0.0
    for agent in ("rim-dual", "rim-feedback"):  # prices that move with delivery may miss a little, too
        said = sentences.undelivered_sentence(agent, 0.2, 0.0, None, unit="shown", hard=False)
        assert "a higher `exposure.cost` would not help" in said
        assert "raise" not in said
    flat = sentences.undelivered_sentence("flat-budget(bonus=0.1)", 0.2, 0.0, None, unit="shown", hard=False)
    assert "raise the option `bonus`, or `exposure.cost`" in flat
    assert "do not follow" not in said
    assert "hard" in sentences.undelivered_sentence("rim-feedback", 0.2, 0.0, None, unit="shown", hard=True)


@pytest.mark.parametrize("unit", ["examined", "shown"])
def test_a_run_says_what_is_undelivered_and_what_would_help(tmp_path, unit):
    """With a c that buys nothing, prices are at the bound, both shortfalls stand in the table, and the note names c."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(unit=unit, cost=0.01, beta=0.9))
    run = small_run(tmp_path / "run", ["relevance", "rim-feedback"], config)
    (note,) = sentences.undelivered_notes(run)
    assert note.startswith("rim-feedback leaves")
    assert f"late rounds, as {unit}" in note
    assert "Raise `exposure.cost`" in note
    first, second = ("undelivered (examined)", "undelivered (shown)")[:: 1 if unit == "examined" else -1]
    made = comparison.comparison_report(run)
    assert made.tables[0].columns.index(first) < made.tables[0].columns.index(second)
    assert first in made.tables[0].main
    assert second not in made.tables[0].main
    assert note[:60] in printed_report(made, 200).replace("\n", " ")


@cases("first warned", (0.5, True), (0.8, False), (1.45, False), (1.6, True))
def test_a_report_warns_where_one_type_of_visit_is_valued_above_the_other(first, warned):
    """From a ratio of 1.5 on, in either direction; nothing of most controls, or where visits are all of one type."""
    figures = {"calibration_first": first, "calibration_returning": 1.0, "utility": 0.5}
    rounds = _rounds({"relevance": [[value] for value in figures.values()]}, tuple(figures), 1)
    notes = sentences.calibration_notes(rounds)
    assert [note.startswith("warning: for each actual consumption") for note in notes] == [True] * warned
    assert sentences.calibration_notes(rounds[1:]) == []
    for control, is_judged in {"frozen": True, "organic": True, "random": False, "static": False}.items():
        notes = sentences.calibration_notes(rounds.assign(agent=f"relevance-{control}"))
        assert len(notes) == (warned and is_judged)


@cases("first warned", (0.5, True), (0.8, False), (1.6, True))
def test_a_report_warns_of_the_opening_model_once(first, warned):
    """In round 0 all arms have one model, so one note names the reference; later rounds have a learned layer."""
    metrics = ("calibration_first", "calibration_returning")
    parts = []
    for number, of_first in enumerate((first, 1.0, 1.0, 1.0)):
        values = {agent: [[of_first], [1.0]] for agent in ("rim-feedback", "relevance")}
        parts.append(_rounds(values, metrics, number))
    notes = sentences.calibration_notes(pd.concat(parts, ignore_index=True))
    assert len(notes) == warned
    assert all("served by relevance" in note and "(round 0)" in note for note in notes)
    assert sentences.calibration_notes(parts[0]) == notes  # of a run that has no later rounds, too


def test_a_run_says_before_a_round_what_no_agent_could_deliver(tmp_path):
    """Where items together ask for more than all slates hold, a table says so in every round, and the report once."""
    config = small_scenario(rounds=2, exposure=ExposureConfig(items=30, each=20, hard=True))
    few_arrivals = dataclasses.replace(config, arrivals=dataclasses.replace(config.arrivals, per_round=20))
    run, full_run = (
        small_run(tmp_path / str(n), ["rim-feedback"], scenario)
        for n, scenario in enumerate((few_arrivals, config))
    )
    table = run.undeliverable
    assert set(table["round"]) == {0, 1}
    assert (table["required"] > table["reachable"]).all()
    warning = "warning: in 2 rounds of arms, some guarantees"
    assert sentences.undelivered_notes(run)[0].startswith(warning)
    assert full_run.undeliverable is None


def test_a_sentence_claims_a_difference_only_where_its_table_has_a_star():
    """An interval without 0 is not enough among many comparisons."""
    draw = np.random.default_rng(0)
    rows = [
        {"agent": agent, "seed": seed, "round": 0, "metric": metric, "value": value}
        for seed in range(4)
        for agent, gain in (("relevance", 0.0), ("mine", 0.1))
        for metric in tables.shown_metrics("examined")
        for value in [1 + (gain if metric == "utility" else 0) + 0.04 * draw.normal()]
    ]
    rounds = pd.DataFrame(rows)
    table = tables.differences(rounds, ["relevance", "mine"], tables.shown_metrics("examined"))
    utility = table[table["metric"] == "utility"].iloc[0]
    assert utility["low"] > 0
    assert not table["significant"].any()
    said = sentences.comparison_sentences(rounds, ["relevance", "mine"], "examined")[-1]
    assert "does not differ significantly from that of `relevance`" in said
    assert "not significant among all comparisons of the table" in said


def test_tables_have_numbers_of_items_within_the_catalogue():
    """The cell of effective items has the ends of its interval; a difference keeps half of its width."""
    values = {"relevance": [[20.0, 30.0, 25.0]], "random": [[160.0, 340.0, 560.0]]}
    rounds = _rounds(values, ("effective_items",))
    shown = tables.summary(rounds, list(values), ("effective_items",), 343)
    table = tables.pivoted("small", shown, ["agent"], ("effective_items",))
    low = measures.number_interval(values["random"][0], 343).low
    assert dict(table.rows)["random"] == f"343 ({tables.number(low)}–343)"
    assert table.title == "small (in brackets: 95% interval on the log scale)"
    paired = tables.differences(rounds, list(values), ("effective_items",))
    assert " ±" in tables.pivoted("small", paired, ["agent"], ("effective_items",)).rows[0][1]
