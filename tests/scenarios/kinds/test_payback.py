"""Payback maps: contrasts, adjusted tests and the predicted order, against counts by hand; runs that are resumed."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy
from kit import calls_of, cases, refused, said_by
from kit.markets import drawn, played

from rimsim.config import LearningConfig, PlatformConfig, Seeds, at_seed, find_scenario, override
from rimsim.errors import ConfigError, MarketError, RunFolderError
from rimsim.scenarios import load_payback, load_run, payback, resume
from rimsim.scenarios.kinds.payback import arms, report
from rimsim.scenarios.kinds.payback.gains import (
    COST,
    EQUAL,
    GAIN,
    NOT_SIGNIFICANT,
    gains_of,
    prediction_of,
    shares_of,
)
from rimsim.scenarios.kinds.payback.learners import LEARNERS, reference_of
from rimsim.scenarios.runs import parts
from rimsim.scenarios.runs.digests import digest

SMALL = {
    "rounds": 2,
    "worlds": 2,
    "arrivals": 60,
    "beta": (0.5,),
    "learners": ("estimated", "sd-2"),
    "min_item_events": 120,
}
"""A map of ten short arms."""
LINE = (
    "payback --rounds 2 --worlds 2 --arrivals 60 --beta 0.5 --learners estimated,sd-2 --min-item-events 120"
)
"""The same map as a command."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small map."""
    return payback(out=tmp_path_factory.mktemp("payback") / "map", workers=1, **SMALL)


def _table(values):
    """Table ``payback`` of two rounds, from (learner, β, world) → utility of the last round and items never shown."""
    rows = []
    for (learner, beta, world), (utility, never_shown) in values.items():
        for number, factor in ((0, 100.0), (1, 1.0)):
            rows.append((learner, beta, world, number, "utility", factor * utility))
            rows.append((learner, beta, world, number, "never_shown", never_shown * (2 - number)))
            if beta > 0:
                rows.append((learner, beta, world, number, "undelivered", 0.25))
    return pd.DataFrame(rows, columns=list(arms.COLUMNS))


def _shares(of_arms):
    """Outcomes from (learner, β) → shares of the ceiling by world; nothing is ever unshown."""
    rows = [
        (learner, beta, world, share, 0.0, np.nan)
        for (learner, beta), values in of_arms.items()
        for world, share in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["learner", "beta", "world", "share", "never_shown", "undelivered"])


def test_utility_is_a_share_of_the_ceiling_in_the_same_world_and_late_rounds():
    """The early round, a hundred times as good, does not count; each world has a ceiling of its own."""
    table = _table(
        {
            ("informed", 0.0, 0): (0.5, 0.3),
            ("informed", 0.0, 1): (0.8, 0.3),
            ("estimated", 0.0, 0): (0.4, 0.2),
            ("estimated", 0.0, 1): (0.4, 0.1),
            ("estimated", 0.1, 0): (0.3, 0.0),
            ("estimated", 0.1, 1): (0.6, 0.0),
        }
    )
    shares = shares_of(table, 2, 3).set_index(["beta", "world"])
    assert set(shares["learner"]) == {"estimated"}
    assert shares["share"].to_dict() == pytest.approx(
        {(0.0, 0): 0.8, (0.0, 1): 0.5, (0.1, 0): 0.6, (0.1, 1): 0.75}
    )
    assert shares.loc[0.0, "never_shown"].tolist() == [0.2, 0.1]
    assert shares.loc[0.1, "undelivered"].tolist() == [0.25, 0.25]
    assert shares.loc[0.0, "undelivered"].isna().all()


def test_items_never_shown_are_counted_after_the_last_round():
    """The share falls from round to round, so a mean of the two late rounds would be above its last value."""
    rows = [
        (learner, 0.0, 0, number, metric, value)
        for learner in ("informed", "estimated")
        for number, never_shown in enumerate((0.8, 0.6, 0.4, 0.2))
        for metric, value in (("utility", 0.5), ("never_shown", never_shown))
    ]
    shares = shares_of(pd.DataFrame(rows, columns=list(arms.COLUMNS)), 4, 2)
    assert shares["never_shown"].tolist() == [0.2]


def test_a_cell_of_the_map_has_half_of_its_interval():
    """Of three worlds with 20%, 30% and 40%, ± is the t quantile times the standard error, in percent."""
    half = 100 * scipy.stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert report._mean_cell(pd.Series([0.2, 0.3, 0.4])) == f"30.0 ±{half:.1f}"


