"""What goes wrong inside a run: it is named by agent, seed, round and arrival, and the other arms are kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from kit import refused
from small_markets import small_scenario

from rimsim.agents import Random, play_round
from rimsim.errors import AgentError, ModelError
from rimsim.intensity import Popularity
from rimsim.market import Market
from rimsim.scenarios import compare, load_run

FAULTY = Path(__file__).with_name("faulty_agents.py")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "Raises",
            r"raises, seed 3: agent 'raises' raised ValueError in round 1, at arrival \d+ .*: no idea",
        ),
        ("WrongShape", r"seed 3: .* in round 1: slates have shape \(\d+, 4\).*arrival, the first \d+"),
        ("Repeats", r"seed 3: .* in round 1: slate of arrival \d+ .*position 2 holds repeated item"),
        ("OutOfRange", r"seed 3: .* in round 1: slate of arrival \d+ .*inadmissible item 1000000"),
        ("Inadmissible", r"seed 3: .*'inadmissible' in round 1: slate of arrival \d+ .*inadmissible item"),
        ("NotANumber", r"seed 3: agent 'not-a-number' in round 1, at arrival \d+ .*type float64"),
    ],
)
def test_an_agent_that_answers_nonsense_is_named_and_the_others_are_kept(tmp_path, kind, message):
    """The error says which agent, seed, round and arrival; all that went well before is kept."""
    agents, asked = ("random", f"{FAULTY}:{kind}"), {"workers": 1, "frozen": []}
    refused(AgentError, message, compare, small_scenario(rounds=2), agents, seeds=[3], out=tmp_path, **asked)
    left = load_run(tmp_path).rounds.groupby("agent")["round"].nunique()
    assert left["random"] == 2
    assert left.drop("random").tolist() == [1]
    told = next((tmp_path / "failures").glob("*.txt")).read_text()
    assert "Traceback" in told


def test_a_worker_that_dies_once_goes_on_and_one_that_dies_again_is_named(tmp_path, monkeypatch):
    """An agent that kills its process fails after a second try; one that does so once goes on, to the same content."""
    monkeypatch.setenv("RIMSIM_TEST_MARKS", str(tmp_path))
    config, asked = small_scenario(rounds=2), {"seeds": 1, "frozen": []}
    whole = compare(config, ("random", "popularity"), out=tmp_path / "whole", workers=1, **asked)
    agents = (f"{FAULTY}:DiesOnce", f"{FAULTY}:Dies", "popularity")
    said = r"1 of 3 arms failed:\n  dies, seed 0: agent 'dies' in round 1: .*killed by SIGKILL, 2 times"
    refused(AgentError, said, compare, config, agents, out=tmp_path / "dying", workers=2, **asked)
    assert (tmp_path / "died").exists()
    left = load_run(tmp_path / "dying")
    assert left.rounds.groupby("agent")["round"].nunique().to_dict() == {
        "random": 2,
        "popularity": 2,
        "dies": 1,
    }
    for name in ("random", "popularity"):
        for tables in ("rounds", "ledger"):
            one, other = (getattr(run, tables).query(f"agent == {name!r}") for run in (whole, left))
            one, other = (table.sort_values([*table], ignore_index=True) for table in (one, other))
            pd.testing.assert_frame_equal(one, other, check_exact=True)


class _NoNumbers(Popularity):
    """A model that, once retrained, has no number for some states."""

    def update(self, log):
        self.retrained = True
        return super().update(log)

    def score_hidden(self, hidden, now):
        scores = super().score_hidden(hidden, now).clone()
        if getattr(self, "retrained", False):
            scores[0] = torch.nan
        return scores


def test_a_model_that_scores_no_number_is_named_with_the_arrival():
    """The error says agent, round, model and arrival."""
    config = small_scenario()
    market = Market(config, model=_NoNumbers().fit(Market(config).world.past))
    said = r"agent 'random' in round 0: _NoNumbers.score: .* of arrival \d+"
    refused(ModelError, said, play_round, market, Random())
