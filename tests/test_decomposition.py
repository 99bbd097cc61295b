"""What retraining does in parts: the table and picture against subtraction, and comparisons with controls."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from small_markets import small_replay, small_scenario, stopped_after_a_round

from rimsim import measures
from rimsim.config import ConsumerConfig, LogWindow, PlatformConfig, override
from rimsim.errors import ArmsError, ConfigError
from rimsim.scenarios import compare
from rimsim.scenarios.report.comparison import result_tables
from rimsim.scenarios.report.console import markdown
from rimsim.scenarios.report.items import PictureTables
from rimsim.scenarios.report.loop import (
    decomposed,
    decomposition,
    effect_of_retraining,
    parts_by_seed,
    parts_of,
)
from rimsim.scenarios.runs.status import digest
from rimsim.scenarios.study.compare import resume
from rimsim.tracking import read_scalars, summary_folder

CONTROLS = ("frozen", "random", "organic")
CONFIG = small_scenario(
    platform=PlatformConfig(model="ease-hp", log_window=LogWindow(rounds=2, size=600)),
    consumer=ConsumerConfig(attraction=3.0),
)
AGENTS = ("relevance", "random")
WORDS = {"rounds": 3, "seeds": 2, "control": CONTROLS, "frozen": AGENTS, "certify": False, "workers": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two agents with all controls."""
    return compare(CONFIG, AGENTS, out=tmp_path_factory.mktemp("controls") / "run", **WORDS)


def _made_up(arms, seeds=3, rounds=2, metric="coverage"):
    draws = np.random.default_rng(0)
    return pd.DataFrame(
        [(*one, metric, draws.random()) for one in itertools.product(arms, range(seeds), range(rounds))],
        columns=["agent", "seed", "round", "metric", "value"],
    )


@pytest.mark.parametrize(
    ("controls", "names"),
    [
        ((), []),
        (("frozen",), ["all"]),
        (("random",), ["loop"]),
        (("organic",), ["data+loop"]),
        (("frozen", "random"), ["retraining+data", "loop", "all"]),
        (("frozen", "organic"), ["retraining", "data+loop", "all"]),
        (("organic", "random"), ["data", "loop"]),
        (CONTROLS, ["retraining", "data", "loop", "all"]),
    ],
)
def test_parts_are_those_that_the_controls_tell(controls, names):
    """Where a control is missing, the parts on its two sides are told as one."""
    arms = ["mine", *(f"mine-{control}" for control in controls), "other"]
    assert [(part.agent, part.name) for part in parts_of(arms)] == [("mine", name) for name in names]


def test_a_part_is_the_paired_difference_and_the_parts_add_up():
    """At each round: mean and interval over the seeds that all arms of the agent have; the sum is self − frozen."""
    arms = ["mine", *(f"mine-{control}" for control in CONTROLS)]
    table = _made_up(arms).sample(frac=1, random_state=1)
    table = table[~((table["agent"] == "mine-organic") & (table["seed"] == 2))]
    found = decomposition(table, arms, ["coverage", "utility"], ["round"])
    value = table.set_index(["agent", "round", "seed"])["value"].sort_index()
    pairs = {
        "retraining": ("mine-organic", "mine-frozen"),
        "data": ("mine-random", "mine-organic"),
        "loop": ("mine", "mine-random"),
        "all": ("mine", "mine-frozen"),
    }
    assert len(found) == 8
    for row in found.itertuples():
        more, less = (value[arm, row.round][:2].to_numpy() for arm in pairs[row.part])
        expected = measures.paired_difference(more, less)
        interval = (expected.mean, expected.low, expected.high, 2)
        assert (row.mean, row.low, row.high, row.n) == pytest.approx(interval)
    wide = found.pivot(index="round", columns="part", values="mean")
    np.testing.assert_allclose(wide["retraining"] + wide["data"] + wide["loop"], wide["all"], atol=1e-15)
    assert dict(zip(found["part"], found["difference"], strict=True))["loop"] == "self − random"


def test_the_picture_draws_each_part_of_each_agent():
    """A panel an agent and metric, a line a part; the title tells of the loop and of all."""
    arms = [arm for agent in ("relevance", "mine") for arm in (agent, *(f"{agent}-{c}" for c in CONTROLS))]
    rounds = pd.concat([_made_up(arms, metric=metric) for metric in ("coverage", "utility")])
    shift = rounds["agent"].isin(["relevance", "mine"]) & (rounds["round"] == 1)
    rounds.loc[shift, "value"] -= 9.0
    figure = decomposed(PictureTables(rounds=rounds, n_items=5))
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    titles = itertools.product(("relevance", "mine"), ("Catalogue coverage", "Utility"))
    assert [ax.get_title(loc="left") for ax in panels] == ["\n".join(title) for title in titles]
    parts = decomposition(rounds, arms, ["coverage"], ["round"])
    # Few seeds are lines without markers.
    means = [line for line in panels[0].lines[1:] if line.get_marker() != "None"]
    drawn = {tuple(np.round(line.get_ydata(), 9)) for line in means}
    wanted = parts[parts["agent"] == "relevance"].groupby("part")["mean"]
    assert drawn == {tuple(np.round(curve.to_numpy(), 9)) for _, curve in wanted}
    title = effect_of_retraining(parts[parts["round"] == 1], "round 1")
    assert title.startswith("The loop costs relevance 885 points")
    assert title.endswith("; retraining costs it 916 in all")