def test_a_world_counts_once_all_of_its_arms_are_complete():
    """An interrupted map has a world that lacks an arm, and another that lacks its last round."""
    keys = itertools.product(("informed", "estimated"), (0, 1, 2))
    table = _table({(learner, 0.0, world): (0.5, 0.5) for learner, world in keys})
    is_missing = (table["world"] == 1) & (table["learner"] == "estimated")
    is_unplayed = (table["world"] == 2) & (table["learner"] == "informed") & (table["round"] == 1)
    shares = shares_of(table[~is_missing & ~is_unplayed], 2, 2)
    assert shares["world"].tolist() == [0]


def _by_hand(values, subtracted):
    """Mean, interval and p value of paired differences, by SciPy."""
    difference = np.asarray(values) - np.asarray(subtracted)
    test = scipy.stats.ttest_1samp(difference, 0.0)
    interval = test.confidence_interval()
    return difference.mean(), interval.low, interval.high, test.pvalue


def test_contrasts_are_paired_t_tests_adjusted_over_the_whole_map():
    """Each guarantee against none, each learner against the reference; Holm multiplies the i-th of m by m − i + 1."""
    draw = np.random.default_rng(4)
    of_arms = {
        ("estimated", 0.0): draw.normal(0.80, 0.05, 5),
        ("estimated", 0.1): draw.normal(0.80, 0.05, 5),
        ("estimated", 0.5): draw.normal(0.50, 0.05, 5),
        ("sd-2", 0.0): draw.normal(0.78, 0.05, 5),
        ("sd-2", 0.1): draw.normal(0.99, 0.05, 5),
        ("sd-2", 0.5): draw.normal(0.82, 0.05, 5),
    }
    gains = gains_of(_shares(of_arms), "estimated")
    contrasts = [
        (("estimated", 0.1), ("estimated", 0.0)),
        (("estimated", 0.5), ("estimated", 0.0)),
        (("sd-2", 0.1), ("sd-2", 0.0)),
        (("sd-2", 0.5), ("sd-2", 0.0)),
        (("sd-2", 0.0), ("estimated", 0.0)),
    ]
    keys = gains[["learner", "beta", "minus_learner", "minus_beta"]].to_numpy().tolist()
    assert keys == [[*arm, *minus] for arm, minus in contrasts]
    expected = np.array([_by_hand(of_arms[arm], of_arms[minus]) for arm, minus in contrasts])
    np.testing.assert_allclose(gains[["mean", "low", "high", "p"]].to_numpy(float), expected, rtol=1e-10)
    assert gains["n"].tolist() == [5] * 5
    p_values = expected[:, 3]
    adjusted = {}
    largest = 0.0
    for place, number in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, (5 - place) * p_values[number]))
        adjusted[number] = largest
    assert gains["adjusted"].tolist() == pytest.approx([adjusted[number] for number in range(5)])
    verdicts = [
        NOT_SIGNIFICANT if adjusted[number] > 0.05 else GAIN if expected[number, 0] > 0 else COST
        for number in range(5)
    ]
    assert gains["verdict"].tolist() == verdicts
    assert {GAIN, COST, NOT_SIGNIFICANT} == set(verdicts)


def test_a_difference_that_is_the_same_in_all_worlds_is_not_tested():
    """Two learners with the same slates differ by 0 everywhere; their contrast does not count for Holm's method."""
    base = [0.5, 0.6, 0.7]
    gaining = [0.62, 0.73, 0.81]
    of_arms = {
        (learner, beta): values
        for learner in ("estimated", "ucb")
        for beta, values in ((0.0, base), (0.1, gaining))
    }
    gains = gains_of(_shares(of_arms), "estimated")
    assert gains["verdict"].tolist() == [GAIN, GAIN, EQUAL]
    assert gains["p"].isna().tolist() == [False, False, True]
    assert gains["adjusted"].iloc[0] == pytest.approx(2 * gains["p"].iloc[0])


def _predicted(never_shown, gain):
    """Prediction from learner → share never shown, and learner → gains by world."""
    rows = []
    for learner, values in gain.items():
        for world, value in enumerate(values):
            rows.append((learner, 0.0, world, 0.5, never_shown[learner], np.nan))
            rows.append((learner, 0.05, world, 0.5 + value, 0.0, 0.0))
            rows.append((learner, 0.5, world, 0.1, 0.0, 0.0))
    columns = ["learner", "beta", "world", "share", "never_shown", "undelivered"]
    return prediction_of(pd.DataFrame(rows, columns=columns))


