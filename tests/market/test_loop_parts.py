"""Parts of the closed loop: differences between an arm and its controls, in tables, pictures and event files."""

import itertools

import numpy as np
import pandas as pd
import pytest
from kit import cases, markets, refused

from rimsim import measures
from rimsim.config import ConsumerConfig, LogWindow, PlatformConfig, override
from rimsim.errors import ArmsError, ConfigError
from rimsim.scenarios import compare
from rimsim.scenarios.report import loop
from rimsim.scenarios.report.comparison import result_tables
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.picture_tables import PictureTables
from rimsim.scenarios.runs.digests import digest
from rimsim.scenarios.study.compare import resume
from rimsim.tracking import read_scalars, summary_folder

CONTROLS = ("frozen", "random", "organic", "static", "yoked")
CONFIG = markets.small_scenario(
    platform=PlatformConfig(
        model="ease-hp", learning="impressions", log_window=LogWindow(rounds=2, size=600)
    ),
    consumer=ConsumerConfig(attraction=3.0),
)
"""A small market whose platform depends on the states, and whose consumers take more than in others."""
AGENTS = ("relevance", "random")
WORDS = {"rounds": 3, "seeds": 2, "control": CONTROLS, "frozen": AGENTS, "certify": False, "workers": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two agents with all controls."""
    return compare(CONFIG, AGENTS, out=tmp_path_factory.mktemp("controls") / "run", **WORDS)


def _made_up(arms, seeds=3, rounds=2, metric="coverage"):
    draws = np.random.default_rng(0)
    cells = itertools.product(arms, range(seeds), range(rounds))
    return pd.DataFrame(
        [(*cell, metric, draws.random()) for cell in cells],
        columns=["agent", "seed", "round", "metric", "value"],
    )


@cases(
    "controls names",
    ((), []),
    (("frozen",), ["all"]),
    (("random",), ["loop"]),
    (("organic",), ["data+loop"]),
    (("frozen", "random"), ["retraining+data", "loop", "all"]),
    (("frozen", "organic"), ["retraining", "data+loop", "all"]),
    (("organic", "random"), ["data", "loop"]),
    (("frozen", "organic", "random"), ["retraining", "data", "loop", "all"]),
    (("random", "static"), ["selection", "feedback"]),
    (("organic", "static"), ["data+selection", "feedback"]),
    (("frozen", "static", "yoked"), ["retraining+data+selection", "feedback", "all", "own-history"]),
    (CONTROLS, ["retraining", "data", "selection", "feedback", "all", "own-history"]),
)
def test_parts_are_those_that_the_controls_tell(controls, names):
    """Where a control is missing, the parts on its two sides are told as one."""
    arms = ["mine", *(f"mine-{control}" for control in controls), "other"]
    assert [(part.agent, part.name) for part in loop.parts_of(arms)] == [("mine", name) for name in names]


def test_a_part_is_the_paired_difference_and_the_parts_add_up():
    """At each round: mean and interval over the seeds that all arms of the agent have; the sum is self − frozen."""
    arms = ["mine", *(f"mine-{control}" for control in CONTROLS)]
    table = _made_up(arms).sample(frac=1, random_state=1)
    table = table[~((table["agent"] == "mine-organic") & (table["seed"] == 2))]
    parts = loop.decomposition(table, arms, ["coverage", "utility"], ["round"])
    value = table.set_index(["agent", "round", "seed"])["value"].sort_index()
    pairs = {"all": ("mine", "mine-frozen"), "feedback": ("mine", "mine-static")}
    pairs |= {"own-history": ("mine", "mine-yoked"), "selection": ("mine-static", "mine-random")}
    pairs |= {"data": ("mine-random", "mine-organic"), "retraining": ("mine-organic", "mine-frozen")}
    assert len(parts) == 12
    for row in parts.itertuples():
        minuend, subtrahend = (value[arm, row.round][:2].to_numpy() for arm in pairs[row.part])
        expected = measures.paired_difference(minuend, subtrahend)
        interval = (expected.mean, expected.low, expected.high, 2)
        assert (row.mean, row.low, row.high, row.n) == pytest.approx(interval)
    wide = parts.pivot(index="round", columns="part", values="mean")
    steps = wide[["retraining", "data", "selection", "feedback"]]
    np.testing.assert_allclose(steps.sum(axis=1), wide["all"], atol=1e-15)
    assert dict(zip(parts["part"], parts["difference"], strict=True))["feedback"] == "self − static"


def test_a_failed_arm_of_another_agent_takes_no_seed_away():
    """Parts of an agent use the seeds that its own arms have; another agent's missing seed does not matter."""
    arms = ["relevance", "relevance-frozen", "mine", "mine-frozen"]
    rounds = _made_up(arms, metric="coverage")
    failed = (rounds["agent"] == "mine") & (rounds["seed"] == rounds["seed"].max())
    parts = loop.decomposition(rounds[~failed], arms, ["coverage"], ["round"])
    n_seeds = rounds["seed"].nunique()
    assert set(parts.loc[parts["agent"] == "relevance", "n"]) == {n_seeds}
    assert set(parts.loc[parts["agent"] == "mine", "n"]) == {n_seeds - 1}
    by_seed = loop.parts_by_seed(rounds[~failed], arms, ["coverage"])
    assert by_seed[by_seed["agent"] == "relevance"]["seed"].nunique() == n_seeds


def test_the_picture_draws_each_part_of_each_agent():
    """A panel an agent and metric, a line a part; the title tells of feedback and of all."""
    arms = [arm for agent in ("relevance", "mine") for arm in (agent, *(f"{agent}-{c}" for c in CONTROLS))]
    rounds = pd.concat([_made_up(arms, metric=metric) for metric in ("coverage", "utility")])
    shift = rounds["agent"].isin(["relevance", "mine"]) & (rounds["round"] == 1)
    rounds.loc[shift, "value"] -= 9.0
    figure = loop.decomposed(PictureTables(rounds=rounds, n_items=5))
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    titles = itertools.product(("relevance", "mine"), ("Catalogue coverage", "Utility"))
    assert [ax.get_title(loc="left") for ax in panels] == ["\n".join(title) for title in titles]
    parts = loop.decomposition(rounds, arms, ["coverage"], ["round"])
    # Few seeds are lines without markers.
    means = [line for line in panels[0].lines[1:] if line.get_marker() != "None"]
    drawn = {tuple(np.round(line.get_ydata(), 9)) for line in means}
    expected_means = parts[parts["agent"] == "relevance"].groupby("part")["mean"]
    assert drawn == {tuple(np.round(curve.to_numpy(), 9)) for _, curve in expected_means}
    title = loop.effect_of_retraining(parts[parts["round"] == 1], "round 1")
    assert title.startswith("Feedback costs relevance 927 points")
    assert title.endswith("; the effect of all of retraining is not significant")


def test_an_arm_that_is_random_has_no_loop_to_the_last_bit(run, tmp_path):
    """Its selection and feedback are 0 in every measure, round and seed; controls leave the other arms alone."""
    rounds = run.rounds.pivot(index=["seed", "round", "metric"], columns="agent", values="value")
    for control in ("random", "static"):
        mine = rounds["random"]
        other_values = rounds[f"random-{control}"]
        pd.testing.assert_series_equal(mine, other_values, check_names=False, check_exact=True)
        assert not rounds["relevance"].equals(rounds[f"relevance-{control}"])
    assert not rounds["relevance"].equals(rounds["relevance-yoked"])
    assert not rounds["relevance-static"].equals(rounds["relevance-yoked"])
    alone = compare(CONFIG, AGENTS, out=tmp_path / "alone", **WORDS | {"frozen": ()})
    for name in ("rounds", "ledger", "learnt"):
        mine, other_values = (getattr(result, name) for result in (run, alone))
        mine = mine[mine["agent"].isin(AGENTS)].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, other_values, check_exact=True)