def test_controls_are_arms_by_name_and_their_logs_are_as_large(run):
    """In every table; and of every round each retrained control learns from as many events as its agent."""
    assert run.agents == [*AGENTS, *(f"{agent}-{control}" for agent in AGENTS for control in CONTROLS)]
    for table in (run.rounds, run.ledger, run.arrivals, run.learnt):
        assert set(table["agent"]) == set(run.agents)
    sizes = run.learnt.pivot(index=["seed", "round"], columns="agent", values="events")
    for agent in AGENTS:
        for control in ("random", "organic"):
            assert (sizes[f"{agent}-{control}"] == sizes[agent]).all()
    assert (sizes > 0).all(axis=None)


def test_an_arm_that_is_random_has_no_loop_to_the_last_bit(run, tmp_path):
    """Self − random is 0 for every measure, round and seed; without controls the arms leave the same tables."""
    rounds = run.rounds.pivot(index=["seed", "round", "metric"], columns="agent", values="value")
    mine, control = rounds["random"], rounds["random-random"]
    pd.testing.assert_series_equal(mine, control, check_names=False, check_exact=True)
    assert not rounds["relevance"].equals(rounds["relevance-random"])

    def arm(name):
        return run.ledger[run.ledger["agent"] == name].drop(columns="agent").reset_index(drop=True)

    pd.testing.assert_frame_equal(arm("random"), arm("random-random"), check_exact=True)
    alone = compare(CONFIG, AGENTS, out=tmp_path / "alone", **WORDS | {"frozen": ()})
    for name in ("rounds", "ledger", "learnt"):
        mine, other = (getattr(one, name) for one in (run, alone))
        mine = mine[mine["agent"].isin(AGENTS)].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, other, check_exact=True)


def test_tables_and_event_files_tell_the_parts(run):
    """The report has a row a part; the event files of an agent have its mean over seeds, and the lowest and highest."""
    text = markdown(result_tables(run))
    for words in ("retraining (organic − frozen)", "data (random − organic)", "loop (self − random)"):
        assert text.count(f"| {words} |") == 2
    parts = decomposition(run.rounds, run.agents, ["coverage"], ["round"])
    loop = parts[(parts["agent"] == "relevance") & (parts["part"] == "loop")].set_index("round")
    series = read_scalars(summary_folder(run.folder, "relevance"))
    seeds = parts_by_seed(run.rounds, run.agents, ["coverage"])
    seeds = seeds[(seeds["agent"] == "relevance") & (seeds["part"] == "loop")]
    of_round = seeds.groupby("round")["value"].agg(["mean", "min", "max"])
    pd.testing.assert_series_equal(of_round["mean"], loop["mean"])
    assert (of_round["min"] < of_round["max"]).any()
    for tag, column in (("mid", "mean"), ("low", "min"), ("high", "max")):
        points = series[f"zz_bands/coverage/loop/{tag}"]
        assert [point.value for point in points] == pytest.approx(of_round[column].to_list(), abs=1e-6)
    assert series["1_retraining/coverage/loop"] == series["zz_bands/coverage/loop/mid"]


def test_results_do_not_depend_on_workers_batches_or_interruption(tmp_path, monkeypatch):
    """Two workers with small batches, and a run that ends after each arm's first round, leave the same.

    Their platforms learn from impressions too.
    """
    words = WORDS | {"seeds": 1, "rounds": 2}
    config = override(CONFIG, {"platform.learning": "impressions"})
    run = compare(config, AGENTS, out=tmp_path / "whole", **words)
    other = compare(config, AGENTS, out=tmp_path / "two", **words | {"workers": 2, "batch_size": 7})
    assert digest(other) == digest(run)

    with stopped_after_a_round(monkeypatch):
        with pytest.raises(ArmsError, match="whose arm of seed 0 is not complete"):
            compare(config, AGENTS, out=tmp_path / "stopped", **words)
        with pytest.raises(ArmsError, match="enough"):  # in the controls' first round: the agents' are over
            resume(tmp_path / "stopped", workers=1)
    assert digest(resume(tmp_path / "stopped", workers=1)) == digest(run)
    assert not (tmp_path / "stopped" / "state").exists()


FROZEN = PlatformConfig(model="popularity-hp", retrain=False)


@pytest.mark.parametrize(
    ("config", "words", "message"),
    [
        (CONFIG, {"control": ["frosen"]}, "'frozen'"),
        (CONFIG, {"control": ["random", "random"]}, "twice"),
        (small_replay(), {"control": ["organic"]}, "same in every round"),
        (small_scenario(platform=FROZEN), {"control": ["random"]}, "nothing is retrained"),
    ],
)
def test_what_cannot_be_controlled_is_refused(config, words, message, tmp_path):
    """Before anything is written."""
    with pytest.raises(ConfigError, match=message):
        compare(config, ("relevance",), seeds=1, out=tmp_path / "run", frozen=["relevance"], **words)
    assert not (tmp_path / "run").exists()