@cases(
    "signs holds",
    ((1.0, 1.0, 1.0, 1.0), True),
    ((-1.0, -1.0, -1.0, -1.0), False),
    ((1.0, -1.0, 1.0, -1.0), None),
)
def test_the_predicted_order_is_tested_over_worlds(signs, holds):
    """Gains in the order of the items never shown hold it, gains against it refute it; mixed worlds tell nothing."""
    never_shown = {"sd-0.3": 0.1, "estimated": 0.4, "sd-2": 0.6, "ucb": 0.3}
    gain = {
        learner: [sign * share * (1 + world / 10) for world, sign in enumerate(signs)]
        for learner, share in never_shown.items()
    }
    prediction = _predicted(never_shown, gain)
    assert prediction.beta == 0.05
    assert dict(prediction.predicted) == {"sd-2": 1, "estimated": 2, "ucb": 3, "sd-0.3": 4}
    assert prediction.holds is holds
    means = [(never_shown[name], np.mean(gain[name])) for name in never_shown]
    assert prediction.tau == pytest.approx(scipy.stats.kendalltau(*np.transpose(means)).statistic)


def test_equal_predictions_have_equal_ranks_and_no_order():
    """Learners that show everything give nothing to correlate; two learners have no order to test."""
    gain = {"sd-0.3": [0.1] * 4, "sd-2": [0.3] * 4, "ucb": [0.2] * 4}
    prediction = _predicted(dict.fromkeys(gain, 0.0), gain)
    assert list(prediction.predicted.values()) == [1, 1, 1]
    assert dict(prediction.observed) == {"sd-2": 1, "ucb": 2, "sd-0.3": 3}
    assert prediction.tau is prediction.holds is None
    shown = {"sd-0.3": 0.1, "sd-2": 0.3}
    assert _predicted(shown, {name: gain[name] for name in shown}).tau is None


def test_few_worlds_give_no_interval_of_the_order():
    """A bootstrap of three worlds has ten samples alone."""
    gain = {"sd-0.3": [0.1] * 3, "sd-2": [0.3] * 3, "ucb": [0.2] * 3}
    prediction = _predicted({"sd-0.3": 0.1, "sd-2": 0.6, "ucb": 0.3}, gain)
    assert prediction.tau == pytest.approx(1.0)
    assert prediction.low is prediction.high is prediction.holds is None


def _gains(*rows):
    """Table of gains from learner, β and verdict."""
    table = pd.DataFrame(rows, columns=["learner", "beta", "verdict"])
    return table.assign(n=12, p=0.03, minus_learner=table["learner"], minus_beta=0.0)


@cases(
    "verdicts expected",
    (
        {"sd-2": (GAIN, NOT_SIGNIFICANT), "ucb": (NOT_SIGNIFICANT, COST)},
        "A guarantee gains utility with sd-2 (β = 0.1) and costs utility with ucb (β = 0.5)",
    ),
    ({"sd-2": (GAIN, GAIN), "ucb": (NOT_SIGNIFICANT, EQUAL)}, "A guarantee gains utility with sd-2"),
    (
        dict.fromkeys(("sd-0.3", "sd-2", "ucb"), (NOT_SIGNIFICANT, COST)),
        "A guarantee costs utility with 3 of 3 learners (β = 0.5)",
    ),
    (
        dict.fromkeys(("sd-2", "ucb"), (NOT_SIGNIFICANT, NOT_SIGNIFICANT)),
        "No guarantee differs significantly from none, with any of 2 learners",
    ),
)
def test_the_title_says_what_the_adjusted_tests_support(verdicts, expected):
    """A p value of 0.03 that Holm's method does not accept is no finding."""
    rows = [
        (learner, beta, verdict)
        for learner, values in verdicts.items()
        for beta, verdict in zip((0.1, 0.5), values, strict=True)
    ]
    assert report.title(_gains(*rows, ("ucb", 0.0, GAIN))) == expected
    assert report.title(_gains(("ucb", 0.1, NOT_SIGNIFICANT)).assign(p=np.nan)).endswith("untested")
    of_two_worlds = _gains(("ucb", 0.1, NOT_SIGNIFICANT)).assign(n=2)
    assert report.title(of_two_worlds).startswith("Two worlds cannot tell if a guarantee has an effect")