def test_tables_and_event_files_tell_the_parts(run):
    """Controls are arms by name; the report has a row a part; event files have its mean, lowest and highest."""
    assert run.agents == [*AGENTS, *(f"{agent}-{control}" for agent in AGENTS for control in CONTROLS)]
    for table in (run.rounds, run.ledger, run.arrivals, run.learnt):
        assert set(table["agent"]) == set(run.agents)
    text = markdown(result_tables(run))
    steps = ("retraining (organic − frozen)", "data (random − organic)", "selection (static − random)")
    for words in (*steps, "feedback (self − static)"):
        assert text.count(f"| {words} |") == 2
    parts = loop.decomposition(run.rounds, run.agents, ["coverage"], ["round"])
    feedback = parts[(parts["agent"] == "relevance") & (parts["part"] == "feedback")].set_index("round")
    series = read_scalars(summary_folder(run.folder, "relevance"))
    seeds = loop.parts_by_seed(run.rounds, run.agents, ["coverage"])
    seeds = seeds[(seeds["agent"] == "relevance") & (seeds["part"] == "feedback")]
    of_round = seeds.groupby("round")["value"].agg(["mean", "min", "max"])
    pd.testing.assert_series_equal(of_round["mean"], feedback["mean"])
    assert (of_round["min"] < of_round["max"]).any()
    for tag, column in (("mid", "mean"), ("low", "min"), ("high", "max")):
        points = series[f"zz_bands/coverage/feedback/{tag}"]
        assert [point.value for point in points] == pytest.approx(of_round[column].to_list(), abs=1e-6)
    assert series["1_retraining/coverage/feedback"] == series["zz_bands/coverage/feedback/mid"]


@pytest.mark.thorough
def test_results_do_not_depend_on_workers_batches_or_interruption(tmp_path, monkeypatch):
    """Two workers with small batches, and a run that ends after each arm's first round, leave the same."""
    agents = AGENTS[:1]
    words = WORDS | {"seeds": 1, "rounds": 2, "frozen": agents, "certify": True}
    config = override(CONFIG, {"platform.learning": "impressions"})
    run = compare(config, agents, out=tmp_path / "whole", **words)
    on_workers = compare(config, agents, out=tmp_path / "two", **words | {"workers": 2, "batch_size": 7})
    assert digest(on_workers) == digest(run)

    with markets.stopped_after_a_round(monkeypatch):
        message = "at seed 0 is not complete"
        refused(ArmsError, message, compare, config, agents, out=tmp_path / "stopped", **words)
        # In the controls' first round: the agents' are over.
        refused(ArmsError, "enough", resume, tmp_path / "stopped", workers=1)
    assert digest(resume(tmp_path / "stopped", workers=1)) == digest(run)
    assert not (tmp_path / "stopped" / "state").exists()


FROZEN = PlatformConfig(model="popularity-hp", retrain=False)


@cases(
    "config words message",
    (CONFIG, {"control": ["frosen"]}, "'frozen'"),
    (CONFIG, {"control": ["random", "random"]}, "twice"),
    (markets.small_replay(), {"control": ["organic"]}, "same visitors in every round"),
    (markets.small_scenario(platform=FROZEN), {"control": ["random"]}, "needs retraining"),
)
def test_what_cannot_be_controlled_is_refused(config, words, message, tmp_path):
    """Before anything is written."""
    options = {"seeds": 1, "out": tmp_path / "run", "frozen": ["relevance"]} | words
    refused(ConfigError, message, compare, config, ("relevance",), **options)
    assert not (tmp_path / "run").exists()