def test_learners_are_settings_of_the_platform():
    """One of them is the platform's default; names, labels and settings differ."""
    assert list(LEARNERS) == ["sd-0.3", "estimated", "estimated-slope", "sd-2", "thompson", "ucb"]
    assert len({learner.learning for learner in LEARNERS.values()}) == len(LEARNERS)
    assert LEARNERS[reference_of(list(LEARNERS))].learning == PlatformConfig().learning
    assert reference_of(["ucb", "sd-2"]) == "ucb"
    assert LEARNERS["thompson"].learning == LearningConfig(slope=0.0, sd="estimated", answer="sample")
    with pytest.raises(TypeError):
        LEARNERS["mine"] = LEARNERS["ucb"]


def _world(world, learner="estimated", **changes):
    """Scenario of an arm of the small map, by hand."""
    fields = {
        "rounds": 2,
        "arrivals.per_round": 60,
        "data.min_item_events": 120,
        "consumer.truth": "factors",
        "consumer.hidden": {"rho": 0.0, "seed": world},
        "exposure.beta": 0.0,
    }
    config = override(find_scenario("closed-loop"), fields | changes)
    platform = dataclasses.replace(config.platform, learning=LEARNERS[learner].learning)
    return at_seed(dataclasses.replace(config, platform=platform), world)


@cases(
    "learner beta agent",
    ("estimated", 0.0, "relevance"),
    ("sd-2", 0.5, "rim-feedback"),
    ("informed", 0.0, "informed"),
)
def test_an_arm_is_the_market_of_its_world(finished, learner, beta, agent):
    """Without a guarantee, slates are those of relevance; utility and items never shown are counted again."""
    config = _world(1, learner if learner in LEARNERS else "estimated", **{"exposure.beta": beta})
    market = played(config, agent, seeds=Seeds.all(1))
    table = finished.table
    arm = table[(table["learner"] == learner) & (table["beta"] == beta) & (table["world"] == 1)]
    shown = set()
    for closed in market.closed:
        of_round = arm[arm["round"] == closed.number].set_index("metric")["value"]
        assert of_round["utility"] == pytest.approx(closed.ledger.probability.sum() / 60)
        shown |= {*closed.ledger.item[closed.ledger.item >= 0].tolist()}
        assert of_round["never_shown"] == pytest.approx(1 - len(shown) / len(closed.exposure))
        if beta:
            missing = np.maximum(closed.required - closed.exposure, 0).sum() / closed.required.sum()
            assert of_round["undelivered"] == pytest.approx(missing)
        else:
            assert "undelivered" not in of_round


def test_the_folder_has_the_map(finished):
    """Tables with all arms and contrasts, and a config that repeats the run; no parts, states or drafts."""
    table = finished.table
    assert finished.described["payback"]["reference"] == "estimated"
    assert finished.described["payback"]["beta"] == [0.0, 0.5]
    assert finished.described["payback"]["learners"]["sd-2"]["sd"] == 2.0
    assert finished.run.kind == "payback"
    assert finished.run.seeds == [0, 1]
    played_arms = set(map(tuple, table[["learner", "beta", "world"]].drop_duplicates().to_numpy().tolist()))
    learners = itertools.product(("estimated", "sd-2"), (0.0, 0.5), (0, 1))
    assert played_arms == {*learners, ("informed", 0.0, 0), ("informed", 0.0, 1)}
    gains = gains_of(shares_of(table, 2, 5), "estimated")
    pd.testing.assert_frame_equal(finished.gains, gains)
    files = sorted(path.name for path in finished.folder.iterdir() if path.name != ".lock")
    assert files == ["config.yaml", "gains.parquet", "payback.parquet"]
    again = resume(finished.folder)
    assert digest(again) == digest(load_payback(finished.folder).run)


def test_the_report_tells_what_the_table_has(finished):
    """Each learner has a row with its gain; the answer ends with the prediction."""
    findings = finished.run.report()
    gain_table, delivery = findings.tables
    assert [row[0] for row in gain_table.rows] == [row[0] for row in delivery.rows] == ["estimated", "sd-2"]
    of_gain = finished.gains[finished.gains["beta"] > 0]
    for row, mean in zip(gain_table.rows, of_gain["mean"], strict=True):
        assert row[3].replace("−", "-").startswith(f"{100 * mean:.1f} ±")
    assert gain_table.rows[0][2] == "–"
    assert "give no order to test" in findings.answer[-1]
    assert "2 worlds: intervals are wide" in findings.cautions[0]


def test_worlds_differ_in_hidden_quality_and_arms_of_a_world_do_not(finished, monkeypatch):
    """Each arm has the hidden seed and the market seed of its world, its learner and its guarantee."""
    calls = calls_of(monkeypatch, parts, "finish_parts")
    folder = finished.folder.parent / "other"
    monkeypatch.setattr("rimsim.scenarios.kinds.payback.finish_parts", parts.finish_parts)
    payback(out=folder, workers=1, **SMALL)
    (job,) = (call["job"] for call in calls)
    assert len(job.parts) == 10
    for arm in job.parts:
        hidden = arm.config.consumer.hidden
        assert (hidden.seed, hidden.rho, arm.config.consumer.truth) == (arm.world, 0.0, "factors")
        if arm.learner != "informed":
            assert arm.config.platform.learning == LEARNERS[arm.learner].learning
            assert arm.agent == "rim-feedback"
        assert arm.config.platform.retrain is (arm.learner != "informed")
        assert arm.config.rounds == 2
    assert [arm.world for arm in job.parts] == [0] * 5 + [1] * 5
    assert digest(load_run(folder)) == digest(finished.run)


@pytest.mark.thorough
def test_workers_do_not_change_the_map(finished, tmp_path):
    """Two processes write the tables of one."""
    assert digest(payback(out=tmp_path / "map", workers=2, **SMALL).run) == digest(finished.run)


@cases("number", (1,), (7,))
def test_a_resumed_map_equals_an_uninterrupted_one(finished, tmp_path, monkeypatch, number):
    """Interrupted before one of its arms, the map keeps the others; its report knows the complete worlds alone."""
    folder = tmp_path / "map"
    with monkeypatch.context() as patch:
        calls_of(patch, arms, "make_agent", interrupted_at=number)
        with pytest.raises(KeyboardInterrupt, match=f"rimsim payback --resume --out {folder}"):
            payback(out=folder, workers=1, **SMALL)
    begun = load_run(folder)
    refused(RunFolderError, "already holds a run. .* --resume", payback, out=folder, **SMALL)
    if number == 1:
        refused(RunFolderError, "neither payback.parquet nor", begun.report)
    else:
        findings = begun.report()
        assert "1 of 2 worlds are not complete" in findings.cautions[0]
        assert len(findings.tables[0].rows) == 2
    counted = calls_of(monkeypatch, arms, "make_agent")
    resumed = resume(folder, workers=1)
    assert len(counted) == 11 - number
    assert digest(resumed) == digest(finished.run)
    files = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    assert files == ["config.yaml", "gains.parquet", "payback.parquet"]


def test_a_map_interrupted_while_it_draws_is_finished(finished, tmp_path, monkeypatch):
    """Its arms are not played again."""
    folder = tmp_path / "map"
    place = "rimsim.scenarios.kinds.payback.draw"
    with monkeypatch.context() as patch:
        patch.setattr(place, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            payback(out=folder, workers=1, **SMALL)
    monkeypatch.setattr(arms, "make_agent", None)  # nothing may be played
    assert digest(resume(folder, workers=1)) == digest(finished.run)
    assert not (folder / "state").exists()


def test_failed_arms_are_named_and_the_others_are_kept(finished, tmp_path, monkeypatch, capsys):
    """The command reports the complete world; only failed arms are played when the map is resumed."""
    folder = tmp_path / "map"
    usual = arms.players.closed_rounds

    def failing(market, agent, count):
        if market.config.exposure.beta and market.config.consumer.hidden.seed == 1:
            raise MarketError("enough")
        return usual(market, agent, count)

    with monkeypatch.context() as patch:
        patch.setattr(arms.players, "closed_rounds", failing)
        printed = said_by(capsys, [*LINE.split(), "--workers", "1", "--out", str(folder)], 2)
    assert "2 of 10 arms failed:" in printed.err
    assert "\n  sd-2, β = 0.5, world 1: enough" in printed.err
    assert "1 of 2 worlds are not complete" in printed.out
    counted = calls_of(monkeypatch, arms, "make_agent")
    assert digest(resume(folder, workers=1)) == digest(finished.run)
    assert len(counted) == 2


def test_a_changed_config_is_not_resumed(tmp_path, monkeypatch):
    """Its tables would mix two maps."""
    folder = tmp_path / "map"
    with monkeypatch.context() as patch:
        calls_of(patch, arms, "make_agent", interrupted_at=2)
        with pytest.raises(KeyboardInterrupt):
            payback(out=folder, workers=1, **SMALL)
    config = folder / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("sd: 2.0", "sd: 1.0"), encoding="utf-8")
    refused(RunFolderError, "config was edited: payback.learners.sd-2.sd was 2.0, is 1.0", resume, folder)


@cases(
    "options message",
    ({"worlds": 1}, "worlds is 1. Expected at least 2"),
    ({"rounds": 1}, "rounds is 1. Expected at least 2"),
    ({"learners": ("thomson",)}, "learners: 'thomson' is unknown. Did you mean 'thompson'"),
    ({"learners": ()}, "learners: the list is empty"),
    ({"beta": (0.0,)}, "beta: there is no guarantee"),
    ({"beta": (1.5,)}, "exposure.beta"),
    (
        {"settings": {"exposure.beta": 0.3}},
        "exposure.beta: a payback map sets exposure.beta itself. Use beta",
    ),
    ({"settings": {"platform.learning.sd": 1.0}}, "sets platform.learning itself. Use learners"),
    ({"settings": {"platform.retrain": False}}, "never retrains"),
    ({"settings": {"consumer.kind": "replay", "arrivals.kind": "replay"}}, "'replay' has no hidden quality"),
    ({"settings": {"exposure.each": 3}}, "exposure.each: the scenario 'closed-loop' has guarantees"),
    (
        {"settings": {"exposure.groups": [{"column": "genres", "beta": 0.5}]}},
        "exposure.groups: .* has guarantees",
    ),
)
def test_a_map_that_cannot_be_read_is_refused(options, message, tmp_path):
    """The message names the option; nothing is written."""
    refused(ConfigError, message, payback, out=tmp_path / "map", **SMALL | options)
    assert not (tmp_path / "map").exists()


def test_the_command_plays_and_resumes_a_map(finished, tmp_path, monkeypatch, capsys):
    """The command prints table and prediction, and its folder equals that of the function."""
    folder = tmp_path / "map"
    line = [*LINE.split(), "--workers", "1", "--out", str(folder)]
    with monkeypatch.context() as patch:
        calls_of(patch, arms, "make_agent", interrupted_at=3)
        assert f"rimsim payback --resume --out {folder}" in said_by(capsys, line, 130).err
    resuming = ["payback", "--resume", "--out", str(folder)]
    assert "--rounds cannot be given with --resume" in said_by(capsys, [*resuming, "--rounds", "3"], 2).err
    printed = said_by(capsys, [*resuming, "--workers", "1"]).out
    assert "Utility in percent of `informed`" in printed
    assert "Prediction from the arms without a guarantee" in printed
    assert digest(load_run(folder)) == digest(finished.run)
    assert "--resume needs the folder" in said_by(capsys, "payback --resume", 2).err
    set_twice = said_by(capsys, "payback --rounds 3 --set rounds=2", 2).err
    assert "--rounds and --set rounds=2 set the same field" in set_twice


def test_the_picture_has_a_row_per_learner_and_a_panel_per_guarantee(finished):
    """Rows stand in the predicted order; colours and markers are those of the verdicts."""
    figure = finished.run.plot("payback")
    without, guarantee = figure.axes[:2]
    order = prediction_of(shares_of(finished.table, 2, 5)).predicted
    assert [label.get_text() for label in without.get_yticklabels()] == list(order)
    assert [ax.get_title(loc="left") for ax in (without, guarantee)] == ["β = 0", "β = 0.5"]
    gains = finished.gains[finished.gains["beta"] == 0.5].set_index("learner")
    points = {float(bar.lines[0].get_ydata()[0]): bar.lines[0] for bar in guarantee.containers}
    for place, learner in enumerate(order):
        assert points[place].get_xdata()[0] == pytest.approx(100 * gains.loc[learner, "mean"])
        assert (points[place].get_color(), points[place].get_marker()) == report._MARKS[
            gains.loc[learner, "verdict"]
        ]


def test_the_picture_is_drawn_with_the_run(tmp_path):
    """A finished map has its picture in the folder."""
    with drawn("payback"):
        made = payback(out=tmp_path / "map", workers=1, **SMALL)
    assert (Path(made.folder) / "pictures" / "payback.png").stat().st_size > 10_000
